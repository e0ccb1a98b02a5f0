"""Slices that stand in a data set twice: a copy in another role would be tested on what was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from weakseg.data.views import Units, slice_units

SIDE = 16
"""Slices are compared as SIDE x SIDE pixels per channel, so that a copy that was resampled is still found."""

LEAST_CORRELATION = 0.99
"""Correlation from which two slices are one. Those of different patients reach 0.975 among the phantoms and 0.73 among
the glioma patients of TCIA, neighbours in one patient 0.986; a copy has 1, less what was lost on its way."""


@dataclass(frozen=True)
class Duplicate:
    """Two slices of different patients that show the same: cases and positions along Z."""

    case: str
    position: int
    other: str
    other_position: int


def signatures(units: Units) -> NDArray:
    """What each slice shows, in few numbers: the box of its foreground, averaged, without mean, of length 1.

    Returns:
        (N, C * SIDE * SIDE) float32; the product of two is their correlation. Scaling, shifting and cropping a slice
        change it little. A slice without contrast is 0, and so like no other.
    """
    rows = np.stack([_shown(image, mask) for image, mask in zip(units.image, units.foreground, strict=True)])
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _shown(image: NDArray, foreground: NDArray) -> NDArray:
    """The box of a slice (C, X, Y) that holds its foreground (X, Y), averaged: (C * SIDE * SIDE,)."""
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(foreground))
    return adaptive_avg_pool2d(torch.from_numpy(image[:, *box]), SIDE).numpy().ravel()


def near_duplicates(preprocessed: Path, cases: pd.DataFrame, min_foreground_mm2: float) -> Iterator[Duplicate]:
    """Slices of different patients, who differ in role in any fold, that correlate by LEAST_CORRELATION or more.

    Only signatures are kept in memory, 1 kB per slice and channel. A copy that was turned or mirrored is not found.

    Args:
        preprocessed: images and foreground on the case's grid.
        cases: of the index, by case.
        min_foreground_mm2: slices with less foreground are no units.
    """
    roles = cases.filter(like="role_f").agg("/".join, axis=1)
    seen: list[tuple[str, NDArray, NDArray]] = []
    for case in cases.index:
        units = slice_units(preprocessed, case, min_foreground_mm2)
        if not len(units.positions):
            continue
        shown = signatures(units)
        for other, positions, known in seen:
            if roles[case] != roles[other]:
                for here, there in np.argwhere(shown @ known.T >= LEAST_CORRELATION):
                    yield Duplicate(other, int(positions[there]), case, int(units.positions[here]))
        seen.append((case, units.positions, shown))
