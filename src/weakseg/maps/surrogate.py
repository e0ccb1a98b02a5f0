r"""What supervoxels are worth to the classifier: each left out alone, or random subsets that a linear model explains.

With :math:`y(z)` the logit of the image of which the supervoxels :math:`z \in \{0, 1\}^S` are kept and the others
filled, every voxel of supervoxel :math:`s` gets

- ablation: :math:`y(1) - y(1 - e_s)`;
- LIME (Ribeiro et al. 2016, eq. 1 and section 3.4): :math:`w_s` of the ridge regression of :math:`y(z)` on :math:`z`,
  each :math:`z_s` drawn with probability 1/2, weighted by :math:`\exp(-D^2 / \sigma^2)`, :math:`D` the cosine distance
  of :math:`z` from 1;
- KernelSHAP (Lundberg & Lee 2017, theorem 2): the Shapley value :math:`\phi_s`, as weighted least squares with
  :math:`\sum_s \phi_s = y(1) - y(0)`. Subsets are drawn in pairs :math:`z, 1 - z` in proportion to the Shapley kernel
  (Covert & Lee 2021, arXiv 2012.01536, section 3), or all taken where they are few enough, which is exact.

Values are signed: negative ones speak against the class. In the slice view a slice's supervoxels are the slice of the
case's. Outside the foreground maps are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.segmentation import relabel_sequential
from torch import Tensor

from weakseg.maps.base import Explained, Methods
from weakseg.maps.engine import Engine, Precision, Region, Subsets, engine_of
from weakseg.maps.fills import fill_of
from weakseg.maps.gated import Maps
from weakseg.randomness import rng


def explain(explained: Explained, methods: Methods) -> Maps:
    """Maps of the case's selected units, by method; see :class:`weakseg.maps.base.Explain`."""
    maps = {}
    labels = unit_labels(supervoxels_of(explained)[explained.selected])
    for name, params in methods.items():
        options = dict(params)
        precision: Precision = options.pop("precision")
        fill = fill_of(explained, options.pop("fill"), options.pop("blur_mm"))
        engine = engine_of(explained, precision)
        maps[name] = by_voxel(METHODS[name](engine, explained, labels, fill, **options), labels)
        explained.forwards += engine.forwards
    return maps


def supervoxels_of(explained: Explained) -> NDArray:
    """Supervoxels (N, *spatial) of all units.

    Raises:
        ValueError: there are none.
    """
    if explained.supervoxels is None:
        raise ValueError(f"{explained.units.case}: this method explains supervoxels, and was given none")
    return explained.supervoxels


def unit_labels(labels: NDArray) -> NDArray:
    """Number the supervoxels of each unit (N, *spatial) from 1 on, 0 outside the foreground: int64."""
    return np.stack([relabel_sequential(unit)[0] for unit in labels]).astype(np.int64)


def by_voxel(values: list[NDArray], labels: NDArray) -> NDArray:
    """Spread a unit's values (S,) over its supervoxels, labels (N, *spatial): (N, 1, *spatial) float32."""
    maps = [np.concatenate([[0], value])[unit] for value, unit in zip(values, labels, strict=True)]
    return np.stack(maps)[:, None].astype(np.float32)


def ablation(engine: Engine, explained: Explained, labels: NDArray, fill: Tensor) -> list[NDArray]:
    """The drop of the logit when a supervoxel is filled, by unit (S,); S + 1 forwards a unit."""
    clean = engine.clean().cpu().double().numpy()
    counts = labels.max(axis=tuple(range(1, labels.ndim)))
    regions = (region for unit in range(len(labels)) for region in supervoxel_regions(unit, labels[unit], fill[unit]))
    left = engine.regions(regions, int(counts.sum()), "ablation").cpu().double().numpy()
    return [whole - part for whole, part in zip(clean, np.split(left, np.cumsum(counts)[:-1]), strict=True)]


def supervoxel_regions(unit: int, labels: NDArray, fill: Tensor) -> Iterator[Region]:
    """One region for each supervoxel of a unit, labels (*spatial); in its place comes fill (C, *spatial)."""
    on_device = torch.from_numpy(labels).to(fill.device)
    for label, box in enumerate(find_objects(labels), start=1):
        yield Region(unit, box, on_device[box] == label, fill[(slice(None), *box)])


def lime(
    engine: Engine, explained: Explained, labels: NDArray, fill: Tensor, samples: int, kernel_width: float, ridge: float
) -> list[NDArray]:
    """Weights of the linear model, by unit (S,); the first of the samples keeps all.

    Args:
        engine, explained, labels, fill: what to explain.
        samples: forwards a unit.
        kernel_width: sigma.
        ridge: weight of the squared weights.
    """
    drawn = []
    for generator, unit in zip(_generators(explained, "lime"), labels, strict=True):
        kept = generator.random((samples, int(unit.max()))) < 0.5
        kept[0] = True
        drawn.append(kept)
    logits = subset_logits(engine, drawn, labels, fill, "LIME")
    return [
        linear_model(kept, values, np.exp(-(cosine_distance(kept) ** 2) / kernel_width**2), ridge)
        for kept, values in zip(drawn, logits, strict=True)
    ]


