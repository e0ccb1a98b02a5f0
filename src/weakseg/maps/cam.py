r"""Class activation maps: every method of the family from one forward and one backward pass.

With activations :math:`A` of a layer, (N, K, *grid), and the gradients :math:`G = \partial y / \partial A` of the
explained logit :math:`y`; sums without an index run over the grid:

- CAM (Zhou et al. 2016, eq. 2): :math:`\sum_k w_k A_k`, :math:`w_k` the weights of the linear head on the mean of the
  last activations. The gradient there is :math:`w_k` over the number of voxels, so :math:`w_k = \sum G_k`: no head need
  be found in the network.
- Grad-CAM (Selvaraju et al. 2017, eq. 1-2): :math:`\mathrm{ReLU}(\sum_k \overline{G_k} A_k)`, :math:`\overline{G_k}`
  the mean of :math:`G_k` over the grid.
- Grad-CAM++ (Chattopadhay et al. 2018, eq. 11-12, 19): :math:`\mathrm{ReLU}(\sum_k w_k A_k)`,
  :math:`w_k = \sum \alpha_k \odot \mathrm{ReLU}(G_k)`,
  :math:`\alpha_k = G_k^2 / (2 G_k^2 + G_k^3 \sum A_k) = 1 / (2 + G_k \sum A_k)`. The source differentiates
  :math:`e^y`; that cancels in :math:`\alpha`, and as a factor of the whole map it is left out. :math:`G_k^3` stands
  before the sum, as in the source, and not inside it, as in some implementations.
- XGrad-CAM (Fu et al. 2020, eq. 7-8): :math:`\mathrm{ReLU}(\sum_k w_k A_k)`,
  :math:`w_k = \sum G_k \odot A_k / \sum A_k`.
- HiResCAM (Draelos & Carin 2020, eq. 4): :math:`\sum_k G_k \odot A_k`.
- LayerCAM (Jiang et al. 2021, eq. 5-6): :math:`\mathrm{ReLU}(\sum_k \mathrm{ReLU}(G_k) \odot A_k)`. Those of several
  layers are fused as in its eq. 9; see :func:`fuse`.

CAM and HiResCAM have no ReLU: what is negative speaks against the class. Maps are interpolated linearly to the size of
the image. They are not scaled: that is the protocol's, per case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.maps.base import Explained, Methods
from weakseg.maps.gated import Maps

BATCH = 64
"""Units per forward; results do not depend on it."""

GAMMA = 2
"""Scale factor of LayerCAM's fusion, that of its source."""


def cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """CAM from activations and gradients (N, K, *grid) of the layer whose mean the linear head sees: (N, 1, *grid)."""
    return _weighted(gradients.flatten(2).sum(2), activations)


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM from activations and gradients (N, K, *grid): (N, 1, *grid), at least 0."""
    return _weighted(gradients.flatten(2).mean(2), activations).relu()


def gradcampp(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ from activations and gradients (N, K, *grid): (N, 1, *grid), at least 0."""
    flat = gradients.flatten(2)
    denominators = 2 + flat * activations.flatten(2).sum(2, keepdim=True)
    return _weighted((flat.relu() / _nonzero(denominators)).sum(2), activations).relu()


def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM from activations and gradients (N, K, *grid): (N, 1, *grid), at least 0."""
    weights = (gradients * activations).flatten(2).sum(2) / _nonzero(activations.flatten(2).sum(2))
    return _weighted(weights, activations).relu()


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM from activations and gradients (N, K, *grid): (N, 1, *grid)."""
    return (gradients * activations).sum(1, keepdim=True)


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM from activations and gradients (N, K, *grid): (N, 1, *grid), at least 0."""
    return (gradients.relu() * activations).sum(1, keepdim=True).relu()


def _weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Sum over channels of activations (N, K, *grid), weighted by (N, K): (N, 1, *grid)."""
    return torch.einsum("nk,nk...->n...", weights, activations)[:, None]


def _nonzero(denominators: Tensor) -> Tensor:
    """A channel that is off has nothing to divide: 0 becomes 1."""
    return torch.where(denominators == 0, 1, denominators)


WEIGHTINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cam": cam,
    "gradcam": gradcam,
    "gradcampp": gradcampp,
    "xgradcam": xgradcam,
    "hirescam": hirescam,
    "layercam": layercam,
}


