"""Null maps: they explain nothing, pass the same gate and are cut at the same points. A method has to beat them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.maps.base import Explained, Methods
from weakseg.maps.cam import cams
from weakseg.maps.gated import Maps
from weakseg.randomness import rng


def random(explained: Explained) -> NDArray:
    """Uniform noise in [0, 1), independent from voxel to voxel: (M, *spatial)."""
    generator = rng(explained.seed, "null-random", explained.units.case)
    return generator.random(explained.units.foreground.shape, dtype=np.float32)[explained.selected]


def centre(explained: Explained) -> NDArray:
    """Nearness to the 3D centroid of the foreground, 1 there and 0 at the farthest foreground voxel: (M, *spatial)."""
    units = explained.units
    spacing = nifti.spacing_of(units.affine)
    axes = [index * size for index, size in zip(units.indices(), spacing, strict=True)]
    inside = np.stack([np.broadcast_to(axis, units.foreground.shape)[units.foreground] for axis in axes])
    middle = inside.mean(axis=1)
    farthest = np.linalg.norm(inside - middle[:, None], axis=0).max()
    distance = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(axes, middle, strict=True)))[explained.selected]
    return np.clip(1 - distance / max(farthest, 1e-6), 0, 1).astype(np.float32)


def intensity(explained: Explained, channel: str, sign: int, floor: float | None) -> NDArray:
    """Brightness above, or darkness below, the foreground's mean of a channel: (M, *spatial).

    Args:
        explained: what to explain.
        channel: name of the channel.
        sign: 1 for brightness, -1 for darkness.
        floor: smaller values are no tissue of interest: they do not count for the mean and are no evidence.
    """
    units = explained.units
    image = units.image[:, explained.channels.index(channel)]
    inside = units.foreground if floor is None else units.foreground & (image >= floor)
    middle = image[inside].mean() if inside.any() else 0
    evidence: NDArray = np.where(inside, sign * (image - middle), 0)[explained.selected]
    return evidence


def untrained(explained: Explained, layer: str) -> NDArray:
    """LayerCAM of a network of the same architecture that was never trained (Adebayo et al. 2018): (M, *spatial)."""
    images = torch.from_numpy(explained.units.image[explained.selected])
    explained.forwards += len(images)
    return cams(explained.untrained, images, {"layercam": layer}, explained.device)["layercam"][:, 0]


NULLS: dict[str, Callable[..., NDArray]] = {
    "random": random,
    "centre": centre,
    "intensity": intensity,
    "untrained": untrained,
}


def explain(explained: Explained, methods: Methods) -> Maps:
    """Null maps of the case's selected units, by name, 0 outside the foreground; see :mod:`weakseg.maps.base`."""
    inside = explained.units.foreground[explained.selected]
    return {name: (NULLS[name](explained, **params) * inside)[:, None] for name, params in methods.items()}
