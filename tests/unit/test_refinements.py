import numpy as np
import pytest
from scipy import ndimage

from weakseg import nifti
from weakseg.evaluation.protocol import normalise
from weakseg.randomness import rng
from weakseg.refinements import stage
from weakseg.refinements.components import ball, clean, dilate, erode
from weakseg.refinements.supervoxel import supervoxel_mean

ONE_MM = (1.0, 1.0, 1.0)


def cleaned(mask, spacing=ONE_MM, opening_mm=0.0, closing_mm=0.0, min_volume_ml=0.0):
    return clean(mask, spacing, opening_mm, closing_mm, min_volume_ml)


def empty(*shape):
    return np.zeros(shape or (24, 24, 24), bool)


def test_supervoxel_mean_by_hand():
    labels = np.array([[[0, 1, 1]], [[2, 2, 1]], [[0, 4, 4]]])
    relevance = np.array([[[0.9, 0.2, 0.4]], [[0.5, 0.7, 0.6]], [[0.3, 1.0, 0.5]]], np.float32)
    expected = [[[0, 0.4, 0.4]], [[0.6, 0.6, 0.4]], [[0, 0.75, 0.75]]]
    refined = supervoxel_mean(relevance, labels)
    np.testing.assert_allclose(refined, expected, rtol=1e-6)
    assert refined.dtype == np.float32


def test_supervoxel_mean_keeps_sums_and_repeats():
    labels = rng(0, "labels").integers(0, 9, (6, 7, 8))
    relevance = rng(0, "relevance").random(labels.shape) * (labels > 0)
    refined = supervoxel_mean(relevance, labels)
    assert refined.sum() == pytest.approx(relevance.sum(), rel=1e-5)
    np.testing.assert_allclose(supervoxel_mean(refined, labels), refined, rtol=1e-6)


def test_stage_normalises_refines_and_keeps_the_grid(context, tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1])
    foreground = rng(0, "foreground").random((6, 7, 8)) < 0.8
    labels = rng(0, "labels").integers(1, 9, foreground.shape).astype(np.int32) * foreground
    raw = rng(0, "raw").normal(0, 30, foreground.shape).astype(np.float32)
    nifti.write(tmp_path / "preprocess/foreground/a.nii.gz", foreground.astype(np.uint8), affine)
    nifti.write(tmp_path / "preprocess/images/a.nii", np.zeros((1, *foreground.shape), np.float32), affine)
    nifti.write(tmp_path / "supervoxels/a.nii.gz", labels, affine)
    nifti.write_map(tmp_path / "maps/gradcam/a.nii.gz", raw, affine)
    folders = {role: tmp_path / role for role in ("maps", "preprocess", "supervoxels")}
    running = context("refinement", {"chains": {"supervoxel": None}}, **folders)
    stage.run(running)
    refined, grid = nifti.read(running.out / "supervoxel/gradcam/a.nii.gz")
    expected = supervoxel_mean(normalise(raw, foreground), labels)
    np.testing.assert_allclose(refined, expected, atol=1e-3)
    np.testing.assert_array_equal(refined[~foreground], 0)
    np.testing.assert_array_equal(grid, affine)


def test_components_below_the_volume_are_dropped():
    mask, spacing = empty(), (1.0, 1.0, 2.0)
    mask[2:7, 2, 2] = True  # 10 mm3
    mask[12:16, 2, 2] = True  # 8 mm3
    large_only = mask.copy()
    large_only[12:16] = False
    np.testing.assert_array_equal(cleaned(mask, spacing, min_volume_ml=0.008), mask)
    np.testing.assert_array_equal(cleaned(mask, spacing, min_volume_ml=0.009), large_only)
    np.testing.assert_array_equal(cleaned(mask, spacing, min_volume_ml=0.01), large_only)
    np.testing.assert_array_equal(cleaned(mask, spacing, min_volume_ml=0.011), False)


def test_voxels_that_share_a_corner_are_one_component():
    mask = empty()
    mask[[3, 4, 5], [3, 4, 5], [3, 4, 5]] = True
    np.testing.assert_array_equal(cleaned(mask, min_volume_ml=0.003), mask)


def test_opening_cuts_a_thin_bridge():
    mask = empty()
    mask[2:9, 8:15, 8:15] = True
    mask[15:22, 8:15, 8:15] = True
    apart = mask.copy()
    mask[9:15, 11, 11] = True
    opened = cleaned(mask, opening_mm=1)
    np.testing.assert_array_equal(opened[:9], cleaned(apart, opening_mm=1)[:9])
    assert not opened[10:14].any()
    assert opened[2:9, 9:14, 9:14].sum() > 0.9 * 7 * 5 * 5
    # Once cut, each half is a component of its own.
    half = apart.sum() / 2 / 1000
    assert not cleaned(mask, opening_mm=1, min_volume_ml=1.2 * half).any()
    assert cleaned(mask, min_volume_ml=1.2 * half).any()


