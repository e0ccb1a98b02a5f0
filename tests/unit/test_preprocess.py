import nibabel as nib
import numpy as np
import pytest

from weakseg.data import preprocess
from weakseg.data.foreground import nonzero
from weakseg.data.grid import resample
from weakseg.errors import WeaksegError
from weakseg.nifti import spacing_of
from weakseg.randomness import rng

AFFINE = np.array([[1.0, 0, 0, -12], [0, 1.0, 0, 30], [0, 0, 1.5, 5], [0, 0, 0, 1]])
SHAPE = (36, 40, 30)
CENTRE_MM, RADIUS_MM = np.array([5.0, 49.0, 26.0]), 13.0


def to_grid(image, affine, spacing, size, case):
    """Skull-stripped MRI."""
    return preprocess.to_grid(image, nonzero(image), affine, spacing, size, None, case)


def places_mm(shape, affine):
    """Coordinates of every voxel: (X, Y, Z, 3) in mm."""
    return nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def ball():
    return np.linalg.norm(places_mm(SHAPE, AFFINE) - CENTRE_MM, axis=-1) <= RADIUS_MM


def coordinates():
    """Three channels that hold each voxel's own x, y and z in mm, inside a ball: (3, X, Y, Z)."""
    return np.moveaxis(places_mm(SHAPE, AFFINE) + 1000, -1, 0) * ball()


def assert_normal(image, inside):
    values = image[:, inside]
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(image[:, ~inside], 0)


def assert_in_place(image, inside, affine):
    """Each channel is a z-scored coordinate, so it must agree with the coordinates that the affine gives."""
    truth = places_mm(inside.shape, affine)[inside]
    normal = (truth - truth.mean(axis=0)) / truth.std(axis=0)
    np.testing.assert_allclose(image[:, inside].T, normal, atol=2e-3)


def test_zscore_inside_each_channel_and_zero_outside():
    inside = ball()
    image = rng(0, "image").uniform(50, 900, (2, *SHAPE)) * inside
    image[1] *= 30
    normal, foreground, affine = to_grid(image, AFFINE, None, None, "case")
    assert normal.dtype == np.float32
    np.testing.assert_array_equal(foreground, inside)
    np.testing.assert_array_equal(affine, AFFINE)
    assert_normal(normal, inside)
    expected = (image[1] - image[1][inside].mean()) / image[1][inside].std()
    np.testing.assert_allclose(normal[1][inside], expected[inside], atol=1e-4)


def test_zscore_counts_dark_voxels_of_the_foreground():
    """A voxel that is 0 in one channel and not in the other is dark in the first one, not average."""
    image = rng(0, "image").integers(0, 4, (2, *SHAPE)).astype(np.float32) * ball()
    image[0] += ball()
    normal, foreground, _ = to_grid(image, AFFINE, None, None, "case")
    np.testing.assert_array_equal(foreground, ball())
    assert_normal(normal, foreground)


def test_constant_channel_becomes_zero():
    image = np.stack([7.0 * ball(), coordinates()[0]])
    normal, _, _ = to_grid(image, AFFINE, None, None, "case")
    np.testing.assert_allclose(normal[0], 0, atol=1e-6)


def test_spacing_keeps_volume_and_place():
    spacing = [1.5, 1.25, 1.0]
    image, inside, affine = to_grid(coordinates(), AFFINE, spacing, None, "case")
    assert spacing_of(affine) == pytest.approx(spacing)
    np.testing.assert_allclose(image.shape[1:], np.multiply(SHAPE, (1, 1, 1.5)) / spacing, atol=1)
    assert np.count_nonzero(inside) * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.03)
    np.testing.assert_allclose(places_mm(inside.shape, affine)[inside].mean(axis=0), CENTRE_MM, atol=0.1)
    np.testing.assert_array_equal(image[:, ~inside], 0)
    assert_normal(image, inside)
    # The outermost voxels mix with the background.
    core = np.linalg.norm(places_mm(inside.shape, affine) - CENTRE_MM, axis=-1) < RADIUS_MM - 2.5
    for channel in range(3):
        residual = np.polyfit(places_mm(core.shape, affine)[core][:, channel], image[channel][core], 1, full=True)[1]
        assert residual[0] / core.sum() < 1e-6