def cosine_distance(kept: NDArray) -> NDArray:
    """Distance (P,) of subsets (P, S) from the whole: 1 less the cosine, 1 for the empty one."""
    return 1 - np.sqrt(kept.mean(axis=1)) if kept.shape[1] else np.zeros(len(kept))


def linear_model(kept: NDArray, logits: NDArray, weight: NDArray, ridge: float) -> NDArray:
    """Weighted ridge regression with an intercept that is not penalised.

    Args:
        kept: (P, S) bool.
        logits, weight: (P,).
        ridge: weight of the squared weights.

    Returns:
        (S,) float64.
    """
    share = weight / weight.sum()
    features, target = kept - share @ kept, logits - share @ logits
    weighted = features.T * weight
    return np.linalg.solve(weighted @ features + ridge * np.eye(kept.shape[1]), weighted @ target)


def kernelshap(engine: Engine, explained: Explained, labels: NDArray, fill: Tensor, samples: int) -> list[NDArray]:
    """Shapley values, by unit (S,).

    Args:
        engine, explained, labels, fill: what to explain.
        samples: subsets a unit, beside the whole and the empty one; all that there are, if they are no more.
    """
    drawn, weights = [], []
    for generator, unit in zip(_generators(explained, "kernelshap"), labels, strict=True):
        kept, weight = shapley_subsets(int(unit.max()), samples, generator)
        ends = np.broadcast_to([[True], [False]], (2, kept.shape[1]))
        drawn.append(np.concatenate([ends, kept]))
        weights.append(weight)
    logits = subset_logits(engine, drawn, labels, fill, "KernelSHAP")
    return [
        shapley_values(kept[2:], values[2:], weight, values[0], values[1])
        for kept, values, weight in zip(drawn, logits, weights, strict=True)
    ]


def shapley_subsets(count: int, samples: int, generator: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Subsets of supervoxels, neither empty nor whole, and their weights.

    Args:
        count: S.
        samples: how many at most; half of them are drawn, the others are what those leave out.
        generator: draws them.

    Returns:
        (P, S) bool and (P,): equal weights if they are drawn, the Shapley kernel if they are all that there are.
    """
    if count < 2:
        return np.zeros((0, count), dtype=bool), np.zeros(0)
    if 2**count - 2 <= samples:
        every = np.array(list(product([False, True], repeat=count)))[1:-1]
        sizes = every.sum(axis=1)
        ways = np.array([comb(count, size) for size in sizes])
        return every, (count - 1) / (ways * sizes * (count - sizes))
    sizes = np.arange(1, count)
    chance = 1 / (sizes * (count - sizes))
    size = generator.choice(sizes, size=max(1, samples // 2), p=chance / chance.sum())
    place = generator.random((len(size), count)).argsort(axis=1).argsort(axis=1)
    kept = place < size[:, None]
    return np.stack([kept, ~kept], axis=1).reshape(-1, count), np.ones(2 * len(size))


def shapley_values(kept: NDArray, logits: NDArray, weight: NDArray, whole: float, empty: float) -> NDArray:
    """Weighted least squares of the logits on the subsets, under the constraint that all adds up.

    Args:
        kept: (P, S) bool.
        logits, weight: (P,).
        whole, empty: logits of all and of no supervoxels; the intercept is ``empty``.

    Returns:
        (S,) float64 with the sum ``whole - empty``; the shortest of all solutions where subsets are too few for one.
    """
    count = kept.shape[1]
    if not count:
        return np.zeros(0)
    # What is left after an equal share for each has the sum 0: least squares within that hyperplane.
    share = (whole - empty) / count
    features = kept - kept.mean(axis=1, keepdims=True)
    target = logits - empty - share * kept.sum(axis=1)
    root = np.sqrt(weight)
    values = np.linalg.lstsq(features * root[:, None], target * root, rcond=None)[0]
    return share + values - values.mean()


def subset_logits(engine: Engine, drawn: list[NDArray], labels: NDArray, fill: Tensor, what: str) -> list[NDArray]:
    """Logits (P,) of a unit's subsets, for all units at once.

    Args:
        engine: holds N units.
        drawn: for each unit (P, S) bool, the supervoxels that are kept.
        labels: (N, *spatial) int64.
        fill: (N, C, *spatial), in place of the others.
        what: name of the progress bar.
    """
    counts = [len(kept) for kept in drawn]
    columns = 1 + max((kept.shape[1] for kept in drawn), default=0)
    table = np.ones((sum(counts), columns), dtype=bool)
    for stop, kept in zip(np.cumsum(counts), drawn, strict=True):
        table[stop - len(kept) : stop, 1 : 1 + kept.shape[1]] = kept
    device = engine.images.device
    units = np.repeat(np.arange(len(drawn)), counts)
    subsets = Subsets(units, torch.from_numpy(table).to(device), torch.from_numpy(labels).to(device))
    logits = engine.logits(subsets, fill, what).cpu().double().numpy()
    return np.split(logits, np.cumsum(counts)[:-1])


def _generators(explained: Explained, purpose: str) -> Iterator[np.random.Generator]:
    """A generator for each selected unit."""
    for position in explained.units.positions[explained.selected]:
        yield rng(explained.seed, purpose, f"{explained.units.case}/{position}")


METHODS: dict[str, Callable[..., list[NDArray]]] = {"ablation": ablation, "lime": lime, "kernelshap": kernelshap}
