"""Intervals, paired tests and effect sizes. The unit is the patient; seeds are averaged per case before they come here.

Nothing depends on the order of patients or methods: arrays of one method are sorted, tables by their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ncfdtr
from scipy.stats import friedmanchisquare, rankdata, wilcoxon
from scipy.stats import t as student_t

FEWEST_PATIENTS = 10
"""With fewer patients there are intervals but no test."""


def bootstrap_interval(
    values: ArrayLike, generator: np.random.Generator, resamples: int, statistic: Callable[..., NDArray] = np.mean
) -> tuple[float, float]:
    """95 % percentile interval of a statistic (``np.mean``, ``np.median``) over patients.

    Args:
        values, generator, resamples, statistic: as for :func:`bootstrap`.
    """
    low, high = percentile_interval(bootstrap(values, generator, resamples, statistic))
    return float(low), float(high)


def bootstrap(
    values: ArrayLike, generator: np.random.Generator, resamples: int, statistic: Callable[..., NDArray] = np.mean
) -> NDArray:
    """A statistic of each resample of patients, (resamples,).

    Args:
        values: (n,), one per patient.
        generator: draws the patients.
        resamples: how often.
        statistic: called with ``axis=1`` on (resamples, n).
    """
    values = np.sort(np.asarray(values, dtype=float))
    return statistic(values[generator.integers(len(values), size=(resamples, len(values)))], axis=1)


def percentile_interval(resampled: NDArray) -> NDArray:
    """Ends of the 95 % percentile interval, (2, ...), from statistics of resamples (..., resamples)."""
    return np.percentile(resampled, [2.5, 97.5], axis=-1)


def resample_counts(patients: int, generator: np.random.Generator, resamples: int) -> NDArray:
    """How often each resample draws each patient, (resamples, patients); each row adds up to ``patients``."""
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=resamples)


def mean_intervals(scores: pd.DataFrame, generator: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Means of many methods with 95 % percentile intervals, from the same resamples of patients for all.

    For one method it is :func:`bootstrap_interval` of the mean; for many, one matrix product does the work.

    Args:
        scores: one row per patient, one column per method, no gaps.
        generator: draws the patients.
        resamples: how often.

    Returns:
        A row per method, in the order of the columns: ``mean``, ``low``, ``high``.
    """
    ordered = scores.sort_index().sort_index(axis=1)
    counts = resample_counts(len(ordered), generator, resamples)
    low, high = np.percentile(counts @ ordered.to_numpy(float) / len(ordered), [2.5, 97.5], axis=0)
    table = pd.DataFrame({"mean": ordered.mean(), "low": low, "high": high})
    return table.loc[scores.columns]


def paired_p(differences: ArrayLike) -> NDArray:
    """Two-sided p of the Wilcoxon signed-rank test; NaN under FEWEST_PATIENTS, 1 if all differences are 0.

    Args:
        differences: (patients,), or (patients, comparisons), which are tested together and faster than one by one.

    Returns:
        (): a p, or (comparisons,).
    """
    differences = np.asarray(differences, dtype=float)
    columns = differences.reshape(len(differences), -1)
    p = np.ones(columns.shape[1])
    if len(columns) < FEWEST_PATIENTS:
        p[:] = np.nan
    else:
        sizes = np.sort(np.abs(columns), axis=0)
        # Exact where it can be; with ties SciPy would try all permutations, which takes seconds for 13 patients.
        tied = (np.diff(sizes, axis=0) == 0).any(0) | (sizes[0] == 0)
        for chosen, method in ((tied & columns.any(0), "asymptotic"), (~tied, "auto")):
            if chosen.any():
                p[chosen] = wilcoxon(columns[:, chosen], method=method, axis=0).pvalue
    return p.reshape(differences.shape[1:])[()]


def holm(p_values: Sequence[float] | NDArray) -> NDArray:
    """p-values adjusted for their number by Holm (1979), step down; NaN stays NaN and does not count."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return adjusted


def friedman_p(scores: ArrayLike) -> float:
    """p of the Friedman test that at least three methods are alike; NaN under FEWEST_PATIENTS, 1 if all are equal.

    Args:
        scores: (patients, methods).

    Raises:
        ValueError: fewer than three methods.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.shape[1] < 3:
        raise ValueError(f"the Friedman test compares three methods or more, not {scores.shape[1]}")
    if len(scores) < FEWEST_PATIENTS:
        return float("nan")
    if (scores == scores[:, :1]).all():
        return 1.0
    return float(friedmanchisquare(*scores.T).pvalue)


