"""What of an image is looked at: found from the image alone, or from organ masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BONE_HU, FAT_HU, AIR_HU = 150.0, -20.0, -300.0
SKULL_GAP_MM = 6.0
"""Gaps in a slice's ring of bone are closed with a disc of this radius."""
NECK_MM = 3.0
"""A passage through the bone is no part of the brain if a disc of this radius does not fit through."""
AROUND_ORGAN_MM = 10.0

_SLAB = 32  # slices


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
    """The inside of the skull up to the bone, in one piece: what bone (above 150 HU) encloses in its axial slice.

    Blood beside the bone belongs to it, so its rim is not cut off; voxels that are part bone come with it.

    Args:
        hu: (X, Y, Z) in HU.
        spacing: voxel size in mm.
    """
    pixel = spacing[:2]
    gap, neck = max(SKULL_GAP_MM, *pixel), max(NECK_MM, *pixel)
    margin = int(gap / min(pixel)) + 1  # the closing needs room beyond the edge
    soft, core = np.empty_like(hu, dtype=bool), np.empty_like(hu, dtype=bool)
    for z in range(hu.shape[2]):
        bone = hu[..., z] > BONE_HU
        skull = _eroded(_dilated(np.pad(bone, margin), gap, pixel), gap, pixel)[margin:-margin, margin:-margin] | bone
        soft[..., z] = ndimage.binary_fill_holes(skull) & ~bone & (hu[..., z] > FAT_HU)
        # What hangs on it by a narrow passage, such as an orbit, is cut off; then its own edge is grown back.
        core[..., z] = _dilated(_eroded(soft[..., z], neck, pixel), neck, pixel)
    core = _largest(core)
    for z in range(hu.shape[2]):
        soft[..., z] &= _dilated(core[..., z], neck, pixel)
    return _filled(_largest(soft))


def _dilated(plane: NDArray, radius: float, pixel: tuple[float, ...]) -> NDArray:
    """A mask (X, Y) and all within a radius in mm of it."""
    if not plane.any():
        return plane
    near: NDArray = ndimage.distance_transform_edt(~plane, sampling=pixel) <= radius
    return near


def _eroded(plane: NDArray, radius: float, pixel: tuple[float, ...]) -> NDArray:
    return ~_dilated(~plane, radius, pixel)


def around(organ: NDArray, spacing: tuple[float, float, float]) -> NDArray:
    """An organ mask (X, Y, Z) bool and 10 mm around it, so that its edge is no clue."""
    near = np.zeros_like(organ)
    if not organ.any():
        return near
    # Nothing farther away than this counts, so that boxes and slabs give what the whole volume would, in less memory.
    reach = [int(AROUND_ORGAN_MM / size) + 1 for size in spacing]
    box = [slice(max(low - far, 0), high + far) for (low, high), far in zip(extent(organ), reach, strict=True)]
    cut, out = organ[tuple(box)], near[tuple(box)]
    for start in range(0, cut.shape[2], _SLAB):
        first = max(start - reach[2], 0)
        slab = cut[..., first : start + _SLAB + reach[2]]
        if slab.any():
            distance = ndimage.distance_transform_edt(~slab, sampling=spacing)
            out[..., start : start + _SLAB] = distance[..., start - first :][..., :_SLAB] <= AROUND_ORGAN_MM
    return near


def extent(mask: NDArray) -> list[tuple[int, int]]:
    """First and last (excluded) index of a mask that is not empty, along each axis."""
    rows = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return [(int(row[0]), int(row[-1]) + 1) for row in rows]


def _largest(mask: NDArray) -> NDArray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    # Slice by slice, since counting makes 64-bit numbers of all that it is given.
    slices = (labels[..., z].ravel() for z in range(labels.shape[2]))
    sizes = np.sum([np.bincount(voxels, minlength=count + 1) for voxels in slices], axis=0)
    return labels == np.argmax(sizes[1:]) + 1


def _filled(mask: NDArray) -> NDArray:
    """Holes of each axial slice filled."""
    filled = np.empty_like(mask)
    for z in range(mask.shape[2]):
        filled[..., z] = ndimage.binary_fill_holes(mask[..., z])
    return filled