def test_size_crops_and_pads_around_the_foreground():
    size = [28, 50, 20]
    image, inside, affine = to_grid(coordinates(), AFFINE, None, size, "case")
    assert inside.shape == tuple(size)
    assert image.shape == (3, *size)
    assert np.count_nonzero(inside) == np.count_nonzero(ball())
    assert spacing_of(affine) == pytest.approx((1, 1, 1.5))
    assert_in_place(image, inside, affine)
    occupied = np.argwhere(inside)
    before, after = occupied.min(axis=0), np.subtract(size, 1) - occupied.max(axis=0)
    assert np.abs(before - after).max() <= 1


def test_common_size_holds_every_foreground_with_room():
    assert preprocess.common_size([np.array([27, 30, 17]), np.array([10, 33, 24])]) == [40, 48, 32]


def test_size_and_spacing_together():
    image, inside, affine = to_grid(coordinates(), AFFINE, [1.5, 1.5, 1.5], [24, 20, 20], "case")
    assert image.shape == (3, 24, 20, 20)
    np.testing.assert_allclose(places_mm(inside.shape, affine)[inside].mean(axis=0), CENTRE_MM, atol=0.1)


def test_size_that_cuts_foreground_off_is_refused():
    with pytest.raises(WeaksegError, match=r"Brats18_X_1: foreground of \(27, 27, 17\) voxels .* \(28, 26, 20\)"):
        to_grid(coordinates(), AFFINE, None, [28, 26, 20], "Brats18_X_1")
    assert to_grid(coordinates(), AFFINE, None, [27, 27, 17], "Brats18_X_1")[1].sum() == ball().sum()


def test_resample_of_equal_grids_changes_nothing():
    volume = rng(0, "volume").random(SHAPE)
    assert resample(volume, AFFINE, SHAPE, AFFINE, "linear") is volume


def test_resample_mask_to_a_finer_grid_and_back():
    # Beyond the outermost voxel centres all is 0, so the outermost voxels lose half of themselves.
    mask = np.pad(rng(0, "mask").integers(0, 5, (6, 5, 4)), 1)
    coarse = np.diag([2.0, 2.0, 3.0, 1])
    fine = np.diag([1.0, 1.0, 1.0, 1])
    fine[:3, 3] = -0.5, -0.5, -1  # the first fine voxels begin where the first coarse ones do
    on_fine = resample(mask, coarse, (16, 14, 18), fine, "nearest")
    np.testing.assert_array_equal(on_fine, mask.repeat(2, axis=0).repeat(2, axis=1).repeat(3, axis=2))
    np.testing.assert_array_equal(resample(on_fine, fine, mask.shape, coarse, "nearest"), mask)


def test_resample_map_to_a_larger_grid_and_back():
    size = (24, 30, 16)
    cut = AFFINE.copy()
    cut[:3, 3] += 3, 4, 6  # 3, 4 and 4 voxels
    volume = rng(0, "volume").random(size).astype(np.float32)
    raw = resample(volume, cut, SHAPE, AFFINE, "linear")
    np.testing.assert_allclose(raw[3:27, 4:34, 4:20], volume, atol=1e-4)
    assert raw.sum() == pytest.approx(volume.sum(), rel=1e-4)
    np.testing.assert_allclose(resample(raw, AFFINE, size, cut, "linear"), volume, atol=1e-4)


def test_resample_between_grids_of_one_shape():
    volume = rng(0, "volume").random(SHAPE).astype(np.float32)
    moved = AFFINE.copy()
    moved[:3, 3] += 2, 0, -1.5
    expected = np.zeros(SHAPE, np.float32)
    expected[:-2, :, 1:] = volume[2:, :, :-1]
    for mode in ("nearest", "linear"):
        np.testing.assert_allclose(resample(volume, AFFINE, SHAPE, moved, mode), expected, atol=1e-5)


def test_resample_interpolates_between_voxels():
    ramp = np.broadcast_to(np.arange(10.0)[:, None, None], (10, 4, 4))
    shifted = np.eye(4)
    shifted[0, 3] = 0.25
    moved = resample(ramp, np.eye(4), (9, 4, 4), shifted, "linear")
    np.testing.assert_allclose(moved, ramp[:9] + 0.25, atol=1e-4)
