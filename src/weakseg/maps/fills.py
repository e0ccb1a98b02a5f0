"""What comes in place of what a perturbation takes away. Outside the foreground it is 0, as the image is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg import nifti
from weakseg.evaluation.faithfulness import baseline
from weakseg.maps.base import Explained
from weakseg.randomness import rng
from weakseg.supervoxels import contacts


def fill_of(explained: Explained, name: str, blur_mm: float) -> Tensor:
    """What stands for "nothing there" in a case's selected units: (M, C, *spatial) float32, on the device.

    Args:
        explained: what to explain.
        name: ``zero``, ``blur`` or ``noise``; see :func:`weakseg.evaluation.faithfulness.baseline`.
        blur_mm: standard deviation of the Gaussian of ``blur``.
    """
    units = explained.units
    sigma = tuple(blur_mm / mm for mm in nifti.spacing_of(units.affine)[: units.image.ndim - 2])
    parts = []
    for index in explained.selected:
        # Each unit draws for itself, so that its noise does not depend on the others.
        generator = rng(explained.seed, "fill", f"{units.case}/{units.positions[index]}")
        one = slice(index, index + 1)
        parts.append(baseline(name, units.image[one], units.foreground[one], sigma, generator))
    return torch.from_numpy(np.concatenate(parts)).to(explained.device)


def neighbour_means(image: NDArray, labels: NDArray) -> NDArray:
    """The mean of each supervoxel's neighbours, those that share a face with it, over all their voxels.

    Args:
        image: (C, *spatial).
        labels: (*spatial) int, 0 outside the foreground and 1 to S inside.

    Returns:
        (S + 1, C) float32, by label; 0 for one without neighbours.
    """
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    sums = np.stack([np.bincount(labels.ravel(), values.ravel(), count) for values in image], axis=1)
    first, second, _ = contacts(labels)
    around, voxels = np.zeros_like(sums), np.zeros(count)
    np.add.at(around, first, sums[second])
    np.add.at(voxels, first, sizes[second])
    return (around / np.maximum(voxels, 1)[:, None]).astype(np.float32)
