r"""Relevance from perturbed inputs: occlusion, RISE and Score-CAM.

With :math:`y` the explained logit, :math:`m` a mask in [0, 1] and :math:`x \odot m` the image of which :math:`1 - m` is
filled:

- occlusion (Zeiler & Fergus 2014, section 2.1): :math:`y(x) - y(x \odot (1 - b))` for each window :math:`b`, and at a
  voxel the mean over the windows that cover it;
- RISE: :mod:`weakseg.maps.rise`;
- Score-CAM (Wang et al. 2020, eq. 4-6): :math:`\mathrm{ReLU}(\sum_k \alpha_k A_k)`, :math:`\alpha` the softmax over
  channels of :math:`y(x \odot H_k) - y(x_b)`, :math:`H_k` the activation :math:`A_k` scaled to [0, 1]. The softmax is
  the same whatever the baseline :math:`x_b`, so it costs no forward.

Occlusion and RISE are signed: negative values speak against the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg.maps.base import Explained, Methods
from weakseg.maps.engine import Engine, Grids, Precision, Region, engine_of, in_voxels, interpolate, resizing
from weakseg.maps.fills import fill_of
from weakseg.maps.gated import Maps
from weakseg.maps.rise import rise


def explain(explained: Explained, methods: Methods) -> Maps:
    """Maps of the case's selected units, by method; see :class:`weakseg.maps.base.Explain`."""
    maps = {}
    for name, params in methods.items():
        options = dict(params)
        precision: Precision = options.pop("precision")
        fill = fill_of(explained, options.pop("fill"), options.pop("blur_mm"))
        engine = engine_of(explained, precision)
        maps[name] = METHODS[name](engine, explained, fill, **options)[:, None].cpu().numpy()
        explained.forwards += engine.forwards
    return maps


def occlusion(engine: Engine, explained: Explained, fill: Tensor, window_mm: float, stride_mm: float) -> Tensor:
    """The mean drop of the logit over the windows that cover a voxel: (M, *spatial), 0 outside the foreground.

    Windows stand on a regular grid from the first voxel on and end at the border; of each only the foreground is
    filled, and those without foreground cost no forward.

    Args:
        engine, explained, fill: what to explain.
        window_mm: edge of the window, rounded to voxels along each axis.
        stride_mm: from one window to the next.
    """
    foreground = torch.from_numpy(explained.units.foreground[explained.selected]).to(engine.images.device)
    edges, strides = (in_voxels(explained, mm) for mm in (window_mm, stride_mm))
    places = [
        (unit, box)
        for unit, inside in enumerate(foreground)
        for box in windows(engine.size, edges, strides)
        if inside[box].any()
    ]
    regions = (Region(unit, box, foreground[unit][box], fill[unit][(slice(None), *box)]) for unit, box in places)
    clean = engine.clean()
    left = engine.regions(regions, len(places), "occlusion")
    drops, covers = torch.zeros(2, *foreground.shape, device=foreground.device)
    for (unit, box), logit in zip(places, left, strict=True):
        drops[(unit, *box)] += clean[unit] - logit
        covers[(unit, *box)] += 1
    return torch.where(foreground, drops / covers.clamp(min=1), 0)


def windows(size: Sequence[int], edges: Sequence[int], strides: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Boxes of a regular grid that cover all voxels; the last ones end at the border."""
    axes = [
        [slice(start, min(start + edge, length)) for start in range(0, max(length - edge, 0) + stride, stride)]
        for length, edge, stride in zip(size, edges, strides, strict=True)
    ]
    yield from product(*axes)


def scorecam(engine: Engine, explained: Explained, fill: Tensor, layer: str) -> Tensor:
    """Score-CAM (M, *spatial), at least 0; a forward for each channel of the layer.

    Activations stay on their coarse grid, and are interpolated for the batch that needs them.

    Args:
        engine, explained, fill: what to explain.
        layer: the module whose activations are masks.
    """
    parts: list[Tensor] = []
    hook = engine.network.get_submodule(layer).register_forward_hook(lambda *call: parts.append(call[-1].float()))
    try:
        engine.clean()
    finally:
        hook.remove()
    values = torch.cat(parts)
    count, channels, *grid = values.shape
    flat = values.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    # A channel that is the same everywhere keeps nothing.
    scaled = (flat - low) / torch.where(high > low, high - low, 1)
    resize = [resizing(length, nodes, engine.device) for length, nodes in zip(engine.size, grid, strict=True)]
    masks = Grids(np.repeat(np.arange(count), channels), scaled.reshape(-1, *grid), lambda _rows: resize)
    weights = F.softmax(engine.logits(masks, fill, "Score-CAM").reshape(count, channels), dim=1)
    coarse = torch.einsum("nk,nk...->n...", weights, values).relu()
    maps = torch.empty(count, *engine.size, device=values.device)
    interpolate(coarse, resize, maps)
    return maps


METHODS: dict[str, Callable[..., Tensor]] = {"occlusion": occlusion, "rise": rise, "scorecam": scorecam}
