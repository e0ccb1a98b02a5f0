"""Values tied to supervoxels: means over them, and how much neighbours differ. Differentiable, for 2D and 3D alike."""

from __future__ import annotations

import torch
from torch import Tensor


def region_means(values: Tensor, labels: Tensor) -> Tensor:
    """Give each voxel the mean over its supervoxel.

    Args:
        values: (N, *spatial).
        labels: (N, *spatial) int64, 0 outside the foreground; equal numbers in two units are two supervoxels.

    Returns:
        (N, *spatial), 0 outside the foreground.
    """
    count = int(labels.max()) + 1
    unit = torch.arange(len(labels), device=labels.device).reshape(-1, *[1] * (labels.ndim - 1))
    codes = (labels + count * unit).flatten()
    flat = values.flatten()
    empty = flat.new_zeros(count * len(labels))
    sums = empty.index_add(0, codes, flat)
    sizes = empty.index_add(0, codes, torch.ones_like(flat))
    means = (sums / sizes.clamp(min=1))[codes].reshape(values.shape)
    return torch.where(labels > 0, means, 0)


def foreground_means(values: Tensor, labels: Tensor) -> Tensor:
    """Means (N,) of values (N, *spatial) over the foreground of each unit, where its labels are not 0."""
    inside = (labels > 0).flatten(1)
    return (values.flatten(1) * inside).sum(1) / inside.sum(1).clamp(min=1)


def total_variation(values: Tensor, labels: Tensor) -> Tensor:
    """Mean absolute difference of values (N, *spatial) over faces between foreground voxels of each unit: (N,).

    For values that are tied to supervoxels it is the difference of neighbouring supervoxels, weighted by the faces that
    they share.
    """
    inside = labels > 0
    differences, faces = values.new_zeros(len(values)), values.new_zeros(len(values))
    for axis in range(1, values.ndim):
        size = values.shape[axis] - 1
        shared = inside.narrow(axis, 0, size) & inside.narrow(axis, 1, size)
        step = (values.narrow(axis, 1, size) - values.narrow(axis, 0, size)).abs()
        differences = differences + (step * shared).flatten(1).sum(1)
        faces = faces + shared.flatten(1).sum(1)
    return differences / faces.clamp(min=1)
