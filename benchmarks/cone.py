"""Perturbations of small regions by cone forwards (ours) and by whole forwards (Captum, MONAI), side by side.

    pip install captum==0.9.0
    python benchmarks/cone.py

A brain-MRI phantom of 4 channels and 128^3 voxels, its SLIC supervoxels, and a quarter-width 3D ResNet-18 with a stride-2
stem. Of each method some perturbations, spread evenly, are timed: each perturbation costs its own forward, so seconds
for one are what counts. Supervoxels are replaced by 0 (ablation) and by their neighbours' mean (relevance map), cubes by 0
(occlusion). Prints seconds of one thread's processor time for a perturbation, their ratios to ours, and the largest
difference between our logits and those of whole forwards beside the largest change of a logit.

Clean activations are part of our time, the first image's check of the network too: both weigh more for fewer perturbations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation, Occlusion
from monai.visualize import OcclusionSensitivity
from scipy import ndimage
from torch import Tensor, nn

from weakseg.data.foreground import nonzero
from weakseg.data.phantoms.brain_mri import make_case
from weakseg.maps.cone import Box, ConeForward
from weakseg.maps.reach import LocalNetwork
from weakseg.networks import freeze, resnet
from weakseg.supervoxels import supervoxels

SHAPE, SPACING = (128, 128, 128), (1.5, 1.5, 1.5)
NETWORK = {"blocks": [2, 2, 2, 2], "width": 16, "stem_stride": 2}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, which other processes disturb less than the clock, and result of a call."""
    started = time.process_time()
    result = function()
    return time.process_time() - started, result


def phantom(segments: int) -> tuple[Tensor, Tensor]:
    """An image (4, *SHAPE), z-scored in the foreground, and its supervoxels (*SHAPE)."""
    case = make_case(1, "cone", grade="HGG", shape=SHAPE)
    raw = np.stack(list(case.images.values())).astype(np.float32)
    foreground = nonzero(raw)
    inside = raw[:, foreground]
    scored = (raw - inside.mean(1)[:, None, None, None]) / inside.std(1)[:, None, None, None] * foreground
    return torch.from_numpy(scored), torch.from_numpy(supervoxels(raw, foreground, SPACING, segments, 0.1))


def neighbours_mean(image: Tensor, labels: Tensor, label: int, box: Box) -> Tensor:
    """Mean (4, 1, 1, 1) of the foreground within two voxels of a supervoxel's box, without the supervoxel."""
    around = tuple(slice(max(axis.start - 2, 0), axis.stop + 2) for axis in box)
    near = (labels[around] != label) & (labels[around] > 0)
    return image[:, *around][:, near].mean(1)[:, None, None, None]


class Ours:
    """Logits of perturbed images, each perturbation a mask (*box) and what comes in its place."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.network, self.image = network, image

    def logits(self, boxes: Sequence[Box], masks: Callable[[int, Box], Tensor], values: Callable[..., Any]) -> Tensor:
        def perturbed(number: int, box: Box) -> Tensor:
            return torch.where(masks(number, box), values(number, box), self.image[:, *box])

        return ConeForward(LocalNetwork(self.network), self.image).logits(boxes, perturbed)[:, 0]

    def whole(self, boxes: Sequence[Box], masks: Callable[[int, Box], Tensor], values: Callable[..., Any]) -> Tensor:
        logits = []
        for number, box in enumerate(boxes):
            perturbed = self.image.clone()
            perturbed[:, *box] = torch.where(masks(number, box), values(number, box), self.image[:, *box])
            logits.append(self.network(perturbed[None])[0, 0])
        return torch.stack(logits)


def captum_ablation(network: nn.Module, image: Tensor, labels: Tensor, some: Sequence[int], fill: Tensor) -> Tensor:
    """Drops in the logit of some supervoxels; ``fill`` (4, *SHAPE) comes in their place."""
    order = torch.zeros(int(labels.max()) + 1, dtype=torch.long)
    order[list(some)] = torch.arange(1, len(some) + 1)
    features = order[labels.long()]
    drops = FeatureAblation(network).attribute(image[None], fill[None], feature_mask=features[None, None])
    return torch.stack([drops[0, 0][features == number][0] for number in range(1, len(some) + 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=300)
    parser.add_argument("--perturbations", type=int, default=40, help="of ours; peers are given a quarter")
    parser.add_argument("--window", type=int, default=16, help="edge of occlusion's cubes in voxels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = freeze(resnet(4, NETWORK, 0, spatial_dims=3), "cpu")
    image, labels = phantom(options.segments)
