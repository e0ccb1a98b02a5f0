"""How well a score tells two classes apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve in [0, 1], ties counted half (Mann-Whitney U); NaN if a class is missing."""
    scores, positive = np.asarray(scores, dtype=float), np.asarray(labels) == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    rank_sum = rankdata(scores)[positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def balanced_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean log-probability of the true label, at most 0, both classes weighing the same; NaN if a class is missing.

    It tells classifiers apart whose AUC is 1, as it may be on few cases.
    """
    logits, positive = np.asarray(logits, dtype=float), np.asarray(labels) == 1
    if positive.all() or not positive.any():
        return float("nan")
    found = -np.logaddexp(0, np.where(positive, -logits, logits))
    return float((found[positive].mean() + found[~positive].mean()) / 2)


def youden_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """The threshold t that maximises sensitivity + specificity of ``score >= t`` (Youden 1950).

    Of several equal ones the lowest, so that fewer lesions are missed. Thresholds lie half way between scores, and
    below all of them if a class is missing.
    """
    scores, positive = np.asarray(scores, dtype=float), np.asarray(labels) == 1
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2])
    if positive.all() or not positive.any():
        return float(candidates[0])
    hits = np.searchsorted(np.sort(scores[positive]), candidates)
    passes = np.searchsorted(np.sort(scores[~positive]), candidates)
    # Integers, so that equal ones are equal: specificity + sensitivity - 1, times both numbers of cases.
    youden = passes * positive.sum() - hits * (~positive).sum()
    return float(candidates[int(np.argmax(youden))])


def sensitivity_specificity(scores: ArrayLike, labels: ArrayLike, threshold: float) -> tuple[float, float]:
    """Shares of positives with ``score >= threshold`` and of negatives below it; NaN for a class that is missing."""
    called, positive = np.asarray(scores, dtype=float) >= threshold, np.asarray(labels) == 1
    sensitivity = float(called[positive].mean()) if positive.any() else float("nan")
    specificity = float((~called[~positive]).mean()) if (~positive).any() else float("nan")
    return sensitivity, specificity


def resampled_aucs(scores: ArrayLike, labels: ArrayLike, patients: ArrayLike, counts: NDArray) -> NDArray:
    """AUC of resamples of patients, (resamples,); NaN where a resample lacks a class.

    Args:
        scores, labels, patients: (n,), one per slice.
        counts: (resamples, patients), how often each resample draws each patient, in the order of their names; see
            :func:`weakseg.evaluation.statistics.resample_counts`.
    """
    scores, positive = np.asarray(scores, dtype=float), np.asarray(labels) == 1
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    # Entry (p, q): pairs of a positive slice of patient p above a negative one of q, ties counted half.
    above = np.zeros((len(names), len(names)))
    for q in range(len(names)):
        negative = np.sort(scores[~positive & (patient == q)])
        won = (np.searchsorted(negative, scores, "left") + np.searchsorted(negative, scores, "right")) / 2
        above[:, q] = np.bincount(patient[positive], won[positive], len(names))
    n_positive, n_negative = (
        np.bincount(patient[of_class], minlength=len(names)) for of_class in (positive, ~positive)
    )
    pairs = (counts @ n_positive) * (counts @ n_negative)
    won_pairs = np.einsum("rp,pq,rq->r", counts, above, counts, optimize=True)
    return np.divide(won_pairs, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)
