"""Scoring the maps of one family and seed: every tested case, method, refinement and operating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import catalogue, nifti
from weakseg.data.grid import read_foreground, resample
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.evaluation.histogram import Histogram, best_threshold, histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.evaluation.segmentation import Surface, diagonal, overlap
from weakseg.execution import Context, read_record
from weakseg.refinements.components import clean

FIXED = 0.5
"""The threshold of the operating point `fixed`."""


@dataclass(frozen=True)
class Source:
    """A folder of maps of one fold: raw ones, or refined by a chain."""

    folder: Path
    chain: str
    fold: int
    methods: list[str]
    masks_used: set[str]


@dataclass(frozen=True)
class Truth:
    """A case's truth on the publisher's grid, cut to the box that holds foreground and lesion.

    Attributes:
        foreground, lesion: (X, Y, Z) bool.
        affine: (4, 4) of the box in mm.
        spacing: voxel size in mm.
        surface: the lesion's border; a miss costs the diagonal of the whole grid.
    """

    foreground: NDArray
    lesion: NDArray
    affine: NDArray
    spacing: tuple[float, float, float]
    surface: Surface

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing)) / 1000


def run(context: Context) -> None:
    """Write ``scores.parquet``, one row per case, method, refinement and operating point.

    Maps are brought to the publisher's grid before they are cut, so that millimetres are true. The oracle's threshold
    is chosen on the map, once per set (test or shift) over all folds; ``components`` is applied after any cut.
    """
    cases = read_cases(context.folder("index")).set_index("case", drop=False)
    sources = list(_sources(context))
    rows = [row for role in ("test", "shift") for row in _score_set(context, sources, cases, role)]
    pd.DataFrame(rows).to_parquet(context.out / "scores.parquet", index=False)


def _sources(context: Context) -> Iterator[Source]:
    folds = {}
    for folder in context.upstream["maps"]:
        record = read_record(folder)
        folds[record["key"]] = record["params"]["fold"]
        methods = list(record["params"]["methods"])
        yield Source(folder, "threshold", folds[record["key"]], methods, set(record["masks_used"]))
    for folder in context.upstream["refinements"]:
        record = read_record(folder)
        fold = folds[record["upstream"]["maps"][0]]
        methods = sorted(path.name for path in folder.iterdir() if path.is_dir())
        yield Source(folder, "+".join(record["params"]["steps"]), fold, methods, set(record["masks_used"]))


def _score_set(context: Context, sources: list[Source], cases: pd.DataFrame, role: str) -> Iterator[dict[str, Any]]:
    """Rows of all methods over a set, ``test`` or ``shift``.

    One pass over the cases scores the points that each case has for itself; the oracle's threshold is known after it,
    so its rows take a second one.
    """
    points = context.params["operating_points"]
    tested = list(_tested(sources, cases, role))
    histograms: dict[tuple[str, str], list[Histogram]] = {}
    for case, of_fold in tested:
        truth = _truth(context, case)
        if "oracle-set" in points:
            open_lesion(context, context.folder("truth"), case, "oracle-set", context.params["region"])
        for source, method in of_fold:
            relevance = _on_box(context, source, method, case, truth)
            counts = histogram(relevance, truth.lesion, truth.foreground, truth.voxel_ml)
            cuts = {"fixed": FIXED, "label-free": otsu(counts)}
            for point in (point for point in points if point in cuts):
                yield from _rows(context, cases, source, method, role, point, cuts[point], case, relevance, truth)
            if "oracle-set" in points:
                histograms.setdefault((source.chain, method), []).append(counts)
    oracle = {key: best_threshold(of_key) for key, of_key in histograms.items()}
    opened = context.truth_opened.get("oracle-set", set()) & {case for case, _ in tested}
    for case, of_fold in tested if oracle else ():
        truth = _truth(context, case)
        for source, method in of_fold:
            relevance, threshold = _on_box(context, source, method, case, truth), oracle[source.chain, method]
            for row in _rows(context, cases, source, method, role, "oracle-set", threshold, case, relevance, truth):
                yield {**row, "mask_budget": len(source.masks_used | opened)}


def _tested(sources: list[Source], cases: pd.DataFrame, role: str) -> Iterator[tuple[str, list[tuple[Source, str]]]]:
    """The cases of a set, each with the maps of its fold by source and method; shift cases are in the first fold."""
    for fold in sorted({source.fold for source in sources}) if role == "test" else [0]:
        of_fold = [(source, method) for source in sources if source.fold == fold for method in source.methods]
        for case in cases.index[cases[f"role_f{fold}"] == role]:
            yield case, of_fold


def _rows(
    context: Context,
    cases: pd.DataFrame,
    source: Source,
    method: str,
    role: str,
    point: str,
    threshold: float,
    case: str,
    relevance: NDArray,
    truth: Truth,
) -> Iterator[dict[str, Any]]:
    """A row for each chain that uses these maps; they differ in whether ``components`` cleans the mask."""
    params = context.params
    for chain in (chain for chain, its_maps in params["chains"].items() if its_maps == source.chain):
        predicted = relevance > threshold
        if chain.endswith("components"):
            predicted = clean(predicted, truth.spacing, **params["components"])
        yield {
            "run": context.key,
            **{name: params[name] for name in ("dataset", "region", "view", "classifier", "gate", "seed", "anatomy")},
            **cases.loc[case, ["case", "patient", "source"]].to_dict(),
            "method": method,
            "refinement": chain,
            "operating_point": point,
            "role": role,
            "fold": source.fold,
            "threshold": threshold,
            **overlap(predicted, truth.lesion),
            **truth.surface.compare(predicted),
            "lesion_ml": np.count_nonzero(truth.lesion) * truth.voxel_ml,
            "predicted_ml": np.count_nonzero(predicted) * truth.voxel_ml,
            "mask_budget": len(source.masks_used),
            "label_budget": _label_budget(context, method, source.fold),
        }


def _truth(context: Context, case: str) -> Truth:
    lesion, affine = open_lesion(context, context.folder("truth"), case, "scores", context.params["region"])
    on_grid, grid_affine = read_foreground(context.folder("preprocess"), case)
    foreground = resample(on_grid, grid_affine, lesion.shape, affine, "nearest") > 0
    occupied = np.nonzero(foreground | lesion)
    # One voxel around, so that masks do not end at the box where they do not end at the volume.
    low = [max(int(axis.min()) - 1, 0) for axis in occupied]
    box = tuple(slice(start, int(axis.max()) + 2) for start, axis in zip(low, occupied, strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ low
    spacing = nifti.spacing_of(affine)
    surface = Surface(lesion[box], spacing, diagonal(lesion.shape, spacing))
    return Truth(foreground[box], lesion[box], moved, spacing, surface)


def _on_box(context: Context, source: Source, method: str, case: str, truth: Truth) -> NDArray:
    """The map in [0, 1] on the box of the truth, (X, Y, Z) float32, 0 outside the foreground."""
    relevance, affine = nifti.read(source.folder / method / f"{case}.nii.gz")
    if source.chain == "threshold":
        relevance = normalise(relevance, read_foreground(context.folder("preprocess"), case)[0])
    return np.where(truth.foreground, resample(relevance, affine, truth.lesion.shape, truth.affine, "linear"), 0)


def _label_budget(context: Context, method: str, fold: int) -> int:
    """Slice labels that the case's classifier was trained and validated on; none for ungated nulls."""
    if context.params["gate"] == "none" and catalogue.METHODS[method].null:
        return 0
    return int(read_record(context.upstream["classifiers"][fold])["counts"]["labels_used"])
