"""The networks of cross-modality learning: U-Nets of one pair of modalities, their fusion, and discriminators.

As in the public code of Zhang et al. 2021 (Pattern Recognition 110:107562, arXiv 2201.02356), with its numbers of
parameters: 4.12 million of a generator, 0.70 million of a discriminator and 8.29 million of the fused network, at a
width of 16. Inputs are (N, C, X, Y, Z); edges divide by 16, and not all of them are 16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 4
"""Background, oedema, necrotic or non-enhancing core, enhancing tumour."""
LEVELS = 5
LAYOUT = torch.channels_last_3d
"""How features lie in memory while learning: a fifth to a quarter faster on a CPU with few of them."""
SLOPES = {"transition": 0.2, "segmentation": 0.01}
"""Negative slope of the activations, in generators and discriminators, and in networks that segment."""


class Features(NamedTuple):
    """What a branch hands on: decoder features of full (N, W, X, Y, Z) and half (N, W, X/2, Y/2, Z/2) size, and its
    output (N, outputs, X, Y, Z), without activation."""

    full: Tensor
    half: Tensor
    output: Tensor


def convolution(channels: int, features: int, slope: float) -> nn.Sequential:
    """Convolution of 3 x 3 x 3, instance normalisation without weights, leaky ReLU."""
    return nn.Sequential(
        nn.Conv3d(channels, features, 3, padding=1), nn.InstanceNorm3d(features), nn.LeakyReLU(slope, inplace=True)
    )


class Branch(nn.Module):
    """A U-Net of five levels: the generator of CMFT, the branch of a pair in CMFF, or with all channels early fusion.

    Two convolutions a level, max pooling, trilinear upsampling. The second convolution of the deepest level and of each
    decoder level has as many features as the skip that the upsampled map will meet.

    Args:
        channels: of the input.
        outputs: of the last convolution, which is 1 x 1 x 1.
        width: features of the first level, doubled at each next.
        slope: one of :data:`SLOPES`.
    """

    def __init__(self, channels: int, outputs: int, width: int, slope: float) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        narrower = [widths[max(level - 1, 0)] for level in range(LEVELS)]

        def two(start: int, middle: int, end: int) -> nn.Sequential:
            return nn.Sequential(convolution(start, middle, slope), convolution(middle, end, slope))

        ends = [*widths[:-1], narrower[-1]]
        starts = [channels, *widths[:-1]]
        self.encoder = nn.ModuleList(map(two, starts, widths, ends))
        self.decoder = nn.ModuleList(two(2 * widths[n], widths[n], narrower[n]) for n in range(LEVELS - 1))
        self.last = nn.Conv3d(width, outputs, 1)

    def forward(self, images: Tensor) -> Features:
        found = [self.encoder[0](images)]
        for level in self.encoder[1:]:
            found.append(level(F.max_pool3d(found[-1], 2)))
        half = full = found.pop()
        for level in reversed(self.decoder):
            half, full = full, level(torch.cat([found.pop(), doubled(full)], dim=1))
        return Features(full, half, self.last(full))


class Discriminator(nn.Module):
    """Which patches of a pair of modalities are real: (N, C, X, Y, Z) to logits (N, 1, X/16 - 1, Y/16 - 1, Z/16 - 1).

    The first convolution has neither normalisation nor activation, as in the paper's Table 1.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(channels, width, 4, stride=2, padding=1)]
        for _ in range(3):
            layers += [
                nn.Conv3d(width, 2 * width, 4, stride=2, padding=1),
                nn.InstanceNorm3d(2 * width),
                nn.LeakyReLU(SLOPES["transition"], inplace=True),
            ]
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv3d(width, 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Single(nn.Module):
    """One branch on some of the channels; probabilities (N, CLASSES, X, Y, Z) in a list of one.

    Args:
        channels: their places; all of them for early fusion.
        width: features of the first level.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.channels = channels
        self.branch = Branch(len(channels), CLASSES, width, SLOPES["segmentation"])

    @property
    def branches(self) -> dict[int, Branch]:
        """The branches by the pair that they take; early fusion has none that a generator fits."""
        return {pair: self.branch for pair, channels in enumerate(([0, 1], [2, 3])) if channels == self.channels}

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.branch(images[:, self.channels]).output.softmax(dim=1)]


class CMFF(nn.Module):
    """Cross-modality feature fusion: a branch for each pair, and a fusion of their last two decoder levels.

    Args:
        width: features of a branch's first level.
        guidance: ``mask`` multiplies the fused features by what both branches see of each class; ``attention`` by a
            spatial attention (Woo et al. 2018, arXiv 1807.06521, its second half); ``none`` leaves them as they are.
    """

    def __init__(self, width: int, guidance: str) -> None:
        super().__init__()
        slope = SLOPES["segmentation"]
        self.pairs = nn.ModuleList(Branch(2, CLASSES, width, slope) for _ in range(2))
        self.fuse_full, self.fuse_half, self.fuse_both = (convolution(2 * width, width, slope) for _ in range(3))
        self.guidance = guidance
        if guidance == "attention":
            self.attention = nn.Conv3d(2, 1, 7, padding=3)
        self.last = nn.Conv3d(width * (CLASSES if guidance == "mask" else 1), CLASSES, 1)

    @property
    def branches(self) -> dict[int, nn.Module]:
        """The branches by the pair that they take."""
        return dict(enumerate(self.pairs))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Probabilities (N, CLASSES, X, Y, Z): fused, of the first pair's branch, of the second's.

        Args:
            images: (N, 4, X, Y, Z), the channels of the first pair before those of the second.
        """
        first, second = (branch(pair) for branch, pair in zip(self.pairs, images.split(2, dim=1), strict=True))
        full = self.fuse_full(torch.cat([first.full, second.full], dim=1))
        half = self.fuse_half(torch.cat([first.half, second.half], dim=1))
        fused = self.fuse_both(torch.cat([full, doubled(half)], dim=1))
        single = [branch.output.softmax(dim=1) for branch in (first, second)]
        return [self.last(self._guided(fused, single[0] + single[1])).softmax(dim=1), *single]

    def _guided(self, fused: Tensor, seen: Tensor) -> Tensor:
        """Fused features (N, W, X, Y, Z) under the guidance of both branches' probabilities, (N, CLASSES, X, Y, Z)."""
        if self.guidance == "mask":
            return mask_guided(fused, seen)
        if self.guidance == "attention":
            pooled = torch.cat([fused.mean(dim=1, keepdim=True), fused.amax(dim=1, keepdim=True)], dim=1)
            return fused * self.attention(pooled).sigmoid()
        return fused


def mask_guided(features: Tensor, seen: Tensor) -> Tensor:
    """Features (N, W, *spatial) times what is seen of each class, (N, K, *spatial): (N, K W, *spatial), class by
    class."""
    return (seen.unsqueeze(2) * features.unsqueeze(1)).flatten(1, 2)


def doubled(features: Tensor) -> Tensor:
    """Features (N, W, X, Y, Z) at twice the size."""
    return F.interpolate(features, scale_factor=2.0, mode="trilinear", align_corners=True)


def transfer(generator: nn.Module, branch: nn.Module) -> list[str]:
    """Copy every weight of a generator that the branch has by the same name and shape; the names of those copied.

    That is all but the last convolution, which has other outputs.
    """
    own = branch.state_dict()
    shared = {
        name: tensor
        for name, tensor in generator.state_dict().items()
        if name in own and own[name].shape == tensor.shape
    }
    branch.load_state_dict(own | shared)
    return list(shared)


def initialise(network: nn.Module, initial: str) -> None:
    """Draw the weights of all convolutions: ``default`` (PyTorch's own, left as they are), ``kaiming`` (He et al. 2015,
    arXiv 1502.01852, normal) or ``normal`` (standard normal); the latter two set biases to 0."""
    if initial == "default":
        return
    draws: dict[str, Callable[[Tensor], Tensor]] = {"kaiming": nn.init.kaiming_normal_, "normal": nn.init.normal_}
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            draws[initial](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def laid_out(network: nn.Module, device: str) -> nn.Module:
    """Move a network to a device, its weights in :data:`LAYOUT`."""
    moved: nn.Module = network.to(device=device, memory_format=LAYOUT)  # type: ignore[call-overload]
    return moved
