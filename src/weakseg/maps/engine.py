"""Logits of many perturbed inputs: the one place where perturbation methods ask the network.

A perturbed input is ``keep * image + (1 - keep) * fill``, with ``keep`` in [0, 1]. Perturbations are described cheaply
(:class:`Region`, :class:`Masks`) and built batch by batch on the device, into buffers that are used again: memory does
not grow with their number. A batch is filled with pairs (unit, perturbation), of whatever unit, so that few
perturbations of many slices run as fast as many of one volume. What a batch holds does not change a logit beyond
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, islice
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from weakseg import nifti
from weakseg.feeding import LAYOUTS
from weakseg.maps.base import Explained
from weakseg.maps.cone import Box, ConeForward
from weakseg.maps.reach import LocalNetwork

Precision = Literal["fp32", "bf16"]

CPU_BYTES = 2**24
"""Bytes of input in a batch on the CPU: more leaves the cache, and a forward of each unit takes longer."""

MOST = 64
"""Most perturbed inputs in a batch on the CPU, 16 times that on a GPU."""

TOGETHER = 256
"""Regions of a volume that are handed on at once: those of like sizes share forwards."""

GPU_SHARE = 0.5
"""Share of a GPU's free memory that a batch may fill."""


@dataclass(frozen=True)
class Region:
    """A part of one unit that is replaced: ``keep`` is 0 in it and 1 elsewhere.

    Attributes:
        unit: index of the unit.
        box: the part lies in it, one slice with start and stop for each spatial axis.
        inside: (*box) bool, the part itself.
        values: what comes in its place; broadcasts to (C, *box).
    """

    unit: int
    box: tuple[slice, ...]
    inside: Tensor
    values: Tensor


class Masks(Protocol):
    """P masks over whole units, those of a unit one after another."""

    @property
    def units(self) -> NDArray:
        """(P,) index of each mask's unit."""

    def keep(self, rows: slice, out: Tensor) -> None:
        """Write the masks ``rows``, all of one unit, to ``out``, (B, *spatial), in [0, 1]."""


@dataclass(frozen=True)
class Grids:
    """Masks on coarse grids, interpolated linearly.

    Attributes:
        units: (P,) index of each mask's unit.
        values: (P, *grid) in [0, 1].
        weights: of masks ``rows``, for each axis, (B or 1, size, grid): :func:`interpolation`.
    """

    units: NDArray
    values: Tensor
    weights: Callable[[slice], Sequence[Tensor]]

    def keep(self, rows: slice, out: Tensor) -> None:
        interpolate(self.values[rows], self.weights(rows), out)


@dataclass(frozen=True)
class Subsets:
    """Masks that keep some supervoxels and no others.

    Attributes:
        units: (P,) index of each mask's unit.
        kept: (P, S + 1) bool, by label; the first column, outside the foreground, makes no difference.
        labels: (N, *spatial) int, of each unit 0 to S.
    """

    units: NDArray
    kept: Tensor
    labels: Tensor

    def keep(self, rows: slice, out: Tensor) -> None:
        labels = self.labels[self.units[rows.start]].flatten()
        torch.index_select(self.kept[rows].to(out.dtype), 1, labels, out=out.flatten(1))


