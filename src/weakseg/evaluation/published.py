"""How papers cut their maps, where that is not one of the protocol's ways: slice by slice, at a fixed value.

The cut of counterfactuals and that of saliency maps are those of COIN (Shvetsov et al. 2024, arXiv 2404.12832) and of
its public code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SALIENCY_CUT = 0.975
"""Where saliency maps are cut, scaled to [0, 1] in each slice."""

_SQUARE = np.ones((3, 3))


def cut_change(change: NDArray, cut: float) -> NDArray:
    """The lesion where an image was changed: (X, Y, Z) bool.

    Each axial slice is cut, opened and closed by a square of 3 x 3 pixels, and its largest connected component (8
    neighbours; of equal ones the first) is kept.

    Args:
        change: (X, Y, Z) absolute change in units of the intensities' range.
        cut: more change than this counts.
    """
    mask = change > cut
    for position in np.flatnonzero(mask.any(axis=(0, 1))):
        mask[..., position] = _cleaned(mask[..., position])
    return mask


def cut_saliency(relevance: NDArray) -> NDArray:
    """The lesion where saliency is near each axial slice's largest: (X, Y, Z) bool; nothing where a slice is constant.

    Args:
        relevance: (X, Y, Z).
    """
    low, high = relevance.min(axis=(0, 1)), relevance.max(axis=(0, 1))
    return (relevance > low + SALIENCY_CUT * (high - low)) & (high > low)


def _cleaned(mask: NDArray) -> NDArray:
    """A slice (X, Y) bool after opening, closing and choice of a component."""
    # Padded, so that the border of the grid neither erodes nor keeps what a closing grows beyond it.
    padded = np.pad(mask, 1)
    closed = ndimage.binary_closing(ndimage.binary_opening(padded, _SQUARE), _SQUARE)[1:-1, 1:-1]
    labels, count = ndimage.label(closed, _SQUARE)
    if count == 0:
        return closed
    largest: NDArray = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest
