"""What the rows of a scores run have to say, taken again from what the run left behind.

Thresholds and Dice follow from the kept histograms, draws from the seed and the labels, budgets from the logs of opened
masks. No mask is opened and no map is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from weakseg import catalogue
from weakseg.data.labels import UNLABELLED, read_labels
from weakseg.evaluation.finished import Results
from weakseg.evaluation.histogram import STEPS, Histogram, load
from weakseg.evaluation.points import (
    Cut,
    Draws,
    cut_as_published,
    cut_by_case,
    cut_by_draws,
    cut_by_set,
    draw_validation,
)
from weakseg.evaluation.protocol import PAPER, RAW
from weakseg.references.masks import Allowed, allowed
from weakseg.runs import Run

MATCHED = ["role", "fold", "case", "method", "refinement", "operating_point"]
"""What tells the rows of one scores run apart."""

Place = tuple[str, int, str]
"""Role, fold and case."""


def draw_again(results: Results, run: Run) -> dict[int, Draws]:
    """The validation cases of each draw, by fold and operating point."""
    params = run.params
    folds = sorted({maps.params["fold"] for maps in results.upstream(run, "maps")})
    sizes = params["val_k"] if "val-k" in params["operating_points"] else []
    (labels,) = results.upstream(run, "labels")
    drawn, _ = draw_validation(
        results.cases(run), read_labels(labels.folder), folds, sizes, params["draws"], params["data_seed"]
    )
    return drawn


def allowed_again(results: Results, run: Run) -> dict[str, set[str]]:
    """The cases whose masks each method of a run of references has to open, but for those that nobody drew."""
    params, free = run.params, results.lesion_free(run)
    (labels,) = results.upstream(run, "labels")
    drawn = (params["fold"], params["draw"], params["data_seed"])
    found = {
        method: allowed(settings, results.cases(run), read_labels(labels.folder), *drawn)
        for method, settings in params["methods"].items()
    }
    return {method: {*may.train, *may.val} - free for method, may in found.items() if isinstance(may, Allowed)}


def places(cases: pd.DataFrame, draws: dict[int, Draws]) -> set[Place]:
    """Whom a scores run looks at: the validation cases that were drawn, and all tested ones; shift in fold 0 alone."""
    drawn = {
        ("val", fold, case)
        for fold, of_fold in draws.items()
        for of_point in of_fold.values()
        for one in of_point
        for case in one
    }
    tested = {
        (role, fold, case)
        for fold in draws
        for case, role in cases[f"role_f{fold}"].items()
        if role == "test" or (role == "shift" and fold == 0)
    }
    return drawn | tested


def expected_rows(results: Results, run: Run) -> pd.DataFrame:
    """The rows of a scores run: MATCHED, and ``threshold``, ``dice``, ``mask_budget``, ``label_budget``.

    Dice is that of the mask before ``components``, and NaN for a chain with it: that needs the volume.

    Raises:
        KeyError: a histogram that a draw needs is not there.
    """
    keys, histograms = load(run.folder / "histograms.parquet")
    maps = keys.assign(histogram=histograms)
    tested = maps[maps["role"] != "val"]
    sets = {key: _by_case(rows) for key, rows in tested.groupby(["role", "method", "refinement"])}
    draws, behind, labels_used = draw_again(results, run), _masks_behind(results, run), _labels_used(results, run)
    points = run.params["operating_points"]
    rows = []
    for (fold, method, chain), of_map in maps.groupby(["fold", "method", "refinement"]):
        validation = _by_case(of_map[of_map["role"] == "val"])
        by_draws = cut_by_draws(draws[fold], validation, results.opened(run, "val-k"))
        supervised = method in catalogue.REFERENCES
        unlabelled = supervised or (run.params["gate"] == "none" and catalogue.METHODS[method].null)
        for row in of_map[of_map["role"] != "val"].itertuples():
            cuts = dict(cut_by_case(points, row.histogram)) | by_draws
            if "oracle-set" in points:
                cuts |= cut_by_set(sets[row.role, method, chain], results.opened(run, "oracle-set"))
            row_facts = {"role": row.role, "fold": fold, "case": row.case, "method": method}
            row_facts["label_budget"] = 0 if unlabelled else labels_used[fold]
            for name in (name for name, its_maps in run.params["chains"].items() if its_maps == chain):
                for facts in _rows(cuts, row.histogram, behind[fold, method, chain], name):
                    rows.append(row_facts | facts)
            published = cut_as_published(run.params, method, chain)
            if published is not None:
                # Its Dice needs the volume.
                facts = {"refinement": RAW, "operating_point": PAPER, "threshold": published, "dice": float("nan")}
                rows.append(row_facts | facts | {"mask_budget": len(behind[fold, method, chain])})
    return pd.DataFrame(rows)


def _by_case(rows: pd.DataFrame) -> dict[str, Histogram]:
    return dict(zip(rows["case"], rows["histogram"], strict=True))


def _rows(cuts: dict[str, Cut], counts: Histogram, behind: frozenset[str], chain: str) -> Iterator[dict[str, Any]]:
    for point, cut in cuts.items():
        cleaned = chain.endswith("components")
        yield {
            "refinement": chain,
            "operating_point": point,
            "threshold": float(np.mean(cut.thresholds)),
            "dice": float("nan")
            if cleaned
            else float(np.mean([dice_at(counts, threshold) for threshold in cut.thresholds])),
            "mask_budget": max(len(behind | chosen_by) for chosen_by in cut.masks),
        }


def dice_at(counts: Histogram, threshold: float) -> float:
    """Dice of a map that is cut at one of THRESHOLDS, or at CUT_ALL."""
    place = round(threshold * STEPS)
    return float(counts.dice[place]) if place < STEPS else float(counts.lesion == 0)


def _masks_behind(results: Results, run: Run) -> dict[tuple[int, str, str], frozenset[str]]:
    """Cases whose masks made the maps, by fold, method and chain."""
    behind = {}
    for maps in results.upstream(run, "maps"):
        for method in maps.params["methods"]:
            behind[maps.params["fold"], method, "threshold"] = results.masks_behind(maps, method)
    for refinement in results.upstream(run, "refinements"):
        for maps in results.upstream(refinement, "maps"):
            for chain, chosen in refinement.params["chains"].items():
                for method in (name for name in maps.params["methods"] if chosen is None or name in chosen):
                    behind[maps.params["fold"], method, chain] = results.masks_behind(maps, method)
    return behind


def _labels_used(results: Results, run: Run) -> dict[int, int]:
    """By fold: labels that its classifier was trained and validated on, of slices or, as grades, of cases."""
    cases = results.cases(run)
    if run.params["view"] == "volume":
        labelled = cases.loc[cases["grade"].isin(catalogue.GRADES), "case"]
    else:
        (labels,) = results.upstream(run, "labels")
        slices = read_labels(labels.folder)
        labelled = slices.loc[slices["label"] != UNLABELLED, "case"]
    folds = {classifier.params["fold"] for classifier in results.upstream(run, "classifiers")}
    return {fold: int(labelled.map(cases[f"role_f{fold}"]).isin(["train", "val"]).sum()) for fold in folds}
