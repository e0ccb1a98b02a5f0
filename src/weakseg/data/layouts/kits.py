"""KiTS, kidney tumours in abdominal CT: 2019 (``data/case_00000/``), 2021 and 2023 (``dataset/case_00000/``).

A case is a folder with ``imaging.nii.gz`` and ``segmentation.nii.gz`` (1 kidney, 2 tumour, 3 cyst); in KiTS21 the mask
is the majority of several annotators, ``aggregated_MAJ_seg.nii.gz``. Arrays are stored as (slices, height, width), top
slice first; the affine says so, and :func:`weakseg.nifti.read` turns them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from weakseg.data.layouts import RawCase, find_top, inside, only_ct, pick, subfolders

_CASE = re.compile(r"case_\d{5}")
_MASKS = ("segmentation", "aggregated_MAJ_seg")
"""Names of the mask; a later one counts where no earlier one is."""


def find_cases(root: Path, modalities: Sequence[str]) -> tuple[list[RawCase], list[str]]:
    """Find the cases of a KiTS folder, or of the only one inside a folder, with all faults of its layout."""
    faults = only_ct(modalities, "KiTS")
    top, missing = find_top(root, lambda folder: bool(_case_folders(folder)), "KiTS", "case_00000/imaging.nii.gz")
    if top is None or faults:
        return [], faults + missing
    cases = []
    for folder in inside(_case_folders(top), root, faults):
        image, more = pick(folder, ["imaging"], root)
        faults += more
        if image is None and not more:
            file = folder / "imaging.nii.gz"
            faults.append(f"{file}: missing; get the images with the download script of the KiTS repository")
        mask, more = _pick_mask(folder, root)
        faults += more
        if image is not None:
            cases.append(RawCase(folder.name, folder.name, None, {"ct": image}, mask, (mask,) if mask else ()))
    return cases, faults


def _case_folders(folder: Path) -> list[Path]:
    return [path for path in subfolders(folder) if _CASE.fullmatch(path.name)]


def _pick_mask(folder: Path, root: Path) -> tuple[Path | None, list[str]]:
    for stem in _MASKS:
        mask, faults = pick(folder, [stem], root)
        if mask is not None or faults:
            return mask, faults
    return None, [f"{folder}: no mask; put segmentation.nii.gz there (test cases have none, use the training cases)"]
