"""The protocol: how maps become masks. Nothing here looks at a mask except the oracle, which says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

BINS = 200
"""Thresholds that the oracle tries: 0, 1/200, ... A mask is ``map > threshold``."""


def normalise(raw: NDArray, foreground: NDArray) -> NDArray:
    """Scale a case's raw map to [0, 1]: 0 stays 0, the 99.9th percentile inside the foreground becomes 1.

    Args:
        raw: (X, Y, Z); negative values count as no evidence.
        foreground: (X, Y, Z) bool; all else becomes 0.

    Returns:
        (X, Y, Z) float32 in [0, 1]; all 0 if there is no evidence.
    """
    clipped = np.where(foreground, np.maximum(raw, 0), 0).astype(np.float32)
    inside = clipped[foreground]
    if not inside.size or inside.max() <= 0:
        return np.zeros_like(clipped)
    # Where evidence fills less than a thousandth of the foreground, the percentile is 0: its peak then becomes 1.
    top = float(np.percentile(inside, 99.9)) or float(inside.max())
    return np.minimum(clipped / top, 1)


def otsu(relevance: NDArray, foreground: NDArray) -> float:
    """Otsu's threshold over the foreground of the whole volume; 1, which cuts all, if the map is constant there."""
    inside = relevance[foreground]
    if not inside.size or inside.min() == inside.max():
        return 1.0
    return float(threshold_otsu(inside))


def dice_curve(relevance: NDArray, lesion: NDArray) -> NDArray:
    """Dice of ``relevance > t`` for each t of :func:`thresholds`: (BINS,), from one histogram in and out of the lesion.

    Both empty gives 1.
    """
    # Bin b holds (b-1)/BINS < value <= b/BINS: it lies above b thresholds.
    # Thresholds in the map's precision, as where it is cut.
    bins = np.searchsorted(thresholds().astype(relevance.dtype), relevance)
    inside = np.bincount(bins[lesion], minlength=BINS + 1)[1:]
    everywhere = np.bincount(bins.ravel(), minlength=BINS + 1)[1:]
    hits = inside[::-1].cumsum()[::-1]
    predicted = everywhere[::-1].cumsum()[::-1]
    total = predicted + lesion.sum()
    return np.where(total == 0, 1.0, 2 * hits / np.maximum(total, 1))


def thresholds() -> NDArray:
    """The thresholds of :func:`dice_curve`."""
    return np.arange(BINS) / BINS


def oracle_threshold(curves: list[NDArray]) -> float:
    """The threshold with the best mean Dice over a set of cases, the lowest of equal ones: an upper bound."""
    return float(thresholds()[int(np.argmax(np.mean(curves, axis=0)))])
