"""Every way in which raw data can be wrong is told with its file and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.brats_factory import (
    LPS,
    PAIR,
    SHAPE,
    TUMOUR,
    index_context,
    write_case,
    write_graded,
    write_table,
    write_volume,
)

from weakseg.data import index
from weakseg.errors import DataFaults
from weakseg.randomness import rng

CASE = "Brats18_SYN_0_1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Valid data: three HGG and two LGG cases in BraTS 2018's layout."""
    return write_graded(tmp_path / "raw")


@pytest.fixture
def faults_of(tmp_path: Path) -> Callable[..., list[str]]:
    """Index folders that must be refused, and return the faults."""

    def run(*roots: Path, **params: Any) -> list[str]:
        context = index_context(tmp_path / "out", roots, **params)
        with pytest.raises(DataFaults) as caught:
            index.run(context)
        assert list(context.out.iterdir()) == []
        assert str(roots[0]) in str(caught.value)
        return caught.value.faults

    return run


def _file(root: Path, kind: str, case: str = CASE, grade: str = "HGG") -> Path:
    return root / grade / case / f"{case}_{kind}.nii.gz"


def _flat(root: Path, count: int = 5) -> dict[str, str]:
    grades = {f"BraTS20_Training_{number:03}": "HGG" for number in range(1, count + 1)}
    for number, name in enumerate(grades):
        write_case(root, name, modalities=PAIR, seed=number)
    return grades


def test_missing_modality(root: Path, faults_of: Callable[..., list[str]]) -> None:
    _file(root, "flair").unlink()
    assert faults_of(root) == [
        f"{_file(root, 'flair')}: missing; put the file there, or take flair out of `modalities`"
    ]


def test_two_files_for_one_modality(root: Path, faults_of: Callable[..., list[str]]) -> None:
    nib.save(nib.load(_file(root, "t1")), _file(root, "t1").with_suffix(""))
    assert faults_of(root) == [
        f"{root}/HGG/{CASE}: {CASE}_t1.nii.gz and {CASE}_t1.nii are the same volume twice; keep one"
    ]


def test_no_mask(root: Path, faults_of: Callable[..., list[str]]) -> None:
    _file(root, "seg").unlink()
    assert faults_of(root) == [
        f"{root}/HGG/{CASE}: no mask; put {CASE}_seg.nii.gz there (validation data has none, use the training data)"
    ]


def test_case_folder_without_a_file(root: Path, faults_of: Callable[..., list[str]]) -> None:
    (root / "LGG" / "Brats18_SYN_9_1").mkdir()
    assert faults_of(root) == [
        f"{root}/LGG/Brats18_SYN_9_1: no NIfTI file; restore the files of the case, or remove the folder"
    ]


@pytest.mark.parametrize("affine", [LPS, np.eye(4)], ids=["LPS", "RAS"])
@pytest.mark.parametrize("kind", ["flair", "seg"])
def test_truncated_file(root: Path, faults_of: Callable[..., list[str]], kind: str, affine: np.ndarray) -> None:
    for each in (*PAIR, "seg"):
        write_volume(_file(root, each), rng(0, each).integers(0, 3, (16, 16, 16), np.uint8), affine)
    path = _file(root, kind)
    path.write_bytes(path.read_bytes()[:-40])
    (fault,) = faults_of(root)
    assert fault.startswith(f"{path}: truncated or damaged (")
    assert fault.endswith("download or export it again")


def test_truncated_uncompressed_file(root: Path, faults_of: Callable[..., list[str]]) -> None:
    folder = write_case(root / "HGG", "Brats18_SYN_9_1", suffix=".nii")
    path = folder / "Brats18_SYN_9_1_t1.nii"
    path.write_bytes(path.read_bytes()[:-40])
    (fault,) = faults_of(root)
    assert fault.startswith(f"{path}: truncated or damaged (")
    assert "\n" not in fault


@pytest.mark.parametrize("content", [b"", b"an error page"], ids=["empty", "text"])
def test_not_nifti(root: Path, faults_of: Callable[..., list[str]], content: bytes) -> None:
    _file(root, "flair").write_bytes(content)
    (fault,) = faults_of(root)
    assert fault.startswith(f"{_file(root, 'flair')}: not a readable NIfTI file (")
    assert fault.endswith("download or export it again")


