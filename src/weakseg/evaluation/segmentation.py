"""Scores of one predicted mask against the truth, with the policy for empty masks in front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


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


def hd95(predicted: NDArray, lesion: NDArray, spacing: tuple[float, float, float]) -> float:
    """95th percentile Hausdorff distance in mm: the larger of both directions, between border voxels.

    Both empty: 0. One empty: the diagonal of the grid in mm (373.13 for BraTS), so that a miss never helps.
    """
    if not predicted.any() and not lesion.any():
        return 0.0
    if not predicted.any() or not lesion.any():
        return float(np.linalg.norm(np.multiply(predicted.shape, spacing)))
    box = ndimage.find_objects((predicted | lesion).astype(np.int8))[0]
    predicted, lesion = np.pad(predicted[box], 1), np.pad(lesion[box], 1)
    border_predicted, border_lesion = border(predicted), border(lesion)
    to_lesion = ndimage.distance_transform_edt(~border_lesion, sampling=spacing)[border_predicted]
    to_predicted = ndimage.distance_transform_edt(~border_predicted, sampling=spacing)[border_lesion]
    return float(max(np.percentile(to_lesion, 95), np.percentile(to_predicted, 95)))


def border(mask: NDArray) -> NDArray:
    """Voxels of a mask (X, Y, Z) with a face neighbour outside it."""
    return mask & ~ndimage.binary_erosion(mask)
