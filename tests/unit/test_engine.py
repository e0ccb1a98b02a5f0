"""The engine's logits are those of inputs that are perturbed in full, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.maps_factory import state_of
from torch import nn
from torch.nn import functional as F

from weakseg.maps.engine import Engine, Grids, Region, Subsets, interpolate, interpolation, resizing, runs
from weakseg.networks import freeze
from weakseg.randomness import rng

SIZES = [(6, 8), (6, 8, 5)]
IDS = ["2D", "3D"]


def noise(*shape, name="noise"):
    return torch.from_numpy(rng(0, name).normal(size=shape).astype(np.float32))


class Network(nn.Module):
    """Three logits of two channels, no two voxels alike."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(noise(2, *size, name="weight"))
        self.fc = nn.Linear(2, 3)
        self.fc.weight.data, self.fc.bias.data = noise(3, 2, name="fc"), noise(3, name="bias")

    def forward(self, images):
        return self.fc((images * self.weight).tanh().flatten(2).mean(2) * 10)


def engine(size, units=3, **options):
    return Engine(freeze(Network(size), "cpu"), noise(units, 2, *size, name="image"), **options)


def whole(ours, keep, fill, units):
    """Logits of inputs made in full."""
    images = ours.images[units]
    keep = torch.as_tensor(keep, dtype=torch.float32)[:, None]
    return ours.network(keep * images + (1 - keep) * fill.expand_as(ours.images)[units])[:, ours.logit]


def regions(size, units):
    """Random boxes with holes, some reaching the border."""
    generator = rng(0, "regions")
    for unit in units:
        low = [int(generator.integers(0, length - 1)) for length in size]
        box = tuple(slice(a, int(generator.integers(a + 1, length + 1))) for a, length in zip(low, size, strict=True))
        shape = [each.stop - each.start for each in box]
        inside = torch.from_numpy(generator.random(shape) < 0.7)
        yield Region(unit, box, inside, torch.from_numpy(generator.normal(size=(2, *shape)).astype(np.float32)))


@pytest.mark.parametrize("batch", [1, 3, 64, None])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_regions(size, batch):
    ours = engine(size, batch=batch)
    units = [0, 0, 1, 2, 0, 2, 2, 1, 1]
    have = ours.regions(regions(size, units), len(units), "regions")
    for logit, region in zip(have, regions(size, units), strict=True):
        image = ours.images[region.unit].clone()
        box = (slice(None), *region.box)
        image[box] = torch.where(region.inside, region.values, image[box])
        assert logit == pytest.approx(ours.network(image[None])[0, 0].item(), abs=1e-5)
    # In volumes, the clean activations are computed each time that another unit follows: six times here.
    assert ours.forwards == len(units) + 6 * (len(size) == 3)


def test_regions_are_taken_from_their_stream_batch_by_batch():
    """As many as there are, no more than a batch is held at a time."""
    ours, taken = engine((6, 8), batch=4), []

    def stream():
        for region in regions((6, 8), [0] * 12):
            taken.append(ours.forwards)
            yield region

    ours.regions(stream(), 12, "regions")
    assert taken == [0] * 4 + [4] * 4 + [8] * 4


def test_no_regions():
    ours = engine((6, 8))
    assert ours.regions(iter(()), 0, "regions").shape == (0,)
    assert ours.forwards == 0


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("logit", [0, 2])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_subsets_of_supervoxels(size, logit, batch):
    ours = engine(size, logit=logit, batch=batch)
    labels = torch.from_numpy(rng(0, "labels").integers(0, 5, size=(3, *size)))
    units = np.repeat([0, 1, 2], [2, 5, 3])
    kept = torch.from_numpy(rng(0, "kept").random((10, 5)) < 0.5)
    fill = noise(3, 2, *size, name="fill")
    have = logits_of(ours, Subsets(units, kept, labels), fill)
    keep = torch.stack([row[labels[unit]] for row, unit in zip(kept, units, strict=True)])
    torch.testing.assert_close(have, whole(ours, keep, fill, units))


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_grids_resized_as_torch_does(size, batch):
    ours = engine(size, batch=batch)
    grid = (3, 2, 4)[: len(size)]
    units, values = np.repeat([0, 1, 2], [2, 1, 4]), noise(7, *grid).sigmoid()
    weights = [resizing(length, nodes) for length, nodes in zip(size, grid, strict=True)]
    fill = torch.full((1,) * (len(size) + 2), 0.5)
    have = logits_of(ours, Grids(units, values, lambda _rows: weights), fill)
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    keep = F.interpolate(values[:, None], size=size, mode=mode, align_corners=False)[:, 0]
    torch.testing.assert_close(have, whole(ours, keep, fill, units))


def test_masks_are_handed_back_with_their_logits():
    ours = engine((6, 8), batch=4)
    labels = torch.from_numpy(rng(0, "labels").integers(0, 5, size=(3, 6, 8)))
    kept = torch.from_numpy(rng(0, "kept").random((6, 5)) < 0.5)
    parts = [
        (rows, keep.clone()) for rows, keep, _ in ours.masked(Subsets(np.zeros(6, int), kept, labels), noise(1), "x")
    ]
    assert [rows for rows, _ in parts] == [slice(0, 4), slice(4, 6)]
    torch.testing.assert_close(torch.cat([keep for _, keep in parts]), kept.float()[:, labels[0]])


def logits_of(ours, masks, fill):
    return ours.logits(masks, fill, "masks")


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_clean(size):
    ours = engine(size, batch=2)
    torch.testing.assert_close(ours.clean(), ours.network(ours.images)[:, 0])
    assert ours.forwards == 3


def test_each_grid_lies_where_its_weights_say():
    places = torch.tensor([[0.0, 0.5, 2.0], [1.25, 3.0, 0.0]])
    values = torch.tensor([[0.0, 1, 4, 9], [1, 5, 9, 13]])
    out = torch.empty(2, 3)
    interpolate(values, [interpolation(places, 4)], out)
    torch.testing.assert_close(out, torch.tensor([[0, 0.5, 4], [6, 13, 1]]))


def test_runs_are_of_one_unit_each():
    units = np.array([0, 0, 1, 1, 1, 0, 2])
    assert list(runs(units, slice(1, 7))) == [(0, slice(1, 2)), (1, slice(2, 5)), (0, slice(5, 6)), (2, slice(6, 7))]


class TestBfloat16:
    def test_close_to_float32_and_no_hook_left(self):
        exact, lower = (engine((6, 8, 5), precision=precision) for precision in ("fp32", "bf16"))
        facts = state_of(lower.network)[1]
        torch.testing.assert_close(lower.clean(), exact.clean(), rtol=0.02, atol=0.05)
        assert state_of(lower.network)[1] == facts

    def test_logits_are_not_rounded_to_bfloat16(self):
        logits = engine((6, 8, 5), precision="bf16").clean()
        assert (logits != logits.bfloat16().float()).any()

    def test_the_rest_runs_in_bfloat16(self):
        ours, seen = engine((6, 8), precision="bf16"), []
        ours.network = nn.Sequential(nn.Conv2d(2, 1, 1), nn.Flatten(), nn.Linear(48, 1)).eval()
        ours.network[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
        ours.clean()
        assert set(seen) == {torch.bfloat16}
