"""Views of a case: what a classifier sees as one unit. They are cut in memory and have no truth field.

In the slice view a unit is an axial slice. In the sequence view it is one too, and knows the slices beside it. In the
volume view a case is one unit: the box around its foreground.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground


@dataclass(frozen=True)
class Units:
    """The units of one case, N axial slices; :class:`Windowed` and :class:`Volume` are the other views.

    Attributes:
        image: (N, C, *spatial) float32, z-scored, 0 outside the foreground.
        foreground: (N, *spatial) bool.
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

    def cut(self, volume: NDArray) -> NDArray:
        """A volume (X, Y, Z) on the case's grid at the units: (N, *spatial)."""
        return np.moveaxis(volume[..., self.positions], 2, 0)

    def stack(self, maps: NDArray) -> NDArray:
        """Put maps of the units (N, *spatial) back into a volume (X, Y, Z); all else is 0."""
        volume = np.zeros(self.shape, dtype=np.float32)
        volume[:, :, self.positions] = np.moveaxis(maps, 0, 2)
        return volume

    def indices(self) -> tuple[NDArray, NDArray, NDArray]:
        """Index along X, Y and Z of the units' voxels on the case's grid; together they broadcast to (N, *spatial)."""
        _, width, height = self.foreground.shape
        return np.arange(width)[:, None], np.arange(height), self.positions[:, None, None]


@dataclass(frozen=True)
class Windowed(Units):
    """Axial slices, each the middle of a window of K.

    Attributes:
        windows: (N, K) indices of units: :func:`windows_of`.
    """

    windows: NDArray


@dataclass(frozen=True)
class Volume(Units):
    """A case as its only unit (N = 1, spatial is the box's X, Y, Z); ``positions`` is 0.

    Attributes:
        box: where it lies on the case's grid.
    """

    box: tuple[slice, slice, slice]

    def cut(self, volume: NDArray) -> NDArray:
        return volume[self.box][None]

    def stack(self, maps: NDArray) -> NDArray:
        volume = np.zeros(self.shape, dtype=np.float32)
        volume[self.box] = maps[0]
        return volume

    def indices(self) -> tuple[NDArray, NDArray, NDArray]:
        x, y, z = (np.arange(axis.start, axis.stop) for axis in self.box)
        return x[None, :, None, None], y[:, None], z


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


def windows_of(positions: NDArray, spacing: float, slices: int, distance_mm: float | None) -> NDArray:
    """The window of each slice unit.

    Args:
        positions: (N,) of the units along Z, ascending.
        spacing: mm from one position to the next.
        slices: K, odd.
        distance_mm: from a slice of the window to the next, rounded to whole positions, at least one; None: one.

    Returns:
        (N, K) indices of units, in the order of Z, the slice itself in the middle. Instead of a slice that is no unit,
        beyond the first or last one or without enough foreground, the nearest unit; of two the one on this side.
    """
    step = 1 if distance_mm is None else max(1, round(distance_mm / spacing))
    wanted = positions[:, None] + step * np.arange(-(slices // 2), slices // 2 + 1)
    missed = np.abs(positions - wanted[..., None])
    # Less than one position whatever the units, so that it decides between equals alone.
    away = np.abs(positions - positions[:, None, None]) / (1 + np.ptp(positions))
    return (missed + away).argmin(axis=2)


def sequence_units(
    preprocessed: Path, case: str, min_foreground_mm2: float, slices: int, distance_mm: float | None
) -> Windowed:
    """The slice units of a case with their windows."""
    units = slice_units(preprocessed, case, min_foreground_mm2)
    windows = windows_of(units.positions, nifti.spacing_of(units.affine)[2], slices, distance_mm)
    return Windowed(**vars(units), windows=windows)


def foreground_box(
    foreground: NDArray, affine: NDArray, least_mm: tuple[float, float, float]
) -> tuple[slice, slice, slice]:
    """The box around a foreground (X, Y, Z) bool, widened about its middle to a least size where the grid allows.

    A common size keeps the share of background alike, which a classifier's average over all voxels depends on.
    """
    box = []
    for axis, (least, size) in enumerate(zip(least_mm, nifti.spacing_of(affine), strict=True)):
        inside = np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis})))
        low, high, length = inside[0], inside[-1] + 1, foreground.shape[axis]
        width = min(max(high - low, int(np.ceil(least / size))), length)
        start = int(np.clip((low + high - width) // 2, 0, length - width))
        box.append(slice(start, start + int(width)))
    return box[0], box[1], box[2]


def volume_units(preprocessed: Path, case: str, least_mm: tuple[float, float, float]) -> Volume:
    """A case as one unit, in the box of :func:`foreground_box`."""
    foreground, affine = read_foreground(preprocessed, case)
    box = foreground_box(foreground, affine, least_mm)
    image = np.array(nifti.open_channels(image_file(preprocessed, case))[:, *box], dtype=np.float32)
    return Volume(image[None], foreground[box][None], np.array([0]), case, affine, foreground.shape, box)


def read_units(preprocessed: Path, case: str, view: dict[str, Any]) -> Units:
    """The units of a case in a view.

    Args:
        preprocessed: result of the stage ``preprocess``.
        case: case name.
        view: parameters with ``view``, ``slice``, ``sequence`` or ``volume``, and what that view needs:
            ``min_foreground_mm2``, for sequences also ``window`` with ``slices`` and ``distance_mm``, or ``least_mm``.
    """
    if view["view"] == "sequence":
        return sequence_units(preprocessed, case, view["min_foreground_mm2"], **view["window"])
    if view["view"] == "volume":
        return volume_units(preprocessed, case, view["least_mm"])
    return slice_units(preprocessed, case, view["min_foreground_mm2"])
