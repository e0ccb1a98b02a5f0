"""Random walks from what is surely lesion and what is surely not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from weakseg.refinements.case import Case, NotRefinedError, box_around, scaled

LARGEST = 400_000
"""More voxels without a seed are solved on a coarser grid, which bounds time and memory."""
WEAKEST = 1e-6
"""Added to every weight, so that no border is so strong that the system becomes singular."""
TOLERANCE = 1e-5
"""Of conjugate gradients, relative to the right-hand side."""
ITERATIONS = 500
"""Most steps of conjugate gradients. What it has then is used: it differs from the solution by little."""


def refine(relevance: NDArray, case: Case, *, high: float, low: float, beta: float, channels: Sequence[int]) -> NDArray:
    """Random walker (Grady 2006, 10.1109/TPAMI.2006.233) between seeds that the map gives.

    Voxels of high relevance are lesion, those of low relevance are not; each one between gets the probability that a
    random walk that starts there meets lesion first. Neighbours (by faces) at a distance of h mm are joined with
    weight exp(-beta |difference|^2) / h^2: so on thick slices walks rarely change slice, and scikit-image's
    ``random_walker``, of one weight for all axes, is the case of equal spacing (``tests/unit/test_random_walker.py``).
    Only the box around what is not surely normal is looked at. If more than :data:`LARGEST` voxels in it have no seed,
    means over blocks, of as many voxels as make their sides alike, are solved in their place, and the probability is
    interpolated linearly between the seeds.

    Args:
        relevance: (X, Y, Z) in [0, 1]; both limits are shares of its largest value.
        case: its image, foreground and spacing.
        high: from here on, lesion.
        low: up to here, not lesion.
        beta: how much a difference of intensity, in [0, 1], holds walks back.
        channels: places of the channels in the image.

    Returns:
        (X, Y, Z) float32 in [0, 1]: the probability, 0 outside the foreground. A part of the foreground that touches
        no seed keeps its relevance.

    Raises:
        NotRefinedError: the image is constant, or nothing in the foreground is surely normal.
    """
    relative = np.where(case.foreground, relevance / relevance.max(), 0)
    if not (case.foreground & (relative <= low)).any():
        raise NotRefinedError("no_normal_seed")
    box = box_around(relative > low, margin=1)
    image, inside, relative = scaled(case, channels, box), case.foreground[box], relative[box]
    refined = np.zeros(relevance.shape, dtype=np.float32)
    factors = _block(relative, inside, high, low, case.spacing)
    if factors == (1, 1, 1):
        refined[box] = walk(image, inside, relative, case.spacing, high, low, beta)
        return refined
    # A block is lesion if any of its voxels is, and normal if all are: so no seed of lesion is lost.
    counts = blocks(inside.astype(np.float32), factors).mean(3)
    coarse = walk(
        np.stack([blocks(channel, factors).mean(3) for channel in image]) / np.maximum(counts, 1e-6),
        counts > 0,
        blocks(relative, factors).max(3),
        tuple(size * factor for size, factor in zip(case.spacing, factors, strict=True)),
        high,
        low,
        beta,
    )
    # Where a voxel lies between the centres of the blocks.
    places = [(np.arange(size) + 0.5) / factor - 0.5 for size, factor in zip(inside.shape, factors, strict=True)]
    fine = ndimage.map_coordinates(coarse, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    refined[box] = np.where(inside, np.where(relative >= high, 1, np.where(relative <= low, 0, fine)), 0)
    return refined


def _block(
    relative: NDArray, inside: NDArray, high: float, low: float, spacing: tuple[float, float, float]
) -> tuple[int, ...]:
    """Voxels along X, Y, Z that become one, so that no more than :data:`LARGEST` have no seed."""
    unknown = np.count_nonzero(inside & (relative > low) & (relative < high))
    factors = [1, 1, 1]
    while unknown > LARGEST * np.prod(factors):
        sides = [
            size * factor if voxels > factor else np.inf
            for size, factor, voxels in zip(spacing, factors, inside.shape, strict=True)
        ]
        factors[int(np.argmin(sides))] += 1
    return tuple(factors)


def blocks(volume: NDArray, factors: Sequence[int]) -> NDArray:
    """A volume (X, Y, Z) in blocks, (blocks along X, Y, Z, voxels of a block); beyond its end they hold 0."""
    width = [-size % factor for size, factor in zip(volume.shape, factors, strict=True)]
    padded = np.pad(volume, [(0, more) for more in width])
    split = [part for size, factor in zip(padded.shape, factors, strict=True) for part in (size // factor, factor)]
    return padded.reshape(split).transpose(0, 2, 4, 1, 3, 5).reshape(*split[::2], -1)


def walk(
    image: NDArray,
    inside: NDArray,
    relative: NDArray,
    spacing: Sequence[float],
    high: float,
    low: float,
    beta: float,
) -> NDArray:
    """Solve for the probability of lesion; see :func:`refine`.

    Args:
        image: (C, X, Y, Z) in [0, 1].
        inside: (X, Y, Z) bool, where walks may go.
        relative: (X, Y, Z) in [0, 1], the map.
        spacing: voxel size in mm.
        high, low, beta: as there.

    Returns:
        (X, Y, Z) float32 in [0, 1].
    """
    result = np.where(inside, np.where(relative >= high, 1, np.where(relative <= low, 0, relative)), 0)
    unknown = _reached(inside & (relative > low) & (relative < high), inside)
    count = np.count_nonzero(unknown)
    if count == 0:
        return result.astype(np.float32)
    number = np.full(inside.shape, -1, dtype=np.int32)
    number[unknown] = np.arange(count)
    degree, rhs = np.zeros(count), np.zeros(count)
    rows, columns, weights = [], [], []
    for axis, size in enumerate(spacing):
        ahead, behind = (np.moveaxis(number, axis, 0)[part] for part in (np.s_[1:], np.s_[:-1]))
        walkable, value = np.moveaxis(inside, axis, 0), np.moveaxis(result, axis, 0)
        joined = walkable[1:] & walkable[:-1] & ((ahead >= 0) | (behind >= 0))
        channels = np.moveaxis(image, axis + 1, 1)
        squares = sum((of[1:][joined] - of[:-1][joined]) ** 2 for of in channels)
        weight = (np.exp(-beta * squares) + WEAKEST) * (min(spacing) / size) ** 2
        for one, other, seed in ((ahead, behind, value[:-1]), (behind, ahead, value[1:])):
            here, there = one[joined], other[joined]
            degree += np.bincount(here[here >= 0], weight[here >= 0], count)
            known = (here >= 0) & (there < 0)
            rhs += np.bincount(here[known], (weight * seed[joined])[known], count)
            both = (here >= 0) & (there >= 0)
            rows.append(here[both])
            columns.append(there[both])
            weights.append(-weight[both])
    rows.append(np.arange(count, dtype=np.int32))
    columns.append(np.arange(count, dtype=np.int32))
    weights.append(degree)
    places = (np.concatenate(rows), np.concatenate(columns))
    laplacian = sparse.csr_array((np.concatenate(weights), places), shape=(count, count))
    jacobi = sparse.dia_array((1 / degree[None], [0]), shape=(count, count))
    solution, _ = cg(laplacian, rhs, x0=result[unknown], rtol=TOLERANCE, maxiter=ITERATIONS, M=jacobi)
    result[unknown] = np.clip(solution, 0, 1)
    return result.astype(np.float32)


def _reached(unknown: NDArray, inside: NDArray) -> NDArray:
    """The unknown voxels that are joined to a seed; the others would make the system singular."""
    pieces, number = ndimage.label(inside)
    seeded = np.zeros(number + 1, dtype=bool)
    seeded[np.unique(pieces[inside & ~unknown])] = True
    return unknown & seeded[pieces]
