import numpy as np
import pytest

from weakseg.evaluation.repeatability import agreement
from weakseg.randomness import rng

SHAPE = (6, 7, 4)


def cube(start):
    """A map that is 1 in a block of 2 x 3 x 4 voxels and 0 elsewhere."""
    relevance = np.zeros(SHAPE, np.float32)
    relevance[start : start + 2, 2:5] = 1
    return relevance


def compare(*maps):
    return dict(agreement(list(maps), np.ones(SHAPE, bool)))


def test_equal_maps_agree_whatever_their_scale():
    relevance = rng(0, "map").random(SHAPE, dtype=np.float32)
    assert compare(relevance, 3 * relevance) == pytest.approx({"repeated_spearman": 1, "repeated_dice": 1})


def test_blocks_that_overlap_by_half():
    found = compare(cube(0), cube(1))
    assert found["repeated_dice"] == pytest.approx(0.5)
    # The correlation of two binary variables: 24 of 168 voxels each, 12 in common.
    share = 24 / 168
    assert found["repeated_spearman"] == pytest.approx((12 / 168 - share**2) / (share * (1 - share)))


def test_mean_over_all_pairs():
    """Three seeds, two of which agree: one pair of three at 1, two at 0."""
    assert compare(cube(0), cube(0), cube(3))["repeated_dice"] == pytest.approx(1 / 3)


def test_empty_maps():
    empty = np.zeros(SHAPE, np.float32)
    assert compare(empty, empty) == {"repeated_spearman": 1, "repeated_dice": 1}
    assert compare(empty, cube(0)) == {"repeated_spearman": 0, "repeated_dice": 0}


def test_only_the_foreground_counts():
    foreground = np.zeros(SHAPE, bool)
    foreground[:, :, :2] = True
    one = rng(0, "map").random(SHAPE, dtype=np.float32)
    other = np.where(foreground, one, 1 - one)
    assert dict(agreement([one, other], foreground)) == pytest.approx({"repeated_spearman": 1, "repeated_dice": 1})
