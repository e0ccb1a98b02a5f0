"""The abdominal-CT phantom: repeatable, in KiTS's layout, array order and coding, and frozen."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from weakseg import catalogue, nifti
from weakseg.data.phantoms import abdomen_ct
from weakseg.data.phantoms.abdomen_ct import CYST, KIDNEY, TUMOUR, PhantomCase
from weakseg.errors import WeaksegError

SMOKE = (40, 32, 20)


def _make(*names: str, lesion: bool, shifted: bool = False, shape: tuple[int, int, int] = SMOKE) -> list[PhantomCase]:
    return [abdomen_ct.make_case(3, name, lesion=lesion, shape=shape, shifted=shifted) for name in names]


@pytest.fixture(scope="module")
def with_tumour() -> list[PhantomCase]:
    return _make(*(f"case-{k}" for k in range(9)), lesion=True)


@pytest.fixture(scope="module")
def without_tumour() -> list[PhantomCase]:
    return _make(*(f"case-{k}" for k in range(9)), lesion=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    abdomen_ct.write(root, data_seed=5, cases=5, shape=SMOKE)
    return root


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _median(case: PhantomCase, label: int) -> float:
    return float(np.median(case.image[case.segmentation == label]))


def test_same_seed_gives_same_bytes_with_any_number_of_workers(written: Path, tmp_path: Path) -> None:
    abdomen_ct.write(tmp_path, data_seed=5, cases=5, shape=SMOKE, workers=2)
    assert _contents(tmp_path) == _contents(written)


def test_seed_and_case_change_the_patient() -> None:
    first = abdomen_ct.make_case(1, "a", lesion=True, shape=SMOKE)
    for seed, name in ((2, "a"), (1, "b")):
        other = abdomen_ct.make_case(seed, name, lesion=True, shape=SMOKE)
        assert not np.array_equal(first.segmentation, other.segmentation)
        assert not np.array_equal(first.image, other.image)


def test_case_on_disk_is_the_case_made(written: Path) -> None:
    for name, lesion in abdomen_ct.roster(5, 5).items():
        case = abdomen_ct.make_case(5, name, lesion=lesion, shape=SMOKE)
        for file, made in (("imaging", case.image), ("segmentation", case.segmentation)):
            data, affine = nifti.read(written / name / f"{file}.nii.gz", dtype=np.int32)
            np.testing.assert_array_equal(data, made)
            np.testing.assert_allclose(affine, case.affine, atol=1e-4)
        assert bool((case.segmentation == TUMOUR).any()) == lesion


def test_stored_as_kits_stores(written: Path) -> None:
    """The header of KiTS19's case_00021: slices first, steps against Z, Y and X, no translation, sform 2, qform 0."""
    for file, dtype in (("imaging", np.int16), ("segmentation", np.uint8)):
        image = nib.load(written / "case_00000" / f"{file}.nii.gz")
        assert image.shape == (20, 32, 40)
        assert image.get_data_dtype() == dtype
        np.testing.assert_allclose(
            image.affine, [[0, 0, -9, 0], [0, -9, 0, 0], [-10, 0, 0, 0], [0, 0, 0, 1]], atol=1e-4
        )
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 0)
    stored = np.asarray(image.dataobj)
    case = abdomen_ct.make_case(5, "case_00000", lesion=abdomen_ct.roster(5, 5)["case_00000"], shape=SMOKE)
    np.testing.assert_array_equal(stored[0], case.segmentation[::-1, ::-1, -1].T)  # the first slice is the highest


def test_layout_and_marker(written: Path) -> None:
    names = [f"case_{k:05d}" for k in range(5)]
    assert sorted(p.name for p in written.iterdir()) == sorted([*names, "PHANTOM.json", "kits23.json"])
    assert sorted(p.name for p in (written / names[0]).iterdir()) == ["imaging.nii.gz", "segmentation.nii.gz"]
    clinical = json.loads((written / "kits23.json").read_text(encoding="utf-8"))
    assert [row.pop("case_id") for row in clinical] == names
    assert all(row == {"malignant": None, "tumor_histologic_subtype": None} for row in clinical)
    assert json.loads((written / "PHANTOM.json").read_text(encoding="utf-8")) == {
        "phantom": "abdomen_ct",
        "version": catalogue.PHANTOM_VERSIONS.get("abdomen_ct", 1),
        "data_seed": 5,
        "cases": 5,
        "shape": [40, 32, 20],
        "shifted": False,
    }


def test_roster_has_an_exact_share_without_tumour_at_shuffled_positions() -> None:
    tumours = list(abdomen_ct.roster(7, 40).values())
    assert tumours.count(False) == 8
    assert tumours != sorted(tumours)
    assert tumours != list(abdomen_ct.roster(8, 40).values())


def test_labels_follow_the_request_and_cysts_come_either_way(
    with_tumour: list[PhantomCase], without_tumour: list[PhantomCase]
) -> None:
    assert all((case.segmentation == TUMOUR).any() for case in with_tumour)
    assert not any((case.segmentation == TUMOUR).any() for case in without_tumour)
    for cases in (with_tumour, without_tumour):
        assert 1 <= sum(bool((case.segmentation == CYST).any()) for case in cases) <= 7
        for case in cases:
            assert case.segmentation.dtype == np.uint8
            assert set(np.unique(case.segmentation)) <= {0, KIDNEY, TUMOUR, CYST}


def test_kidneys_lie_on_both_sides_and_have_their_size(without_tumour: list[PhantomCase]) -> None:
    millilitres = np.prod(nifti.spacing_of(without_tumour[0].affine)) / 1000
    for case in without_tumour:
        kidney = case.segmentation == KIDNEY
        for half in (kidney[:20], kidney[20:]):
            assert 110 < half.sum() * millilitres < 260
        assert not kidney[18:22].any()  # the spine's place
        right, left = (np.argwhere(half)[:, 2].mean() for half in (kidney[20:], kidney[:20]))
        assert abs(right - left) < 5


