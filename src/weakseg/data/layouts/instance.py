"""INSTANCE 2022, haemorrhage in head CT: ``train/data/001.nii.gz`` with its mask ``train/label/001.nii.gz``.

The folder ``evaluation/`` beside ``train/`` has no masks and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weakseg.data.layouts import RawCase, find_top, inside, only_ct, pick

IMAGES, MASKS = "data", "label"


def find_cases(root: Path, modalities: Sequence[str]) -> tuple[list[RawCase], list[str]]:
    """Find the cases of an INSTANCE folder, or of the only one inside a folder, with all faults of its layout."""
    faults = only_ct(modalities, "INSTANCE")
    top, missing = find_top(root, _holds_cases, "INSTANCE", "train/ with data/001.nii.gz and label/001.nii.gz")
    if top is None or faults:
        return [], faults + missing
    if len(inside([top / IMAGES, top / MASKS], root, faults)) < 2:
        return [], faults
    cases = []
    for case in sorted(_names(top / IMAGES) | _names(top / MASKS)):
        image, more = pick(top / IMAGES, [case], root)
        faults += more
        if image is None and not more:
            faults.append(
                f"{top / IMAGES / case}.nii.gz: missing; put the image of this mask there, or remove the mask"
            )
        mask, more = pick(top / MASKS, [case], root)
        faults += more
        if mask is None and not more:
            file = f"{top / MASKS / case}.nii.gz"
            faults.append(f"{file}: no mask; put it there (the evaluation data has none, use the training data)")
        if image is not None:
            cases.append(RawCase(case, case, None, {"ct": image}, mask))
    return cases, faults


def _holds_cases(folder: Path) -> bool:
    return all((folder / name).is_dir() and _names(folder / name) for name in (IMAGES, MASKS))


def _names(folder: Path) -> set[str]:
    return {path.name.split(".nii")[0] for path in folder.glob("[!.]*.nii*") if path.name.endswith((".nii", ".nii.gz"))}