class Engine:
    """Runs a frozen network on perturbed inputs.

    Attributes:
        images: (N, C, *spatial) on the device.
        forwards: inputs passed through the network so far.
        batch: inputs in a forward.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        device: str = "cpu",
        precision: Precision = "fp32",
        logit: int = 0,
        batch: int | None = None,
    ) -> None:
        """
        Args:
            network: frozen, on the device; (N, C, *spatial) to (N, K) logits.
            images: (N, C, *spatial) float32.
            device: ``cpu`` or ``cuda``.
            precision: ``bf16`` runs all but linear layers in bfloat16.
            logit: which of the K is explained.
            batch: inputs in a forward; by default what the CPU's cache, or the GPU's memory, has room for.
        """
        self.network, self.device, self.precision, self.logit = network, device, precision, logit
        self.images = images.to(device)
        self.forwards = 0
        self.batch = batch or self._room()

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial size of units."""
        return tuple(self.images.shape[2:])

    def clean(self) -> Tensor:
        """Logits (N,) of the units as they are."""
        logits = self._results(len(self.images))
        for start in range(0, len(logits), self.batch):
            rows = slice(start, start + self.batch)
            logits[rows] = self._logits(self.images[rows])
        return logits

    def regions(self, regions: Iterable[Region], total: int, what: str) -> Tensor:
        """Logits (P,) of units of which one region each is replaced.

        Args:
            regions: P of them, in any order, those of a unit best one after another; may be a generator.
            total: P, for the progress bar.
            what: the bar's name.
        """
        # Slices are too small to gain by it: benchmarks/cone.py.
        if len(self.size) == 3 and self.device == "cpu" and self.precision == "fp32":
            return self._in_cones(regions, total, what)
        logits, done = self._results(total), 0
        # A slot keeps the clean unit, of which only boxes are overwritten and put back: almost no memory is moved.
        slots, holds = self._buffer(min(self.batch, total)), [-1] * self.batch
        with self._bar(total, what) as bar:
            stream = iter(regions)
            while some := list(islice(stream, self.batch)):
                for slot, region in enumerate(some):
                    if holds[slot] != region.unit:
                        slots[slot].copy_(self.images[region.unit])
                        holds[slot] = region.unit
                    here = slots[slot][(slice(None), *region.box)]
                    torch.where(region.inside, region.values, here, out=here)
                logits[done : done + len(some)] = self._logits(slots[: len(some)])
                done += len(some)
                for slot, region in enumerate(some):
                    box = (slice(None), *region.box)
                    slots[slot][box] = self.images[region.unit][box]
                bar.update(len(some))
        return logits

    def _in_cones(self, regions: Iterable[Region], total: int, what: str) -> Tensor:
        """Logits as :meth:`regions` gives them: in each layer only what a region changes is computed again."""
        logits, done, local = self._results(total), 0, local_network(self.network)
        with self._bar(total, what) as bar:
            for unit, of_unit in groupby(regions, key=lambda region: region.unit):
                cone = ConeForward(local, self.images[unit])
                self.forwards += 1
                while some := list(islice(of_unit, TOGETHER)):
                    replaced = partial(_replaced, self.images[unit], some)
                    found = cone.logits([region.box for region in some], replaced)
                    logits[done : done + len(some)] = found[:, self.logit]
                    done += len(some)
                    self.forwards += len(some)
                    bar.update(len(some))
        return logits

    def logits(self, masks: Masks, fill: Tensor, what: str) -> Tensor:
        """Logits (P,) of all masks, as :meth:`masked` takes them."""
        logits = self._results(len(masks.units))
        for rows, _, batch in self.masked(masks, fill, what):
            logits[rows] = batch
        return logits

    def masked(self, masks: Masks, fill: Tensor, what: str) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Forward all masks and hand back each batch.

        Args:
            masks: what is kept.
            fill: what comes where nothing is kept; broadcasts to (N, C, *spatial).
            what: name of the progress bar.

        Yields:
            Rows of the masks; the masks themselves, (B, *spatial), until the next batch; their logits (B,).
        """
        count = len(masks.units)
        fill = fill.to(self.device).expand_as(self.images)
        inputs = self._buffer(min(self.batch, count))
        kept = torch.empty(len(inputs), *self.size, device=self.device)
        with self._bar(count, what) as bar:
            for start in range(0, count, self.batch):
                rows = slice(start, min(start + self.batch, count))
                here = rows.stop - start
                for unit, run in runs(masks.units, rows):
                    to = slice(run.start - start, run.stop - start)
                    masks.keep(run, kept[to])
                    torch.lerp(fill[unit], self.images[unit], kept[to, None], out=inputs[to])
                yield rows, kept[:here], self._logits(inputs[:here])
                bar.update(here)

    def _logits(self, inputs: Tensor) -> Tensor:
        self.forwards += len(inputs)
        lower = self.precision == "bf16"
        with torch.inference_mode(), _exact_linear(self.network, self.device, lower):
            with torch.autocast(self.device, torch.bfloat16, enabled=lower):
                logits: Tensor = self.network(inputs)
            return logits[:, self.logit].float()

    def _results(self, count: int) -> Tensor:
        """Room for logits, made at once: small tensors between large ones would keep freed memory from use."""
        return torch.zeros(count, device=self.device)

    def _buffer(self, length: int) -> Tensor:
        buffer = torch.empty(length, *self.images.shape[1:], device=self.device)
        if self.device == "cpu":
            return buffer
        return buffer.to(memory_format=LAYOUTS.get(buffer.ndim, torch.contiguous_format))

    def _room(self) -> int:
        """How many inputs a forward takes at once; depends on where it runs, and no result depends on it."""
        each = self.images[0].numel() * self.images.element_size()
        if self.device == "cpu":
            return int(np.clip(CPU_BYTES // each, 1, MOST))
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self._logits(self._buffer(1).copy_(self.images[:1]))
        peak = torch.cuda.max_memory_allocated() - before
        return int(np.clip(GPU_SHARE * torch.cuda.mem_get_info()[0] // peak, 1, 16 * MOST))

    def _bar(self, total: int, what: str) -> Any:
        return tqdm(total=total, desc=what, unit="forward", mininterval=1, leave=False, disable=None)


@lru_cache(maxsize=2)
def local_network(network: nn.Module) -> LocalNetwork:
    """The graph of a network, made once for all cases that it explains: of a classifier and its negated copy."""
    return LocalNetwork(network)


def _replaced(image: Tensor, regions: Sequence[Region], number: int, box: Box) -> Tensor:
    """What is in the box of a region, (C, *box), after it is replaced."""
    region = regions[number]
    return torch.where(region.inside, region.values, image[(slice(None), *box)])


def engine_of(explained: Explained, precision: Precision) -> Engine:
    """The engine for a case's selected units."""
    images = torch.from_numpy(explained.units.image[explained.selected])
    return Engine(explained.network, images, explained.device, precision)


