r"""Class activation maps: every method of the family from one forward and one backward pass.

With activations :math:`A` of a layer, (N, K, *grid), and the gradients :math:`G = \partial y / \partial A` of the
explained logit :math:`y`:

- Grad-CAM (Selvaraju et al. 2017, eq. 1-2): :math:`\mathrm{ReLU}(\sum_k \overline{G_k} A_k)`, :math:`\overline{G_k}`
  the mean of :math:`G_k` over the grid.
- LayerCAM (Jiang et al. 2021, eq. 5-6): :math:`\mathrm{ReLU}(\sum_k \mathrm{ReLU}(G_k) \odot A_k)`.

Maps are interpolated linearly to the size of the image. They are not scaled: that is the protocol's, per case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.maps.base import Explained, Maps, Methods

BATCH = 64
"""Units per forward; results do not depend on it."""


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM from activations and gradients (N, K, *grid): (N, 1, *grid), at least 0."""
    weights = gradients.flatten(2).mean(2)
    return torch.einsum("nk,nk...->n...", weights, activations).relu()[:, None]


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM from activations and gradients (N, K, *grid): (N, 1, *grid), at least 0."""
    return (gradients.relu() * activations).sum(1, keepdim=True).relu()


WEIGHTINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"gradcam": gradcam, "layercam": layercam}


def explain(explained: Explained, methods: Methods) -> Maps:
    """CAMs of the case's selected units, by method; see :class:`weakseg.maps.base.Explain`."""
    images = explained.units.image[explained.selected]
    explained.forwards += len(images)
    layers = {name: str(params["layer"]) for name, params in methods.items()}
    return cams(explained.network, torch.from_numpy(images), layers, explained.device)


def cams(network: nn.Module, images: Tensor, layers: dict[str, str], device: str) -> Maps:
    """Maps of the network's one logit.

    Args:
        network: frozen; its submodules are named by ``layers``.
        images: (N, C, *spatial).
        layers: the layer that each method explains, by method name.
        device: where the network is.

    Returns:
        By method, (N, 1, *spatial) float32, at least 0.
    """
    parts = [_cams(network, batch.to(device), layers) for batch in images.split(BATCH)]
    return {name: np.concatenate([part[name].cpu().numpy() for part in parts]) for name in layers}


def _cams(network: nn.Module, images: Tensor, layers: dict[str, str]) -> dict[str, Tensor]:
    names = sorted(set(layers.values()))
    with torch.enable_grad(), _activations(network, names) as kept:
        # The weights are frozen, so the graph hangs on the image.
        logits = network(images.detach().requires_grad_())
        gradients = torch.autograd.grad(logits.sum(), [kept[name] for name in names])
    by_layer = dict(zip(names, gradients, strict=True))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[images.ndim - 2]
    return {
        method: F.interpolate(
            WEIGHTINGS[method](kept[layer].detach(), by_layer[layer]).float(),
            size=images.shape[2:],
            mode=mode,
            align_corners=False,
        )
        for method, layer in layers.items()
    }


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
