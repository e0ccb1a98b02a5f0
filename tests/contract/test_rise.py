"""RISE: its masks, its mean, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.contract.perturbing import Reader, explain, region_of, task_of

from weakseg.maps import rise
from weakseg.randomness import rng


class TestRise:
    def test_masks_of_a_pair_are_each_others_rest(self):
        grids, shifts = rise.random_grids(rng(0, "x"), 6, (20, 30), (4, 5), 0.5, antithetic=True)
        assert grids.shape == (6, 7, 8)
        np.testing.assert_array_equal(grids[::2], ~grids[1::2])
        np.testing.assert_array_equal(shifts[::2], shifts[1::2])

    @pytest.mark.parametrize("antithetic", [False, True])
    def test_cells_are_kept_with_their_probability(self, antithetic):
        grids, shifts = rise.random_grids(rng(0, "x"), 999, (20, 30), (4, 5), 0.3, antithetic)
        assert len(grids) == len(shifts) == 999
        assert grids.mean() == pytest.approx(0.3, abs=0.01)
        assert shifts.min() >= 0
        assert shifts.max() < 1

    def test_masks_are_grids_shifted_by_part_of_a_cell(self):
        grids, shifts = rise.random_grids(rng(0, "x"), 5, (9, 7), (4, 3), 0.5, antithetic=False)
        stream = rise.shifted_grids(np.zeros(5, int), [(grids, shifts)], (9, 7), (4, 3), torch.device("cpu"))
        out = torch.empty(3, 9, 7)
        stream.keep(slice(1, 4), out)
        for mask, grid, (down, right) in zip(out.numpy(), grids[1:4], shifts[1:4], strict=True):
            rows = [np.interp(np.arange(7) / 3 + right, np.arange(4), row) for row in grid.astype(float)]
            columns = [np.interp(np.arange(9) / 4 + down, np.arange(4), column) for column in np.transpose(rows)]
            np.testing.assert_allclose(mask, np.transpose(columns), atol=1e-5)

    def test_is_the_mean_logit_where_a_voxel_is_kept(self):
        """By hand: the weighted mean over all masks, less the mean."""
        size, model = (12, 10), Reader(region_of((12, 10)))
        task = task_of(model, size)
        params = {"masks": 50, "cell_mm": 4, "reliability": None, "check": 20}
        have = explain("rise", task, **params)[0, 0]
        generator = rng(0, "rise", "v/0")
        drawn = [rise.random_grids(generator, count, size, (4, 4), 0.5, antithetic=True) for count in (20, 20, 10)]
        masks = torch.empty(50, *size)
        rise.shifted_grids(np.zeros(50, int), drawn, size, (4, 4), torch.device("cpu")).keep(slice(0, 50), masks)
        logits = model(masks[:, None] * torch.from_numpy(task.units.image))[:, 0]
        expected = torch.tensordot(logits, masks, 1) / masks.sum(0) - logits.mean()
        np.testing.assert_allclose(have, expected.detach(), rtol=0, atol=1e-4 * expected.detach().abs().max())
        assert task.forwards == 51

    def test_stops_when_the_map_has_converged(self):
        size = (24, 24)
        spent = []
        for reliability in (0.5, 0.9, 0.97, None):
            task = task_of(Reader(region_of(size)), size)
            explain("rise", task, masks=3000, cell_mm=6, reliability=reliability, check=50)
            spent.append(task.forwards - 1)
        assert spent == sorted(spent)
        assert spent[0] < spent[2] < spent[3] == 3000

    def test_a_model_without_evidence_stops_at_once(self):
        task = task_of(Reader(np.zeros((12, 12), bool)), (12, 12))
        assert not explain("rise", task, cell_mm=4, masks=3000, check=50).any()
        assert task.forwards == 51

    def test_an_offset_of_the_logit_makes_no_difference(self):
        class Higher(Reader):
            def forward(self, images):
                return super().forward(images) + 100

        params = {"masks": 200, "cell_mm": 4, "reliability": None}
        maps = [explain("rise", task_of(kind(region_of((12, 12))), (12, 12)), **params) for kind in (Reader, Higher)]
        np.testing.assert_allclose(*maps, rtol=0, atol=1e-3 * np.abs(maps[0]).max())