def in_voxels(explained: Explained, mm: float) -> list[int]:
    """A length in voxels along each axis of the units, at least 1."""
    units = explained.units
    return [max(1, round(mm / spacing)) for spacing in nifti.spacing_of(units.affine)[: units.image.ndim - 2]]


def runs(units: NDArray, rows: slice) -> Iterator[tuple[int, slice]]:
    """Cut rows into those of one unit each: unit, rows."""
    start = rows.start
    for unit, members in groupby(units[rows]):
        stop = start + len(list(members))
        yield int(unit), slice(start, stop)
        start = stop


def interpolation(places: Tensor, grid: int) -> Tensor:
    """Weights of linear interpolation, (..., size, grid), at places (..., size) on the grid 0, 1, ..., grid - 1."""
    return (1 - (places[..., None] - torch.arange(grid, device=places.device)).abs()).clamp(min=0)


def resizing(size: int, grid: int, device: str = "cpu") -> Tensor:
    """Weights (1, size, grid) that resize as ``F.interpolate(align_corners=False)`` does."""
    places = (torch.arange(size, device=device) + 0.5) * (grid / size) - 0.5
    return interpolation(places.clamp(0, grid - 1), grid)[None]


def interpolate(values: Tensor, weights: Sequence[Tensor], out: Tensor) -> None:
    """Interpolate grids (B, *grid) linearly, axis by axis, into ``out`` (B, *size).

    Products of small matrices: they take an eighth of the time of ``F.interpolate``, and let each grid lie elsewhere.

    Args:
        values: (B, *grid).
        weights: for each axis, (B or 1, size, grid).
        out: contiguous.
    """
    count, done = len(values), 1
    for each in weights[:-1]:
        _, size, grid = each.shape
        values = torch.matmul(each[:, None], values.reshape(count, done, grid, -1))
        done *= size
    last = weights[-1].mT.expand(count, -1, -1)
    torch.bmm(values.reshape(count, done, -1), last, out=out.view(count, done, -1))


@contextmanager
def _exact_linear(network: nn.Module, device: str, lower: bool) -> Iterator[None]:
    """While inside, and if the rest runs in bfloat16, linear layers run in float32.

    A logit with the eight bits of bfloat16 hides the small drops that maps are made of.
    """

    def again(module: nn.Linear, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        with torch.autocast(device, enabled=False):
            return F.linear(inputs[0].float(), module.weight, module.bias)

    layers = [module for module in network.modules() if isinstance(module, nn.Linear)] if lower else []
    hooks = [layer.register_forward_hook(again) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