def test_closing_fills_a_hole_and_a_gap():
    mask = empty()
    mask[4:16, 4:16, 4:16] = True
    full = mask.copy()
    mask[9, 9, 9] = False
    np.testing.assert_array_equal(cleaned(mask, closing_mm=1), full)
    mask[9] = False
    closed = cleaned(mask, closing_mm=1)
    assert closed[9, 5:15, 5:15].all()
    assert not (closed & ~full).any()
    mask[8:12] = False
    np.testing.assert_array_equal(cleaned(mask, closing_mm=1), mask)


def test_opening_comes_before_closing():
    mask = empty()
    mask[4:12, 4:12, 4:12] = True
    mask[14, 8, 8] = True  # closing first would tie it to the cube
    once = cleaned(mask, opening_mm=1, closing_mm=2)
    assert not once[13:].any()


@pytest.mark.parametrize("start", [0, 8, 16], ids=["lower border", "middle", "upper border"])
def test_place_in_the_volume_does_not_matter(start):
    """Outside the volume is background like any other, and it does not erode a closed mask."""
    piece = rng(0, "piece").random((8, 8, 8)) < 0.75
    mask = empty()
    mask[start : start + 8, start : start + 8, start : start + 8] = piece
    result = cleaned(mask, (1.0, 1.0, 2.0), opening_mm=1, closing_mm=2, min_volume_ml=0.01)
    middle = empty(40, 40, 40)
    middle[16:24, 16:24, 16:24] = piece
    expected = cleaned(middle, (1.0, 1.0, 2.0), opening_mm=1, closing_mm=2, min_volume_ml=0.01)
    assert 0 < expected.sum() == result.sum()
    np.testing.assert_array_equal(
        result[start : start + 8, start : start + 8, start : start + 8], expected[16:24, 16:24, 16:24]
    )


def test_closing_does_not_erode_at_the_border():
    mask = empty(8, 8, 8) | True
    np.testing.assert_array_equal(cleaned(mask, closing_mm=3), True)
    slab = empty(8, 8, 8)
    slab[:2] = True
    np.testing.assert_array_equal(cleaned(slab, closing_mm=3), slab)


def test_radius_below_a_voxel_leaves_a_step_out():
    mask = rng(0, "mask").random((12, 12, 12)) < 0.4
    np.testing.assert_array_equal(cleaned(mask, (2.0, 2.0, 3.0), opening_mm=1.9, closing_mm=1.9), mask)
    assert not cleaned(mask, (2.0, 2.0, 3.0), opening_mm=2).all()
    assert cleaned(mask, (2.0, 2.0, 3.0), opening_mm=2).sum() < mask.sum()
    assert cleaned(mask, (2.0, 2.0, 3.0), closing_mm=2).sum() > mask.sum()


def test_radius_in_mm_acts_within_thick_slices_only():
    mask = empty()
    mask[4:16, 4:16, 4:16] = True
    full = mask.copy()
    full[:, :, 7] = False
    mask[9, 9, 9] = False
    mask[4:16, 4:16, 7] = False
    np.testing.assert_array_equal(cleaned(mask, (1.0, 1.0, 5.0), closing_mm=2), full)


def test_empty_mask_stays_empty_and_the_input_is_kept():
    assert not cleaned(empty(), opening_mm=3, closing_mm=3, min_volume_ml=1).any()
    mask = rng(0, "mask").random((10, 10, 10)) < 0.4
    before = mask.copy()
    cleaned(mask, opening_mm=1, closing_mm=2, min_volume_ml=0.01)
    np.testing.assert_array_equal(mask, before)


def test_ball_in_mm():
    thick = ball(3, (1.0, 1.0, 2.0))
    assert thick.shape == (7, 7, 3)
    # 29 pixels within 3 mm, and 21 within sqrt(9 - 4) mm above and below.
    assert thick.sum(axis=(0, 1)).tolist() == [21, 29, 21]
    assert ball(1, ONE_MM).sum() == 7
    assert ball(0.9, ONE_MM).tolist() == [[[True]]]
    assert ball(1, (1.0, 1.0, 3.0)).shape == (3, 3, 1)
    # 0.1 * 3 is not quite 0.3 in binary.
    assert ball(0.3, (0.1, 0.1, 0.1)).shape == (7, 7, 7)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 1.5), (3, 3, 3), (0.8, 0.8, 5), (5, 1, 1)])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_balls_grow_and_shrink_as_scipy_does(spacing, share):
    mask, element = rng(0, "mask").random((14, 17, 11)) < share, ball(3, spacing)
    np.testing.assert_array_equal(dilate(mask, element), ndimage.binary_dilation(mask, element))
    np.testing.assert_array_equal(erode(mask, element), ndimage.binary_erosion(mask, element))