@pytest.mark.parametrize("kind", ["flair", "seg"])
def test_other_shape(root: Path, faults_of: Callable[..., list[str]], kind: str) -> None:
    write_volume(_file(root, kind), np.ones((8, 8, 7), np.uint8))
    assert faults_of(root) == [
        f"{_file(root, kind)}: shape (8, 8, 7), but {CASE}_t1.nii.gz has (8, 8, 6); resample it to the same grid"
    ]


@pytest.mark.parametrize("kind", ["flair", "seg"])
def test_other_affine(root: Path, faults_of: Callable[..., list[str]], kind: str) -> None:
    moved = LPS.copy()
    moved[2, 3] = 0.5
    write_volume(_file(root, kind), np.ones(SHAPE, np.uint8), moved)
    assert faults_of(root) == [
        f"{_file(root, kind)}: its affine differs from that of {CASE}_t1.nii.gz; "
        "register it, or correct the header, so that both lie on one grid"
    ]


@pytest.mark.parametrize("kind", ["t1", "seg"])
def test_four_dimensions(root: Path, faults_of: Callable[..., list[str]], kind: str) -> None:
    write_volume(_file(root, kind), np.ones((*SHAPE, 2), np.uint8))
    assert faults_of(root) == [f"{_file(root, kind)}: 4 dimensions instead of 3; export one 3D volume per file"]


def test_unknown_label(root: Path, faults_of: Callable[..., list[str]]) -> None:
    write_volume(_file(root, "seg"), np.where(TUMOUR == 4, 5, TUMOUR).astype(np.uint8))
    assert faults_of(root) == [
        f"{_file(root, 'seg')}: unknown label 5; brats2017 knows 0, 1, 2, 4: correct the mask or `label_coding`"
    ]


def test_many_unknown_labels_are_not_all_listed(root: Path, faults_of: Callable[..., list[str]]) -> None:
    write_volume(_file(root, "seg"), np.arange(384, dtype=np.int16).reshape(SHAPE))
    (fault,) = faults_of(root, label_coding="brats2015")
    assert f"{_file(root, 'seg')}: unknown label 5, 6, 7, 8, 9 and 374 more; brats2015 knows 0, 1, 2, 3, 4" in fault


def test_label_3_asks_for_the_2015_coding(root: Path, faults_of: Callable[..., list[str]]) -> None:
    write_volume(_file(root, "seg"), np.where(TUMOUR == 4, 3, TUMOUR).astype(np.uint8))
    (fault,) = faults_of(root)
    assert fault.startswith(f"{_file(root, 'seg')}: unknown label 3; set `label_coding: brats2015` if")


def test_mask_of_fractions(root: Path, faults_of: Callable[..., list[str]]) -> None:
    write_volume(_file(root, "seg"), TUMOUR * np.float32(0.25))
    assert faults_of(root) == [f"{_file(root, 'seg')}: values such as 0.25 are no labels; save integers"]


