"""The null `mean_mask`: where lesions usually lie. It is made of training masks, so it is a stage of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import read_foreground, resample
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.data.views import Units
from weakseg.execution import Context
from weakseg.maps.gated import Maps, write_maps


@dataclass(frozen=True)
class Mask:
    """A training case's lesion.

    Attributes:
        lesion: (X, Y, Z) bool.
        affine: (4, 4) in mm, with the centroid of the case's foreground at the origin.
    """

    lesion: NDArray
    affine: NDArray


def run(context: Context) -> None:
    """Write ``mean_mask/<case>.nii.gz`` for the cases of the fold: the share of training lesions at each voxel.

    Cases are aligned in mm by the centroids of their foregrounds, without scaling or turning: simple, and known for
    every case without a mask.
    """
    preprocessed, fold = context.folder("preprocess"), context.params["fold"]
    cases = read_cases(context.folder("index"))
    trained = cases[cases[f"role_f{fold}"] == "train"]["case"]
    mean, affine = mean_mask([_open(context, preprocessed, case) for case in trained])

    def explain_units(units: Units, selected: NDArray) -> Maps:
        foreground, grid_affine = read_foreground(preprocessed, units.case)
        there = resample(mean, affine, foreground.shape, centred(grid_affine, foreground), "linear")
        return {"mean_mask": units.cut(np.where(foreground, there, 0))[selected][:, None]}

    write_maps(context, explain_units)


def _open(context: Context, preprocessed: Path, case: str) -> Mask:
    lesion, affine = open_lesion(context, context.folder("truth"), case, "mean-mask", context.params["region"], "grid")
    return Mask(lesion, centred(affine, read_foreground(preprocessed, case)[0]))


def centred(affine: NDArray, foreground: NDArray) -> NDArray:
    """An affine (4, 4) in mm moved so that the centroid of a foreground (X, Y, Z) bool is its origin."""
    middle = np.argwhere(foreground).mean(axis=0)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ middle + affine[:3, 3]
    return moved


def mean_mask(masks: Sequence[Mask]) -> tuple[NDArray, NDArray]:
    """The mean of masks on a grid that holds all of them, with the median of their voxel sizes.

    Returns:
        (X, Y, Z) float32 in [0, 1], and its (4, 4) affine in mm.
    """
    spacing = np.median([nifti.spacing_of(mask.affine) for mask in masks], axis=0)
    places = [np.argwhere(mask.lesion) @ mask.affine[:3, :3].T + mask.affine[:3, 3] for mask in masks]
    points = np.concatenate([np.zeros((1, 3)), *places])
    low, high = points.min(axis=0) - spacing, points.max(axis=0) + spacing
    shape = np.ceil((high - low) / spacing).astype(int) + 1
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    total = np.zeros(shape, dtype=np.float32)
    for mask in masks:
        total += resample(mask.lesion.astype(np.float32), mask.affine, shape, affine, "linear")
    return total / len(masks), affine
