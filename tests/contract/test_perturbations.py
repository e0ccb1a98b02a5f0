"""Perturbation methods on models for which the map is known, and beside their peers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from math import factorial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from tests.contract.perturbing import (
    BLOCK,
    BY_DEFAULT,
    CHOSEN,
    IDS,
    SIZES,
    Product,
    Reader,
    blocks,
    explain,
    region_of,
    task_of,
)
from tests.maps_factory import explain_of, explained
from torch import nn

from weakseg import catalogue
from weakseg.maps import engine, perturbation, relevance, surrogate
from weakseg.networks import freeze, resnet
from weakseg.randomness import rng


@pytest.mark.parametrize("size", SIZES, ids=IDS)
@pytest.mark.parametrize("name", CHOSEN)
def test_finds_what_the_model_reads(name, size):
    least, params = CHOSEN[name]
    region = region_of(size)
    have = explain(name, task_of(Reader(region), size), **params)[0, 0]
    assert average_precision_score(region.ravel(), have.ravel()) >= least


@pytest.mark.parametrize("size", SIZES, ids=IDS)
@pytest.mark.parametrize("name", ["occlusion", "ablation"])
def test_drops_are_those_of_the_model(name, size):
    """A block's drop is what is bright in it."""
    region = region_of(size)
    task = task_of(Reader(region), size)
    have = explain(name, task, **CHOSEN[name][1])[0, 0]
    bright = np.maximum(task.units.image[0, 0], 0) * region
    sums = np.bincount(blocks(size).ravel(), bright.ravel())
    np.testing.assert_allclose(have, sums[blocks(size)], rtol=1e-4, atol=1e-3)
    # Cones of a volume need its clean activations, one forward more.
    assert task.forwards == 1 + len(sums) - 1 + (len(size) == 3)


def test_occlusion_averages_over_windows():
    task = task_of(Reader(region_of((24, 24))), (24, 24), image=np.ones((1, 24, 24), np.float32))
    have = explain("occlusion", task, window_mm=8, stride_mm=4)[0, 0]
    drops = {
        (i, j): region_of((24, 24))[i : i + 8, j : j + 8].sum() for i, j in product(range(0, 20, 4), range(0, 20, 4))
    }
    for x, y in [(0, 0), (5, 5), (9, 6), (23, 3), (12, 12)]:
        covering = [drop for (i, j), drop in drops.items() if i <= x < i + 8 and j <= y < j + 8]
        assert have[x, y] == pytest.approx(np.mean(covering), abs=1e-4)


def test_occlusion_asks_about_the_foreground_alone():
    task = task_of(Reader(region_of((24, 24))), (24, 24))
    inside = np.zeros((24, 24), bool)
    inside[6:14, 2:12] = True
    task = replace(task, units=replace(task.units, foreground=inside[None]))
    have = explain("occlusion", task, window_mm=BLOCK, stride_mm=BLOCK)[0, 0]
    # Windows that the foreground touches: three by three.
    assert task.forwards == 1 + 9
    assert not have[~inside].any()
    bright = np.where(inside & region_of((24, 24)), np.maximum(task.units.image[0, 0], 0), 0)
    assert have[8, 8] == pytest.approx(bright[8:12, 8:12].sum(), rel=1e-4)


@pytest.mark.parametrize(("length", "edge", "stride"), [(24, 4, 4), (24, 7, 3), (10, 12, 5), (10, 3, 3), (11, 4, 2)])
def test_windows_cover_all(length, edge, stride):
    covered = np.zeros(length, int)
    starts = [box[0].start for box in perturbation.windows([length], [edge], [stride])]
    for (box,) in perturbation.windows([length], [edge], [stride]):
        covered[box] += 1
    assert covered.min() >= 1
    assert starts == [stride * number for number in range(len(starts))]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("name", "params"), [
    ("ablation", {}),
    ("occlusion", {"window_mm": 8, "stride_mm": 4}),
    ("relevance_map", {"fills": ["zero", "blur", "neighbours"]}),
])  # fmt: skip
def test_flips_with_the_image(name, params, axis):
    """Where nothing is drawn at random, and the grid of windows fits the image."""
    size = (12, 8, 16)
    model = freeze(resnet(2, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 1}, 0, 3), "cpu")
    image = rng(0, "image").normal(size=(2, *size)).astype(np.float32)
    labels = blocks(size)

    class Flipped(nn.Module):
        def forward(self, images):
            return model(images.flip(axis + 2))

    have = explain(name, task_of(model, size, image=image, labels=labels), **params)
    image, labels = np.flip(image, axis + 1).copy(), np.flip(labels, axis).copy()
    flipped = explain(name, task_of(Flipped(), size, image=image, labels=labels), **params)
    np.testing.assert_allclose(np.flip(flipped, axis + 2), have, rtol=0, atol=1e-5 * np.abs(have).max())


METHODS = [
    name for name, method in catalogue.METHODS.items() if method.family in ("perturbation", "surrogate", "relevance")
]


@pytest.mark.parametrize("name", METHODS)
def test_batch_size_does_not_matter(monkeypatch, name):
    expected = explain_of(name)(explained())
    for batch in (1, 7):
        monkeypatch.setattr(engine, "MOST", batch)
        have = explain_of(name)(explained())
        np.testing.assert_allclose(have, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_volumes(name, precision):
    """Finite, of the volume's size, the same again, and in bfloat16 much the same."""
    size = (16, 12, 8)
    model = resnet(2, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 1}, 0, 3)
    task = task_of(model, size, image=rng(0, "image").normal(size=(2, *size)).astype(np.float32))
    small = {"occlusion": {"window_mm": 4, "stride_mm": 4}, "rise": {"masks": 40}}.get(name, {})
    if name in ("lime", "kernelshap"):
        small = {"samples": 40}
    have = explain(name, task, **small, precision=precision)
    assert have.shape == (1, 1, *size)
    assert have.dtype == np.float32
    assert np.isfinite(have).all()
    np.testing.assert_array_equal(explain(name, task, **small, precision=precision), have)
    exact = explain(name, task, **small)
    assert spearmanr(have, exact, axis=None).statistic > 0.8


