"""Perturbations of small regions by cone forwards (ours) and by whole forwards (Captum, MONAI), side by side.

    python benchmarks/cone.py

A brain-MRI phantom of 4 channels and 128^3 voxels, its SLIC supervoxels, and a quarter-width 3D ResNet-18 with a
stride-2 stem. Supervoxels are replaced by 0 (ablation) or by the mean around them (relevance map), cubes by 0
(occlusion). Ours runs all perturbations and its time holds all it does, with the clean activations and the network's
graph. Of the peers' perturbations some are enough, for each costs a forward of its own: what is compared is seconds of
a perturbation. MONAI has occlusion alone, which stands beside the other rows too.

Prints seconds of one thread's processor time, the peers' ratios to ours, the largest difference of our logits to those
of whole forwards, beside the largest change of a logit, and the peak of memory after few and after all perturbations.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation, Occlusion
from monai.visualize import OcclusionSensitivity
from numpy.typing import NDArray
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


def surroundings(image: Tensor, labels: Tensor, boxes: Sequence[Box]) -> Tensor:
    """An image (4, *SHAPE) that holds in each supervoxel the mean of the others within two voxels of its box."""
    fill = torch.zeros_like(image)
    for label, box in enumerate(boxes, start=1):
        near = tuple(slice(max(axis.start - 2, 0), axis.stop + 2) for axis in box)
        others = (labels[near] != label) & (labels[near] > 0)
        mean = image[:, *near][:, others].mean(1)[:, None, None, None]
        fill[:, *box] = torch.where(labels[box] == label, mean, fill[:, *box])
    return fill


def windows(edge: int) -> list[Box]:
    """Cubes side by side."""
    axes = [[slice(start, start + edge) for start in range(0, length - edge + 1, edge)] for length in SHAPE]
    return list(product(*axes))


class Perturbations:
    """Perturbations of an image: in each box, ``inside(number, box)`` (*box) is replaced by ``fill`` (4, *SHAPE)."""

    def __init__(self, image: Tensor, boxes: Sequence[Box], inside: Callable[[int, Box], Tensor], fill: Tensor) -> None:
        self.image, self.boxes, self.inside, self.fill = image, boxes, inside, fill

    def perturbed(self, number: int, box: Box) -> Tensor:
        return torch.where(self.inside(number, box), self.fill[:, *box], self.image[:, *box])

    def cone(self, network: nn.Module, count: int | None = None) -> Tensor:
        """Logits of the first ones by cone forwards."""
        return ConeForward(LocalNetwork(network), self.image).logits(self.boxes[:count], self.perturbed)[:, 0]

    def whole(self, network: nn.Module, number: int) -> Tensor:
        """Logit of one by a whole forward."""
        image = self.image.clone()
        image[:, *self.boxes[number]] = self.perturbed(number, self.boxes[number])
        return network(image[None])[0, 0]


def captum_ablation(network: nn.Module, image: Tensor, labels: Tensor, some: NDArray, fill: Tensor, batch: int) -> None:
    """Ablation of some supervoxels, and of all the rest at once."""
    order = torch.zeros(int(labels.max()) + 1, dtype=torch.long)
    order[some] = torch.arange(1, len(some) + 1)
    features = order[labels.long()][None, None]
    peer = FeatureAblation(network)
    peer.attribute(image[None], fill[None], feature_mask=features, perturbations_per_eval=batch)


def captum_occlusion(network: nn.Module, image: Tensor, batch: int) -> None:
    """Cubes of half the volume's edge, eight of them: what is occluded makes no difference to the time."""
    cube = (4, *(length // 2 for length in SHAPE))
    Occlusion(network).attribute(image[None], cube, strides=cube, baselines=0, perturbations_per_eval=batch)


def monai_occlusion(network: nn.Module, image: Tensor, edge: int, batch: int) -> None:
    """The eight cubes that MONAI takes for a box of a cube's size."""
    middle = [SHAPE[0] // 2 - edge // 2, SHAPE[0] // 2 + edge // 2 - 1]
    peer = OcclusionSensitivity(network, mask_size=edge, n_batch=batch, overlap=0.0, mode=0.0, verbose=False)
    peer(image[None], b_box=middle * 3)


def seconds_a_forward(network: nn.Module, method: Callable[[int], None]) -> float:
    """Seconds of a peer for each image that it sends through the network, with the better of two batch sizes."""
    found = []
    for batch in (1, 4):
        sent: list[int] = []
        hook = network.register_forward_hook(lambda _module, inputs, _output, sent=sent: sent.append(len(inputs[0])))
        seconds, _ = timed(lambda batch=batch: method(batch))
        hook.remove()
        found.append(seconds / sum(sent))
    return min(found)


def peak() -> float:
    """Largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=300)
    parser.add_argument("--edge", type=int, default=16, help="of occlusion's cubes, in voxels")
    parser.add_argument("--some", type=int, default=12, help="perturbations of peers, and of whole forwards")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    network = freeze(resnet(4, NETWORK, 0, spatial_dims=3), "cpu")
    image, labels = phantom(options.segments)
    boxes, zeros = ndimage.find_objects(labels.numpy()), torch.zeros_like(image)
    around, cubes = surroundings(image, labels, boxes), windows(options.edge)

    def supervoxel(number: int, box: Box) -> Tensor:
        return labels[box] == number + 1

    def cube(_number: int, box: Box) -> Tensor:
        return torch.ones_like(labels[box], dtype=torch.bool)

    methods = {
        "ablation": Perturbations(image, boxes, supervoxel, zeros),
        "relevance map": Perturbations(image, boxes, supervoxel, around),
        "occlusion": Perturbations(image, cubes, cube, zeros),
    }
    some = np.linspace(1, len(boxes), options.some).astype(int)
    captum = {
        "ablation": lambda batch: captum_ablation(network, image, labels, some, zeros, batch),
        "relevance map": lambda batch: captum_ablation(network, image, labels, some, around, batch),
        "occlusion": lambda batch: captum_occlusion(network, image, batch),
    }
    methods["occlusion"].cone(network, 64)
    few = peak()
    ours = {name: timed(lambda each=each: each.cone(network)) for name, each in methods.items()}
    print(f"memory at its peak: {few:.2f} GiB after 64 perturbations, {peak():.2f} GiB after all")
    monai = seconds_a_forward(network, lambda batch: monai_occlusion(network, image, options.edge, batch))
    clean = network(image[None])[0, 0]
    for name, (seconds, logits) in ours.items():
        each = seconds / len(logits)
        peer = seconds_a_forward(network, captum[name])
        numbers = np.linspace(0, len(logits) - 1, options.some).astype(int)
        apart = max(abs(float(methods[name].whole(network, number) - logits[number])) for number in numbers)
        print(
            f"{name:13s}  {len(logits)} perturbations  ours {each * 1000:.0f} ms each  Captum {peer / each:.1f}x  "
            f"MONAI {monai / each:.1f}x  difference {apart:.1e} of {float((logits - clean).abs().max()):.1e}"
        )


if __name__ == "__main__":
    main()
