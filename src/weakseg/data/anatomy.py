"""Organ masks: a tree of their own, apart from lesion truth. A row that used them says so under ``anatomy``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from weakseg import nifti
from weakseg.execution import Context

ORGANS: dict[str, tuple[int, ...]] = {"kidneys": (1, 2, 3)}
"""Labels whose union is the organ: for KiTS with tumours and cysts, so that no hole tells where a tumour is.

Masks of one organ each, as healthy cases have, are 1 inside.
"""


def run(context: Context) -> None:
    """Write ``<case>.nii.gz``, the organ (X, Y, Z) uint8 on the publisher's grid in RAS, for every case."""
    paths: dict[str, list[str]] = json.loads((context.folder("index") / "organs.json").read_text())
    work = partial(_write_case, out=context.out, organ=context.params["organ"])
    context.map_cases(work, sorted(paths.items()), "anatomy")


def organ_file(folder: Path, case: str) -> Path:
    """The organ mask of a case."""
    return folder / f"{case}.nii.gz"


def _write_case(item: tuple[str, list[str]], out: Path, organ: str) -> None:
    case, paths = item
    masks, affines = zip(*(nifti.read(Path(path), np.uint8) for path in paths), strict=True)
    inside = np.any(np.isin(masks, ORGANS[organ]), axis=0)
    nifti.write(organ_file(out, case), np.asarray(inside, np.uint8), affines[0])