class TestShapley:
    """Against sums over all subsets."""

    @staticmethod
    def enumerated(value, count):
        shapley = np.zeros(count)
        for one, kept in product(range(count), product([0, 1], repeat=count)):
            if not kept[one]:
                weight = factorial(sum(kept)) * factorial(count - sum(kept) - 1) / factorial(count)
                more = tuple(1 if place == one else bit for place, bit in enumerate(kept))
                shapley[one] += weight * (value(more) - value(kept))
        return shapley

    @pytest.mark.parametrize(("samples", "tolerance"), [(62, 1e-4), (60, 0.03)])
    def test_values(self, samples, tolerance):
        """All 62 subsets give them exactly; one sample fewer draws them."""
        size = (12, 8)
        labels = blocks(size)
        model = Product(labels)
        task = task_of(model, size)
        image = torch.from_numpy(task.units.image)

        def value(kept):
            keep = torch.tensor([0, *kept])[torch.from_numpy(labels).long()]
            return model(image * keep)[0, 0].item()

        expected = self.enumerated(value, 6)
        have = explain("kernelshap", task, samples=samples)[0, 0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(have, np.concatenate([[0], expected])[labels], rtol=0, atol=tolerance * scale)
        assert task.forwards == 2 + samples

    @pytest.mark.parametrize("count", [1, 2, 5, 30])
    def test_values_add_up(self, count):
        generator = rng(0, "add", str(count))
        kept, weight = surrogate.shapley_subsets(count, 20, generator)
        values = surrogate.shapley_values(kept, generator.normal(size=len(kept)), weight, 3.0, -1.0)
        assert values.sum() == pytest.approx(4)

    def test_subsets_come_in_pairs_with_the_sizes_of_the_kernel(self):
        kept, weight = surrogate.shapley_subsets(8, 254 - 2, rng(0, "x"))
        np.testing.assert_array_equal(kept[::2], ~kept[1::2])
        assert (weight == 1).all()
        sizes = np.bincount(
            np.concatenate([surrogate.shapley_subsets(9, 500, rng(n, "x"))[0].sum(1) for n in range(40)])
        )
        expected = 1 / (np.arange(1, 9) * np.arange(8, 0, -1))
        np.testing.assert_allclose(sizes[1:] / sizes.sum(), expected / expected.sum(), atol=0.01)


def test_lime_of_a_linear_model_is_its_weights():
    kept = rng(0, "kept").random((200, 12)) < 0.5
    weights = rng(0, "weights").normal(size=12)
    have = surrogate.linear_model(kept, kept @ weights + 7, rng(0, "w").random(200), 1e-9)
    np.testing.assert_allclose(have, weights, atol=1e-6)


class TestRelevance:
    def test_is_the_mean_of_clipped_drops_over_fills_and_scales(self):
        task = task_of(Reader(region_of((24, 24))), (24, 24))
        options = {"blur_mm": 3.0, "precision": "fp32"}
        fills, scales = ["zero", "blur", "noise", "neighbours"], [1.0, 0.5]
        have = relevance.relevance_map(task, fills=fills, scales=scales, **options)
        alone = [
            relevance.relevance_map(task, fills=[fill], scales=[scale], **options)
            for fill, scale in product(fills, scales)
        ]
        np.testing.assert_allclose(have, np.mean(alone, axis=0), rtol=1e-5, atol=1e-5)
        for one, other in pairwise(alone):
            assert not np.allclose(one, other)

    def test_zero_fill_is_ablation_clipped(self):
        task = explained()
        ablated = surrogate.explain(task, {"ablation": BY_DEFAULT})["ablation"]
        have = relevance.relevance_map(task, fills=["zero"], blur_mm=3.0, scales=[1.0], precision="fp32")
        np.testing.assert_allclose(have, np.maximum(ablated, 0), atol=1e-6)
        assert (ablated < 0).any()

    def test_neighbours_fill_with_their_mean(self):
        size = (12, 8)
        task = task_of(Reader(region_of(size)), size, image=blocks(size)[None].astype(np.float32))
        have = relevance.relevance_map(task, fills=["neighbours"], blur_mm=3.0, scales=[1.0], precision="fp32")[0, 0]
        # Blocks 1 2 / 3 4 / 5 6, of which the model reads 4, beside 2, 3 and 6, and 6, beside 4 and 5.
        drops = np.array([0, 0, 0, 0, 4 - (2 + 3 + 6) / 3, 0, 6 - (4 + 5) / 2]) * BLOCK**2
        np.testing.assert_allclose(have, drops[blocks(size)], atol=1e-4)


@pytest.mark.parametrize("name", [name for name in METHODS if catalogue.METHODS[name].needs_supervoxels])
def test_a_slice_between_supervoxels_has_no_evidence(name):
    """It costs its neighbours nothing."""
    labels = explained().supervoxels.copy()
    labels[1] = 0
    have, expected = explain_of(name)(explained(supervoxels=labels)), explain_of(name)(explained())
    assert not have[1].any()
    if name != "relevance_map":  # Its coarser scale merges across slices.
        np.testing.assert_allclose(have[[0, 2, 3, 4]], expected[[0, 2, 3, 4]], rtol=0, atol=1e-5 * expected.max())


def test_without_supervoxels_there_is_no_map():
    with pytest.raises(ValueError, match="a: this method explains supervoxels"):
        explain_of("ablation")(explained(supervoxels=None))
