"""Snapping a map to supervoxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weakseg.refinements.case import Case


def refine(relevance: NDArray, case: Case) -> NDArray:
    """:func:`supervoxel_mean` of a case's supervoxels."""
    assert case.supervoxels is not None, "the plan gives supervoxels to every chain with this step"
    return supervoxel_mean(relevance, case.supervoxels)


def supervoxel_mean(relevance: NDArray, labels: NDArray) -> NDArray:
    """Replace each voxel by the mean of its supervoxel.

    Args:
        relevance: (X, Y, Z) in [0, 1].
        labels: (X, Y, Z) integers, 0 outside the foreground, where the result is 0.

    Returns:
        (X, Y, Z) float32 in [0, 1].
    """
    flat = labels.ravel()
    sums = np.bincount(flat, weights=relevance.ravel().astype(np.float64))
    means = sums / np.maximum(np.bincount(flat), 1)
    means[0] = 0
    return means[flat].reshape(labels.shape).astype(np.float32)
