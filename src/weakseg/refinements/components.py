"""Cleaning a mask: opening, closing, and dropping small components. Always the last step of a chain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def clean(
    mask: NDArray, spacing: tuple[float, float, float], opening_mm: float, closing_mm: float, min_volume_ml: float
) -> NDArray:
    """Open, close and drop connected components (26 neighbours) under a volume.

    Args:
        mask: (X, Y, Z) bool.
        spacing: voxel size in mm.
        opening_mm, closing_mm: radius of the ball; 0, or less than a voxel in every direction, leaves a step out.
        min_volume_ml: smallest component kept.

    Returns:
        (X, Y, Z) bool.
    """
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    margin = [int(np.ceil(closing_mm / size)) + 1 for size in spacing]
    # Padding keeps the border of the box from eroding the closed mask.
    cut = np.pad(mask[box], [(width, width) for width in margin])
    if _reaches_a_neighbour(opening_mm, spacing):
        element = ball(opening_mm, spacing)
        cut = dilate(erode(cut, element), element)
    if _reaches_a_neighbour(closing_mm, spacing):
        element = ball(closing_mm, spacing)
        cut = erode(dilate(cut, element), element)
    labels, _ = ndimage.label(cut, np.ones((3, 3, 3)))
    volumes_ml = np.bincount(labels.ravel()) * np.prod(spacing) / 1000
    keep = volumes_ml >= min_volume_ml
    keep[0] = False
    inner = tuple(slice(width, -width) for width in margin)
    cleaned = np.zeros_like(mask)
    cleaned[box] = keep[labels][inner]
    return cleaned


def ball(radius_mm: float, spacing: tuple[float, float, float]) -> NDArray:
    """Structuring element: voxels whose centre is within a radius in mm."""
    reach = [int(radius_mm / size + 1e-6) for size in spacing]
    axes = np.meshgrid(*(np.arange(-n, n + 1) * size for n, size in zip(reach, spacing, strict=True)), indexing="ij")
    return sum(axis**2 for axis in axes) <= radius_mm**2 + 1e-6


def dilate(mask: NDArray, element: NDArray) -> NDArray:
    """A mask (X, Y, Z) bool grown by a ball; nothing grows in from outside the grid.

    That of ``scipy.ndimage.binary_dilation``, many times as fast: a ball is made of columns along Z of few heights, so
    the mask is grown along Z once a height and then moved to each of the columns.
    """
    return _grow(mask, element, outside=False)


def erode(mask: NDArray, element: NDArray) -> NDArray:
    """A mask (X, Y, Z) bool shrunk by a ball, also from the grid's end; see :func:`dilate`."""
    return ~_grow(~mask, element, outside=True)


def _grow(mask: NDArray, element: NDArray, outside: bool) -> NDArray:
    reach = [size // 2 for size in element.shape]
    padded = np.pad(mask, [(n, n) for n in reach], constant_values=outside)
    heights = element.sum(axis=2) // 2
    width, depth, length = mask.shape
    column = padded[:, :, reach[2] : reach[2] + length].copy()
    grown = np.zeros_like(mask)
    for height in range(reach[2] + 1):
        for start in {reach[2] - height, reach[2] + height}:
            column |= padded[:, :, start : start + length]
        for x, y in np.argwhere(element.any(axis=2) & (heights == height)):
            grown |= column[x : x + width, y : y + depth]
    return grown


def _reaches_a_neighbour(radius_mm: float, spacing: tuple[float, float, float]) -> bool:
    return radius_mm + 1e-6 >= min(spacing)
