"""Reading the layouts of INSTANCE 2022, KiTS and TotalSegmentator, and volumes slab by slab."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.brats_factory import write_graded, write_volume
from tests.ct_factory import (
    HEAD,
    KIDNEY,
    KIDNEYS,
    LESION,
    WHOLE,
    hounsfield,
    slices_first,
    write_instance,
    write_kits,
    write_totalsegmentator,
)

from weakseg import nifti
from weakseg.data import slabs
from weakseg.data.checks import check_case
from weakseg.data.layouts import RawCase, find_cases

WRITERS = {
    "brats": lambda root: write_graded(root, high=1, low=0),
    "instance": write_instance,
    "kits": write_kits,
    "totalsegmentator": write_totalsegmentator,
}
TITLES = {"brats": "BraTS", "instance": "INSTANCE", "kits": "KiTS", "totalsegmentator": "TotalSegmentator"}

realdata = pytest.mark.skipif("WEAKSEG_REALDATA" not in os.environ, reason="WEAKSEG_REALDATA is not set")


def _find(layout: str, root: Path) -> list[RawCase]:
    cases, faults = find_cases(layout, root, ["ct"])
    assert faults == []
    return cases


@pytest.mark.parametrize("root", ["raw", "raw/INSTANCE2022", "raw/INSTANCE2022/train"])
def test_instance(tmp_path: Path, root: str) -> None:
    top = write_instance(tmp_path / "raw" / "INSTANCE2022")
    write_volume(top / "evaluation" / "101.nii.gz", hounsfield("101"), HEAD)
    (top / "train" / "data" / ".DS_Store").write_bytes(b"")
    train = top / "train"
    assert _find("instance", tmp_path / root) == [
        RawCase(name, name, None, {"ct": train / f"data/{name}.nii.gz"}, train / f"label/{name}.nii.gz")
        for name in ("001", "002")
    ]


@pytest.mark.parametrize("below", ["", "data", "dataset", "kits23/dataset"])
def test_kits(tmp_path: Path, below: str) -> None:
    top = write_kits(tmp_path / "raw" / below)
    (top / "kits.json").write_text("[]")
    instances = top / "case_00000" / "instances"
    write_volume(instances / "tumor_instance-1_annotation-1.nii.gz", slices_first(LESION), KIDNEYS)
    assert _find("kits", tmp_path / "raw") == [
        RawCase(name, name, None, {"ct": top / name / "imaging.nii.gz"}, mask, (mask,))
        for name, mask in ((name, top / name / "segmentation.nii.gz") for name in ("case_00000", "case_00001"))
    ]


def test_kits21_has_the_majority_of_its_annotators(tmp_path: Path) -> None:
    folder = write_kits(tmp_path, 1, mask="aggregated_MAJ_seg") / "case_00000"
    write_volume(folder / "aggregated_OR_seg.nii.gz", slices_first(KIDNEY), KIDNEYS)
    assert _find("kits", tmp_path)[0].mask == folder / "aggregated_MAJ_seg.nii.gz"
    write_volume(folder / "segmentation.nii.gz", slices_first(KIDNEY), KIDNEYS)
    assert _find("kits", tmp_path)[0].mask == folder / "segmentation.nii.gz"


@pytest.mark.parametrize("table", [True, False])
def test_totalsegmentator_has_organs_and_no_lesion(tmp_path: Path, table: bool) -> None:
    top = write_totalsegmentator(tmp_path / "Totalsegmentator_dataset_v201")
    if not table:
        (top / "meta.csv").unlink()
    organs = [
        tuple(top / name / "segmentations" / f"kidney_{side}.nii.gz" for side in ("left", "right"))
        for name in ("s0000", "s0001")
    ]
    assert _find("totalsegmentator", tmp_path) == [
        RawCase(name, name, None, {"ct": top / name / "ct.nii.gz"}, None, files)
        for name, files in zip(("s0000", "s0001"), organs, strict=True)
    ]


@pytest.mark.parametrize("layout", ["instance", "kits", "totalsegmentator"])
def test_valid_cases_have_no_fault_and_a_digest_each(tmp_path: Path, layout: str) -> None:
    checked = [check_case(case, layout) for case in _find(layout, WRITERS[layout](tmp_path))]
    assert [one.faults for one in checked] == [(), ()]
    assert len({one.digest for one in checked} - {None}) == 2


@pytest.mark.parametrize("below", ["", "unzipped"])
@pytest.mark.parametrize("asked", WRITERS)
@pytest.mark.parametrize("given", WRITERS)
def test_every_layout_is_told_from_every_other(tmp_path: Path, asked: str, given: str, below: str) -> None:
    WRITERS[given](tmp_path / below)
    cases, faults = find_cases(asked, tmp_path, ["t1", "flair"] if asked == "brats" else ["ct"])
    if asked == given:
        assert cases
        assert faults == []
    else:
        assert cases == []
        (fault,) = faults
        assert fault.startswith(f"{tmp_path}: looks like {TITLES[given]} (")
        assert fault.endswith(f"), not {asked}; set the path to a {asked} folder")


def test_kits_is_turned_with_its_slices_along_z(tmp_path: Path) -> None:
    case = _find("kits", write_kits(tmp_path, 1))[0]
    assert case.mask is not None
    for path, expected in ((case.images["ct"], hounsfield("case_00000")), (case.mask, KIDNEY)):
        assert nib.load(path).shape == (6, 8, 10)
        volume, affine = nifti.read(path)
        np.testing.assert_array_equal(volume, expected)
        assert nifti.spacing_of(affine) == pytest.approx((0.8, 0.8, 3.0))


@pytest.mark.parametrize("affine", [WHOLE, HEAD, KIDNEYS, KIDNEYS[[1, 0, 2, 3]]], ids=["RAS", "LPS", "IPL", "other"])
@pytest.mark.parametrize("voxels", [1, 100, 10**6])
def test_slabs_make_up_the_volume_that_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affine: np.ndarray, voxels: int
) -> None:
    monkeypatch.setattr(slabs, "VOXELS", voxels)
    write_volume(tmp_path / "ct.nii.gz", hounsfield("slabs"), affine)
    expected, to_mm = nifti.read(tmp_path / "ct.nii.gz")
    volume = slabs.open_volume(tmp_path / "ct.nii.gz")
    assert volume.shape == expected.shape
    np.testing.assert_allclose(volume.affine, to_mm)
    found = np.full(volume.shape, np.nan, np.float32)
    for slab in slabs.slabs(volume):
        found[slab.place] = slab.data
    np.testing.assert_array_equal(found, expected)


def test_a_file_is_opened_once_for_all_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened again for each slab, it would be decompressed again from its start."""
    monkeypatch.setattr(slabs, "VOXELS", 1)
    write_volume(tmp_path / "ct.nii.gz", hounsfield("once"), HEAD)
    volume = slabs.open_volume(tmp_path / "ct.nii.gz")
    opener, opened = nib.openers.ImageOpener, []
    monkeypatch.setattr(
        nib.openers, "ImageOpener", lambda *args, **kwargs: opened.append(args) or opener(*args, **kwargs)
    )
    assert len(list(slabs.slabs(volume))) == 6
    assert len(opened) == 1