def explain(explained: Explained, methods: Methods) -> Maps:
    """CAMs of the case's selected units, by method; see :class:`weakseg.maps.base.Explain`."""
    images = explained.units.image[explained.selected]
    explained.forwards += len(images)
    layers = {name: params["layer"] for name, params in methods.items()}
    # All the first one, but CAM where another is that of the linear head.
    logits = {name: params.get("logit", 0) for name, params in methods.items()}
    return cams(explained.network, torch.from_numpy(images), layers, explained.device, logits)


def cams(
    network: nn.Module,
    images: Tensor,
    layers: Mapping[str, str | Sequence[str]],
    device: str,
    logits: Mapping[str, int] | None = None,
) -> Maps:
    """Maps of the logits of a network.

    Args:
        network: frozen; its submodules are named by ``layers``.
        images: (N, C, *spatial).
        layers: the layer that each method explains, by method name; maps of several layers are fused.
        device: where the network is.
        logits: which of the network's logits each method explains, by method name; None: the first.

    Returns:
        By method, (N, 1, *spatial) float32.
    """
    chosen = logits or dict.fromkeys(layers, 0)
    parts = [_cams(network, batch.to(device), layers, chosen) for batch in images.split(BATCH)]
    return {name: np.concatenate([part[name].cpu().numpy() for part in parts]) for name in layers}


def _cams(
    network: nn.Module, images: Tensor, layers: Mapping[str, str | Sequence[str]], logits: Mapping[str, int]
) -> dict[str, Tensor]:
    listed = {method: [chosen] if isinstance(chosen, str) else list(chosen) for method, chosen in layers.items()}
    names = sorted({name for of_method in listed.values() for name in of_method})
    with torch.enable_grad(), _activations(network, names) as kept:
        # The weights are frozen, so the graph hangs on the image.
        outputs = network(images.detach().requires_grad_())
        activations = [kept[name] for name in names]
        gradients = {
            logit: dict(
                zip(names, torch.autograd.grad(outputs[:, logit].sum(), activations, retain_graph=True), strict=True)
            )
            for logit in set(logits.values())
        }
    maps: dict[str, Tensor] = {}
    for method, of_method in listed.items():
        of_logit = gradients[logits[method]]
        coarse = [WEIGHTINGS[method](kept[name].detach(), of_logit[name]).float() for name in of_method]
        maps[method] = _resized(coarse[0], images.shape[2:]) if len(coarse) == 1 else fuse(coarse, images.shape[2:])
    return maps


def fuse(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    r"""Fuse maps of several layers as LayerCAM does: :math:`\max_l \tanh(\gamma M_l / \max M_l)`, voxel by voxel.

    The source scales each image to 1 in the end. Here the largest of a unit's :math:`\max M_l` is multiplied back:
    units of one case are compared with each other, and a slice with little evidence must not look like one with much.

    Args:
        maps: one for each layer, (N, 1, *grid) at least 0, each with a grid of its own.
        size: of the image.

    Returns:
        (N, 1, *size), at least 0.
    """
    peaks = [coarse.flatten(1).amax(1).reshape(-1, *[1] * (coarse.ndim - 1)) for coarse in maps]
    scaled = [torch.tanh(GAMMA * coarse / _nonzero(peak)) for coarse, peak in zip(maps, peaks, strict=True)]
    highest = torch.stack([_resized(coarse, size) for coarse in scaled]).amax(0)
    return highest * torch.stack(peaks).amax(0)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate (N, 1, *grid) linearly, voxel centres on voxel centres: (N, 1, *size).

    Axis by axis, as matrix products: in 3D that takes a fraction of the time of trilinear interpolation at once, and
    with six maps of one pass the difference counts.
    """
    for axis, length in enumerate(size, start=2):
        ends = torch.eye(maps.shape[axis], device=maps.device)[None]
        weights = F.interpolate(ends, size=length, mode="linear", align_corners=False)[0]
        maps = (maps.transpose(axis, -1) @ weights).transpose(axis, -1)
    return maps


@contextmanager
def _activations(network: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Keep the outputs of named submodules while inside; no hook stays behind."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: kept.__setitem__(name, output)

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
