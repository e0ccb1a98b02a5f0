"""A map's histogram in and out of the lesion, and all that follows from it alone, without the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

STEPS = 1000

THRESHOLDS: NDArray = np.arange(STEPS) / STEPS
"""Thresholds t at which a map may be cut, (STEPS,): 0, 1/STEPS, ... A mask is ``map > t``."""

CUT_ALL = 1.0
"""A threshold that leaves nothing of any map."""

# Bins are parted further for AUPRC alone: many supervoxels differ by less than a step, and with 1/STEPS their AUPRC
# would be up to 0.006 off. Maps are stored with 32767 values.
_PARTS = 32

# Lower edge of each part in the map's precision, so that bins and masks agree to the voxel. Nothing lies below bin 0.
_LOWER_EDGES = np.concatenate([[-1], np.arange(STEPS * _PARTS) / (STEPS * _PARTS)]).astype(np.float32)

_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Histogram:
    """Voxels of a map by value. Bin 0 holds exactly 0, bin b the values with (b-1)/STEPS < value <= b/STEPS.

    Attributes:
        inside: (STEPS + 1,) lesion voxels of the foreground.
        outside: (STEPS + 1,) all other voxels of the foreground.
        missed: lesion voxels outside the foreground, where every map is 0: misses at any threshold.
        voxel_ml: volume of a voxel.
        auprc: :func:`average_precision` over the foreground, from bins 32 times as fine.
    """

    inside: NDArray
    outside: NDArray
    missed: int
    voxel_ml: float
    auprc: float

    @property
    def hits(self) -> NDArray:
        """Lesion voxels above each of THRESHOLDS, (STEPS,)."""
        return _above(self.inside)

    @property
    def predicted(self) -> NDArray:
        """Voxels above each of THRESHOLDS, (STEPS,)."""
        return _above(self.inside + self.outside)

    @property
    def lesion(self) -> int:
        """Voxels of the lesion, in the foreground or not."""
        return int(self.inside.sum()) + self.missed

    @cached_property
    def dice(self) -> NDArray:
        """Dice at each of THRESHOLDS, (STEPS,) in [0, 1]; kept, since every draw of cases asks for it."""
        return overlap_curves(self)["dice"]


def _above(counts: NDArray) -> NDArray:
    return counts[:0:-1].cumsum()[::-1]


def histogram(relevance: NDArray, lesion: NDArray, foreground: NDArray, voxel_ml: float) -> Histogram:
    """Count a map's voxels in one pass over the foreground.

    Args:
        relevance: (X, Y, Z) float32 in [0, 1], 0 outside the foreground.
        lesion, foreground: (X, Y, Z) bool.
        voxel_ml: volume of a voxel.

    Raises:
        ValueError: the map is not float32, so its cut could differ from its bins; or not within [0, 1]; or not 0
            outside the foreground.
    """
    if relevance.dtype != np.float32:
        raise ValueError(f"the map is {relevance.dtype}; thresholds are compared in float32")
    values, inside = relevance[foreground], lesion[foreground]
    # "Not within" is also true of NaN.
    if not (values.min(initial=0) >= -_ROUNDING and values.max(initial=0) <= 1 + _ROUNDING):
        raise ValueError("the map is not within [0, 1]; normalise it first")
    if np.count_nonzero(relevance) != np.count_nonzero(values):
        raise ValueError("the map is not 0 outside the foreground; cut it to the foreground first")
    # Interpolation may leave [0, 1] by a rounding error; no threshold lies there, so clipping moves no voxel over one.
    # The product of 24 and 15 bits is exact in float64: only a value that equals an edge whose float32 was rounded up
    # comes out one part too high.
    parts = np.ceil(np.multiply(np.clip(values, 0, 1), STEPS * _PARTS, dtype=np.float64)).astype(np.intp)
    parts -= values <= _LOWER_EDGES[parts]
    size = len(_LOWER_EDGES)
    fine = np.bincount(parts + size * inside, minlength=2 * size).reshape(2, size)
    outside_counts, inside_counts = np.column_stack([fine[:, 0], fine[:, 1:].reshape(2, STEPS, _PARTS).sum(axis=2)])
    missed = int(np.count_nonzero(lesion) - inside_counts.sum())
    return Histogram(inside_counts, outside_counts, missed, voxel_ml, average_precision(fine[1], fine[0]))


def average_precision(inside: NDArray, outside: NDArray) -> float:
    """Area under the precision-recall curve in [0, 1], larger is better; NaN without lesion.

    The precision at each bin's lower edge, weighted by the recall that the bin adds, without interpolation: that of
    scikit-learn's ``average_precision_score``. A map without information has the :func:`prevalence`.

    Args:
        inside, outside: (bins,) voxels of the lesion and all others, by rising value.
    """
    added, seen = inside[::-1], (inside + outside)[::-1].cumsum()
    total = added.sum()
    return float(np.sum(added * (added.cumsum() / np.maximum(seen, 1))) / total) if total else float("nan")


def prevalence(counts: Histogram) -> float:
    """Share of the foreground that is lesion, in [0, 1]; NaN without foreground."""
    inside, voxels = counts.inside.sum(), (counts.inside + counts.outside).sum()
    return float(inside / voxels) if voxels else float("nan")


def overlap_curves(counts: Histogram) -> dict[str, NDArray]:
    """Dice, IoU, sensitivity and precision at each of THRESHOLDS, (STEPS,) in [0, 1], larger is better.

    To the voxel those of :func:`weakseg.evaluation.segmentation.overlap`. Both empty: all 1. One empty: all 0.
    """
    hits, predicted, lesion = counts.hits, counts.predicted, counts.lesion
    # Where a denominator is 0, the numerator is 0 too.
    curves = {
        "dice": 2 * hits / np.maximum(predicted + lesion, 1),
        "iou": hits / np.maximum(predicted + lesion - hits, 1),
        "sensitivity": hits / max(lesion, 1),
        "precision": hits / np.maximum(predicted, 1),
    }
    both_empty = predicted + lesion == 0
    return {name: np.where(both_empty, 1.0, curve) for name, curve in curves.items()}


def volume_curves(counts: Histogram) -> dict[str, NDArray]:
    """Predicted volume and its error (predicted less lesion) at each of THRESHOLDS, (STEPS,) in ml."""
    predicted = counts.predicted
    return {
        "predicted_ml": predicted * counts.voxel_ml,
        "volume_error_ml": (predicted - counts.lesion) * counts.voxel_ml,
    }


def otsu(counts: Histogram) -> float:
    """The threshold that parts the foreground with the most variance between its two sides.

    It does not depend on the lesion. Of equal ones it is the lowest; CUT_ALL if the foreground has only one bin.
    Otsu 1979, 10.1109/TSMC.1979.4310076, on bins taken at their middle.
    """
    voxels = counts.inside + counts.outside
    # Middles of bins in units of 1/(2 STEPS): integers, so that equal splits are equal.
    middles = np.concatenate([[0], 2 * np.arange(1, STEPS + 1) - 1])
    below, mass = voxels.cumsum()[:-1], (voxels * middles).cumsum()[:-1]
    above = voxels.sum() - below
    parted = (below > 0) & (above > 0)
    if not parted.any():
        return CUT_ALL
    total = int((voxels * middles).sum())
    means_apart = mass / np.maximum(below, 1) - (total - mass) / np.maximum(above, 1)
    between = np.where(parted, below.astype(float) * above * means_apart**2, -1)
    return float(THRESHOLDS[int(np.argmax(between))])


def best_threshold(histograms: Sequence[Histogram], every: int = 1) -> float:
    """The threshold with the best mean Dice over a set of cases, the lowest of equal ones.

    Over the tested set it is an upper bound (`oracle-set`); over k validation patients it is `val-k`.

    Args:
        histograms: of one map for each case.
        every: how many of THRESHOLDS to step by.

    Raises:
        ValueError: the set is empty.
    """
    if not histograms:
        raise ValueError("no histogram to choose a threshold on")
    # Sorted, so that the sum's rounding does not depend on the order of the cases.
    curves = np.sort([counts.dice[::every] for counts in histograms], axis=0)
    return float(THRESHOLDS[::every][int(np.argmax(curves.mean(axis=0)))])


def save(path: Path, keys: pd.DataFrame, histograms: Sequence[Histogram]) -> None:
    """Write histograms to one Parquet file; row i of ``keys`` says which map (case, method, ...) the i-th is of."""
    columns = {
        "inside": [counts.inside.astype(np.int32) for counts in histograms],
        "outside": [counts.outside.astype(np.int32) for counts in histograms],
        "missed": [counts.missed for counts in histograms],
        "voxel_ml": [counts.voxel_ml for counts in histograms],
        "auprc": [counts.auprc for counts in histograms],
    }
    keys.reset_index(drop=True).assign(**columns).to_parquet(path, compression="zstd", index=False)


def load(path: Path) -> tuple[pd.DataFrame, list[Histogram]]:
    """Read what :func:`save` wrote: the keys, and a histogram for each of their rows."""
    table = pd.read_parquet(path)
    columns = [table.pop(field.name) for field in fields(Histogram)]
    histograms = [
        Histogram(inside.astype(np.int64), outside.astype(np.int64), int(missed), float(voxel_ml), float(auprc))
        for inside, outside, missed, voxel_ml, auprc in zip(*columns, strict=True)
    ]
    return table, histograms