def test_digest_depends_on_the_voxels_and_not_on_their_storage(tmp_path: Path) -> None:
    image = hounsfield("digest")
    other = image.copy()
    other[4, 4, 2], other[4, 4, 3] = image[4, 4, 3], image[4, 4, 2]  # two voxels that changed places
    write_volume(tmp_path / "a.nii.gz", image, np.diag([0.8, 0.8, 3.0, 1]))
    write_volume(tmp_path / "b.nii", slices_first(image).astype(np.float32), KIDNEYS)
    write_volume(tmp_path / "c.nii.gz", other, np.diag([0.8, 0.8, 3.0, 1]))
    a, b, c = (
        slabs.read_image(slabs.open_volume(tmp_path / name), 0).digest for name in ("a.nii.gz", "b.nii", "c.nii.gz")
    )
    assert a == b
    assert a != c


@pytest.mark.parametrize("affine", [HEAD, KIDNEYS], ids=["INSTANCE", "KiTS"])
def test_memory_of_1059_slices_is_bounded_by_the_slab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affine: np.ndarray
) -> None:
    image, mask = np.full((64, 64, 1059), -1000, np.int16), np.zeros((64, 64, 1059), np.uint8)
    image[20:40, 20:40], mask[25:30, 25:30, 500:520] = 40, 1
    if affine is KIDNEYS:
        image, mask = slices_first(image), slices_first(mask)
    write_volume(tmp_path / "data" / "001.nii.gz", image, affine)
    write_volume(tmp_path / "label" / "001.nii.gz", mask, affine)
    slab = 64 * 1059 * 4  # voxels
    monkeypatch.setattr(slabs, "VOXELS", slab)
    (case,) = _find("instance", tmp_path)
    check_case(case, "instance")  # what is set up once is no part of the peak
    tracemalloc.start()
    checked = check_case(case, "instance")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checked.faults == ()
    assert peak < 3 * slab * 4  # bytes; the whole volume is 16 slabs


