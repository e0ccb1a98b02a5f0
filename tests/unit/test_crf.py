"""The dense CRF against its equations, written out over all pairs of voxels."""

import numpy as np
import pytest
from scipy.special import expit
from tests.refinements_factory import ball, dice, settings

from weakseg.randomness import rng
from weakseg.refinements.case import Case
from weakseg.refinements.crf import BilateralGrid, Neighbours, refine

SPACING = (1.0, 1.5, 3.0)


def distances(inside, spacing):
    points = np.argwhere(inside) * spacing
    return ((points[:, None] - points) ** 2).sum(2)


def test_grid_means_are_nearly_those_over_all_pairs():
    inside = rng(0, "inside").random((14, 12, 5)) < 0.8
    image = rng(0, "image").random(inside.shape).astype(np.float32)
    values = np.sin(np.argwhere(inside)[:, 0] / 3) * (image[inside] > 0.5)
    of_place = distances(inside, SPACING) / (2 * 4.0**2)
    of_intensity = (image[inside][:, None] - image[inside]) ** 2 / (2 * 0.15**2)
    weights = np.exp(-of_place - of_intensity)
    expected = weights @ values / weights.sum(1)
    grid = BilateralGrid(inside, image, SPACING, 4.0, 0.15)
    error = grid.mean(values.astype(np.float32)) - expected
    assert np.abs(error).max() < 0.1 * np.ptp(expected)
    assert np.sqrt((error**2).mean()) < 0.03 * np.ptp(expected)
    np.testing.assert_allclose(grid.mean(np.full(len(values), 0.3, np.float32)), 0.3, rtol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grid_means_do_not_depend_on_the_axes_direction(axis):
    inside = np.ones((15, 13, 6), bool)
    image, values = (rng(0, name).random(inside.shape).astype(np.float32) for name in ("image", "values"))
    plain = BilateralGrid(inside, image, SPACING, 4.0, 0.2).mean(values.ravel()).reshape(inside.shape)
    flipped = BilateralGrid(inside, np.flip(image, axis), SPACING, 4.0, 0.2).mean(np.flip(values, axis).ravel())
    np.testing.assert_allclose(np.flip(flipped.reshape(inside.shape), axis), plain, atol=1e-5)


def test_neighbours_mean_leaves_the_voxel_out():
    inside = rng(0, "inside").random((9, 8, 4)) < 0.7
    values = rng(0, "values").normal(0, 1, np.count_nonzero(inside)).astype(np.float32)
    weights = np.exp(-distances(inside, SPACING) / (2 * 1.5**2))
    np.fill_diagonal(weights, 0)
    expected = weights @ values / weights.sum(1)
    # The filter ends at three standard deviations.
    np.testing.assert_allclose(Neighbours(inside, SPACING, 1.5).mean(values), expected, atol=0.05)
    alone = np.zeros((5, 5, 5), bool)
    alone[2, 2, 2] = True
    assert Neighbours(alone, SPACING, 1.5).mean(np.ones(1, np.float32)) == 0


@pytest.mark.parametrize("shape", [(40, 36, 12), (40, 36, 1)])
def test_two_colours_give_the_region(shape):
    """A shifted and faded map of a region of one colour becomes that region, to the voxel."""
    middle = [(n - 1) / 2 * size for n, size in zip(shape, SPACING, strict=True)]
    region = ball(shape, middle, 9.0, SPACING)
    case = Case(np.where(region, 2.0, 1.0).astype(np.float32)[None], np.ones(shape, bool), SPACING)
    relevance = 0.9 * np.roll(region, (2, 1), (0, 1)) + rng(0, "noise").uniform(0, 0.1, shape)
    before = dice(relevance > 0.5, region)
    refined = refine(relevance.astype(np.float32), case, **settings("crf"))
    assert before < 0.9
    np.testing.assert_array_equal(refined > 0.5, region)


def test_without_weights_only_otsus_threshold_is_moved_to_a_half():
    inside = np.ones((20, 10, 1), bool)
    relevance = np.where(np.arange(20)[:, None, None] < 5, 0.4, 0.1) * np.ones((20, 10, 1))
    image = rng(0, "image").random((1, *inside.shape)).astype(np.float32)
    case = Case(image, inside, SPACING)
    refined = refine(relevance.astype(np.float32), case, **{**settings("crf"), "appearance": 0, "smoothness": 0})
    np.testing.assert_array_equal(refined > 0.5, relevance > 0.2)


def test_one_update_by_hand():
    """Two voxels that are far from alike, 1 mm apart: each hears only the other's smoothness."""
    case = Case(np.array([0, 1], np.float32)[None, :, None, None], np.ones((2, 1, 1), bool), (1.0, 1.0, 1.0))
    relevance = np.array([0.2, 0.9], np.float32)[:, None, None]
    plain = {**settings("crf"), "appearance": 0, "smoothness": 1.0, "iterations": 1}
    # Any threshold between the two values parts them; even odds lie in their middle.
    odds = np.log([0.2 / 0.8, 0.9 / 0.1]) - np.log(0.55 / 0.45)
    heard = 2 * expit(odds[::-1]) - 1
    np.testing.assert_allclose(refine(relevance, case, **plain).ravel(), expit(odds + heard), atol=5e-3)


def test_smoothness_clears_single_voxels():
    shape = (24, 24, 6)
    region = ball(shape, (12, 18, 9), 7.0, SPACING)
    relevance = np.where(region, 0.9, 0.05)
    relevance[rng(0, "specks").random(shape) < 0.05] = 0.6
    case = Case(rng(0, "image").random((1, *shape)).astype(np.float32), np.ones(shape, bool), SPACING)
    changed = {**settings("crf"), "appearance": 0, "smoothness": 3.0}
    refined = refine(relevance.astype(np.float32), case, **changed)
    assert dice(refined > 0.5, region) > dice(relevance > 0.5, region) + 0.05
