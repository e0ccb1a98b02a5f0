"""Cases on their grid: where the preprocessed files lie, and how to get from one grid to another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from weakseg import nifti


def image_file(folder: Path, case: str) -> Path:
    """The preprocessed image of a case, to be opened with :func:`weakseg.nifti.open_channels`."""
    return folder / "images" / f"{case}.nii"


def foreground_file(folder: Path, case: str) -> Path:
    """The foreground of a case."""
    return folder / "foreground" / f"{case}.nii.gz"


def preprocessed_cases(folder: Path) -> list[str]:
    """Names of all preprocessed cases, in order."""
    return sorted(path.name.removesuffix(".nii.gz") for path in (folder / "foreground").glob("*.nii.gz"))


def read_foreground(folder: Path, case: str) -> tuple[NDArray, NDArray]:
    """Foreground of a case on its grid: (X, Y, Z) bool, and the (4, 4) affine in mm."""
    foreground, affine = nifti.read(foreground_file(folder, case), np.uint8)
    return foreground.astype(bool), affine


def resample(
    volume: NDArray, affine: NDArray, shape: Iterable[int], to_affine: NDArray, mode: Literal["nearest", "linear"]
) -> NDArray:
    """Bring a volume (X, Y, Z) onto another grid, 0 outside the old one; as it is if the grids agree."""
    shape = tuple(shape)
    if volume.shape == shape and np.allclose(affine, to_affine, atol=1e-4):
        return volume
    shift = np.linalg.solve(affine, to_affine)
    offset = np.rint(shift[:3, 3]).astype(int)
    if np.allclose(shift[:3, :3], np.eye(3), atol=1e-4) and np.allclose(shift[:3, 3], offset, atol=1e-3):
        return _cut(volume, shape, offset)
    image = nib.Nifti1Image(np.asarray(volume, dtype=np.float32), affine)
    moved = resample_from_to(image, (shape, to_affine), order=0 if mode == "nearest" else 1)
    return np.asarray(moved.dataobj, dtype=np.float32)


def _cut(volume: NDArray, shape: tuple[int, ...], offset: NDArray) -> NDArray:
    """Voxel ``offset + i`` of a volume at ``i``: a crop or pad needs no interpolation."""
    result = np.zeros(shape, dtype=np.float32)
    low, high = np.maximum(-offset, 0), np.minimum(np.array(volume.shape) - offset, shape)
    if (high > low).all():
        to = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        result[to] = volume[tuple(slice(a + o, b + o) for a, b, o in zip(low, high, offset, strict=True))]
    return result
