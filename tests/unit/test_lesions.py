import numpy as np
import pytest

from weakseg.evaluation.lesions import match_lesions

SHAPE = (40, 20, 20)


def boxes(*corners):
    """A mask of boxes along X: (start, stop) of each, 4 x 4 in Y and Z."""
    mask = np.zeros(SHAPE, bool)
    for start, stop in corners:
        mask[start:stop, 4:8, 4:8] = True
    return mask


def test_by_hand():
    lesion = boxes((0, 5), (10, 20), (25, 30), (35, 40))
    # The first is covered by half, the second and third by one component, the fourth missed; 21 to 22 hits nothing.
    predicted = boxes((2, 5), (12, 20), (26, 30))
    predicted[20:26, 4, 4] = True
    predicted[33, 15, 15] = True
    match = match_lesions(predicted, lesion, voxel_ml=0.01)
    assert match.lesion_ml.tolist() == pytest.approx([0.8, 1.6, 0.8, 0.8])
    # IoU 3/5; 128/(160+198-128) = 0.56 for the second and 0.29 for the third, whose component is taken.
    assert match.found.tolist() == [True, True, False, False]
    assert match.right.tolist() == [True, True, False]
    assert match.scores() == {"lesion_recall": 2 / 4, "lesion_precision": 2 / 3, "lesion_f1": 4 / 7}


def test_the_least_iou_counts():
    lesion, predicted = boxes((0, 10)), boxes((0, 1))
    assert match_lesions(predicted, lesion, 1.0).found.all()
    assert not match_lesions(predicted, lesion, 1.0, least_iou=0.11).found.any()
    assert not match_lesions(boxes((10, 20)), lesion, 1.0, least_iou=1e-9).found.any()


def test_the_better_component_finds_the_lesion():
    match = match_lesions(boxes((0, 2), (3, 8)), boxes((0, 10)), 1.0)
    assert match.right.tolist() == [False, True]
    assert match.scores() == {"lesion_recall": 1, "lesion_precision": 1 / 2, "lesion_f1": 2 / 3}


def test_components_are_connected_over_corners():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    assert match_lesions(mask, mask, 1.0).lesion_ml.tolist() == [2, 1]


def test_recall_by_volume():
    lesion = boxes((0, 5), (10, 20), (30, 40))
    match = match_lesions(boxes((0, 5), (10, 20)), lesion, voxel_ml=0.1)
    assert match.lesion_ml.tolist() == pytest.approx([8, 16, 16])
    assert match.by_volume() == {"<1": (0, 0), "1-10": (1, 1), ">=10": (2, 1)}
    assert match.by_volume([8.0, 16.0]) == {"<8": (0, 0), "8-16": (1, 1), ">=16": (2, 1)}
    assert match.by_volume([12.5]) == {"<12.5": (1, 1), ">=12.5": (2, 1)}


def test_empty_masks():
    nothing, something = boxes(), boxes((3, 9))
    assert set(match_lesions(nothing, nothing, 1.0).scores().values()) == {1}
    assert set(match_lesions(nothing, something, 1.0).scores().values()) == {0}
    assert set(match_lesions(something, nothing, 1.0).scores().values()) == {0}
    assert match_lesions(something, nothing, 1.0).by_volume() == {"<1": (0, 0), "1-10": (0, 0), ">=10": (0, 0)}
