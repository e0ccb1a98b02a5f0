"""Scores of one predicted mask against the truth, with the policy for empty masks in front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree


def overlap(predicted: NDArray, lesion: NDArray) -> dict[str, float]:
    """Dice, IoU, sensitivity and precision of two masks (X, Y, Z) bool, each in [0, 1], larger is better.

    Both empty: all 1. One empty: all 0.
    """
    hits = int(np.count_nonzero(predicted & lesion))
    n_predicted, n_lesion = int(np.count_nonzero(predicted)), int(np.count_nonzero(lesion))
    if not n_predicted and not n_lesion:
        return {"dice": 1.0, "iou": 1.0, "sensitivity": 1.0, "precision": 1.0}
    return {
        "dice": 2 * hits / (n_predicted + n_lesion),
        "iou": hits / (n_predicted + n_lesion - hits),
        "sensitivity": hits / n_lesion if n_lesion else 0.0,
        "precision": hits / n_predicted if n_predicted else 0.0,
    }


def diagonal(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> float:
    """Diagonal of a grid in mm: the HD95 of a miss (373.13 for BraTS)."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))


class Surface:
    """The border of a lesion, measured once and compared with many predictions.

    Args:
        lesion: (X, Y, Z) bool.
        spacing: voxel size in mm.
        miss: HD95 in mm if one of the masks is empty, so that a miss never helps.
    """

    def __init__(self, lesion: NDArray, spacing: tuple[float, float, float], miss: float) -> None:
        self.spacing, self.miss = spacing, miss
        self.border = border(lesion)
        self.points = np.argwhere(self.border) * spacing
        self.distance = ndimage.distance_transform_edt(~self.border, sampling=spacing) if len(self.points) else None

    def hd95(self, predicted: NDArray) -> float:
        """95th percentile Hausdorff distance in mm: the larger of both directions, between border voxels.

        Both empty: 0. One empty: ``miss``.
        """
        if not predicted.any() and self.distance is None:
            return 0.0
        if not predicted.any() or self.distance is None:
            return self.miss
        other = border(predicted)
        nearest, _ = cKDTree(np.argwhere(other) * self.spacing).query(self.points)
        return float(max(np.percentile(self.distance[other], 95), np.percentile(nearest, 95)))


def hd95(predicted: NDArray, lesion: NDArray, spacing: tuple[float, float, float]) -> float:
    """HD95 in mm of two masks (X, Y, Z) bool; one empty gives the diagonal of their grid. See :class:`Surface`."""
    return Surface(lesion, spacing, diagonal(lesion.shape, spacing)).hd95(predicted)


def border(mask: NDArray) -> NDArray:
    """Voxels of a mask (X, Y, Z) with a face neighbour outside it."""
    inside = np.pad(mask, 1)
    core = inside[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (0, 2):
            cut = [slice(1, -1)] * 3
            cut[axis] = slice(step, step + mask.shape[axis])
            core &= inside[tuple(cut)]
    return mask & ~core
