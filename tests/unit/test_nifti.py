import nibabel as nib
import numpy as np
import pytest

from weakseg import nifti
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

RAS = np.array([[2.0, 0, 0, -30], [0, 1.5, 0, 12], [0, 0, 3.0, 7], [0, 0, 0, 1]])
LPS = np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 12], [0, 0, 3.0, 7], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 3.0, 7], [2.0, 0, 0, -30], [0, -1.5, 0, 12], [0, 0, 0, 1]])
"""Stored axes run along Y, -Z and X."""


def noise(shape=(7, 6, 5)):
    return rng(0, "noise").normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, -1.0, 3e-7, 4e5], ids=str)
def test_map_keeps_zeros_signs_and_resolution(tmp_path, scale):
    data = noise() * np.float32(scale)
    data[::2, 1] = 0
    data[3, 3, 3] = 5 * scale
    nifti.write_map(tmp_path / "map.nii.gz", data, RAS)
    read, affine = nifti.read(tmp_path / "map.nii.gz")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(affine, RAS)
    np.testing.assert_array_equal(read[data == 0], 0)
    np.testing.assert_allclose(read, data, rtol=0, atol=0.501 * abs(5 * scale) / 32767)
    assert read[3, 3, 3] == pytest.approx(5 * scale, rel=1e-6)
    assert nib.load(tmp_path / "map.nii.gz").get_data_dtype() == np.int16


def test_map_without_evidence_is_zero(tmp_path):
    nifti.write_map(tmp_path / "map.nii.gz", np.zeros((3, 4, 5), np.float32), RAS)
    np.testing.assert_array_equal(nifti.read(tmp_path / "map.nii.gz")[0], np.zeros((3, 4, 5)))


def test_map_of_vanishing_values_keeps_its_signs(tmp_path):
    data = np.zeros((3, 3, 3), np.float32)
    data[1, 1, 1], data[0, 0, 0] = 1e-40, -3e-41
    nifti.write_map(tmp_path / "map.nii.gz", data, RAS)
    read = nifti.read(tmp_path / "map.nii.gz")[0]
    assert (read * np.sign(data) >= 0).all()
    assert read[data == 0].tolist() == [0] * 25


@pytest.mark.parametrize("stored", [RAS, LPS, SAGITTAL], ids=["ras", "lps", "sagittal"])
def test_read_turns_voxels_and_affine_to_ras(tmp_path, stored):
    data = noise()
    nib.save(nib.Nifti1Image(data, stored), tmp_path / "image.nii.gz")
    read, affine = nifti.read(tmp_path / "image.nii.gz")
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    voxels = np.argwhere(np.ones(data.shape, bool))
    places = nib.affines.apply_affine(np.linalg.inv(affine) @ stored, voxels)
    np.testing.assert_allclose(places, np.rint(places), atol=1e-5)
    np.testing.assert_array_equal(read[tuple(np.rint(places).astype(int).T)], data.ravel())


def test_lps_is_mirrored_along_the_first_two_axes(tmp_path):
    nib.save(nib.Nifti1Image(noise(), LPS), tmp_path / "image.nii.gz")
    read, affine = nifti.read(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(read, noise()[::-1, ::-1])
    np.testing.assert_allclose(affine, [[2, 0, 0, 30 - 2 * 6], [0, 1.5, 0, 12 - 1.5 * 5], [0, 0, 3, 7], [0, 0, 0, 1]])


def test_channels_come_last_on_disk_and_first_in_memory(tmp_path):
    data = noise((2, 7, 6, 5))
    nifti.write(tmp_path / "image.nii", data, RAS)
    assert nib.load(tmp_path / "image.nii").shape == (7, 6, 5, 2)
    np.testing.assert_array_equal(nifti.read(tmp_path / "image.nii")[0], data)
    mapped = nifti.open_channels(tmp_path / "image.nii")
    np.testing.assert_array_equal(mapped, data)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable


def test_spacing_of_a_rotated_grid():
    turn = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert nifti.spacing_of(turn @ np.diag([2, 3, 4, 1])) == pytest.approx((2, 3, 4))


@pytest.mark.parametrize("affine", [RAS, LPS], ids=["ras", "lps"])
@pytest.mark.parametrize("kept", [0.5, 0.9], ids=str)
def test_truncated_file_is_named(tmp_path, affine, kept):
    path = tmp_path / "case_flair.nii.gz"
    nib.save(nib.Nifti1Image(noise((20, 20, 20)), affine), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeaksegError, match=r"case_flair\.nii\.gz: truncated or damaged"):
        nifti.read(path)


def test_text_file_is_named(tmp_path):
    path = tmp_path / "case_t1.nii.gz"
    path.write_text("<html>please log in</html>")
    with pytest.raises(WeaksegError, match=r"case_t1\.nii\.gz: not a readable NIfTI"):
        nifti.read(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(WeaksegError, match=r"nowhere\.nii\.gz"):
        nifti.read(tmp_path / "nowhere.nii.gz")


def test_other_format_is_named(tmp_path):
    nib.save(nib.MGHImage(noise(), RAS), tmp_path / "case.mgz")
    with pytest.raises(WeaksegError, match=r"case\.mgz: MGHImage, not NIfTI"):
        nifti.read(tmp_path / "case.mgz")