@pytest.mark.parametrize("kind", ["t1", "seg"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity(root: Path, faults_of: Callable[..., list[str]], kind: str, value: float) -> None:
    data = np.ones(SHAPE, np.float32)
    data[0, 0, :2] = value
    write_volume(_file(root, kind), data)
    assert faults_of(root) == [
        f"{_file(root, kind)}: 2 voxels are NaN or infinite; export it again, with 0 as background"
    ]


def test_no_foreground(root: Path, faults_of: Callable[..., list[str]]) -> None:
    for case in (CASE, "Brats18_SYN_1_1"):  # two, which must not be called copies of each other
        for modality in PAIR:
            write_volume(_file(root, modality, case), np.zeros(SHAPE, np.int16))
    assert faults_of(root) == [
        f"{root}/HGG/{case}: every voxel of every modality is 0; restore the images, or remove the case"
        for case in (CASE, "Brats18_SYN_1_1")
    ]


def test_same_case_in_both_grades(root: Path, faults_of: Callable[..., list[str]]) -> None:
    shutil.copytree(root / "HGG" / CASE, root / "LGG" / CASE)
    assert faults_of(root) == [
        f"{root}/HGG/{CASE} and {root}/LGG/{CASE}: the same case name twice; remove one, or rename it with its files"
    ]


def test_same_case_in_main_and_shift(root: Path, tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    shift = tmp_path / "shift"
    write_case(shift / "HGG", CASE, seed=50)
    (fault,) = faults_of(root, shift)
    assert fault.startswith(f"{root}/HGG/{CASE} and {shift}/HGG/{CASE}: the same case name twice; remove one")


def test_same_patient_under_two_names(root: Path, faults_of: Callable[..., list[str]]) -> None:
    folder = write_case(root / "LGG", "Brats18_TCIA_7_1")
    shutil.copy(_file(root, "t1"), folder / "Brats18_TCIA_7_1_t1.nii.gz")
    assert faults_of(root) == [
        f"{root}/HGG/{CASE} and {folder}: identical images, so one patient under two names; remove one"
    ]


def test_patient_in_main_and_shift(root: Path, tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    visit = write_case(tmp_path / "shift" / "HGG", "Brats18_SYN_0_2", seed=50)
    assert faults_of(root, tmp_path / "shift") == [
        f"{visit}: patient Brats18_SYN_0 is in the main data too ({root}/HGG/{CASE}); "
        "remove one, a shift fold holds other patients"
    ]


@pytest.mark.parametrize(
    ("files", "title"),
    [
        (["train/data/001.nii.gz", "train/label/001.nii.gz"], "INSTANCE"),
        (["data/001.nii.gz", "label/001.nii.gz"], "INSTANCE"),
        (["case_00000/segmentation.nii.gz"], "KiTS"),
        (["dataset/case_00000/imaging.nii.gz"], "KiTS"),
        (["s0000/ct.nii.gz", "s0000/segmentations/kidney_left.nii.gz"], "TotalSegmentator"),
    ],
)
def test_folder_of_another_data_set(
    tmp_path: Path, faults_of: Callable[..., list[str]], files: list[str], title: str
) -> None:
    for file in files:
        write_volume(tmp_path / "raw" / file, TUMOUR)
    assert faults_of(tmp_path / "raw") == [
        f"{tmp_path}/raw: looks like {title} ({files[0]}), not brats; set the path to a brats folder"
    ]


def test_no_case_at_all(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    (tmp_path / "raw" / "notes").mkdir(parents=True)
    (fault,) = faults_of(tmp_path / "raw")
    assert fault.startswith(f"{tmp_path}/raw: no BraTS case; set the path to the folder that holds HGG/ and LGG/, or")


def test_empty_grade_folders(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    (tmp_path / "raw" / "HGG").mkdir(parents=True)
    assert faults_of(tmp_path / "raw") == [f"{tmp_path}/raw: no BraTS case in HGG/ or LGG/; put the case folders there"]


def test_no_such_folder(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    (fault,) = faults_of(tmp_path / "absent")
    assert fault.startswith(f"{tmp_path}/absent: no such folder; set the path")


def test_two_data_sets_in_one_folder(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    for name in ("Training", "Validation"):
        write_graded(tmp_path / "raw" / name)
    assert faults_of(tmp_path / "raw") == [
        f"{tmp_path}/raw: holds several data sets (Training, Validation); set the path to one of them"
    ]


def test_case_beside_the_grade_folders(root: Path, faults_of: Callable[..., list[str]]) -> None:
    folder = write_case(root, "Brats18_SYN_8_1")
    assert faults_of(root) == [f"{folder}: a case beside HGG/ and LGG/; move it into the folder of its grade"]


@pytest.mark.parametrize("what", ["file", "case", "grade", "top"])
def test_link_out_of_the_root(tmp_path: Path, faults_of: Callable[..., list[str]], what: str) -> None:
    top = write_graded(tmp_path / "raw" / "Training", high=6)
    link = {"file": _file(top, "t1"), "case": top / "HGG" / CASE, "grade": top / "LGG", "top": top}[what]
    outside = tmp_path / "outside" / link.name
    outside.parent.mkdir()
    link.rename(outside)
    link.symlink_to(outside)
    assert faults_of(tmp_path / "raw") == [
        f"{link}: leads out of the data folder to {outside}; put the data itself there instead of a link"
    ]


@pytest.mark.parametrize("name", ["../other/BraTS20_Training_009", "/data/BraTS20_Training_009", "..", r"C:\data\009"])
def test_table_with_paths(tmp_path: Path, faults_of: Callable[..., list[str]], name: str) -> None:
    table = write_table(tmp_path / "raw", {**_flat(tmp_path / "raw"), name: "HGG"})
    assert faults_of(tmp_path / "raw") == [
        f"{table}: {name!r} in BraTS_2020_subject_ID is a path; write the plain case name"
    ]


@pytest.mark.parametrize("column", ["Grade", "BraTS_2020_subject_ID"])
def test_table_without_a_column(tmp_path: Path, faults_of: Callable[..., list[str]], column: str) -> None:
    table = write_table(tmp_path / "raw", _flat(tmp_path / "raw"))
    table.write_text(table.read_text().replace(column, "Other"))
    assert faults_of(tmp_path / "raw") == [f"{table}: no column {column}; copy it from the BraTS 2020 download"]


def test_table_without_a_case(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    grades = _flat(tmp_path / "raw")
    del grades["BraTS20_Training_002"]
    table = write_table(tmp_path / "raw", grades)
    assert faults_of(tmp_path / "raw") == [
        f"{table}: BraTS20_Training_002 is not listed; add its row, or remove {tmp_path}/raw/BraTS20_Training_002"
    ]


@pytest.mark.parametrize("grade", ["", "hgg", "GBM"])
def test_table_with_another_grade(tmp_path: Path, faults_of: Callable[..., list[str]], grade: str) -> None:
    table = write_table(tmp_path / "raw", {**_flat(tmp_path / "raw"), "BraTS20_Training_004": grade})
    assert faults_of(tmp_path / "raw") == [f"{table}: grade {grade!r} of BraTS20_Training_004; write HGG or LGG"]


def test_table_with_a_case_twice(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    table = write_table(tmp_path / "raw", _flat(tmp_path / "raw"))
    table.write_text(table.read_text() + "LGG,NA,NA,NA,NA,BraTS20_Training_001\n")
    assert faults_of(tmp_path / "raw") == [f"{table}: BraTS20_Training_001 is listed twice; keep one row"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x81"], ids=["empty", "binary"])
def test_table_that_is_no_table(tmp_path: Path, faults_of: Callable[..., list[str]], content: bytes) -> None:
    table = write_table(tmp_path / "raw", _flat(tmp_path / "raw"))
    table.write_bytes(content)
    (fault,) = faults_of(tmp_path / "raw")
    assert fault.startswith(f"{table}: not a readable CSV file (")


def test_no_table_in_2020(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    _flat(tmp_path / "raw")
    assert faults_of(tmp_path / "raw") == [
        f"{tmp_path}/raw/name_mapping.csv: missing; BraTS 2020 has the grades there, copy it from the download"
    ]


def test_too_few_patients(tmp_path: Path, faults_of: Callable[..., list[str]]) -> None:
    (fault,) = faults_of(write_graded(tmp_path / "raw", high=1, low=1))
    assert fault.startswith("split: fold 0 has no train patient (2 patients, 2 of them testable); add cases, or lower")


def test_train_only_pattern_without_a_case(root: Path, faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(root, split={"train_only": ["TCGA-*"]}) == [
        "split.train_only: TCGA-* matches no case; correct or remove it"
    ]


def test_all_faults_of_all_cases_at_once(root: Path, faults_of: Callable[..., list[str]]) -> None:
    _file(root, "flair").unlink()
    _file(root, "t1").write_bytes(b"broken")
    write_volume(_file(root, "seg"), np.full(SHAPE, 9, np.uint8))
    _file(root, "seg", "Brats18_SYN_1_1").unlink()
    shutil.copytree(root / "HGG" / "Brats18_SYN_2_1", root / "LGG" / "Brats18_SYN_2_1")
    write_volume(_file(root, "flair", "Brats18_SYN_3_1", "LGG"), np.ones((8, 8, 7), np.uint8))
    faults = faults_of(root, split={"train_only": ["TCGA-*"]}, threads=2)
    wanted = [
        f"{_file(root, 'flair')}: missing",
        f"{root}/HGG/Brats18_SYN_1_1: no mask",
        f"{_file(root, 't1')}: not a readable NIfTI file",
        f"{_file(root, 'seg')}: unknown label 9",
        f"{_file(root, 'flair', 'Brats18_SYN_3_1', 'LGG')}: shape (8, 8, 7)",
        f"{root}/HGG/Brats18_SYN_2_1 and {root}/LGG/Brats18_SYN_2_1: the same case name twice",
        "split.train_only: TCGA-* matches no case",
    ]
    assert [fault.startswith(start) for fault, start in zip(faults, wanted, strict=True)] == [True] * len(wanted)
