"""Scoring the maps of one view and seed: every tested case, method, refinement and operating point.

The first pass counts each map's values in and out of the lesion, and keeps the counts: all thresholds follow from them.
The second cuts the maps there and scores the masks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import catalogue
from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.data.truth import open_lesion
from weakseg.evaluation.histogram import Histogram, histogram, prevalence, save
from weakseg.evaluation.localisation import (
    BOX_IOUS,
    POINTING_MM,
    box_hits,
    box_iou_curve,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
)
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
from weakseg.evaluation.published import cut_change
from weakseg.evaluation.reading import LEFT_OUT, Source, Truth, read_map, read_sources, read_truth
from weakseg.evaluation.segmentation import false_positives, overlap, volume_errors
from weakseg.execution import Context, read_record
from weakseg.refinements.components import clean

BOX_CURVE = "box_iou"
"""Column of :func:`box_iou_curve` until the set's threshold is known."""


@dataclass(frozen=True)
class Place:
    """A case and the part it has in a fold."""

    fold: int
    role: str
    case: str


@dataclass(frozen=True)
class Task:
    """A tested case with the counts of each of its maps, and where the operating points cut them."""

    place: Place
    maps: list[tuple[Source, Histogram, dict[str, Cut]]]


Counts = dict[Place, dict[Source, Histogram]]


def run(context: Context) -> None:
    """Write ``scores.parquet``, ``histograms.parquet`` and ``left_out.csv``.

    Scores: one row per tested case, method, refinement and operating point. Maps are brought to the publisher's grid
    before they are cut, so that millimetres are true. Thresholds are chosen on the map, ``components`` cleans the mask
    after the cut. Shift cases have overlap and volumes alone: their Dice is what is reported, and all else, which is
    NaN, would take as long as that of the test cases. Histograms: one row per map of a tested case, or of a validation
    case that a draw took. Left out: the operating points and references that the data set is too small for, and why.
    """
    params = context.params
    cases = read_cases(context.folder("index")).set_index("case", drop=False)
    sources = list(read_sources(context))
    folds = sorted({source.fold for source in sources})
    sizes = params["val_k"] if "val-k" in params["operating_points"] else []
    labels = read_labels(context.folder("labels"))
    draws, left_out = draw_validation(cases, labels, folds, sizes, params["draws"], params["data_seed"])
    _write_left_out(context, left_out)
    places = [*_validating(draws), *_tested(cases, folds, params["roles"])]
    counted = context.map_cases_resumably(partial(_count, sources=sources), places, "histograms")
    counts = dict(zip(places, counted, strict=True))
    _save(context, cases, counts)
    tasks = _tasks(context, counts, draws)
    rows = context.map_cases_resumably(partial(_score, cases=cases), tasks, "scores")
    scores = pd.DataFrame([row for of_case in rows for row in of_case])
    _box_hits(scores).to_parquet(context.out / "scores.parquet", index=False)


def _write_left_out(context: Context, left_out: dict[str, str]) -> None:
    """Those of operating points, and of the references that are scored."""
    rows = [(context.params["dataset"], point, reason) for point, reason in left_out.items()]
    for folder in context.upstream["maps"]:
        if (folder / "left_out.csv").exists():
            rows += pd.read_csv(folder / "left_out.csv").itertuples(index=False, name=None)
    for dataset, what, reason in dict.fromkeys(rows):
        print(f"scores: {dataset}: {what} is left out: {reason}", file=sys.stderr)
    pd.DataFrame(list(dict.fromkeys(rows)), columns=LEFT_OUT).to_csv(context.out / "left_out.csv", index=False)


def _validating(draws: dict[int, Draws]) -> Iterator[Place]:
    """The validation cases that any draw took."""
    for fold, of_fold in draws.items():
        for case in sorted({case for of_point in of_fold.values() for drawn in of_point for case in drawn}):
            yield Place(fold, "val", case)


def _tested(cases: pd.DataFrame, folds: list[int], roles: list[str]) -> Iterator[Place]:
    """All cases with one of the roles but those that validate; shift cases are in the first fold."""
    for fold in folds:
        for role in (role for role in roles if role == "test" or (role == "shift" and fold == 0)):
            for case in cases.index[cases[f"role_f{fold}"] == role]:
                yield Place(fold, role, case)


