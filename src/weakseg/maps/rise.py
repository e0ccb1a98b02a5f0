r"""RISE (Petsiuk et al. 2018, section 3): what the logit is on average where a voxel is kept.

Random masks :math:`m_i` are coarse grids of zeros and ones, shifted by a part of a cell and interpolated linearly. With
:math:`y_i` the logit of the image of which :math:`1 - m_i` is filled, the map is

.. math:: \sum_i y_i m_i / \sum_i m_i - \overline{y}.

The source (eq. 6) divides by the expected sum of the masks and leaves :math:`\overline{y}` in. Its probabilities have a
zero; a logit's offset would weigh the noise of the masks' sum. Here an offset makes no difference, and negative values
speak against the class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg.maps.base import Explained
from weakseg.maps.engine import Engine, Grids, in_voxels, interpolation, runs
from weakseg.randomness import rng


def rise(
    engine: Engine,
    explained: Explained,
    fill: Tensor,
    masks: int,
    cell_mm: float,
    keep: float,
    antithetic: bool,
    reliability: float | None,
    check: int,
) -> Tensor:
    """The mean logit where a voxel is kept, less the mean over all masks: (M, *spatial).

    A unit's map has converged when the maps of two halves of its masks agree: by Spearman and Brown the whole map's
    reliability is :math:`2 r / (1 + r)`, :math:`r` the correlation of the halves' maps over the foreground. A map that
    is the same everywhere has converged as well.

    Args:
        engine, explained, fill: what to explain.
        masks: most forwards a unit.
        cell_mm: edge of a mask's cells.
        keep: probability that a cell is kept.
        antithetic: every second mask keeps where the one before, from the same numbers, does not.
        reliability: where a unit stops; ``None`` runs all masks.
        check: masks of a unit between two looks at its map.
    """
    units = explained.units
    foreground = torch.from_numpy(units.foreground[explained.selected]).flatten(1).to(engine.images.device)
    cells = in_voxels(explained, cell_mm)
    generators = [
        rng(explained.seed, "rise", f"{units.case}/{position}") for position in units.positions[explained.selected]
    ]
    count = len(generators)
    # Over each half of the masks, sums of m and of y m; over all of them, of y.
    sums = torch.zeros(count, 2, 2, foreground.shape[1], device=foreground.device)
    totals, clean = torch.zeros(count, dtype=torch.float64), engine.clean()
    done, waiting = np.zeros(count, dtype=int), list(range(count))
    while waiting:
        shares = [min(check, masks - done[unit]) for unit in waiting]
        drawn = [
            random_grids(generators[unit], share, engine.size, cells, keep, antithetic)
            for unit, share in zip(waiting, shares, strict=True)
        ]
        stream = shifted_grids(np.repeat(waiting, shares), drawn, engine.size, cells, foreground.device)
        # Pairs stay together: masks 0 and 1 are of one half, 2 and 3 of the other.
        half = torch.cat([torch.arange(share) // 2 % 2 for share in shares]).to(foreground.device)
        for rows, kept, logits in engine.masked(stream, fill, "RISE"):
            for unit, run in runs(stream.units, rows):
                here = slice(run.start - rows.start, run.stop - rows.start)
                # Relative to the clean logit, so that small differences of large sums are not lost.
                rises = logits[here] - clean[unit]
                of_half = half[run] == torch.arange(2, device=half.device)[:, None]
                factors = of_half[:, None] * torch.stack([torch.ones_like(rises), rises])
                sums[unit].flatten(0, 1).addmm_(factors.flatten(0, 1), kept[here].flatten(1))
                totals[unit] += rises.double().sum().cpu()
        done[waiting] += shares
        waiting = [
            unit
            for unit in waiting
            if done[unit] < masks and not (reliability and converged(sums[unit][:, :, foreground[unit]], reliability))
        ]
    together = sums.sum(1)
    means = (totals / torch.from_numpy(done)).float().to(foreground.device)
    return (_ratio(together) - means[:, None]).reshape(count, *engine.size)


def _ratio(sums: Tensor) -> Tensor:
    """Sums of m and y m, (..., 2, V), to the mean of y weighted by m, (..., V); 0 where nothing was kept."""
    return sums[..., 1, :] / sums[..., 0, :].clamp(min=1e-6)


def converged(sums: Tensor, reliability: float) -> bool:
    """Whether the maps of two halves (2, 2, V) agree so well that their mean is reliable."""
    first, second = _ratio(sums).double()
    first, second = first - first.mean(), second - second.mean()
    scale = (first.norm() * second.norm()).item()
    if scale == 0:
        return True
    correlation = (first @ second).item() / scale
    return 2 * correlation >= reliability * (1 + correlation)


def random_grids(
    generator: np.random.Generator, count: int, size: Sequence[int], cells: Sequence[int], keep: float, antithetic: bool
) -> tuple[NDArray, NDArray]:
    """Coarse grids (P, *grid) of 0 and 1, and the part of a cell by which each is shifted along each axis, (P, D)."""
    pairs = -(-count // 2) if antithetic else count
    grid = [grid_length(length, cell) for length, cell in zip(size, cells, strict=True)]
    numbers, shifts = generator.random((pairs, *grid), dtype=np.float32), generator.random((pairs, len(grid)))
    if antithetic:
        numbers = np.stack([numbers, 1 - numbers], axis=1).reshape(-1, *grid)[:count]
        shifts = shifts.repeat(2, axis=0)[:count]
    return numbers < keep, shifts


def grid_length(length: int, cell: int) -> int:
    """Nodes of a coarse grid that covers an axis of voxels, however it is shifted."""
    return -(-(length - 1) // cell) + 2


def shifted_grids(
    units: NDArray,
    drawn: list[tuple[NDArray, NDArray]],
    size: Sequence[int],
    cells: Sequence[int],
    device: torch.device,
) -> Grids:
    """Masks of grids that lie elsewhere each."""
    values = torch.from_numpy(np.concatenate([grids for grids, _ in drawn]).astype(np.float32)).to(device)
    shifts = torch.from_numpy(np.concatenate([shifts for _, shifts in drawn]).astype(np.float32)).to(device)

    def weights(rows: slice) -> list[Tensor]:
        return [
            interpolation(torch.arange(length, device=device) / cell + shift[:, None], nodes)
            for length, cell, shift, nodes in zip(size, cells, shifts[rows].T, values.shape[1:], strict=True)
        ]

    return Grids(units, values, weights)
