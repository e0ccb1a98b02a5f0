"""Intervals and paired tests. The unit is the patient; seeds are averaged per case before they come here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

FEWEST_PATIENTS = 10
"""With fewer patients there are intervals but no test."""


def bootstrap_interval(
    values: ArrayLike, generator: np.random.Generator, resamples: int, statistic: Callable[..., NDArray] = np.mean
) -> tuple[float, float]:
    """95 % percentile interval of a statistic (``np.mean``, ``np.median``) over patients.

    Args:
        values: (n,), one per patient.
        generator: draws the patients.
        resamples: how often.
        statistic: called with ``axis=1`` on (resamples, n).
    """
    values = np.asarray(values, dtype=float)
    drawn = values[generator.integers(len(values), size=(resamples, len(values)))]
    low, high = np.percentile(statistic(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def paired_p(differences: ArrayLike) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; NaN under FEWEST_PATIENTS, 1 if all differences are 0."""
    differences = np.asarray(differences, dtype=float)
    if len(differences) < FEWEST_PATIENTS:
        return float("nan")
    if not differences.any():
        return 1.0
    # Exact where it can be; with ties SciPy would try all permutations, which takes seconds for 13 patients.
    tied = len(np.unique(np.abs(differences))) < len(differences) or not differences.all()
    return float(wilcoxon(differences, method="asymptotic" if tied else "auto").pvalue)


def holm(p_values: Sequence[float]) -> NDArray:
    """p-values adjusted for their number by Holm (1979), step down; NaN stays NaN and does not count."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return adjusted
