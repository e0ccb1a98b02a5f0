"""Where the operating points cut each map, and whose masks that took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weakseg import catalogue
from weakseg.data.labels import LESION
from weakseg.evaluation.histogram import Histogram, best_threshold, otsu
from weakseg.evaluation.protocol import FIXED, PAPER, RAW, draw_masks, val_point

STEP = 20
"""Thresholds of `val-k` lie 0.02 apart: of 1000, few masks could tell neighbours apart, and each costs a cut."""

Draws = dict[str, list[list[str]]]
"""By operating point: the cases of each draw."""


@dataclass(frozen=True)
class Cut:
    """Where an operating point cuts a map.

    Attributes:
        thresholds: one; for `val-k` one for each draw, and the score is the mean of theirs.
        masks: cases whose masks chose them, for each threshold.
    """

    thresholds: list[float]
    masks: list[frozenset[str]]


def draw_validation(
    cases: pd.DataFrame, labels: pd.DataFrame, folds: Sequence[int], sizes: Sequence[int], draws: int, data_seed: int
) -> tuple[dict[int, Draws], dict[str, str]]:
    """Draw validation patients for each fold, among those whose labels show a lesion: nobody draws empty masks.

    Args:
        cases: of the index, by case.
        labels: slice labels, which say who has a lesion.
        folds: their numbers.
        sizes: k of each operating point.
        draws: how many for each k.
        data_seed: of the data set.

    Returns:
        Draws by fold; and why an operating point is left out, if a fold has fewer than k such patients.
    """
    with_lesion = cases[cases["case"].isin(set(labels.loc[labels["label"] == LESION, "case"]))]
    validating = {fold: with_lesion[with_lesion[f"role_f{fold}"] == "val"] for fold in folds}
    patients = {fold: rows["patient"].nunique() for fold, rows in validating.items()}
    smallest = min(folds, key=lambda fold: patients[fold])
    too_large = {
        val_point(k): f"fold {smallest} has {patients[smallest]} validation patients with a lesion"
        for k in sizes
        if k > patients[smallest]
    }
    drawn: dict[int, Draws] = {fold: {} for fold in folds}
    for fold, rows in validating.items():
        by_patient = rows.groupby("patient")["case"].apply(list)
        for k in (k for k in sizes if val_point(k) not in too_large):
            chosen = (draw_masks(by_patient.index, k, draw, data_seed) for draw in range(draws))
            drawn[fold][val_point(k)] = [by_patient[patients].explode().tolist() for patients in chosen]
    return drawn, too_large


def cut_by_case(points: Sequence[str], counts: Histogram) -> Iterator[tuple[str, Cut]]:
    """The points that need no mask: where they cut a case's map."""
    thresholds = {"fixed": FIXED, "label-free": otsu(counts)}
    for point in (point for point in points if point in thresholds):
        yield point, Cut([thresholds[point]], [frozenset()])


def cut_by_draws(draws: Draws, validation: Mapping[str, Histogram], opened: Set[str]) -> dict[str, Cut]:
    """The points `val-k`: where they cut a method's maps, by the best mean Dice of the cases of each draw.

    Args:
        draws: of the fold.
        validation: counts of the method's map by case.
        opened: cases whose masks were opened for it.
    """
    return {
        point: Cut(
            [best_threshold([validation[case] for case in drawn], STEP) for drawn in of_point],
            [frozenset(drawn) & opened for drawn in of_point],
        )
        for point, of_point in draws.items()
    }


def cut_by_set(tested: Mapping[str, Histogram], opened: Set[str]) -> dict[str, Cut]:
    """The upper bound `oracle-set`: where it cuts a method's maps, by the best mean Dice of the tested set."""
    return {"oracle-set": Cut([best_threshold(list(tested.values()))], [frozenset(tested) & opened])}


def cut_as_published(params: Mapping[str, Any], method: str, chain: str) -> float | None:
    """The point `paper`: where a method's own paper cuts its maps as they are stored; None if there is no such row.

    Args:
        params: of the stage ``scores``: ``operating_points`` and ``chains``.
        method: name.
        chain: of the maps at hand; those that a refinement changed are in other units.
    """
    if PAPER not in params["operating_points"] or params["chains"].get(RAW) != chain:
        return None
    return catalogue.METHODS[method].published_cut
