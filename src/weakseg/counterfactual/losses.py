"""The terms that generators of counterfactuals are trained for (Shvetsov et al. 2024, arXiv 2404.12832).

Images are scaled to [-1, 1]; a change is in units of the range, so half of the difference of two images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

NORMAL_PROBABILITY = 1e-6
"""The probability of a lesion that COIN asks for where there is one."""
SURE = 1e-5
"""Probabilities are targets no nearer to 0 and 1 than this."""
GREY_LEVELS = 255
"""Total variation is of differences of 8-bit images."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the counterfactuals of images.

    Attributes:
        probability: (N,) of a lesion, that the classifier is to give.
        condition: (N,) int64 to make them under: 0 normal, 1 lesion.
        own: (N,) int64 to make the images again under, from themselves and from their counterfactuals.
    """

    probability: Tensor
    condition: Tensor
    own: Tensor


def wanted(probability: Tensor, conditions: Literal[1, 2]) -> Wanted:
    """What is wanted of images that a classifier gives a probability (N,) of a lesion.

    With one condition (COIN) all become, or stay, normal. With two (Singla et al.) calls flip: p becomes 1 - p.
    """
    called = probability >= 0.5
    if conditions == 1:
        normal = torch.zeros_like(called, dtype=torch.int64)
        return Wanted(torch.where(called, NORMAL_PROBABILITY, probability), normal, normal)
    return Wanted(1 - probability, (~called).long(), called.long())


def consistency(logits: Tensor, probability: Tensor) -> Tensor:
    r"""Mean KL divergence of the classifier's Bernoulli q from the wanted one p, from its logits (N,): scalar.

    :math:`p \log(p / q) + (1 - p) \log((1 - p) / (1 - q))`. The paper's code also keeps q from 0 and 1, where it then
    has no gradient; here the logarithms are taken of logits, which need no limit.
    """
    p = probability.clamp(SURE, 1 - SURE)
    lost = p * (p.log() - F.logsigmoid(logits)) + (1 - p) * ((1 - p).log() - F.logsigmoid(-logits))
    return lost.mean()


def adversarial(fake: Tensor) -> Tensor:
    """The generator's loss, given the discriminator's logits (N,) of what it made: scalar."""
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def discrimination(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, given its logits (N,) of images and of what was made of them: scalar."""
    of_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return (of_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))) / 2


def reconstruction(change: Tensor, organ: Tensor | None = None) -> Tensor:
    """How far images (N, C, *spatial) scaled to [-1, 1] are apart, given their change in units of the range: scalar.

    The mean absolute difference; with organ masks (N, 1, *spatial) bool the sum of its means over the organ and over
    the rest, CARL of Singla et al. 2020 (arXiv 1911.00483), where a region without voxels adds nothing.
    """
    difference = 2 * change.abs()
    if organ is None:
        return difference.mean()
    regions = [region.expand_as(difference) for region in (organ, ~organ)]
    return sum((_mean_within(difference, region) for region in regions), difference.new_zeros(()))


def _mean_within(values: Tensor, region: Tensor) -> Tensor:
    return (values * region).sum() / (region.sum() + 1e-8)


def total_variation(change: Tensor) -> Tensor:
    """Mean squared step between neighbours of the absolute change (N, C, *spatial), in grey levels: scalar.

    Added up over the axes.
    """
    levels = GREY_LEVELS * change.abs()
    steps = [levels.diff(dim=axis).square().mean() for axis in range(2, levels.ndim)]
    return torch.stack(steps).sum()
