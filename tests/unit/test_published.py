"""The paper's own cuts of maps, slice by slice."""

import numpy as np
import pytest

from weakseg.evaluation.published import cut_change, cut_saliency


def square(low, high, shape=(20, 20, 2), position=0, value=1.0):
    volume = np.zeros(shape)
    volume[low[0] : high[0], low[1] : high[1], position] = value
    return volume


def test_the_largest_piece_of_each_slice_stays():
    large, small = square((2, 2), (8, 8)), square((12, 12), (16, 16))
    other = square((12, 2), (15, 5), position=1)
    np.testing.assert_array_equal(cut_change(0.3 * (large + small + other), 0.25), (large + other) > 0)


def test_change_at_the_cut_does_not_count():
    assert not cut_change(square((2, 2), (8, 8), value=0.25), 0.25).any()


def test_specks_are_opened_and_holes_are_closed():
    change = square((2, 2), (11, 11))
    change[6, 6, 0] = 0
    change[15, 15, 0] = 1
    expected = square((2, 2), (11, 11)) > 0
    np.testing.assert_array_equal(cut_change(change, 0.25), expected)


def test_a_mask_at_the_border_of_the_grid_is_not_eroded():
    change = square((0, 0), (5, 5))
    np.testing.assert_array_equal(cut_change(change, 0.25), change > 0)


def test_saliency_is_scaled_in_each_slice():
    relevance = np.zeros((4, 1, 3))
    relevance[:, 0, 0] = [0.0, 0.97, 0.98, 1.0]
    relevance[:, 0, 1] = [5.0, 5.1, 5.097, 5.0]
    relevance[:, 0, 2] = 2.0
    mask = cut_saliency(relevance)
    assert mask[:, 0, 0].tolist() == [False, False, True, True]
    assert mask[:, 0, 1].tolist() == [False, True, False, False]
    assert not mask[..., 2].any()


@pytest.mark.parametrize("cut", [cut_saliency, lambda volume: cut_change(volume, 0.25)])
def test_nothing_stays_nothing(cut):
    assert not cut(np.zeros((5, 6, 2))).any()
