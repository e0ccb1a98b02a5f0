"""The one reader and the one writer of NIfTI files.

In memory, volumes are (X, Y, Z) or (C, X, Y, Z) in RAS orientation with slices along Z. On disk, channels are the
fourth axis. Images are uncompressed (``.nii``), so that they can be memory-mapped; all else is ``.nii.gz``.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from weakseg.errors import WeaksegError

_READ_ERRORS = (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, EOFError, ValueError)


def load(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file in RAS orientation without reading its voxels.

    Raises:
        WeaksegError: the file is missing or is no NIfTI.
    """
    try:
        image = nib.load(path)
    except _READ_ERRORS as error:
        raise WeaksegError(
            f"{path}: not a readable NIfTI file ({_one_line(error)}); download or export it again"
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise WeaksegError(f"{path}: {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    return nib.as_closest_canonical(image)


def read(path: Path, dtype: type = np.float32) -> tuple[NDArray, NDArray]:
    """Read a volume and its affine: ((X, Y, Z) or (C, X, Y, Z), (4, 4)), in RAS.

    Raises:
        WeaksegError: the file is missing, no NIfTI, or shorter than its header says.
    """
    image = load(path)
    try:
        data = np.asarray(image.dataobj, dtype=dtype)
    except (*_READ_ERRORS, Exception) as error:  # zlib raises its own kind on a broken stream
        raise WeaksegError(f"{path}: truncated or damaged ({_one_line(error)}); download or export it again") from error
    return (np.moveaxis(data, 3, 0) if data.ndim == 4 else data), image.affine


def open_channels(path: Path) -> NDArray:
    """Memory-map an image that :func:`write` wrote uncompressed: (C, X, Y, Z) float32, read-only."""
    data = nib.load(path, mmap="r").dataobj
    return np.moveaxis(np.asanyarray(data), 3, 0)


def write(path: Path, data: NDArray, affine: NDArray) -> None:
    """Write (X, Y, Z) or (C, X, Y, Z) with its affine in mm; the suffix (.nii, .nii.gz) decides on compression."""
    stored = np.moveaxis(data, 0, 3) if data.ndim == 4 else data
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_map(path: Path, data: NDArray, affine: NDArray) -> None:
    """Write a float map (X, Y, Z) as int16 with a slope: a third of the size at 1/32767 of its range."""
    peak = float(np.abs(data).max()) or 1.0
    image = nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(peak / 32767, 0)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def spacing_of(affine: NDArray) -> tuple[float, float, float]:
    """Voxel size in mm along X, Y, Z."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
