"""Coarser supervoxels."""

import numpy as np
import pytest

from weakseg.maps.scales import merged
from weakseg.randomness import rng


def checkered():
    """Eight blocks in a row of two units: labels (2, 4, 8), four kinds of contents."""
    labels = np.repeat(np.arange(8)[None, None] + 1, 4, axis=1).repeat(2, axis=0).astype(np.int32)
    kinds = np.array([0.0, 0.1, 5, 5.1, 0.2, 0.3, 9, 9.1])
    return labels, kinds[labels - 1][:, None].astype(np.float32)


def test_neighbours_that_look_alike_are_merged():
    labels, image = checkered()
    have = merged(labels, image, 0.5)
    # Blocks 1 and 5 look alike and do not touch.
    np.testing.assert_array_equal(have[0, 0], [1, 1, 2, 2, 3, 3, 4, 4])
    assert (have == have[:1, :1]).all()


@pytest.mark.parametrize(("share", "left"), [(1, 8), (0.75, 6), (0.4, 3), (0.01, 1)])
def test_the_share_is_left(share, left):
    labels, image = checkered()
    have = merged(labels, image, share)
    np.testing.assert_array_equal(np.unique(have), np.arange(1, left + 1))
    for label in range(1, 9):
        assert len(np.unique(have[labels == label])) == 1


def test_background_stays_and_parts_it():
    labels, image = checkered()
    labels[:, :, 3] = 0
    have = merged(labels, image, 0.01)
    assert (have[labels == 0] == 0).all()
    np.testing.assert_array_equal(have[0, 0], [1, 1, 1, 0, 2, 2, 2, 2])


@pytest.mark.parametrize("axis", [1, 2])
def test_flips_with_its_input(axis):
    generator = rng(0, "flip")
    labels = generator.permutation(24).reshape(4, 6).repeat(2, 0).repeat(3, 1)[None].astype(np.int32)
    image = generator.normal(size=(1, 3, *labels.shape[1:])).astype(np.float32)
    flipped = merged(np.flip(labels, axis), np.flip(image, axis + 1), 0.3)
    np.testing.assert_array_equal(np.flip(flipped, axis), merged(labels, image, 0.3))
