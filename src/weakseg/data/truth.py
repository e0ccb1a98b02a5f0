"""Truth masks: the only writer and the only reader of lesion masks.

A mask may be opened for a purpose that the catalogue allows the running stage, and every opening is logged into the
run's record: so each row's mask budget is counted where masks are read.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import catalogue, nifti
from weakseg.catalogue import Purpose
from weakseg.data.grid import read_foreground, resample
from weakseg.errors import WeaksegError
from weakseg.execution import Context

REGIONS: dict[str, tuple[int, ...]] = {
    "whole_tumour": (1, 2, 3, 4),
    "tumour_core": (1, 3, 4),
    "enhancing_tumour": (4,),
    "haemorrhage": (1,),
    "tumour": (2,),
}
"""Labels of each region, in its data set's coding. BraTS: 3 (non-enhancing tumour) occurs in the 2015 coding only."""


def run(context: Context) -> None:
    """Write ``raw/<case>.nii.gz`` (the publisher's grid in RAS) and ``grid/<case>.nii.gz`` (the case's grid), uint8."""
    paths: dict[str, str] = json.loads((context.folder("index") / "masks.json").read_text())
    work = partial(_write_case, out=context.out, preprocessed=context.folder("preprocess"))
    context.map_cases(work, sorted(paths.items()), "truth")


def _write_case(item: tuple[str, str], out: Path, preprocessed: Path) -> None:
    case, path = item
    mask, affine = nifti.read(Path(path))
    foreground, grid_affine = read_foreground(preprocessed, case)
    nifti.write(out / "raw" / f"{case}.nii.gz", mask.astype(np.uint8), affine)
    on_grid = resample(mask, affine, foreground.shape, grid_affine, "nearest")
    nifti.write(out / "grid" / f"{case}.nii.gz", on_grid.astype(np.uint8), grid_affine)


def open_lesion(
    context: Context, folder: Path, case: str, purpose: Purpose, region: str, grid: str = "raw"
) -> tuple[NDArray, NDArray]:
    """Open the lesion mask of a case: (X, Y, Z) bool and its (4, 4) affine in mm.

    Args:
        context: the running stage; the opening is logged there.
        folder: the result of the stage ``truth``.
        case: case name.
        purpose: why the mask is opened.
        region: one of :data:`REGIONS`.
        grid: ``raw`` (the publisher's grid) or ``grid`` (the case's).

    Raises:
        WeaksegError: the stage may not open masks for this purpose.
    """
    if purpose not in catalogue.STAGES[context.stage].purposes:
        raise WeaksegError(f"{context.stage}: may not open truth masks for {purpose!r}")
    mask, affine = nifti.read(folder / grid / f"{case}.nii.gz", np.uint8)
    context.truth_opened.setdefault(purpose, set()).add(case)
    return np.isin(mask, REGIONS[region]), affine
