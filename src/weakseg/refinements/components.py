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
        cut = ndimage.binary_opening(cut, ball(opening_mm, spacing))
    if _reaches_a_neighbour(closing_mm, spacing):
        cut = ndimage.binary_closing(cut, ball(closing_mm, spacing))
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


def _reaches_a_neighbour(radius_mm: float, spacing: tuple[float, float, float]) -> bool:
    return radius_mm + 1e-6 >= min(spacing)
