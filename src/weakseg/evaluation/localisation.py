"""Does a map point at the lesion? Scores of the map itself, before any cut; all need a lesion and are NaN without."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from weakseg.evaluation.segmentation import border, box_of

BOX_THRESHOLDS: NDArray = np.arange(20) / 20
"""Thresholds of :func:`box_iou_curve`, (20,): 0, 0.05, ..."""

POINTING_MM = 15.0
"""Tolerance of the pointing game: its source's 15 pixels, of 1 mm."""

BOX_IOUS = (0.3, 0.5, 0.7)
"""IoU from which a box is right, as in MaxBoxAccV2."""

_ROUNDING_MM = 1e-6


def pointing_game(
    relevance: NDArray, lesion: NDArray, spacing: tuple[float, float, float], tolerance_mm: float
) -> float:
    """Is the map's maximum in the lesion, or within a tolerance of it? In [0, 1], larger is better.

    Of several equal maxima each is as likely to be pointed at: the score is the share of them that hit. Maps are
    better taken before they are normalised, which makes a thousandth of the voxels equal. A map of zeros points
    nowhere: 0.

    Zhang et al. 2018, *Top-down neural attention by excitation backprop*, 10.1007/s11263-017-1059-x, where
    the tolerance is 15 pixels.

    Args:
        relevance: (X, Y, Z).
        lesion: (X, Y, Z) bool.
        spacing: voxel size in mm.
        tolerance_mm: largest distance in mm from a maximum to the nearest lesion voxel.
    """
    if not lesion.any():
        return float("nan")
    top = relevance.max()
    if top <= 0:
        return 0.0
    peaks = np.argwhere(relevance == top)
    hit = lesion[tuple(peaks.T)]
    # Outside a lesion, its nearest voxel is one of its border.
    outside = peaks[~hit] * spacing
    distance, _ = cKDTree(np.argwhere(border(lesion)) * spacing).query(outside)
    near = np.count_nonzero(distance <= tolerance_mm + _ROUNDING_MM)
    return (np.count_nonzero(hit) + near) / len(peaks)


def mass_accuracy(relevance: NDArray, lesion: NDArray) -> float:
    """Relevance mass accuracy: share of the map's positive relevance that lies in the lesion.

    In [0, 1], larger is better; 0 for a map of zeros. Arras et al. 2022, *CLEVR-XAI*, 10.1016/j.inffus.2021.11.008.

    Args:
        relevance: (X, Y, Z); negative values count as none.
        lesion: (X, Y, Z) bool.
    """
    if not lesion.any():
        return float("nan")
    positive = np.maximum(relevance, 0)
    total = positive.sum(dtype=float)
    return float(positive[lesion].sum(dtype=float) / total) if total else 0.0


def rank_accuracy(relevance: NDArray, lesion: NDArray) -> float:
    """Relevance rank accuracy: share of the K most relevant voxels that lie in the lesion of K voxels.

    In [0, 1], larger is better. Voxels that are equal at the K-th place share the places left among them. Voxels
    without relevance take no place, so zeros around the foreground change nothing.

    Arras et al. 2022, *CLEVR-XAI*, 10.1016/j.inffus.2021.11.008.

    Args:
        relevance: (X, Y, Z).
        lesion: (X, Y, Z) bool.
    """
    size = np.count_nonzero(lesion)
    if not size:
        return float("nan")
    ranked = relevance > 0
    values, inside = relevance[ranked], lesion[ranked]
    if len(values) <= size:
        return np.count_nonzero(inside) / size
    last = np.partition(values, len(values) - size)[len(values) - size]
    above, level = values > last, values == last
    places = size - np.count_nonzero(above)
    return float((np.count_nonzero(inside & above) + places * inside[level].mean()) / size)


def box_iou_curve(relevance: NDArray, lesion: NDArray) -> NDArray:
    """IoU of the map's box and the lesion's at each of BOX_THRESHOLDS t, (20,) in [0, 1], larger is better.

    Each box is that of the largest component (26 neighbours; of equal ones the first in the grid's order), of
    ``map > t`` and of the lesion. No voxel above t: 0. For :func:`box_hits`.

    Args:
        relevance: (X, Y, Z) float32 in [0, 1].
        lesion: (X, Y, Z) bool.
    """
    curve = np.full(len(BOX_THRESHOLDS), 0.0 if lesion.any() else np.nan)
    if not lesion.any():
        return curve
    truth = _largest_box(lesion)
    rest, origin = relevance, np.zeros(3)
    for place, threshold in enumerate(BOX_THRESHOLDS.tolist()):
        mask = rest > threshold
        if not mask.any():
            break
        # Masks are nested: what is outside the box at one threshold stays outside at the next.
        cut = box_of(mask)
        rest, origin = rest[cut], origin + [axis.start for axis in cut]
        curve[place] = _box_iou(_largest_box(mask[cut]) + origin, truth)
    return curve


def box_hits(curves: NDArray) -> dict[float, NDArray]:
    """Is the box of each case right at the threshold that is best for the set? (cases,) bool by IoU of BOX_IOUS.

    MaxBoxAcc is the mean over the cases, in [0, 1], larger is better. The threshold (of equal ones the lowest) is
    chosen on the tested set, so it is an upper bound, like the point `oracle-set`.
    Choe et al. 2020, *Evaluating weakly supervised object localization methods right*, 10.1109/CVPR42600.2020.00320;
    here in 3D, with IoU 0.3 and 0.7 beside 0.5 as in MaxBoxAccV2 (arXiv 2007.04178).

    Args:
        curves: (cases, 20), one :func:`box_iou_curve` for each lesion-bearing case.

    Raises:
        ValueError: there is no case, or one without a lesion.
    """
    curves = np.asarray(curves)
    if not len(curves) or np.isnan(curves).any():
        raise ValueError("MaxBoxAcc is over lesion-bearing cases, at least one")
    right = {least: curves >= least for least in BOX_IOUS}
    return {least: boxes[:, np.argmax(boxes.sum(axis=0))] for least, boxes in right.items()}


def _largest_box(mask: NDArray) -> NDArray:
    """Box of a mask's largest component: its first corner and the one past its last, (2, 3)."""
    labels, number = ndimage.label(mask, np.ones((3, 3, 3)))
    largest = int(np.argmax(np.bincount(labels[mask]))) if number > 1 else 1
    box = ndimage.find_objects(labels, largest)[largest - 1]
    return np.array([[axis.start for axis in box], [axis.stop for axis in box]], dtype=float)


def _box_iou(first: NDArray, second: NDArray) -> float:
    shared = np.prod(np.maximum(np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]), 0))
    sizes = [np.prod(box[1] - box[0]) for box in (first, second)]
    return float(shared / (sum(sizes) - shared))
