r"""Does a map tell what the classifier used? Deletion and insertion, and how alike two maps are.

Deletion replaces the most relevant pixels of the foreground by a baseline, step by step; insertion starts from the
baseline and brings them back (Petsiuk et al. 2018, RISE, section 4.3). With :math:`x_k` the image of which the top
:math:`k/S` is replaced, :math:`x'_k` the one of which it alone is there, and :math:`y` the classifier's logit:

- deletion: the area under :math:`y(x) - y(x_k)` over :math:`k/S`, the drop;
- insertion: the area under :math:`y(x'_k) - y(x'_0)`, the rise.

RISE takes probabilities; those of a sure classifier stay at 1 until much is gone, so these are logits. Outside the
foreground nothing changes. Whatever map, both curves have the same ends, so maps differ by their order of pixels alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor

from weakseg.evaluation.metrics import Metric

BATCH = 256
"""Images per forward; results do not depend on it."""


_GATED = "cases without a slice that the gate lets through have no value"
_CONSTANT = "1 if both maps are constant, 0 if one is"

METRICS: dict[str, Metric] = {
    "deletion": Metric("deletion", "higher", "any; standard deviations of the classifier's validation logits", _GATED),
    "insertion": Metric(
        "insertion", "higher", "any; standard deviations of the classifier's validation logits", _GATED
    ),
    "randomised_spearman": Metric("random weights: rank correlation", "lower", "-1 to 1", _CONSTANT),
    "randomised_ssim": Metric("random weights: SSIM", "lower", "-1 to 1", "1 if both maps are empty"),
    "repeated_spearman": Metric("repeatability: rank correlation", "higher", "-1 to 1", _CONSTANT),
    "repeated_dice": Metric("repeatability: Dice of label-free masks", "higher", "0 to 1", "1 if both masks are empty"),
}

_LOGIT = ("fc.", "head.", "linear.")
CASCADE: dict[str, tuple[str, ...]] = {
    "logit": _LOGIT,
    "layer4": ("layer4.", "resnet.layer4.", "lstm.", *_LOGIT),
    "all": ("",),
}
"""Levels of the weight randomisation, from the top down: prefixes of the weights that are randomised, of a ResNet or
ResNet-LSTM."""


def baseline(
    name: str, image: NDArray, foreground: NDArray, sigma: tuple[float, ...], generator: np.random.Generator
) -> NDArray:
    """What stands for "nothing there", the same for every map: (N, C, *spatial) float32, 0 outside the foreground.

    Args:
        name: ``zero`` (the foreground's mean where images are z-scored, the middle of the window in CT), ``blur``
            (Gaussian, over the foreground alone) or ``noise`` (normal, with each channel's mean and standard deviation
            in the unit's foreground).
        image: (N, C, *spatial).
        foreground: (N, *spatial) bool, at least one pixel in each unit.
        sigma: of the blur in pixels, along each spatial axis.
        generator: draws the noise.
    """
    inside = foreground[:, None].astype(np.float32)
    if name == "zero":
        return np.zeros_like(image)
    if name == "blur":
        axes = (0, 0, *sigma)
        weight = np.maximum(gaussian_filter(inside, axes), np.finfo(np.float32).tiny)
        return gaussian_filter(image * inside, axes) / weight * inside
    if name == "noise":
        spatial = tuple(range(2, image.ndim))
        mean = image.mean(spatial, where=inside > 0, keepdims=True)
        deviation = image.std(spatial, where=inside > 0, keepdims=True)
        return (mean + deviation * generator.standard_normal(image.shape, dtype=np.float32)) * inside
    raise ValueError(f"unknown baseline {name!r}")


def most_relevant(relevance: NDArray, foreground: NDArray, steps: int, generator: np.random.Generator) -> NDArray:
    """The most relevant 1/steps, 2/steps, ... of a unit's foreground.

    Args:
        relevance: (*spatial), of which only the order counts; pixels of equal relevance come in random order.
        foreground: (*spatial) bool.
        steps: into how many parts the foreground is cut.
        generator: decides between equal ones.

    Returns:
        (steps - 1, *spatial) bool, each holding the one before; none of the foreground and all of it are left out.
    """
    values = relevance[foreground]
    place = np.empty(len(values), dtype=int)
    place[np.lexsort((generator.random(len(values)), -values))] = np.arange(len(values))
    taken = np.rint(np.arange(1, steps) / steps * len(values))
    masks = np.zeros((steps - 1, *foreground.shape), dtype=bool)
    masks[:, foreground] = place < taken[:, None]
    return masks


def deletion_insertion(
    network: Callable[[Tensor], Tensor],
    image: NDArray,
    blank: NDArray,
    foreground: NDArray,
    tops: NDArray,
    device: str = "cpu",
) -> tuple[NDArray, NDArray]:
    """Areas under the curves of deletion and insertion, each (N, M), in logits; larger is better.

    Args:
        network: one logit, (N, 1).
        image: (N, C, *spatial).
        blank: its baseline, of the same shape.
        foreground: (N, *spatial) bool.
        tops: (N, M, steps - 1, *spatial) bool: :func:`most_relevant` of each of M maps.
        device: where the network is.
    """
    units, maps, inner, *spatial = tops.shape
    inside = foreground[:, None]
    top = tops.reshape(units, maps * inner, *spatial)
    kept = np.concatenate([np.ones_like(inside), ~inside, ~top, top | ~inside], axis=1)
    logits = _logits(network, image, blank, kept, device)
    whole, empty = np.broadcast_to(logits[:, :2].T[..., None, None], (2, units, maps, 1))
    deleted, inserted = np.moveaxis(logits[:, 2:].reshape(units, 2, maps, inner), 1, 0)
    drop = whole - np.concatenate([whole, deleted, empty], axis=-1)
    rise = np.concatenate([empty, inserted, whole], axis=-1) - empty
    width = 1 / (inner + 1)
    return np.trapezoid(drop, dx=width), np.trapezoid(rise, dx=width)


def _logits(network: Callable[[Tensor], Tensor], image: NDArray, blank: NDArray, kept: NDArray, device: str) -> NDArray:
    """Logits (N, K) of images (N, C, *spatial) that are blank where ``kept`` (N, K, *spatial) is false."""
    images, blanks = (torch.from_numpy(values).to(device) for values in (image, blank))
    masks = torch.from_numpy(kept).flatten(0, 1)
    owners = torch.arange(len(kept)).repeat_interleave(kept.shape[1])
    with torch.inference_mode():
        logits = [
            network(torch.where(mask[:, None].to(device), images[owner], blanks[owner]))[:, 0].float().cpu()
            for mask, owner in zip(masks.split(BATCH), owners.split(BATCH), strict=True)
        ]
    return torch.cat(logits).reshape(kept.shape[:2]).double().numpy()


def randomised(trained: dict[str, Tensor], fresh: dict[str, Tensor], level: str) -> dict[str, Tensor]:
    """The weights of a network of which some are random again (Adebayo et al. 2018, section 3).

    Args:
        trained, fresh: weights of the same architecture, by name.
        level: of :data:`CASCADE`.
    """
    return trained | {name: values for name, values in fresh.items() if name.startswith(CASCADE[level])}


def spearman(one: NDArray, other: NDArray) -> float:
    """Rank correlation of two maps' values (n,), in [-1, 1]; equal values share their mean rank.

    A constant map has no order: 1 if both are constant, 0 if one is.
    """
    constant = [np.ptp(values) == 0 for values in (one, other)]
    if any(constant):
        return float(all(constant))
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def ssim(one: NDArray, other: NDArray, foreground: NDArray) -> float:
    """Mean structural similarity over the foreground of all units (Wang et al. 2004), in [-1, 1]; 1 if they are equal.

    Args:
        one, other: (N, X, Y) in [0, 1].
        foreground: (N, X, Y) bool.

    Raises:
        ValueError: units are smaller than the window of 7 x 7 pixels.
    """
    local = [structural_similarity(a, b, data_range=1, full=True)[1] for a, b in zip(one, other, strict=True)]
    return float(np.stack(local)[foreground].mean())