def _count(context: Context, place: Place, sources: list[Source]) -> dict[Source, Histogram]:
    """First pass over a case: the counts of each map of its fold."""
    truth = read_truth(context, place.case, "val-k" if place.role == "val" else "scores")
    if place.role != "val" and "oracle-set" in context.params["operating_points"]:
        open_lesion(context, context.folder("truth"), place.case, "oracle-set", context.params["region"])
    of_fold = (source for source in sources if source.fold == place.fold)
    return {
        source: histogram(
            read_map(context, source, place.case, truth)[1], truth.lesion, truth.foreground, truth.voxel_ml
        )
        for source in of_fold
    }


def _save(context: Context, cases: pd.DataFrame, counts: Counts) -> None:
    keys = [
        (place.role, place.fold, place.case, cases.loc[place.case, "patient"], source.method, source.chain)
        for place, of_case in counts.items()
        for source in of_case
    ]
    columns = ["role", "fold", "case", "patient", "method", "refinement"]
    histograms = [of_map for of_case in counts.values() for of_map in of_case.values()]
    save(context.out / "histograms.parquet", pd.DataFrame(keys, columns=columns), histograms)


def _tasks(context: Context, counts: Counts, draws: dict[int, Draws]) -> list[Task]:
    """The tested cases with every cut; a set's threshold is chosen once, over all folds together."""
    points = context.params["operating_points"]
    validation: dict[Source, dict[str, Histogram]] = {}
    sets: dict[tuple[str, str, str], dict[str, Histogram]] = {}
    for place, of_case in counts.items():
        for source, of_map in of_case.items():
            of_source = validation.setdefault(source, {})
            if place.role == "val":
                of_source[place.case] = of_map
            else:
                sets.setdefault((place.role, source.method, source.chain), {})[place.case] = of_map
    opened = context.truth_opened
    by_draws = {
        source: cut_by_draws(draws[source.fold], of_source, opened.get("val-k", set()))
        for source, of_source in validation.items()
    }
    by_set = {
        key: cut_by_set(of_set, opened["oracle-set"]) if "oracle-set" in points else {} for key, of_set in sets.items()
    }
    return [
        Task(
            place,
            [
                (
                    source,
                    of_map,
                    dict(cut_by_case(points, of_map))
                    | by_draws[source]
                    | by_set[place.role, source.method, source.chain],
                )
                for source, of_map in of_case.items()
            ],
        )
        for place, of_case in counts.items()
        if place.role != "val"
    ]


