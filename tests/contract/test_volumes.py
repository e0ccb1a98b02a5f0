"""Every method and null on a volume: the same contract, with a case as the only unit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from tests.maps_factory import ARCHITECTURE, DEFAULTS, MODALITIES, explain_of, state_of

from weakseg import catalogue
from weakseg.data.views import Volume
from weakseg.maps.base import Explained
from weakseg.networks import classifier_network, freeze
from weakseg.randomness import rng

GRID, BOX = (20, 24, 18), (slice(2, 18), slice(3, 23), slice(1, 17))
SPACING = np.array([1.0, 1.5, 4.0])


@cache
def network(seed):
    model = classifier_network(4, {**ARCHITECTURE, "architecture": "resnet3d"}, seed).train()
    with torch.no_grad():
        model(torch.from_numpy(rng(seed, "data").normal(size=(4, 4, 16, 20, 16)).astype(np.float32)))
    return freeze(model, "cpu")


def volume():
    """Noise inside an ellipsoid that is off the centre of its box."""
    x, y, z = np.indices(GRID)
    inside = ((x - 9) / 6) ** 2 + ((y - 14) / 8) ** 2 + ((z - 8) / 6) ** 2 <= 1
    image = rng(0, "volume").normal(size=(4, *GRID)).astype(np.float32) * inside
    affine = np.diag([*SPACING, 1])
    return Volume(image[None, :, *BOX], inside[BOX][None], np.array([0]), "a", affine, GRID, BOX)


def explained(seed=0):
    labels = np.where(volume().foreground, 1 + np.indices((1, 16, 20, 16))[1] // 4, 0).astype(np.int32)
    arguments = volume(), np.array([0]), network(0), network(1), MODALITIES, seed, "cpu"
    return Explained(*arguments, supervoxels=labels)


@pytest.mark.parametrize("name", [name for name in DEFAULTS if "volume" in catalogue.METHODS[name].views])
def test_form_and_repetition(name):
    task = explained()
    before = state_of(task.network)[1]
    maps = explain_of(name)(task)
    assert maps.shape == (1, 1, 16, 20, 16)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    # No axis is without contrast: a plane that was taken for the volume would be. CAM's last stage is one voxel here.
    assert name == "cam" or all(np.ptp(maps[0, 0], axis=axis).max() > 0 for axis in range(3))
    np.testing.assert_array_equal(explain_of(name)(explained()), maps)
    assert state_of(task.network)[1] == before


@pytest.mark.parametrize("name", [name for name in DEFAULTS if catalogue.METHODS[name].null])
def test_nulls_are_zero_outside_the_foreground(name):
    maps = explain_of(name)(explained())[:, 0]
    assert not maps[~volume().foreground].any()
    assert maps[volume().foreground].any()


def test_centre_falls_with_the_distance_in_mm():
    maps, foreground = explain_of("centre")(explained())[:, 0], volume().foreground
    place = np.argwhere(foreground[0]) * SPACING
    distance = np.linalg.norm(place - place.mean(axis=0), axis=1)
    np.testing.assert_allclose(maps[foreground], 1 - distance / distance.max(), atol=1e-5)
