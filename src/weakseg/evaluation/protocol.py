"""How a raw map becomes one that can be cut, and which patients choose where. Nothing here looks at a mask."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from weakseg.randomness import rng

RAW = "threshold"
"""The refinement that leaves maps as they are."""

PAPER = "paper"
"""The operating point of methods whose paper cuts them in a way of its own."""

FIXED = 0.5
"""The threshold of the operating point `fixed`."""

HEADLINE = "val-10"
"""The operating point that maps and refinements are compared at first."""


def normalise(raw: NDArray, foreground: NDArray) -> NDArray:
    """Scale a case's raw map to [0, 1]: 0 stays 0, the 99.9th percentile inside the foreground becomes 1.

    Args:
        raw: (X, Y, Z); negative values count as no evidence.
        foreground: (X, Y, Z) bool; all else becomes 0.

    Returns:
        (X, Y, Z) float32 in [0, 1]; all 0 if there is no evidence.
    """
    clipped = np.where(foreground, np.maximum(raw, 0), 0).astype(np.float32)
    inside = clipped[foreground]
    if not inside.size or inside.max() <= 0:
        return np.zeros_like(clipped)
    # Where evidence fills less than a thousandth of the foreground, the percentile is 0: its peak then becomes 1.
    top = float(np.percentile(inside, 99.9)) or float(inside.max())
    return np.minimum(clipped / top, 1)


def val_point(k: int) -> str:
    """The name of the operating point whose threshold k validation patients choose."""
    return f"val-{k}"


def draw_masks(patients: Iterable[str], k: int, draw: int, data_seed: int) -> list[str]:
    """The k patients whose masks a draw may use: the same for every method, and within those of any larger k.

    Args:
        patients: those to draw from, in any order.
        k: how many.
        draw: number of the draw.
        data_seed: seed of the data set.

    Raises:
        ValueError: there are fewer than k patients.
    """
    pool = sorted(set(patients))
    if k > len(pool):
        raise ValueError(f"{k} patients cannot be drawn from {len(pool)}")
    order = rng(data_seed, "draw", str(draw)).permutation(len(pool))
    return [pool[place] for place in order[:k]]


def in_order(points: Iterable[str]) -> list[str]:
    """Names of operating points as tables show them, each once: the headline, blind ones, `val-k`, the upper bound."""

    def place(point: str) -> tuple[int, int]:
        if point.startswith("val-"):
            return 3, int(point.removeprefix("val-"))
        return {"fixed": 0, "label-free": 1, PAPER: 2, "oracle-set": 4}[point], 0

    return sorted(set(points), key=lambda point: (point != HEADLINE, place(point)))
