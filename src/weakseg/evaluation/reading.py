"""What the stage `scores` reads: maps by fold, method and refinement, and the truth they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.catalogue import Purpose
from weakseg.data.grid import read_foreground, resample
from weakseg.data.truth import open_lesion
from weakseg.evaluation.lesions import Lesions
from weakseg.evaluation.protocol import RAW, normalise
from weakseg.evaluation.segmentation import Surface, box_of, diagonal
from weakseg.execution import Context, read_record
from weakseg.references.masks import masks_by_method

LEFT_OUT = ["dataset", "left_out", "reason"]
"""Columns of the tables of what a data set is too small for: operating points and references."""


@dataclass(frozen=True)
class Source:
    """The maps of a method in one fold: raw ones, or refined by a chain.

    Attributes:
        folder: of the maps, ``<case>.nii.gz``.
        method: as in the catalogue.
        chain: refinements; ``threshold`` for raw maps.
        fold: whose classifier was explained.
        masks_used: cases whose masks the maps were made with.
        probability: they are probabilities, which are not normalised.
    """

    folder: Path
    method: str
    chain: str
    fold: int
    masks_used: frozenset[str]
    probability: bool = False


@dataclass(frozen=True)
class Truth:
    """A case's truth on the publisher's grid, cut to the box that holds foreground and lesion.

    Attributes:
        foreground, lesion: (X, Y, Z) bool.
        affine: (4, 4) of the box in mm.
        spacing: voxel size in mm.
        miss: HD95 of a miss in mm, the diagonal of the whole grid.
    """

    foreground: NDArray
    lesion: NDArray
    affine: NDArray
    spacing: tuple[float, float, float]
    miss: float

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing)) / 1000

    @cached_property
    def surface(self) -> Surface:
        """The lesion's border; it is measured once for all masks."""
        return Surface(self.lesion, self.spacing, self.miss)

    @cached_property
    def lesions(self) -> Lesions:
        """The lesions, told apart once for all masks."""
        return Lesions(self.lesion, self.voxel_ml)


def read_sources(context: Context) -> Iterator[Source]:
    """All maps that the stage is given."""
    folds: dict[str, int] = {}
    raw: dict[tuple[int, str], Source] = {}
    for folder in context.upstream["maps"]:
        record = read_record(folder)
        fold = folds[record["key"]] = record["params"]["fold"]
        supervised = record.get("stage") == "references"
        behind = (
            masks_by_method(folder) if supervised else dict.fromkeys(record["params"]["methods"], record["masks_used"])
        )
        for method, masks_used in behind.items():
            source = Source(folder / method, method, RAW, fold, frozenset(masks_used), supervised)
            raw[fold, method] = source
            yield source
    for folder in context.upstream["refinements"]:
        record = read_record(folder)
        fold = folds[record["upstream"]["maps"][0]]
        for chain in record["params"]["chains"]:
            for path in sorted((folder / chain).iterdir()):
                # A refinement opens no mask, so each method keeps the budget of its own map. A student's training maps
                # are of the same method and classifier, so what these needed is in it.
                yield replace(raw[fold, path.name], folder=path, chain=chain)


def read_truth(context: Context, case: str, purpose: Purpose) -> Truth:
    """Open the truth of a case; see :func:`weakseg.data.truth.open_lesion`."""
    lesion, affine = open_lesion(context, context.folder("truth"), case, purpose, context.params["region"])
    on_grid, grid_affine = read_foreground(context.folder("preprocess"), case)
    foreground = resample(on_grid, grid_affine, lesion.shape, affine, "nearest") > 0
    # One voxel around, so that masks do not end at the box where they do not end at the volume.
    box = tuple(slice(max(axis.start - 1, 0), axis.stop + 1) for axis in box_of(foreground | lesion))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [axis.start for axis in box]
    spacing = nifti.spacing_of(affine)
    return Truth(foreground[box], lesion[box], moved, spacing, diagonal(lesion.shape, spacing))


def read_map(context: Context, source: Source, case: str, truth: Truth) -> tuple[NDArray, NDArray]:
    """A map on the box of the truth: as it is stored, and in [0, 1]; each (X, Y, Z) float32, 0 outside the foreground.

    Both are the same after a refinement, which normalises, and for probabilities.
    """
    stored, affine = nifti.read(source.folder / f"{case}.nii.gz")

    def on_box(volume: NDArray) -> NDArray:
        return np.where(truth.foreground, resample(volume, affine, truth.lesion.shape, truth.affine, "linear"), 0)

    if source.chain != RAW or source.probability:
        relevance = on_box(stored)
        return relevance, relevance
    return on_box(stored), on_box(normalise(stored, read_foreground(context.folder("preprocess"), case)[0]))
