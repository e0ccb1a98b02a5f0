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
from weakseg.evaluation.protocol import dice_curve, normalise, oracle_threshold, otsu
from weakseg.evaluation.segmentation import hd95, overlap
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
class OnRawGrid:
    """A case's map and truth on the publisher's grid: (X, Y, Z), and the voxel size in mm."""

    relevance: NDArray
    foreground: NDArray
    lesion: NDArray
    spacing: tuple[float, float, float]


def run(context: Context) -> None:
    """Write ``scores.parquet``, one row per case, method, refinement and operating point.

    Maps are brought to the publisher's grid before they are cut, so that millimetres are true. The oracle's threshold
    is chosen on the map, once per set (test or shift) over all folds; ``components`` is applied after any cut.
    """
    cases = read_cases(context.folder("index")).set_index("case", drop=False)
    sources = list(_sources(context))
    rows: list[dict[str, Any]] = []
    for chain, map_chain in context.params["chains"].items():
        of_chain = [source for source in sources if source.chain == map_chain]
        for method in of_chain[0].methods:
            for role in ("test", "shift"):
                tested = list(_tested(of_chain, cases, role))
                rows += _score_set(context, tested, cases, method, chain, role)
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


def _tested(sources: list[Source], cases: pd.DataFrame, role: str) -> Iterator[tuple[Source, str]]:
    """The cases of a set, each with the fold that maps it; shift cases are taken from the first fold."""
    for source in sources:
        if role == "test" or source.fold == 0:
            for case in cases.index[cases[f"role_f{source.fold}"] == role]:
                yield source, case


def _score_set(
    context: Context, tested: list[tuple[Source, str]], cases: pd.DataFrame, method: str, chain: str, role: str
) -> list[dict[str, Any]]:
    params = context.params
    oracle = float("nan")
    if tested and "oracle-set" in params["operating_points"]:
        oracle = oracle_threshold([_oracle_curve(context, source, method, case) for source, case in tested])
    rows = []
    for source, case in tested:
        data = _on_raw_grid(context, source, method, case)
        cuts = {"fixed": FIXED, "label-free": otsu(data.relevance, data.foreground), "oracle-set": oracle}
        for point in params["operating_points"]:
            predicted = data.relevance > cuts[point]
            if chain.endswith("components"):
                predicted = clean(predicted, data.spacing, **params["components"])
            budget = source.masks_used | ({name for _, name in tested} if point == "oracle-set" else set())
            rows.append(
                {
                    "run": context.key,
                    **{
                        name: params[name]
                        for name in ("dataset", "region", "view", "classifier", "gate", "seed", "anatomy")
                    },
                    **cases.loc[case, ["case", "patient", "source"]].to_dict(),
                    "method": method,
                    "refinement": chain,
                    "operating_point": point,
                    "role": role,
                    "fold": source.fold,
                    "threshold": cuts[point],
                    **_scores(predicted, data),
                    "mask_budget": len(budget),
                    "label_budget": _label_budget(context, method, source.fold),
                }
            )
    return rows


def _oracle_curve(context: Context, source: Source, method: str, case: str) -> NDArray:
    lesion, _ = open_lesion(context, context.folder("truth"), case, "oracle-set", context.params["region"])
    return dice_curve(_on_raw_grid(context, source, method, case).relevance, lesion)


def _on_raw_grid(context: Context, source: Source, method: str, case: str) -> OnRawGrid:
    relevance, affine = nifti.read(source.folder / method / f"{case}.nii.gz")
    foreground, _ = read_foreground(context.folder("preprocess"), case)
    if source.chain == "threshold":
        relevance = normalise(relevance, foreground)
    lesion, raw_affine = open_lesion(context, context.folder("truth"), case, "scores", context.params["region"])
    return OnRawGrid(
        resample(relevance, affine, lesion.shape, raw_affine, "linear"),
        resample(foreground, affine, lesion.shape, raw_affine, "nearest") > 0,
        lesion,
        nifti.spacing_of(raw_affine),
    )


def _scores(predicted: NDArray, data: OnRawGrid) -> dict[str, float]:
    voxel_ml = float(np.prod(data.spacing)) / 1000
    return {
        **overlap(predicted, data.lesion),
        "hd95_mm": hd95(predicted, data.lesion, data.spacing),
        "lesion_ml": np.count_nonzero(data.lesion) * voxel_ml,
        "predicted_ml": np.count_nonzero(predicted) * voxel_ml,
    }


def _label_budget(context: Context, method: str, fold: int) -> int:
    """Slice labels that the case's classifier was trained and validated on; none for ungated nulls."""
    if context.params["gate"] == "none" and catalogue.METHODS[method].null:
        return 0
    return int(read_record(context.upstream["classifiers"][fold])["counts"]["labels_used"])
