"""Truth masks: the only writer and the only reader of lesion masks.

A mask may be opened for a purpose that the catalogue allows the running stage, and every opening is logged into the
run's record: so each row's mask budget is counted where masks are read. Cases that are known to be free of lesions get
an empty mask here. Nobody drew it, so it lies apart and costs nothing.
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
from weakseg.data.slabs import open_volume
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

LESION_FREE = "lesion_free"
"""The folder of the empty masks."""


def run(context: Context) -> None:
    """Write ``raw/<case>.nii.gz`` (the publisher's grid in RAS) and ``grid/<case>.nii.gz`` (the case's grid), uint8.

    Cases without a mask get an empty one, below ``lesion_free/``.
    """
    index = context.folder("index")
    masks: dict[str, str | None] = json.loads((index / "masks.json").read_text())
    images: dict[str, dict[str, str]] = json.loads((index / "images.json").read_text())
    cases = [(case, mask, next(iter(images[case].values()))) for case, mask in sorted(masks.items())]
    work = partial(_write_case, out=context.out, preprocessed=context.folder("preprocess"))
    context.map_cases(work, cases, "truth")


def _write_case(item: tuple[str, str | None, str], out: Path, preprocessed: Path) -> None:
    case, path, image = item
    if path is None:
        volume = open_volume(Path(image))
        mask, affine, out = np.zeros(volume.shape), volume.affine, out / LESION_FREE
    else:
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
        context: the running stage; the opening is logged there, unless the case is free of lesions and has no mask.
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
    path = Path(grid) / f"{case}.nii.gz"
    if (folder / LESION_FREE / path).is_file():
        folder /= LESION_FREE
    else:
        context.truth_opened.setdefault(purpose, set()).add(case)
    mask, affine = nifti.read(folder / path, np.uint8)
    return np.isin(mask, REGIONS[region]), affine
