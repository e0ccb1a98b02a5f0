r"""Attributions from the gradients of a logit at the image, at many points a unit, batched over points and units.

With the explained logit :math:`y`, an image :math:`x` and a baseline :math:`x'`:

- Integrated Gradients (Sundararajan et al. 2017, eq. 1):
  :math:`(x - x') \odot \int_0^1 \partial y / \partial x \, (x' + a (x - x')) \, da`, the integral by Gauss-Legendre
  quadrature. The map is the sum over channels and keeps its sign: over all voxels it adds up to
  :math:`y(x) - y(x')`, and what is negative speaks against the class (the protocol counts it as no evidence).
- SmoothGrad (Smilkov et al. 2017): the mean of :math:`\partial y / \partial x \, (x + \epsilon)` over Gaussian noise
  :math:`\epsilon`, its standard deviation a share of the range of the unit's values. The map is the sum over channels
  of absolute values, as in the authors' code: how much the logit depends on a voxel, be it for or against the class.

Maps have the resolution of the image and are not scaled: that is the protocol's, per case.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg.maps.base import Explained, Methods
from weakseg.maps.gated import Maps
from weakseg.randomness import rng

VALUES = 2**20
"""Image values per forward: it bounds the memory, and results do not depend on it."""


def explain(explained: Explained, methods: Methods) -> Maps:
    """Maps of the case's selected units, by method; see :class:`weakseg.maps.base.Explain`."""
    return {name: METHODS[name](explained, **params) for name, params in methods.items()}


def _integrated_gradients(explained: Explained, baseline: str, steps: int) -> NDArray:
    images = explained.units.image[explained.selected]
    baselines = BASELINES[baseline](images, explained.units.foreground[explained.selected])
    explained.forwards += len(images) * steps
    attributions = integrated_gradients(
        explained.network, torch.from_numpy(images), torch.from_numpy(baselines), steps, explained.device
    )
    return attributions.sum(1, keepdim=True).numpy()


def _smoothgrad(explained: Explained, samples: int, noise: float) -> NDArray:
    images = explained.units.image[explained.selected]
    explained.forwards += len(images) * samples

    def draw(unit: int, sample: int) -> NDArray:
        # Each has a generator of its own, so that a unit's noise depends neither on the others nor on batches.
        purpose = f"smoothgrad-{explained.selected[unit]}-{sample}"
        return rng(explained.seed, purpose, explained.units.case).standard_normal(images.shape[1:], dtype=np.float32)

    gradients = smoothgrad(explained.network, torch.from_numpy(images), draw, samples, noise, explained.device)
    return gradients.abs().sum(1, keepdim=True).numpy()


METHODS: dict[str, Callable[..., NDArray]] = {
    "integrated_gradients": _integrated_gradients,
    "smoothgrad": _smoothgrad,
}


def zero(images: NDArray, foreground: NDArray) -> NDArray:
    """0 everywhere: the mean of the foreground where images are z-scored, the middle of the window in CT."""
    return np.zeros_like(images)


def minimum(images: NDArray, foreground: NDArray) -> NDArray:
    """Each channel's smallest value in the foreground of its unit, in all of that foreground."""
    inside = np.broadcast_to(foreground[:, None], images.shape)
    spatial = tuple(range(2, images.ndim))
    darkest = images.min(axis=spatial, where=inside, initial=np.inf, keepdims=True)
    return np.where(inside, darkest, images)


BASELINES: dict[str, Callable[[NDArray, NDArray], NDArray]] = {"zero": zero, "minimum": minimum}
"""Baselines of images (N, C, *spatial), given their foregrounds (N, *spatial) bool: what stands for nothing."""


def integrated_gradients(
    network: nn.Module, images: Tensor, baselines: Tensor, steps: int, device: str, logit: int = 0
) -> Tensor:
    """Integrated Gradients of one logit.

    Args:
        network: frozen.
        images: (N, C, *spatial).
        baselines: (N, C, *spatial), where the paths to the images begin.
        steps: points on each path.
        device: where the network is.
        logit: which of the network's logits.

    Returns:
        (N, C, *spatial) float32 on the CPU; over a unit it adds up to the difference of its two logits.
    """
    images, baselines = images.to(device), baselines.to(device)
    nodes, weights = torch.from_numpy(np.stack(np.polynomial.legendre.leggauss(steps))).float().to(device)
    # From [-1, 1] to [0, 1].
    places = ((nodes + 1) / 2).reshape(-1, *[1] * (images.ndim - 1))

    def on_path(units: Tensor, points: Tensor) -> Tensor:
        return torch.lerp(baselines[units], images[units], places[points])

    integrals = weighted_gradients(network, images, on_path, weights / 2, logit)
    return ((images - baselines) * integrals).cpu()


def smoothgrad(
    network: nn.Module,
    images: Tensor,
    draw: Callable[[int, int], NDArray],
    samples: int,
    noise: float,
    device: str,
    logit: int = 0,
) -> Tensor:
    """The mean gradient of one logit at noisy images, before the absolute value is taken.

    Args:
        network: frozen.
        images: (N, C, *spatial).
        draw: standard normal noise (C, *spatial) float32 of a unit and the number of a sample.
        samples: noisy images of each unit.
        noise: standard deviation, as a share of the range of the unit's values.
        device: where the network is.
        logit: which of the network's logits.

    Returns:
        (N, C, *spatial) float32 on the CPU.
    """
    images = images.to(device)
    values = images.flatten(1)
    deviations = (noise * (values.amax(1) - values.amin(1))).reshape(-1, *[1] * (images.ndim - 1))

    def noisy(units: Tensor, points: Tensor) -> Tensor:
        drawn = np.stack([draw(unit, sample) for unit, sample in zip(units.tolist(), points.tolist(), strict=True)])
        return images[units] + deviations[units] * torch.from_numpy(drawn).to(device)

    return weighted_gradients(network, images, noisy, torch.full((samples,), 1 / samples, device=device), logit).cpu()


def weighted_gradients(
    network: nn.Module,
    images: Tensor,
    inputs: Callable[[Tensor, Tensor], Tensor],
    weights: Tensor,
    logit: int,
) -> Tensor:
    """The weighted sum of a logit's gradients at some points around each unit.

    Args:
        network: frozen.
        images: (N, C, *spatial), where the network is.
        inputs: (B, C, *spatial) at the (B,) points of the (B,) units that are named.
        weights: (P,) of each unit's points.
        logit: which of the network's logits.

    Returns:
        (N, C, *spatial), where the network is.
    """
    total = torch.zeros_like(images)
    pairs = torch.arange(len(images) * len(weights), device=images.device)
    for batch in pairs.split(max(1, VALUES // images[0].numel())):
        units, points = batch // len(weights), batch % len(weights)
        with torch.enable_grad():
            batched = inputs(units, points).requires_grad_()
            (gradients,) = torch.autograd.grad(network(batched)[:, logit].sum(), batched)
        total.index_add_(0, units, gradients * weights[points].reshape(-1, *[1] * (images.ndim - 1)))
    return total
