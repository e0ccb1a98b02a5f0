"""Views of a case: what a classifier sees as one unit. They are cut in memory and have no truth field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground


@dataclass(frozen=True)
class Units:
    """The units of one case, N axial slices here.

    Attributes:
        image: (N, C, X, Y) float32, z-scored, 0 outside the foreground.
        foreground: (N, X, Y) bool.
        positions: (N,) index of each unit along Z.
        case: case name.
        affine: (4, 4) of the case's grid in mm.
        shape: (X, Y, Z) of the case's grid.
    """

    image: NDArray
    foreground: NDArray
    positions: NDArray
    case: str
    affine: NDArray
    shape: tuple[int, int, int]

    def stack(self, maps: NDArray) -> NDArray:
        """Put maps of the units (N, X, Y) back into a volume (X, Y, Z); all else is 0."""
        volume = np.zeros(self.shape, dtype=np.float32)
        volume[:, :, self.positions] = np.moveaxis(maps, 0, 2)
        return volume


def unit_positions(foreground: NDArray, affine: NDArray, min_foreground_mm2: float) -> NDArray:
    """Positions along Z of the slices with enough foreground; foreground is (X, Y, Z) bool."""
    area = foreground.sum(axis=(0, 1)) * pixel_area(affine)
    return np.flatnonzero((area > 0) & (area >= min_foreground_mm2))


def pixel_area(affine: NDArray) -> float:
    """Area in mm2 of a voxel within its axial slice."""
    x, y, _ = nifti.spacing_of(affine)
    return x * y


def slice_units(preprocessed: Path, case: str, min_foreground_mm2: float) -> Units:
    """The slice units of a case; its image is read from the memory map here and nowhere else."""
    foreground, affine = read_foreground(preprocessed, case)
    positions = unit_positions(foreground, affine, min_foreground_mm2)
    channels = nifti.open_channels(image_file(preprocessed, case))
    image = np.ascontiguousarray(np.moveaxis(channels[..., positions], 3, 0), dtype=np.float32)
    return Units(image, np.moveaxis(foreground[..., positions], 2, 0), positions, case, affine, foreground.shape)
