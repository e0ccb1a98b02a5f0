"""Scores of one predicted mask against the truth, with the policy for empty masks in front of each."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

TOLERANCE_MM = 2.0
"""Distance up to which a border counts as right in NSD."""

_ROUNDING_MM = 1e-6


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


def volume_errors(predicted: NDArray, lesion: NDArray, voxel_ml: float) -> dict[str, float]:
    """How far the predicted volume is from the lesion's; 0 is best.

    Args:
        predicted, lesion: (X, Y, Z) bool.
        voxel_ml: volume of a voxel.

    Returns:
        ``volume_error_ml``, signed (too much is positive); ``absolute_volume_error_ml``; and
        ``relative_volume_error``, the absolute one as a share of the lesion: 0 if both are empty, 1 if the lesion is
        missed, NaN in a lesion-free case with a prediction, which :func:`false_positives` is for.
    """
    lesion_ml = np.count_nonzero(lesion) * voxel_ml
    error = np.count_nonzero(predicted) * voxel_ml - lesion_ml
    relative = abs(error) / lesion_ml if lesion_ml else float("nan") if error else 0.0
    return {"volume_error_ml": error, "absolute_volume_error_ml": abs(error), "relative_volume_error": relative}


def false_positives(predicted: NDArray, lesion: NDArray, foreground: NDArray, voxel_ml: float) -> dict[str, float]:
    """What is predicted where no lesion is: in all slices along Z that show foreground and no lesion; 0 is best.

    Args:
        predicted, lesion, foreground: (X, Y, Z) bool.
        voxel_ml: volume of a voxel.

    Returns:
        ``false_positive_ml``, the volume predicted in those slices, and ``share_touched`` in [0, 1], the share of them
        with any prediction; NaN if there is no such slice.
    """
    free = foreground.any((0, 1)) & ~lesion.any((0, 1))
    voxels = np.count_nonzero(predicted[..., free], axis=(0, 1))
    return {
        "false_positive_ml": float(voxels.sum() * voxel_ml),
        "share_touched": float(np.mean(voxels > 0)) if free.any() else float("nan"),
    }


def diagonal(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> float:
    """Diagonal of a grid in mm: the HD95 of a miss (373.13 for BraTS)."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))


class Surface:
    """The border of a lesion, measured once and compared with many predictions.

    A border is made of the voxels of a mask with a face neighbour outside it; each counts once, whatever the area of
    its free faces. So HD95 and NSD are those of MONAI 1.6 (its NSD without subvoxels, as Seidlitz et al. 2021,
    arXiv 2111.05408), not those of DeepMind's ``surface-distance``, which weighs by area.

    Args:
        lesion: (X, Y, Z) bool, cut to a box that holds it and every prediction.
        spacing: voxel size in mm.
        miss: distance in mm if one of the masks is empty, so that a miss never helps.
    """

    def __init__(self, lesion: NDArray, spacing: tuple[float, float, float], miss: float) -> None:
        self.spacing, self.miss = spacing, miss
        self.border = border(lesion)
        self.points = np.argwhere(self.border) * spacing

    @cached_property
    def distance(self) -> NDArray:
        """Distance of each voxel to the border, (voxels,) in mm, in the order of the grid."""
        return ndimage.distance_transform_edt(~self.border, sampling=self.spacing).ravel()

    def compare(self, predicted: NDArray, tolerance_mm: float = TOLERANCE_MM) -> dict[str, float]:
        """Hausdorff distances and normalised surface Dice (NSD) of a prediction (X, Y, Z) bool.

        Returns:
            ``hd_mm``, the largest distance between border voxels, in mm, and ``hd95_mm``, the larger of both
            directions' 95th percentiles, smaller is better; and ``nsd`` in [0, 1], larger is better, the share of both
            borders' voxels within the tolerance of the other border (Nikolov et al. 2021, 10.2196/26151, with border
            voxels for surface area); ``nsd_voxel``, the same within the longest edge of a voxel.
            Both empty: 0 and 1. One empty: ``miss`` and 0.
        """
        if not predicted.any() and not len(self.points):
            return {"hd_mm": 0.0, "hd95_mm": 0.0, "nsd": 1.0, "nsd_voxel": 1.0}
        if not predicted.any() or not len(self.points):
            return {"hd_mm": self.miss, "hd95_mm": self.miss, "nsd": 0.0, "nsd_voxel": 0.0}
        other = np.flatnonzero(border(predicted))
        to_lesion = self.distance[other]
        points = np.column_stack(np.unravel_index(other, predicted.shape)) * self.spacing
        # A tree that is quickly made, as it is asked once.
        tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
        to_predicted, _ = tree.query(self.points)
        distances = np.concatenate([to_lesion, to_predicted])
        return {
            "hd_mm": float(distances.max()),
            "hd95_mm": float(max(np.percentile(to_lesion, 95), np.percentile(to_predicted, 95))),
            # The last digit of a distance must not decide whether it is within.
            "nsd": float(np.mean(distances <= tolerance_mm + _ROUNDING_MM)),
            "nsd_voxel": float(np.mean(distances <= max(self.spacing) + _ROUNDING_MM)),
        }


def compare_surfaces(
    predicted: NDArray, lesion: NDArray, spacing: tuple[float, float, float], tolerance_mm: float = TOLERANCE_MM
) -> dict[str, float]:
    """HD95 and NSD of two masks (X, Y, Z) bool; a miss costs the diagonal of their grid. See :meth:`Surface.compare`.

    For many predictions of one lesion, a :class:`Surface` is faster.
    """
    both = box_of(predicted | lesion)
    return Surface(lesion[both], spacing, diagonal(lesion.shape, spacing)).compare(predicted[both], tolerance_mm)


def border(mask: NDArray) -> NDArray:
    """Voxels of a mask (X, Y, Z) with a face neighbour outside it; the grid's end counts as outside."""
    box = box_of(mask)
    inside = np.pad(mask[box], 1)
    core = inside[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (slice(None, -2), slice(2, None)):
            cut = [slice(1, -1)] * 3
            cut[axis] = step
            core &= inside[tuple(cut)]
    found = np.zeros_like(mask)
    found[box] = mask[box] & ~core
    return found


def box_of(mask: NDArray) -> tuple[slice, ...]:
    """The smallest box around a mask (X, Y, Z) bool, as a slice for each axis; of no extent if the mask is empty."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        # What is outside the box on one axis is not looked through for the next.
        within = mask[tuple(box)]
        occupied = np.flatnonzero(within.any(tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else slice(0, 0))
    return tuple(box)
