"""Models for which the map of a perturbation method is known, and units to explain them on."""

from __future__ import annotations

import numpy as np
import torch
from tests.maps_factory import DEFAULTS, explained, volume
from torch import nn

from weakseg.maps import perturbation, relevance, surrogate
from weakseg.networks import freeze
from weakseg.randomness import rng

SIZES = [(24, 24), (20, 16, 12)]
IDS = ["2D", "3D"]
BLOCK = 4


class Reader(nn.Module):
    """Its logit is the sum of all that is bright in a region, and it looks nowhere else."""

    def __init__(self, region):
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(region.astype(np.float32)))

    def forward(self, images):
        return (images[:, 0].relu() * self.weight).flatten(1).sum(1, keepdim=True)


class Product(nn.Module):
    """Two regions count only together, a third one by itself."""

    def __init__(self, labels):
        super().__init__()
        self.parts = nn.Parameter(
            torch.from_numpy(np.stack([labels == label for label in (1, 2, 3)]).astype(np.float32))
        )

    def forward(self, images):
        one, two, three = (images[:, None, 0] * self.parts).flatten(2).mean(2).T * 20
        return (one * two + three)[:, None]


def region_of(size):
    """A block in the middle, along the blocks of :func:`blocks`."""
    region = np.zeros(size, bool)
    region[tuple(slice(BLOCK, 3 * BLOCK) for _ in size)] = True
    return region


def blocks(size):
    """Labels of cubes of four voxels, from 1 on."""
    grid = [length // BLOCK for length in size]
    labels = np.arange(1, np.prod(grid) + 1).reshape(grid)
    for axis in range(len(size)):
        labels = labels.repeat(BLOCK, axis)
    return labels.astype(np.int32)


def task_of(model, size, channels=1, labels=None, image=None):
    """A bright unit, all of it foreground: a slice in 2D, a volume in 3D."""
    if image is None:
        image = rng(0, "image").normal(1, 0.2, size=(channels, *size)).astype(np.float32)
    units = volume(image, np.ones(size, bool))
    labels = blocks(size) if labels is None else labels
    return explained((0,), units=units, network=freeze(model, "cpu"), supervoxels=labels[None])


BY_DEFAULT = {"fill": "zero", "blur_mm": 10.0, "precision": "fp32"}
CHOSEN = {
    "occlusion": (0.99, {"window_mm": BLOCK, "stride_mm": BLOCK}),
    "rise": (0.95, {"masks": 4000, "cell_mm": BLOCK, "reliability": None}),
    "ablation": (0.99, {}),
    "lime": (0.95, {"samples": 1000}),
    "kernelshap": (0.95, {"samples": 1000}),
    "relevance_map": (0.99, {"scales": [1.0]}),
}
"""The AUPRC that is asked for, and parameters in voxels of 1 mm."""


def explain(name, task, **changes):
    family = {"occlusion": perturbation, "rise": perturbation, "scorecam": perturbation, "relevance_map": relevance}
    return family.get(name, surrogate).explain(task, {name: {**DEFAULTS[name], **changes}})[name]
