"""TotalSegmentator v2, CT of healthy organs: ``s0000/ct.nii.gz``, ``s0000/segmentations/<class>.nii.gz``, ``meta.csv``.

Only the organ masks of both kidneys are used, and there is no lesion mask. The table says who is healthy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from weakseg.data.layouts import RawCase, escape, find_top, inside, only_ct, pick, subfolders

ORGANS = ("kidney_left", "kidney_right")
TABLE = "meta.csv"
CASE_COLUMN, PATHOLOGY_COLUMN = "image_id", "pathology"

_CASE = re.compile(r"s\d{4}")


def find_cases(root: Path, modalities: Sequence[str]) -> tuple[list[RawCase], list[str]]:
    """Find the cases of a TotalSegmentator folder, or of the only one in a folder, with all faults of its layout."""
    faults = only_ct(modalities, "TotalSegmentator")
    top, missing = find_top(
        root, lambda folder: bool(_case_folders(folder)), "TotalSegmentator", "s0000/ct.nii.gz and meta.csv"
    )
    if top is None or faults:
        return [], faults + missing
    folders = inside(_case_folders(top), root, faults)
    faults += _check_table(top, folders, root)
    cases = []
    for folder in folders:
        image, more = pick(folder, ["ct"], root)
        faults += more
        if image is None and not more:
            faults.append(f"{folder}/ct.nii.gz: missing; restore it from the download, or remove the folder")
        organs, more = _pick_organs(folder / "segmentations", root)
        faults += more
        if image is not None:
            cases.append(RawCase(folder.name, folder.name, None, {"ct": image}, None, organs))
    return cases, faults


def read_pathologies(cases: Sequence[RawCase]) -> tuple[dict[str, str], list[str]]:
    """What the table says under ``pathology`` about the cases of one folder, by case, and why it does not.

    A case of which it says nothing has no entry.
    """
    path = cases[0].folder.parent / TABLE
    if not path.is_file():
        return {}, [f"{path}: missing; it says which cases are healthy, copy it from the download"]
    table, faults = _read_table(path)
    if table is None:
        return {}, faults
    if PATHOLOGY_COLUMN not in table:
        return {}, [f"{path}: no column {PATHOLOGY_COLUMN}, so no case is known to be healthy; use version 2"]
    said = dict(zip(table[CASE_COLUMN].str.strip(), table[PATHOLOGY_COLUMN].str.strip(), strict=True))
    return {case.case: said[case.case] for case in cases if said.get(case.case)}, []


def _case_folders(folder: Path) -> list[Path]:
    return [path for path in subfolders(folder) if _CASE.fullmatch(path.name)]


def _pick_organs(folder: Path, root: Path) -> tuple[tuple[Path, ...], list[str]]:
    organs: list[Path] = []
    faults: list[str] = []
    for organ in ORGANS:
        path, more = pick(folder, [organ], root)
        faults += more
        if path is not None:
            organs.append(path)
        elif not more:
            faults.append(f"{folder / organ}.nii.gz: missing; restore it from the download (it is all 0 without one)")
    return tuple(organs), faults


def _check_table(top: Path, folders: list[Path], root: Path) -> list[str]:
    """Faults of the table, and of folders that it does not list; none without a table."""
    path = top / TABLE
    if not path.is_file():
        return []
    if leak := escape(path, root):
        return leak
    table, faults = _read_table(path)
    if table is None:
        return faults
    listed = set(table[CASE_COLUMN].str.strip())
    return [
        f"{path}: {folder.name} is not listed; add its row, or remove {folder}"
        for folder in folders
        if folder.name not in listed
    ]


def _read_table(path: Path) -> tuple[pd.DataFrame | None, list[str]]:
    """The table, every column as text and without gaps, or None and why it cannot be read."""
    try:
        table = pd.read_csv(path, sep=";", dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except (OSError, ValueError) as error:
        return None, [f"{path}: not a readable CSV file ({error}); copy it from the download again"]
    if CASE_COLUMN not in table:
        return None, [f"{path}: no column {CASE_COLUMN} between `;`; copy it from the download again"]
    return table, []
