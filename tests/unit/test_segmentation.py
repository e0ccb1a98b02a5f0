import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from weakseg.evaluation.segmentation import (
    Surface,
    border,
    box_of,
    compare_surfaces,
    diagonal,
    false_positives,
    overlap,
    volume_errors,
)
from weakseg.randomness import rng

SHAPE, SPACING = (24, 20, 14), (1.0, 1.5, 4.0)
BRATS = (240, 240, 155)


def blobs(seed, shift=0.0):
    """Some blobs, which may touch the border of the volume."""
    noise = ndimage.gaussian_filter(rng(seed, "blobs").normal(size=SHAPE), (3, 3, 1.5))
    return noise > np.quantile(noise, 0.85) + shift


def ball():
    return np.linalg.norm(np.indices(SHAPE) - np.reshape([12, 10, 7], (3, 1, 1, 1)), axis=0) < 5


def hd95(predicted, lesion, spacing):
    return compare_surfaces(predicted, lesion, spacing)["hd95_mm"]


def nsd(predicted, lesion, spacing, tolerance_mm=2.0):
    return compare_surfaces(predicted, lesion, spacing, tolerance_mm)["nsd"]


def tensor(mask):
    return torch.from_numpy(mask[None, None].astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(6))
def test_against_monai(seed):
    """Dice to 1e-6 and HD95 to 1e-4 mm, both float32 in MONAI."""
    predicted, lesion = blobs(seed), blobs(seed + 50) | (blobs(seed) & ball())
    assert overlap(predicted, lesion)["dice"] == pytest.approx(
        compute_dice(tensor(predicted), tensor(lesion)).item(), abs=1e-6
    )
    expected = compute_hausdorff_distance(
        tensor(predicted), tensor(lesion), include_background=True, percentile=95, spacing=SPACING
    )
    assert hd95(predicted, lesion, SPACING) == pytest.approx(expected.item(), abs=1e-4)
    assert hd95(lesion, predicted, SPACING) == hd95(predicted, lesion, SPACING)
    largest = compute_hausdorff_distance(tensor(predicted), tensor(lesion), include_background=True, spacing=SPACING)
    assert compare_surfaces(predicted, lesion, SPACING)["hd_mm"] == pytest.approx(largest.item(), abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("spacing", [SPACING, (1.0, 1.0, 1.0), (0.47, 0.47, 5.0)])
@pytest.mark.parametrize("tolerance", [0, 1, 2, 4.7])
@pytest.mark.parametrize("seed", range(3))
def test_nsd_against_monai(seed, tolerance, spacing):
    """To 1e-6, in MONAI float32."""
    predicted, lesion = blobs(seed), blobs(seed + 50) | (blobs(seed) & ball())
    expected = compute_surface_dice(
        tensor(predicted), tensor(lesion), [tolerance], include_background=True, spacing=spacing
    ).item()
    assert 0 < expected < 1
    assert nsd(predicted, lesion, spacing, tolerance) == pytest.approx(expected, abs=1e-6)
    assert nsd(lesion, predicted, spacing, tolerance) == pytest.approx(expected, abs=1e-6)


def test_nsd_by_hand():
    lesion, predicted = np.zeros((30, 3, 3), bool), np.zeros((30, 3, 3), bool)
    lesion[0:20, 1, 1] = True
    predicted[5:29, 1, 1] = True
    # With 0.7 mm and a tolerance of 2.1 mm: lesion voxels 2 to 19 and predicted ones 5 to 22 are near enough.
    assert nsd(predicted, lesion, (0.7, 1, 1), 2.1) == pytest.approx((18 + 18) / (20 + 24))
    assert nsd(predicted, lesion, (0.7, 1, 1), 2.09) == pytest.approx((17 + 17) / (20 + 24))


@pytest.mark.parametrize("seed", range(3))
def test_a_surface_serves_many_predictions(seed):
    lesion = blobs(seed)
    surface = Surface(lesion, SPACING, diagonal(SHAPE, SPACING))
    for predicted in (blobs(seed + 1), ball(), lesion, ~lesion, np.zeros(SHAPE, bool)):
        assert surface.compare(predicted, 3.0) == compare_surfaces(predicted, lesion, SPACING, 3.0)


def test_overlap_by_hand():
    predicted, lesion = np.zeros((2, 20), bool)
    predicted[:10] = True
    lesion[4:20] = True
    assert overlap(predicted, lesion) == {"dice": 12 / 26, "iou": 6 / 20, "sensitivity": 6 / 16, "precision": 6 / 10}


def test_overlap_of_masks_apart():
    predicted = blobs(0)
    assert overlap(predicted, ~predicted) == {"dice": 0, "iou": 0, "sensitivity": 0, "precision": 0}


def test_both_empty_is_right():
    nothing = np.zeros(BRATS, bool)
    assert overlap(nothing, nothing) == {"dice": 1, "iou": 1, "sensitivity": 1, "precision": 1}
    assert compare_surfaces(nothing, nothing, (1, 1, 1)) == {"hd_mm": 0, "hd95_mm": 0, "nsd": 1, "nsd_voxel": 1}


def test_one_empty_is_as_wrong_as_can_be():
    nothing = np.zeros(BRATS, bool)
    something = nothing.copy()
    something[100:110, 100:110, 70:80] = True
    for pair in ((nothing, something), (something, nothing)):
        assert overlap(*pair) == {"dice": 0, "iou": 0, "sensitivity": 0, "precision": 0}
        assert hd95(*pair, (1, 1, 1)) == pytest.approx(373.13, abs=0.005)
        assert nsd(*pair, (1, 1, 1), tolerance_mm=1000) == 0
    assert hd95(nothing[:24, :20, :14], ball(), SPACING) == pytest.approx(np.sqrt(24**2 + 30**2 + 56**2))


@pytest.mark.parametrize("seed", range(3))
def test_truth_is_the_optimum(seed):
    lesion = blobs(seed)
    assert set(overlap(lesion, lesion).values()) == {1.0}
    assert compare_surfaces(lesion, lesion, SPACING, 0.0) == {"hd_mm": 0, "hd95_mm": 0, "nsd": 1, "nsd_voxel": 1}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifted_truth_is_worse(axis):
    shifted = np.roll(ball(), 1, axis)
    assert max(overlap(shifted, ball()).values()) < 1
    assert hd95(shifted, ball(), SPACING) > 0
    assert nsd(shifted, ball(), SPACING, 0.0) < 1


@pytest.mark.parametrize(("axis", "mm"), [(0, 3.0), (1, 4.5), (2, 12.0)])
def test_distance_of_two_voxels_is_in_mm(axis, mm):
    first = np.zeros(SHAPE, bool)
    first[5, 5, 5] = True
    assert hd95(first, np.roll(first, 3, axis), SPACING) == pytest.approx(mm)


def test_distance_is_the_worse_direction():
    small = np.zeros((60, 5, 5), bool)
    small[0:2, 2, 2] = True
    long = small.copy()
    long[:41, 2, 2] = True
    # From the long one: 0, 0, then 1 to 39; the 39th of these 41 is the 95th percentile.
    assert hd95(small, long, (1, 1, 1)) == pytest.approx(37)
    assert hd95(long, small, (1, 1, 1)) == pytest.approx(37)


def test_border_is_where_a_face_is_free():
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    inner = np.zeros_like(cube)
    inner[2:5, 2:5, 2:5] = True
    np.testing.assert_array_equal(border(cube), cube & ~inner)
    assert border(np.ones((3, 3, 3), bool)).sum() == 26


def test_box_is_the_smallest():
    mask = np.zeros((9, 8, 7), bool)
    assert mask[box_of(mask)].size == 0
    mask[2, 3, 4] = mask[6, 3, 5] = True
    assert box_of(mask) == (slice(2, 7), slice(3, 4), slice(4, 6))


def some(n):
    mask = np.zeros(100, bool)
    mask[:n] = True
    return mask.reshape(5, 5, 4)


@pytest.mark.parametrize(
    ("predicted", "lesion", "error", "relative"),
    [(30, 20, 5, 0.5), (10, 20, -5, 0.5), (20, 20, 0, 0), (0, 20, -10, 1), (0, 0, 0, 0), (10, 0, 5, np.nan)],
)
def test_volume_errors_by_hand(predicted, lesion, error, relative):
    have = volume_errors(some(predicted), some(lesion), voxel_ml=0.5)
    assert have["volume_error_ml"] == error
    assert have["absolute_volume_error_ml"] == abs(error)
    np.testing.assert_equal(have["relative_volume_error"], relative)


def test_false_positives_are_those_of_slices_without_lesion():
    predicted, lesion, foreground = (np.zeros((4, 4, 10), bool) for _ in range(3))
    foreground[..., 1:9] = True
    lesion[2, 2, 3:5] = True
    predicted[0, 0, 4:7] = predicted[0, 1, 6] = True
    # Six slices show foreground and no lesion; 5 and 6 are touched, with three voxels. Slice 4 has lesion.
    assert false_positives(predicted, lesion, foreground, 0.5) == {"false_positive_ml": 1.5, "share_touched": 2 / 6}
    nothing = np.zeros_like(lesion)
    assert false_positives(predicted, nothing, foreground, 0.5) == {"false_positive_ml": 2, "share_touched": 3 / 8}
    assert false_positives(nothing, lesion, foreground, 0.5) == {"false_positive_ml": 0, "share_touched": 0}
    everywhere = false_positives(predicted, foreground, foreground, 0.5)
    assert everywhere["false_positive_ml"] == 0
    assert np.isnan(everywhere["share_touched"])
