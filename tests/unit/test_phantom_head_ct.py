"""The head-CT phantom: repeatable, in INSTANCE's layout, in Hounsfield units, and frozen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from weakseg import catalogue, nifti
from weakseg.data.phantoms import head_ct, head_ct_patient, head_ct_scan
from weakseg.data.phantoms.head_ct import PhantomCase
from weakseg.errors import WeaksegError

SMOKE = (32, 32, 16)  # all grids here share one in-plane spacing, for which the template is read once


@pytest.fixture(scope="module")
def bleeding() -> list[PhantomCase]:
    return [head_ct.make_case(3, f"case-{k}", lesion=True, shape=SMOKE) for k in range(6)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    head_ct.write(root, data_seed=5, cases=5, shape=SMOKE)
    return root


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _cavity(case: PhantomCase) -> np.ndarray:
    """Inside of the skull: holes that bone leaves in a slice."""
    bone = case.image > 150
    return np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(bone, 2, 0)], axis=2) & ~bone


def test_same_seed_gives_same_bytes_with_any_number_of_workers(written: Path, tmp_path: Path) -> None:
    head_ct.write(tmp_path, data_seed=5, cases=5, shape=SMOKE, workers=2)
    assert _contents(tmp_path) == _contents(written)


def test_seed_and_case_change_the_patient() -> None:
    first = head_ct.make_case(1, "a", lesion=True, shape=SMOKE)
    for seed, name in ((2, "a"), (1, "b")):
        other = head_ct.make_case(seed, name, lesion=True, shape=SMOKE)
        assert not np.array_equal(first.lesion, other.lesion)
        assert np.mean(first.image != other.image) > 0.3


def test_layout_and_marker(written: Path) -> None:
    names = [f"{k:03d}.nii.gz" for k in range(1, 6)]
    expected = ["PHANTOM.json", *(f"train/{part}/{name}" for part in ("data", "label") for name in names)]
    assert sorted(_contents(written)) == expected
    assert json.loads((written / "PHANTOM.json").read_text(encoding="utf-8")) == {
        "phantom": "head_ct",
        "version": catalogue.PHANTOM_VERSIONS.get("head_ct", 1),
        "data_seed": 5,
        "cases": 5,
        "shape": [32, 32, 16],
        "shifted": False,
    }


def test_case_on_disk_is_the_case_made(written: Path) -> None:
    for name, lesion in head_ct.roster(5, 5).items():
        case = head_ct.make_case(5, name, lesion=lesion, shape=SMOKE)
        for part, made in (("data", case.image), ("label", case.lesion)):
            data, affine = nifti.read(written / "train" / part / f"{name}.nii.gz", dtype=np.int32)
            np.testing.assert_array_equal(data, made)
            np.testing.assert_allclose(affine, case.affine)
        assert case.lesion.any() == lesion


def test_a_fifth_is_lesion_free_at_shuffled_positions() -> None:
    lesions = list(head_ct.roster(7, 40).values())
    assert lesions.count(False) == 8
    assert lesions != sorted(lesions)
    assert lesions != list(head_ct.roster(8, 40).values())
    assert not head_ct.make_case(7, "a", lesion=False, shape=SMOKE).lesion.any()


def test_units_are_hounsfield(bleeding: list[PhantomCase]) -> None:
    for case in bleeding:
        assert case.image.dtype == np.int16
        assert case.lesion.dtype == np.uint8
        assert set(np.unique(case.lesion)) == {0, 1}
        assert -1024 <= case.image.min() < -990
        assert 700 < case.image.max() <= 3071  # bone, thinner than a voxel here
        assert abs(np.median(case.image[:4, :4]) + 1000) < 8  # air
        tissue = case.image[_cavity(case) & (case.lesion == 0)]
        assert 26 < np.median(tissue) < 42
        assert 46 < np.median(case.image[case.lesion > 0]) < 80
        assert 0.001 < np.mean(tissue < 20) < 0.2  # fluid


def test_blood_lies_inside_the_skull(bleeding: list[PhantomCase]) -> None:
    for case in bleeding:
        blood = case.lesion > 0
        assert np.mean(case.image[blood] < 150) > 0.95
        head = np.stack([ndimage.binary_fill_holes(p > -300) for p in np.moveaxis(case.image, 2, 0)], axis=2)
        assert not (blood & ~ndimage.binary_erosion(head, np.ones((3, 3, 1)))).any()


def test_rim_is_darker_than_its_surroundings() -> None:
    generator = np.random.default_rng(0)
    shape, affine = head_ct_patient.fine_grid(SMOKE)
    inner, outer = [], []
    for _ in range(6):
        patient = head_ct_patient.make_patient(generator, True, shape, affine, head_ct_patient.TRAINING)
        value = head_ct_scan.brain(generator, patient, affine, calcified=0)
        solid = (patient.head.white > 0.6) & (patient.blood.fraction < 0.02)
        inner.extend(value[solid & (patient.blood.rim > 0.6)])
        outer.extend(value[solid & (patient.blood.rim < 0.02)])
    assert len(inner) > 20
    assert np.median(inner) < np.median(outer) - 4


@pytest.mark.parametrize(("shape", "spacing"), [(SMOKE, (6.8, 6.8, 9.375)), ((32, 32, 30), (6.8, 6.8, 5.0))])
def test_field_of_view_is_constant(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    case = head_ct.make_case(1, "a", lesion=True, shape=shape)
    assert case.image.shape == case.lesion.shape == shape
    np.testing.assert_allclose(case.affine[:3, :3], np.diag(spacing))
    middle = case.affine @ [*(np.array(shape) - 1) / 2, 1]
    np.testing.assert_allclose(middle[:3], [0, -18, 14])


def test_shifted_cases_have_other_names_and_another_scanner(tmp_path: Path) -> None:
    head_ct.write(tmp_path, data_seed=5, cases=2, shape=SMOKE, shifted=True)
    assert sorted(p.name for p in (tmp_path / "train" / "label").iterdir()) == ["501.nii.gz", "502.nii.gz"]
    assert json.loads((tmp_path / "PHANTOM.json").read_text(encoding="utf-8"))["shifted"] is True
    plain, shifted = (
        [head_ct.make_case(1, f"{k}", lesion=False, shape=SMOKE, shifted=s).image[:3, :3] for k in range(3)]
        for s in (False, True)
    )
    assert np.mean(shifted) > np.mean(plain) + 2  # HU, offset of calibration in air
    assert np.std(shifted) > 1.3 * np.std(plain)  # noise


def test_faults_are_named() -> None:
    with pytest.raises(WeaksegError, match="above 10 mm"):
        head_ct.make_case(1, "a", lesion=True, shape=(16, 16, 12))
    with pytest.raises(WeaksegError, match="cases is 0"):
        head_ct.roster(1, 0)


def test_generator_is_frozen() -> None:
    """Summaries, since the last bits of a float differ between processors."""
    case = head_ct.make_case(20220, "001", lesion=True, shape=SMOKE)
    message = "cases have changed: raise the version in the catalogue, measure anew (docs/explanation/phantoms.md), pin"
    bone = case.image > 150
    summary = [case.lesion.sum(), bone.sum()]
    np.testing.assert_allclose(summary, [105, 2466], atol=3, err_msg=message)
    means = [case.image[case.lesion > 0].mean(), case.image[bone].mean(), case.image.mean()]
    np.testing.assert_allclose(means, [51.4, 508.9, -481.2], rtol=0.005, err_msg=message)
    assert catalogue.PHANTOM_VERSIONS.get("head_ct", 1) == 1