def _score(context: Context, task: Task, cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Second pass over a case: a row for each map, chain that uses it, and operating point."""
    params, place = context.params, task.place
    truth = read_truth(context, place.case, "scores")
    setting = {name: params[name] for name in ("dataset", "region", "view", "classifier", "gate", "seed", "anatomy")}
    setting |= {"run": context.key, "role": place.role, "fold": place.fold}
    setting |= cases.loc[place.case, ["case", "patient", "source"]].to_dict()
    shifted = place.role == "shift"
    score = overlap_and_volumes if shifted else score_mask
    rows = []
    for source, counts, cuts in task.maps:
        stored, relevance = read_map(context, source, place.case, truth)
        of_map = {"auprc": counts.auprc, "prevalence": prevalence(counts)}
        of_map |= {} if shifted else localise(stored, relevance, truth)
        facts = {**setting, "method": source.method, "lesion_ml": counts.lesion * truth.voxel_ml, **of_map}
        facts["label_budget"] = _label_budget(context, source)
        for chain in (chain for chain, its_maps in params["chains"].items() if its_maps == source.chain):
            cleaning = params["components"] if chain.endswith("components") else None
            masks = Masks(relevance, truth, cleaning, score)
            for point, cut in cuts.items():
                scored = masks.mean_scores(cut.thresholds)
                by_draw = [masks.scores(threshold)["dice"] for threshold in cut.thresholds]
                used = max(len(source.masks_used | chosen_by) for chosen_by in cut.masks)
                cutting = {"threshold": float(np.mean(cut.thresholds)), "dice_by_draw": by_draw, "mask_budget": used}
                rows.append({**facts, "refinement": chain, "operating_point": point, **cutting, **scored})
        published = cut_as_published(params, source.method, source.chain)
        if published is not None:
            scored = score(cut_change(stored, published), truth)
            cutting = {"threshold": published, "dice_by_draw": [scored["dice"]], "mask_budget": len(source.masks_used)}
            rows.append({**facts, "refinement": RAW, "operating_point": PAPER, **cutting, **scored})
    return rows


def localise(stored: NDArray, relevance: NDArray, truth: Truth) -> dict[str, Any]:
    """Scores of a map without a cut, of :mod:`weakseg.evaluation.localisation`; NaN without a lesion.

    Args:
        stored: (X, Y, Z) before it is normalised, which makes its largest values equal.
        relevance: (X, Y, Z) float32 in [0, 1].
        truth: of the case.
    """
    return {
        "pointing_game": pointing_game(stored, truth.lesion, truth.spacing, POINTING_MM),
        "mass_accuracy": mass_accuracy(relevance, truth.lesion),
        "rank_accuracy": rank_accuracy(relevance, truth.lesion),
        BOX_CURVE: box_iou_curve(relevance, truth.lesion),
    }


class Masks:
    """The scores of the masks that a map is cut into.

    Args:
        relevance: (X, Y, Z) float32 in [0, 1].
        truth: of the case.
        cleaning: parameters of ``components``; None leaves masks as they are.
        score: of a mask (X, Y, Z) bool against the truth.
    """

    def __init__(
        self,
        relevance: NDArray,
        truth: Truth,
        cleaning: dict[str, float] | None,
        score: Callable[[NDArray, Truth], dict[str, float]],
    ) -> None:
        self.relevance, self.truth, self.cleaning, self.score = relevance, truth, cleaning, score
        self.by_size: dict[int, dict[str, float]] = {}
        self.by_threshold: dict[float, dict[str, float]] = {}

    def mean_scores(self, thresholds: Iterable[float]) -> dict[str, float]:
        """Each score's mean over thresholds."""
        scores = [self.scores(threshold) for threshold in thresholds]
        means = np.mean([list(found.values()) for found in scores], axis=0)
        return dict(zip(scores[0], means.tolist(), strict=True))

    def scores(self, threshold: float) -> dict[str, float]:
        """Scores of the mask above a threshold."""
        if threshold not in self.by_threshold:
            self.by_threshold[threshold] = self._scores(self.relevance > threshold)
        return self.by_threshold[threshold]

    def _scores(self, predicted: NDArray) -> dict[str, float]:
        # Masks of a map are nested, so those of one size are the same.
        size = int(np.count_nonzero(predicted))
        if size not in self.by_size:
            if self.cleaning is not None:
                predicted = clean(predicted, self.truth.spacing, **self.cleaning)
            self.by_size[size] = self.score(predicted, self.truth)
        return self.by_size[size]


def score_mask(predicted: NDArray, truth: Truth) -> dict[str, float]:
    """All scores of a mask (X, Y, Z) bool; those by lesion volume are counts."""
    lesions = truth.lesions.match(predicted)
    bands = lesions.by_volume()
    return {
        **overlap_and_volumes(predicted, truth),
        **truth.surface.compare(predicted),
        **lesions.scores(),
        **{f"lesions_{band}_ml": float(number) for band, (number, _) in bands.items()},
        **{f"found_{band}_ml": float(found) for band, (_, found) in bands.items()},
        **false_positives(predicted, truth.lesion, truth.foreground, truth.voxel_ml),
    }


def overlap_and_volumes(predicted: NDArray, truth: Truth) -> dict[str, float]:
    """The scores of a mask (X, Y, Z) bool that count voxels."""
    return {
        **overlap(predicted, truth.lesion),
        **volume_errors(predicted, truth.lesion, truth.voxel_ml),
        "predicted_ml": np.count_nonzero(predicted) * truth.voxel_ml,
    }


def _box_hits(scores: pd.DataFrame) -> pd.DataFrame:
    """Boxes that are right instead of their curves: ``box_30``, ``box_50``, ``box_70``; NaN without lesion or curve."""
    names = {least: f"box_{100 * least:.0f}" for least in BOX_IOUS}
    scores[list(names.values())] = np.nan
    bearing = scores[(scores["lesion_ml"] > 0) & scores[BOX_CURVE].notna()]
    for _, rows in bearing.groupby(["role", "method", "refinement", "operating_point"]):
        for least, hits in box_hits(np.stack(list(rows[BOX_CURVE]))).items():
            scores.loc[rows.index, names[least]] = hits.astype(float)
    return scores.drop(columns=BOX_CURVE)


def _label_budget(context: Context, source: Source) -> int:
    """Labels that the case's classifier was trained and validated on; none for ungated nulls and for references."""
    if source.probability or (context.params["gate"] == "none" and catalogue.METHODS[source.method].null):
        return 0
    return int(read_record(context.upstream["classifiers"][source.fold])["counts"]["labels_used"])
