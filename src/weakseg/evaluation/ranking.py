"""Ranks of methods by three schemes, how sure they are, and how far the schemes agree.

After Wiesenfarth et al. 2021, *Methods and open-source toolkit for analyzing and visualizing challenge results*
(challengeR), 10.1038/s41598-021-82017-6. Rank 1 is best; equal methods share the best of their ranks.

A scheme turns how often each resample draws each patient, (resamples, patients), into the methods' ranks,
(resamples, methods). The scores as they are, are the resample that draws each patient once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import kendalltau, rankdata

from weakseg.evaluation.statistics import FEWEST_PATIENTS, holm, resample_counts

ALPHA = 0.05
"""Significance of a win in the test-based ranking."""


def mean_then_rank(scores: NDArray, counts: NDArray) -> NDArray:
    """Rank the means: the method that is best on average leads.

    Args:
        scores: (patients, methods), larger is better.
        counts: (resamples, patients).
    """
    return _ranks(counts @ scores / len(scores))


def rank_then_mean(scores: NDArray, counts: NDArray) -> NDArray:
    """Rank the methods for each patient, then their mean ranks: one odd score weighs no more than others.

    Args:
        scores: (patients, methods), larger is better.
        counts: (resamples, patients).
    """
    return _ranks(-(counts @ rankdata(-scores, axis=1) / len(scores)))


def by_significant_wins(scores: NDArray, counts: NDArray) -> NDArray:
    """Rank by the number of significant wins, in one-sided Wilcoxon tests of all pairs, adjusted by Holm.

    p-values are by the normal approximation, without differences of 0 and corrected for ties. NaN under
    FEWEST_PATIENTS.

    Args:
        scores: (patients, methods), larger is better.
        counts: (resamples, patients).
    """
    if len(scores) < FEWEST_PATIENTS:
        return np.full((len(counts), scores.shape[1]), np.nan)
    # Patient by patient in memory, as the tests sort them.
    counts = np.asfortranarray(counts)
    pairs = list(combinations(range(scores.shape[1]), 2))
    z = np.stack([signed_rank_z(scores[:, a] - scores[:, b], counts) for a, b in pairs], axis=1)
    # A pair is two tests, one for each to win.
    p = ndtr(np.concatenate([-z, z], axis=1))
    winners = np.array([a for a, _ in pairs] + [b for _, b in pairs])
    won = np.array([holm(of_resample) for of_resample in p]) < ALPHA
    return _ranks(won @ np.eye(scores.shape[1])[winners])


SCHEMES: dict[str, Callable[[NDArray, NDArray], NDArray]] = {
    "mean_then_rank": mean_then_rank,
    "rank_then_mean": rank_then_mean,
    "test_based": by_significant_wins,
}


def rankings(scores: pd.DataFrame, generator: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Ranks of all methods by each of SCHEMES, with 95 % percentile intervals over resampled patients.

    Args:
        scores: one row per patient, one column per method, no gaps, larger is better; the order makes no difference.
        generator: draws the patients, the same for all methods and schemes.
        resamples: how often.

    Returns:
        A row per scheme and method: ``scheme``, ``method``, ``rank``, ``low``, ``high``.
    """
    ordered = scores.sort_index().sort_index(axis=1)
    values = ordered.to_numpy(float)
    counts = resample_counts(len(values), generator, resamples)
    tables = []
    for name, scheme in SCHEMES.items():
        rank = scheme(values, np.ones((1, len(values))))[0]
        low, high = np.percentile(scheme(values, counts), [2.5, 97.5], axis=0)
        tables.append(pd.DataFrame({"scheme": name, "method": ordered.columns, "rank": rank, "low": low, "high": high}))
    return pd.concat(tables, ignore_index=True)


def agreement(ranks: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """How far rankings agree: Kendall's tau-b of each two of them, and Kendall's W of all.

    Args:
        ranks: one row per method (two or more), one column per ranking.

    Returns:
        tau in [-1, 1], a table of rankings by rankings, NaN for one that ties all methods or holds NaN; and W in
        [0, 1], corrected for ties (Kendall & Gibbons 1990), 1 if all rankings are the same, NaN if all tie all methods.
    """
    ordered = ranks.sort_index()
    tau = pd.DataFrame(1.0, index=ranks.columns, columns=ranks.columns)
    for first, second in combinations(ranks.columns, 2):
        tau.loc[first, second] = tau.loc[second, first] = kendalltau(ordered[first], ordered[second]).statistic
    middle = rankdata(ordered.to_numpy(float), axis=0)
    methods, raters = middle.shape
    ties = sum(int((np.unique(column, return_counts=True)[1] ** 3).sum() - methods) for column in middle.T)
    spread = float(np.sum((middle.sum(axis=1) - raters * (methods + 1) / 2) ** 2))
    most = raters**2 * (methods**3 - methods) - raters * ties
    return tau, 12 * spread / most if most else float("nan")


def signed_rank_z(differences: NDArray, counts: NDArray) -> NDArray:
    """z of Wilcoxon's signed-rank test for many resamples at once, (resamples,); positive if differences are.

    Normal approximation without continuity correction, zeros left out, variance corrected for ties; 0 if a resample
    has no difference other than 0. Equal to SciPy's ``wilcoxon(method="asymptotic")`` on the drawn differences.

    Args:
        differences: (patients,).
        counts: (resamples, patients), how often each patient is drawn.
    """
    order = np.argsort(np.abs(differences), kind="stable")
    order = order[differences[order] != 0]
    # Levels of size by resamples. Patients of equal size tie, and so does each with its own copies.
    first = np.flatnonzero(np.diff(np.abs(differences[order]), prepend=-1))
    drawn = counts.T[order].astype(float)
    tied = np.add.reduceat(drawn, first, axis=0)
    surplus = np.add.reduceat(drawn * np.sign(differences[order])[:, None], first, axis=0)
    middle = tied.cumsum(axis=0) - (tied - 1) / 2
    # Positive less negative ranks: twice the distance of W from its mean.
    distance = np.einsum("lr,lr->r", surplus, middle)
    n = tied.sum(axis=0)
    variance = n * (n + 1) * (2 * n + 1) / 6 - (np.einsum("lr,lr,lr->r", tied, tied, tied) - n) / 12
    return np.divide(distance, np.sqrt(variance), out=np.zeros_like(n), where=variance > 0)


def _ranks(values: NDArray) -> NDArray:
    """Ranks along the last axis, the largest first. Rounded, so that equal methods stay equal after summing."""
    return rankdata(-np.round(values, 12), axis=-1, method="min")