def rank_biserial(differences: ArrayLike) -> NDArray:
    """Matched-pairs rank-biserial correlation in [-1, 1]: 1 if every difference is positive, 0 if none outweighs.

    The effect size that goes with Wilcoxon's test: (sum of positive ranks - sum of negative ranks) / sum of all,
    without differences of 0 (Kerby 2014, 10.2466/11.IT.3.1). 0 if all differences are 0.

    Args:
        differences: (patients,) or (patients, comparisons).

    Returns:
        (): a correlation, or (comparisons,).
    """
    differences = np.asarray(differences, dtype=float)
    # Differences of 0 have the lowest ranks, so the others' come after them.
    zeros = np.count_nonzero(differences == 0, axis=0)
    ranks = np.where(differences != 0, rankdata(np.abs(differences), axis=0) - zeros, 0)
    return np.sum(np.sign(differences) * ranks, axis=0) / np.maximum(ranks.sum(axis=0), 1)


def cohens_dz(differences: ArrayLike) -> float:
    """Mean of paired differences over their standard deviation (Cohen 1988); 0 if all are 0, infinite if all are equal.

    Raises:
        ValueError: fewer than two differences.
    """
    differences = np.sort(np.asarray(differences, dtype=float))
    if len(differences) < 2:
        raise ValueError("Cohen's dz needs two patients or more")
    if differences[0] == differences[-1]:
        return float(np.sign(differences[0]) * np.inf) if differences[0] else 0.0
    return float(differences.mean() / differences.std(ddof=1))


def variance_components(values: pd.Series) -> dict[str, float]:
    """How much of the variance of a score comes from each of its crossed factors, such as case, seed and draw.

    Random effects of each factor without interactions, estimated from the mean squares of the balanced analysis of
    variance (Searle, Casella & McCulloch 1992, chapter 4): (MS_factor - MS_residual) / (values per level), negative
    ones set to 0. With two factors, the residual holds their interaction.

    Args:
        values: indexed by the factors, each combination of their levels once.

    Returns:
        A variance for each factor and ``residual``, in squared units of the values. NaN for a factor of one level; all
        are NaN if fewer than two factors have more, as their residual cannot be told apart.

    Raises:
        ValueError: a combination is missing or stands twice.
    """
    sizes = [values.index.get_level_values(name).nunique() for name in values.index.names]
    if values.index.has_duplicates or len(values) != np.prod(sizes):
        raise ValueError(f"{values.name or 'scores'}: {len(values)} values for {sizes} levels; each combination once")
    cells = values.sort_index().to_numpy(float).reshape(sizes)
    varied = [axis for axis, size in enumerate(sizes) if size > 1]
    components = {str(name): float("nan") for name in [*values.index.names, "residual"]}
    if len(varied) < 2:
        return components
    # Sum of squares of a factor: that of its levels' means, each standing for all values of the level.
    squares = {
        axis: cells.size * cells.mean(tuple(other for other in range(cells.ndim) if other != axis)).var()
        for axis in varied
    }
    freedom = cells.size - 1 - sum(sizes[axis] - 1 for axis in varied)
    residual = max(cells.size * cells.var() - sum(squares.values()), 0) / freedom
    for axis in varied:
        excess = squares[axis] / (sizes[axis] - 1) - residual
        components[str(values.index.names[axis])] = float(max(excess, 0) * sizes[axis] / cells.size)
    return components | {"residual": float(residual)}


def paired_power(effect: float, patients: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t-test, in [alpha, 1]: its chance to find a true effect, given as Cohen's dz."""
    # Both tails of t at once: its square is F. SciPy's `nct` is NaN in a far tail, its `ncf.sf` wrong without effect.
    limit = student_t.isf(alpha / 2, patients - 1)
    return 1 - float(ncfdtr(1, patients - 1, patients * effect**2, limit**2))


def minimum_detectable_difference(
    standard_deviation: float, patients: int, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest mean difference between two methods that a paired test of this many patients finds.

    For the two-sided paired t-test and normal differences, by the noncentral distribution of t. Wilcoxon's test needs
    pi/3 = 1.05 times as many patients for the same under these conditions, fewer where differences have heavy tails.

    Args:
        standard_deviation: of the differences, in the score's unit; so is the result.
        patients: at least two.
        alpha: chance of a false finding.
        power: chance of a true one, in (alpha, 1).

    Raises:
        ValueError: fewer than two patients, or a power of alpha or less.
    """
    if patients < 2 or not alpha < power < 1:
        raise ValueError(f"{patients} patients, alpha {alpha}, power {power}: at least two, and alpha < power < 1")
    # Two critical values of t and some beyond the normal approximation's need.
    most = 4 * (student_t.isf(alpha / 2, patients - 1) + student_t.isf(1 - power, patients - 1)) / np.sqrt(patients)
    return standard_deviation * float(brentq(lambda effect: paired_power(effect, patients, alpha) - power, 0, most))
