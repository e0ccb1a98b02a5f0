"""BraTS: 2017 to 2019 and the 2015 coding (``HGG/``, ``LGG/``), 2020 (flat with ``name_mapping.csv``), 2021 (flat).

A case is a folder ``<case>/`` with ``<case>_{t1,t1ce,t2,flair,seg}.nii`` or ``.nii.gz``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from weakseg.data.layouts import RawCase, escape, inside, pick, subfolders

GRADES = ("HGG", "LGG")
TABLE = "name_mapping.csv"
GRADE_COLUMN, CASE_COLUMN = "Grade", "BraTS_2020_subject_ID"

_VISIT = re.compile(r"(brats(?:1[5-9]|_2013|_tcia)_.+)_\d+", re.IGNORECASE)
"""Names that end in the number of the visit: ``Brats18_TCIA01_231_1``, ``brats_2013_pat0005_1``."""

_MISNAMED_MASKS = {"BraTS20_Training_355": "W39_1998.09.19_Segm"}
"""Masks that were published under another name."""


def find_cases(root: Path, modalities: Sequence[str]) -> tuple[list[RawCase], list[str]]:
    """Find the cases of a BraTS folder, or of the only BraTS folder inside a folder, with all faults of its layout."""
    tops = [root] if _holds_cases(root) else [folder for folder in subfolders(root) if _holds_cases(folder)]
    if not tops:
        expected = "HGG/ and LGG/, or folders such as BraTS20_Training_001/ with BraTS20_Training_001_flair.nii.gz"
        return [], [f"{root}: no BraTS case; set the path to the folder that holds {expected}"]
    if len(tops) > 1:
        names = ", ".join(top.name for top in tops)
        return [], [f"{root}: holds several data sets ({names}); set the path to one of them"]
    faults = escape(tops[0], root)
    if faults:
        return [], faults
    folders, faults = _graded_folders(tops[0], root)
    cases = []
    for folder, grade in folders:
        case, more = _read_case(folder, grade, modalities, root)
        faults += more
        if case is not None:
            cases.append(case)
    return cases, faults


def patient_of(case: str) -> str:
    """The patient of a case: its name without the number of the visit, where names end in one."""
    visit = _VISIT.fullmatch(case)
    return visit[1] if visit else case


def _holds_cases(folder: Path) -> bool:
    return any((folder / grade).is_dir() for grade in GRADES) or any(_has_images(sub) for sub in subfolders(folder))


def _has_images(folder: Path) -> bool:
    return any(folder.glob("[!.]*.nii")) or any(folder.glob("[!.]*.nii.gz"))


def _graded_folders(top: Path, root: Path) -> tuple[list[tuple[Path, str | None]], list[str]]:
    """The case folders below a top folder with their grades, from folders or from the table."""
    faults: list[str] = []
    by_grade = {top / grade: grade for grade in GRADES if (top / grade).is_dir()}
    if not by_grade:
        folders = inside(subfolders(top), root, faults)
        grades = _read_grades(top, [folder.name for folder in folders], root, faults)
        return [(folder, grades.get(folder.name)) for folder in folders], faults
    for folder in subfolders(top):
        if folder not in by_grade and _has_images(folder):
            faults.append(f"{folder}: a case beside HGG/ and LGG/; move it into the folder of its grade")
    graded: list[tuple[Path, str | None]] = []
    for parent in inside(list(by_grade), root, faults):
        graded += [(folder, by_grade[parent]) for folder in inside(subfolders(parent), root, faults)]
    if not graded and not faults:
        faults.append(f"{top}: no BraTS case in HGG/ or LGG/; put the case folders there")
    return graded, faults


def _read_grades(top: Path, cases: list[str], root: Path, faults: list[str]) -> dict[str, str]:
    """Grades from BraTS 2020's table; none, and no fault, where the publisher brings no table (2021)."""
    path = top / TABLE
    if not path.is_file():
        if any(case.startswith("BraTS20_") for case in cases):
            faults.append(f"{path}: missing; BraTS 2020 has the grades there, copy it from the download")
        return {}
    if leak := escape(path, root):
        faults += leak
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except (OSError, ValueError) as error:
        faults.append(f"{path}: not a readable CSV file ({error}); copy it from the download again")
        return {}
    missing = [column for column in (GRADE_COLUMN, CASE_COLUMN) if column not in table]
    if missing:
        faults.append(f"{path}: no column {' and no column '.join(missing)}; copy it from the BraTS 2020 download")
        return {}
    ids, grades = table[CASE_COLUMN].str.strip(), table[GRADE_COLUMN].str.strip()
    faults += [
        f"{path}: {name!r} in {CASE_COLUMN} is a path; write the plain case name" for name in ids if _is_path(name)
    ]
    repeated = sorted(set(ids[ids.duplicated()]) & set(cases))
    faults += [f"{path}: {name} is listed twice; keep one row" for name in repeated]
    listed = dict(zip(ids, grades, strict=True))
    for case in cases:
        if case not in listed:
            faults.append(f"{path}: {case} is not listed; add its row, or remove {top / case}")
        elif listed[case] not in GRADES:
            faults.append(f"{path}: grade {listed[case]!r} of {case}; write HGG or LGG")
    return {case: grade for case, grade in listed.items() if grade in GRADES}


def _is_path(name: str) -> bool:
    return bool(re.search(r"[/\\]|^\.\.$|^[A-Za-z]:", name))


def _read_case(
    folder: Path, grade: str | None, modalities: Sequence[str], root: Path
) -> tuple[RawCase | None, list[str]]:
    """The case of a folder, None without any image, and what is missing, doubled or outside."""
    case = folder.name
    if not _has_images(folder):
        return None, [f"{folder}: no NIfTI file; restore the files of the case, or remove the folder"]
    images: dict[str, Path] = {}
    faults: list[str] = []
    for modality in modalities:
        path, more = pick(folder, [f"{case}_{modality}"], root)
        faults += more
        if path is not None:
            images[modality] = path
        elif not more:
            file = folder / f"{case}_{modality}.nii.gz"
            faults.append(f"{file}: missing; put the file there, or take {modality} out of `modalities`")
    mask, more = pick(folder, [f"{case}_seg", *filter(None, [_MISNAMED_MASKS.get(case)])], root)
    faults += more
    if mask is None and not more:
        faults.append(
            f"{folder}: no mask; put {case}_seg.nii.gz there (validation data has none, use the training data)"
        )
    return (RawCase(case, patient_of(case), grade, images, mask) if images else None), faults