def test_tumour_adjoins_the_kidney_and_has_a_size_that_kits_has(with_tumour: list[PhantomCase]) -> None:
    millilitres = np.prod(nifti.spacing_of(with_tumour[0].affine)) / 1000
    for case in with_tumour:
        tumour, kidney = case.segmentation == TUMOUR, case.segmentation == KIDNEY
        assert 5 < tumour.sum() * millilitres < 130
        pieces, count = ndimage.label(tumour, np.ones((3, 3, 3)))
        for piece in range(1, count + 1):
            assert (ndimage.binary_dilation(pieces == piece) & kidney).any()


def test_tissues_have_their_attenuation() -> None:
    cases = _make("a", "b", lesion=True, shape=(80, 64, 40))
    for case in cases:
        image = case.image
        assert image.dtype == np.int16
        assert image.min() >= -1024
        assert abs(np.median(image[:3, :3]) + 1000) < 10  # air in the corner
        body = ndimage.binary_fill_holes(image > -300)
        fat = image[body & (image > -150) & (image < -60)]
        assert -112 < np.median(fat) < -88
        assert 95 < _median(case, KIDNEY) < 200
        assert 15 < _median(case, TUMOUR) < 150
        assert np.percentile(image[body], 99.5) > 300  # bone
    liver, spine = (slice(58, 64), slice(36, 40), slice(32, 38)), (slice(38, 42), slice(0, 30), slice(4, 36))
    assert 70 < np.median(cases[0].image[liver]) < 125
    assert (cases[0].image[spine] > 200).mean() > 0.05


def test_tumours_are_darker_than_kidneys_and_cysts_darker_yet(
    with_tumour: list[PhantomCase], without_tumour: list[PhantomCase]
) -> None:
    kidney, tumour = (np.mean([_median(case, label) for case in with_tumour]) for label in (KIDNEY, TUMOUR))
    cases = [case for case in with_tumour + without_tumour if (case.segmentation == CYST).sum() > 8]
    cyst = np.mean([_median(case, CYST) for case in cases])
    assert -20 < cyst < 45  # at 9 mm a cyst holds much of its surroundings
    assert cyst + 25 < tumour < kidney - 25


def test_cortex_is_brighter_than_medulla_but_not_in_the_shifted_phase() -> None:
    ratios = {}
    for shifted in (False, True):
        (case,) = _make("a", lesion=False, shifted=shifted, shape=(80, 64, 40))
        kidney = case.segmentation == KIDNEY
        depth = ndimage.distance_transform_edt(kidney, nifti.spacing_of(case.affine))
        cortex = np.percentile(case.image[kidney & (depth > 4) & (depth < 9)], 75)
        ratios[shifted] = np.percentile(case.image[kidney & (depth > 13)], 25) / cortex
    assert ratios[False] < 0.8
    assert ratios[True] > ratios[False] + 0.08


@pytest.mark.parametrize(("shape", "spacing"), [((40, 32, 20), (9, 9, 10)), ((80, 64, 40), (4.5, 4.5, 5))])
def test_field_of_view_is_constant(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    case = abdomen_ct.make_case(1, "a", lesion=False, shape=shape)
    assert case.image.shape == case.segmentation.shape == shape
    np.testing.assert_allclose(case.affine[:3, :3], np.diag(spacing))
    np.testing.assert_allclose(case.affine @ [*(np.array(shape) - 1), 1], [0, 0, 0, 1], atol=1e-9)


def test_shifted_cases_have_other_names_more_noise_and_wider_bodies(tmp_path: Path) -> None:
    abdomen_ct.write(tmp_path, data_seed=5, cases=2, shape=SMOKE, shifted=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["case_00501", "case_00502"]
    assert json.loads((tmp_path / "PHANTOM.json").read_text(encoding="utf-8"))["shifted"] is True
    names = [f"case-{k}" for k in range(3)]
    plain, shifted = (_make(*names, lesion=True, shifted=flag) for flag in (False, True))
    noise, size = (
        np.array([[measure(case) for case in cases] for cases in (plain, shifted)]).mean(axis=1)
        for measure in (lambda case: case.image[:2, :2].std(), lambda case: (case.image > -300).mean())
    )
    assert noise[1] > 1.6 * noise[0]
    assert size[1] > 1.1 * size[0]


def test_faults_are_named() -> None:
    with pytest.raises(WeaksegError, match="above 12 mm"):
        abdomen_ct.make_case(1, "a", lesion=True, shape=(20, 16, 10))
    with pytest.raises(WeaksegError, match="cases is 0"):
        abdomen_ct.roster(1, 0)


def test_generator_is_frozen() -> None:
    """Summaries, since the last bits of a float differ between processors."""
    case = abdomen_ct.make_case(20220, "case_00000", lesion=True, shape=SMOKE)
    message = "cases have changed: raise the version in the catalogue, measure anew (docs/explanation/phantoms.md), pin"
    voxels = np.bincount(case.segmentation.ravel(), minlength=4)[1:]
    np.testing.assert_allclose(voxels, [374, 58, 16], atol=2, err_msg=message)
    means = [case.image.mean(), case.image[case.segmentation > 0].mean(), case.image.std()]
    np.testing.assert_allclose(means, [-523.6, 136.0, 499.6], rtol=0.005, err_msg=message)
    assert catalogue.PHANTOM_VERSIONS.get("abdomen_ct", 1) == 1
