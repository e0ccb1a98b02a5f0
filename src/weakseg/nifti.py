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


def _open(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.load(path)
    except Exception as error:
        raise WeaksegError(
            f"{path}: not a readable NIfTI file ({_one_line(error)}); download or export it again"
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise WeaksegError(f"{path}: {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    return image


def read(path: Path, dtype: type = np.float32) -> tuple[NDArray, NDArray]:
    """Read a volume and its affine: ((X, Y, Z) or (C, X, Y, Z), (4, 4)), in RAS.

    Raises:
        WeaksegError: the file is missing, no NIfTI, of fewer than three dimensions, or shorter than its header says.
    """
    image = _open(path)
    try:
        image = nib.as_closest_canonical(image)
        data: NDArray = np.asarray(image.dataobj, dtype=dtype)
    except Exception as error:  # a broken stream raises OSError, EOFError, ValueError or zlib's own
        raise WeaksegError(f"{path}: truncated or damaged ({_one_line(error)}); download or export it again") from error
    return (np.moveaxis(data, 3, 0) if data.ndim == 4 else data), image.affine


def open_channels(path: Path) -> NDArray:
    """Memory-map an image that :func:`write` wrote uncompressed: (C, X, Y, Z) float32, read-only."""
    image = nib.Nifti1Image.from_filename(path, mmap="r")
    return np.moveaxis(np.asanyarray(image.dataobj), 3, 0)


def write(path: Path, data: NDArray, affine: NDArray) -> None:
    """Write (X, Y, Z) or (C, X, Y, Z) with its affine in mm; the suffix (.nii, .nii.gz) decides on compression."""
    stored = np.moveaxis(data, 0, 3) if data.ndim == 4 else data
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_map(path: Path, data: NDArray, affine: NDArray) -> None:
    """Write a float map (X, Y, Z) as int16 with a slope, to 1/32767 of its largest value; 0 stays exactly 0."""
    peak = float(np.abs(data).max())
    if not np.isfinite(peak):
        raise WeaksegError(f"{path}: the map holds NaN or infinity; its method or the image is at fault")
    # The header holds the slope in float32, which cannot divide by less than this.
    slope = max(peak / 32767, float(np.finfo(np.float32).tiny))
    # A slope that is set makes nibabel store the integers as they are; its own scaling may add an intercept.
    image = nib.Nifti1Image(np.rint(data / slope).astype(np.int16), affine)
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def spacing_of(affine: NDArray) -> tuple[float, float, float]:
    """Voxel size in mm along X, Y, Z."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
