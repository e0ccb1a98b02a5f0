"""What of an image is looked at: found from the image alone, or from organ masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BONE_HU, AIR_HU = 150.0, -300.0
AROUND_ORGAN_MM = 10.0


def nonzero(image: NDArray) -> NDArray:
    """Skull-stripped images: voxels of (C, X, Y, Z) that differ from 0 in any channel."""
    inside: NDArray = np.any(image != 0, axis=0)
    return inside


def body(hu: NDArray) -> NDArray:
    """The patient without table and air around: the largest piece above -300 HU, filled slice by slice.

    Args:
        hu: (X, Y, Z) in HU.
    """
    return _filled(_largest(ndimage.binary_opening(hu > AIR_HU)))


def brain(hu: NDArray, spacing: tuple[float, float, float]) -> NDArray:
    """The inside of the skull: what bone (above 150 HU) encloses in its axial slice, less a rim, in one piece.

    Args:
        hu: (X, Y, Z) in HU.
        spacing: voxel size in mm.
    """
    bone = hu > BONE_HU
    gap = max(1, round(6 / spacing[0]))
    flat = ndimage.generate_binary_structure(3, 1)
    flat[..., [0, 2]] = False
    padded = np.pad(bone, [(gap, gap), (gap, gap), (0, 0)])
    closed = ndimage.binary_closing(padded, flat, iterations=gap)[gap:-gap, gap:-gap]
    inside = _filled(closed) & ~ndimage.binary_dilation(bone, flat) & (hu > -20) & (hu < BONE_HU)
    return _filled(_largest(ndimage.binary_opening(inside, flat)))


def around(organ: NDArray, spacing: tuple[float, float, float]) -> NDArray:
    """An organ mask (X, Y, Z) bool and 10 mm around it, so that its edge is no clue."""
    distance = ndimage.distance_transform_edt(~organ, sampling=spacing)
    near: NDArray = distance <= AROUND_ORGAN_MM
    return near


def _largest(mask: NDArray) -> NDArray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1


def _filled(mask: NDArray) -> NDArray:
    """Holes of each axial slice filled."""
    return np.stack([ndimage.binary_fill_holes(mask[..., z]) for z in range(mask.shape[2])], axis=2)
