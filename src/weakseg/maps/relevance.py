r"""The relevance map of Rajapaksa & Khalvati 2022 (10.3389/fradi.2022.1061402), in the manner of its abstract.

Supervoxels are perturbed one at a time and the frozen classifier is watched. With :math:`y` the explained logit and
:math:`x_{r,v}` the image whose supervoxel :math:`r` is filled with :math:`v`, every voxel of :math:`r` gets

.. math:: R_r = \mathrm{mean}_v \max(0, y(x) - y(x_{r,v})),

averaged over several scales of supervoxels. Ours, for the abstract does not say: the fills, the scales (coarser ones
are merged from the case's supervoxels, :mod:`weakseg.maps.scales`), and that drops are of the logit; the probability of
a sure classifier hardly moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg.maps.base import Explained, Methods
from weakseg.maps.engine import Engine, Precision, Region, engine_of
from weakseg.maps.fills import fill_of, neighbour_means
from weakseg.maps.gated import Maps
from weakseg.maps.scales import merged
from weakseg.maps.surrogate import by_voxel, supervoxel_regions, supervoxels_of, unit_labels


def explain(explained: Explained, methods: Methods) -> Maps:
    """Relevance maps of the case's selected units; see :class:`weakseg.maps.base.Explain`."""
    return {name: relevance_map(explained, **params) for name, params in methods.items()}


def relevance_map(
    explained: Explained, fills: Sequence[str], blur_mm: float, scales: Sequence[float], precision: Precision
) -> NDArray:
    """The mean drop of the logit over fills and scales: (M, 1, *spatial) float32, at least 0.

    Args:
        explained: what to explain.
        fills: ``zero``, ``blur``, ``noise`` or ``neighbours``, the mean of the neighbouring supervoxels.
        blur_mm: standard deviation of the Gaussian of ``blur``.
        scales: share of the case's supervoxels that is left at each scale, in (0, 1].
        precision: of forwards.
    """
    engine = engine_of(explained, precision)
    clean = engine.clean().cpu().double().numpy()
    everywhere = {name: fill_of(explained, name, blur_mm) for name in fills if name != "neighbours"}
    supervoxels, image = supervoxels_of(explained), explained.units.image
    total = np.zeros((len(clean), 1, *engine.size), dtype=np.float32)
    for scale in scales:
        # Over the whole case, so that slices share their coarser supervoxels as well.
        labels = unit_labels(merged(supervoxels, image, scale)[explained.selected])
        for name in fills:
            drops = _drops(engine, clean, labels, everywhere.get(name), f"relevance map, {name}")
            total += by_voxel(drops, labels)
    explained.forwards += engine.forwards
    return total / (len(scales) * len(fills))


def _drops(engine: Engine, clean: NDArray, labels: NDArray, fill: Tensor | None, what: str) -> list[NDArray]:
    """The drop of the logit for each supervoxel, by unit (S,), at least 0."""

    def regions() -> Iterator[Region]:
        for unit, each in enumerate(labels):
            if fill is None:
                yield from _neighbour_regions(engine, unit, each)
            else:
                yield from supervoxel_regions(unit, each, fill[unit])

    counts = labels.max(axis=tuple(range(1, labels.ndim)))
    left = engine.regions(regions(), int(counts.sum()), what).cpu().double().numpy()
    parts = np.split(left, np.cumsum(counts)[:-1])
    return [np.maximum(whole - part, 0) for whole, part in zip(clean, parts, strict=True)]


def _neighbour_regions(engine: Engine, unit: int, labels: NDArray) -> Iterator[Region]:
    image = engine.images[unit]
    means = torch.from_numpy(neighbour_means(image.cpu().numpy(), labels)).to(image.device)
    for number, region in enumerate(supervoxel_regions(unit, labels, image), start=1):
        flat = means[number].reshape(-1, *[1] * labels.ndim)
        yield Region(unit, region.box, region.inside, flat)
