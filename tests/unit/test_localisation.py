import numpy as np
import pytest

from weakseg.evaluation.localisation import (
    BOX_THRESHOLDS,
    box_hits,
    box_iou_curve,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
)
from weakseg.randomness import rng

SHAPE, SPACING = (12, 10, 8), (1.0, 2.0, 3.0)
LESION = np.zeros(SHAPE, bool)
LESION[2:6, 3:7, 2:5] = True
NOTHING = np.zeros(SHAPE, bool)


def points(*places, value=1.0):
    relevance = np.zeros(SHAPE, np.float32)
    for place in places:
        relevance[place] = value
    return relevance


@pytest.mark.parametrize(
    ("place", "mm"),
    [((3, 4, 3), 0), ((8, 4, 3), 3), ((3, 0, 3), 6), ((3, 4, 7), 9), ((8, 0, 3), np.hypot(3, 6))],
)
def test_pointing_distance_is_in_mm(place, mm):
    assert pointing_game(points(place), LESION, SPACING, mm) == 1
    if mm:
        assert pointing_game(points(place), LESION, SPACING, mm - 0.01) == 0


def test_pointing_takes_the_largest_value():
    relevance = points((0, 0, 0), value=0.9) + points((3, 4, 3))
    assert pointing_game(relevance, LESION, SPACING, 0) == 1
    assert pointing_game(-relevance, LESION, SPACING, 0) == 0


def test_equal_maxima_share():
    relevance = points((3, 4, 3), (0, 0, 0), (11, 9, 7), (6, 4, 3))
    assert pointing_game(relevance, LESION, SPACING, 0) == 1 / 4
    assert pointing_game(relevance, LESION, SPACING, 1) == 2 / 4
    assert pointing_game(points() + 1, LESION, SPACING, 0) == LESION.mean()


def test_mass_by_hand():
    relevance = points((3, 4, 3)) + points((0, 0, 0), value=3) - points((1, 1, 1), value=8)
    assert mass_accuracy(relevance, LESION) == 1 / 4


def test_rank_by_hand():
    line, lesion = np.zeros((10, 1, 1), np.float32), np.zeros((10, 1, 1), bool)
    lesion[:4] = True
    line[:, 0, 0] = [9, 1, 1, 2, 8, 7, 0, 0, 0, 0]
    assert rank_accuracy(line, lesion) == 2 / 4
    # 9 and 8, then two places for three equal ones, one of them in the lesion.
    line[:, 0, 0] = [9, 5, 1, 1, 8, 5, 5, 0, 0, 0]
    assert rank_accuracy(line, lesion) == pytest.approx((1 + 2 / 3) / 4)
    # Zeros take no place.
    line[:, 0, 0] = [9, 0, 0, 0, 8, 0, 0, 0, 0, 0]
    assert rank_accuracy(line, lesion) == 1 / 4


@pytest.mark.parametrize("seed", range(3))
def test_rank_is_that_of_the_sorted_map(seed):
    relevance = rng(seed, "relevance").random(SHAPE)
    lesion = rng(seed, "lesion").random(SHAPE) < 0.2
    top = np.argsort(-relevance, axis=None)[: lesion.sum()]
    assert rank_accuracy(relevance, lesion) == pytest.approx(lesion.ravel()[top].mean(), rel=1e-12)


def test_truth_is_the_optimum_and_nothing_scores_nothing():
    truth, zero = LESION.astype(np.float32), points()
    assert pointing_game(truth, LESION, SPACING, 0) == mass_accuracy(truth, LESION) == rank_accuracy(truth, LESION) == 1
    np.testing.assert_array_equal(box_iou_curve(truth, LESION), 1)
    assert pointing_game(zero, LESION, SPACING, 99) == mass_accuracy(zero, LESION) == rank_accuracy(zero, LESION) == 0
    np.testing.assert_array_equal(box_iou_curve(zero, LESION), 0)


def test_without_a_lesion_there_is_no_score():
    relevance = points((3, 4, 3))
    assert np.isnan(pointing_game(relevance, NOTHING, SPACING, 5))
    assert np.isnan(mass_accuracy(relevance, NOTHING))
    assert np.isnan(rank_accuracy(relevance, NOTHING))
    assert np.isnan(box_iou_curve(relevance, NOTHING)).all()


def test_box_curve_by_hand():
    relevance = points()
    relevance[2:8, 3:7, 2:5] = 0.3
    relevance[2:4, 3:7, 2:5] = 0.6
    # Larger in voxels than what is left of the first component above 0.3.
    relevance[9:12, :, :2] = 0.5
    curve = dict(zip(BOX_THRESHOLDS.tolist(), box_iou_curve(relevance, LESION), strict=True))
    assert curve[0.0] == curve[0.25] == pytest.approx(4 / 6)
    assert curve[0.35] == curve[0.45] == 0
    assert curve[0.5] == curve[0.55] == pytest.approx(2 / 4)
    assert curve[0.65] == curve[0.95] == 0


def test_box_of_a_ring_is_that_of_what_it_holds():
    hollow = LESION.astype(np.float32)
    hollow[3:5, 4:6, 3] = 0
    np.testing.assert_array_equal(box_iou_curve(hollow, LESION), 1)


def test_boxes_are_right_at_one_threshold_for_the_set():
    curves = np.zeros((4, len(BOX_THRESHOLDS)))
    curves[:, 3] = [0.35, 0.55, 0.3, 0.1]
    curves[:, 9] = [0.1, 0.1, 0.8, 0.75]
    have = {least: hits.tolist() for least, hits in box_hits(curves).items()}
    assert have == {0.3: [True, True, True, False], 0.5: [False, False, True, True], 0.7: [False, False, True, True]}
    assert box_hits(curves[::-1])[0.3].tolist() == have[0.3][::-1]


def test_boxes_need_lesions():
    for curves in (np.zeros((0, 20)), np.stack([box_iou_curve(points(), NOTHING)])):
        with pytest.raises(ValueError, match="lesion-bearing"):
            box_hits(curves)
