"""Coarser supervoxels: neighbours that look alike are merged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import relabel_sequential

from weakseg.supervoxels import contacts


def merged(labels: NDArray, image: NDArray, share: float) -> NDArray:
    """Merge touching supervoxels until a share of them is left.

    Of all touching pairs those merge first whose union adds least to the squares within (Ward 1963), so that pieces
    stay alike in size; every round merges all pairs that are each other's best.

    Args:
        labels: (N, *spatial) int, 0 outside the foreground. Slices of one case are a volume: supervoxels are merged
            across them.
        image: (N, C, *spatial).
        share: in (0, 1], of the number of supervoxels.

    Returns:
        (N, *spatial) int, 0 outside the foreground and 1 to n inside; more than asked for where they do not touch.
    """
    pieces = relabel_sequential(labels)[0]
    wanted = max(1, round(share * int(pieces.max())))
    channels = np.moveaxis(image, 1, 0).reshape(image.shape[1], -1)
    while (count := int(pieces.max())) > wanted:
        first, second, _ = contacts(pieces)
        if not len(first):
            break
        sizes = np.maximum(np.bincount(pieces.ravel()), 1)
        means = np.stack([np.bincount(pieces.ravel(), values) for values in channels], axis=1) / sizes[:, None]
        apart = ((means[first] - means[second]) ** 2).sum(axis=1)
        cost = sizes[first] * sizes[second] / (sizes[first] + sizes[second]) * apart
        # One order of all pairs, the same from both ends, so that the cheapest pair is always mutual.
        order = np.lexsort((np.maximum(first, second), np.minimum(first, second), cost))
        best = np.zeros(count + 1, dtype=int)
        best[first[order][::-1]] = second[order][::-1]
        pairs = [pair for pair in zip(first[order], second[order], strict=True) if pair[0] < pair[1]]
        mutual = [(one, other) for one, other in pairs if best[one] == other and best[other] == one]
        target = np.arange(count + 1)
        for one, other in mutual[: count - wanted]:
            target[other] = one
        pieces = relabel_sequential(target[pieces])[0]
    return pieces
