"""From the long table of scores to one number per patient, and the operating point that is looked at first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.protocol import HEADLINE, PAPER

GROUP = ["dataset", "source", "region"]
"""Rows of the same cases: they can be compared."""
SETTING = [name for name in ROW_KEY if name != "method"]
"""Rows with these in common differ in their method alone, so they are compared in pairs."""
FAMILY = [*GROUP, "operating_point"]
"""Tests that are adjusted for each other, and rows that are ranked together."""
CONTENDER = [name for name in ROW_KEY if name not in FAMILY]
"""What tells the rows of a family apart."""

_HEADLINE_K = int(HEADLINE.removeprefix("val-"))

UPPER_BOUND = "oracle-set"
"""The operating point that reads the tested masks: shown, never ranked."""


REFERENCE_POINT = "fixed"
"""The operating point of supervised references, whose probabilities are cut at 0.5: their headline."""


def supervised(rows: pd.DataFrame) -> pd.Series:
    """Which rows, of any table with ``method``, are of supervised references; (N,) bool."""
    return rows["method"].isin(list(catalogue.REFERENCES))


def weak(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of maps: those of supervised references are ranked and tested against nobody."""
    return rows[~supervised(rows)]


def headline_point(points: Iterable[str]) -> str:
    """The operating point that a data set's rows are sorted by.

    `val-10` where it is there. Else the largest k below, as nothing may use more masks than the headline does; else a
    point without masks; else the smallest k above. The upper bound only if there is nothing else.

    Args:
        points: names of those that the data set has, at least one.
    """

    def place(point: str) -> tuple[int, int]:
        k = int(point.removeprefix("val-")) if point.startswith("val-") else 0
        if k:
            return (0, -k) if k <= _HEADLINE_K else (4, k)
        return {"label-free": 1, "fixed": 2, PAPER: 3, UPPER_BOUND: 5}[point], 0

    return min(set(points), key=place)


def at_headline(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows at the headline of their data set, of any table with GROUP and ``operating_point``."""
    headline = scores.groupby(GROUP)["operating_point"].transform(headline_point)
    return scores[scores["operating_point"] == headline]


def lesion_bearing(scores: pd.DataFrame, role: str) -> pd.DataFrame:
    """The rows of cases with a lesion that have a role: `test` or `shift`."""
    return scores[(scores["role"] == role) & (scores["lesion_ml"] > 0)]


def patient_means(scores: pd.DataFrame, role: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean of each metric by row key and patient over lesion-bearing cases: over seeds first, then over visits."""
    by_case = lesion_bearing(scores, role).groupby([*ROW_KEY, "patient", "case"])[list(metrics)].mean()
    return by_case.groupby([*ROW_KEY, "patient"]).mean().reset_index()