@pytest.mark.realdata
@realdata
@pytest.mark.parametrize(
    ("name", "spacing", "slices", "kidney", "tumour", "tumour_side"),
    [
        ("case_00021", (1.6445, 1.6445, 5), 38, 350.3, 23.7, "left"),
        ("case_00061", (1.9531, 1.9531, 5), 29, 595.9, 111.0, "right"),
    ],
)
def test_real_kits_masks(
    name: str, spacing: tuple[float, ...], slices: int, kidney: float, tumour: float, tumour_side: str
) -> None:
    cases = {case.case: case for case in _find("kits", Path(os.environ["WEAKSEG_REALDATA"]) / "kits_semisynthetic")}
    assert sorted(cases) == ["case_00021", "case_00061"]
    assert check_case(cases[name], "kits").faults == ()
    mask_file = cases[name].mask
    assert mask_file is not None
    mask, affine = nifti.read(mask_file, np.uint8)
    ct, _ = nifti.read(cases[name].images["ct"])
    assert mask.shape == ct.shape == (256, 256, slices)
    assert nifti.spacing_of(affine) == pytest.approx(spacing, abs=1e-3)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    ml = np.prod(spacing) / 1000
    assert np.sum(mask == 1) * ml == pytest.approx(kidney, rel=1e-3)
    assert np.sum(mask == 2) * ml == pytest.approx(tumour, rel=1e-2)
    right = np.argwhere(mask == 2)[:, 0].mean() > mask.shape[0] / 2
    assert ("right" if right else "left") == tumour_side
    _assert_right_side_up(mask > 0)


def _assert_right_side_up(kidneys: np.ndarray) -> None:
    """Upper poles lie nearer to the spine and to the back than lower ones; (X, Y, Z) bool, one kidney in each half."""
    voxels = np.argwhere(kidneys)
    middle = (voxels[:, 0].min() + voxels[:, 0].max()) / 2
    for kidney, towards_spine in ((voxels[voxels[:, 0] < middle], 1), (voxels[voxels[:, 0] > middle], -1)):
        x, y, z = (kidney - kidney.mean(axis=0)).T
        assert np.sign(x @ z) == towards_spine
        assert y @ z < 0


@pytest.mark.realdata
@realdata
def test_real_abdomen() -> None:
    folder = Path(os.environ["WEAKSEG_REALDATA"]) / "abdomen_ct"
    labels, affine = nifti.read(folder / "example_seg.nii.gz", np.uint8)
    case = RawCase("abdomen_ct", "abdomen_ct", None, {"ct": folder / "example_ct_sm.nii.gz"}, None)
    assert check_case(case, "instance").faults == ()
    assert nifti.spacing_of(affine) == pytest.approx((3, 3, 3))
    volumes = [np.sum(labels == label) * 0.027 for label in (2, 3)]  # right and left kidney; the scan ends in both
    assert volumes == pytest.approx([106.6, 99.3], abs=0.1)
    spleen, liver = (np.argwhere(labels == label)[:, 0].mean() for label in (1, 5))
    right, left = (np.argwhere(labels == label)[:, 0].mean() for label in (2, 3))
    assert max(spleen, left) < labels.shape[0] / 2 < min(liver, right)
    _assert_right_side_up(np.isin(labels, (2, 3)))
