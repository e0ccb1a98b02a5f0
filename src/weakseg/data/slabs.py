"""Volumes read slab by slab, so that a scan of a thousand slices needs no more memory than one of fifty."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.errors import WeaksegError

VOXELS = 2**23
"""Most voxels of a slab, unless one plane has more."""


@dataclass(frozen=True)
class Volume:
    """A 3D NIfTI file whose voxels have not been read.

    Attributes:
        path: the file.
        shape: voxels along X, Y, Z in RAS.
        affine: (4, 4), voxel in RAS to mm.
        stored: where the stored axes point to, such as ``IPL`` for KiTS.
        image: the open file.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray
    stored: str
    image: nib.Nifti1Image = field(repr=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along X, Y, Z."""
        return nifti.spacing_of(self.affine)


@dataclass(frozen=True)
class Slab:
    """Some neighbouring planes of a volume.

    Attributes:
        data: (x, y, z) float32 in RAS.
        place: where they lie in the volume, one slice per axis.
    """

    data: NDArray
    place: tuple[slice, slice, slice]


@dataclass(frozen=True)
class ImageFacts:
    """What the voxels of an image come to.

    Attributes:
        not_finite: voxels that are NaN or infinite.
        lowest, highest: of the other voxels; inf and -inf if there are none.
        share_above: share of all voxels that lie above a bound.
        digest: the same for the same voxels in RAS, however their axes are stored.
    """

    not_finite: int
    lowest: float
    highest: float
    share_above: float
    digest: str

    @property
    def all_zero(self) -> bool:
        """Whether there is no image at all."""
        return self.lowest == self.highest == 0 and not self.not_finite


@dataclass(frozen=True)
class MaskFacts:
    """What the voxels of a mask come to.

    Attributes:
        not_finite: voxels that are NaN or infinite.
        labels: whole numbers found, without 0.
        fraction: the smallest value that is no whole number, None if there is none.
        extent: first and last slice along Z with a voxel that is not 0, None if there is none.
    """

    not_finite: int
    labels: set[int]
    fraction: float | None
    extent: tuple[int, int] | None


def open_volume(path: Path) -> Volume:
    """Read the header of a volume.

    Raises:
        WeaksegError: the file is missing, no NIfTI, not 3D, or its affine cannot be inverted.
    """
    nifti._open(path)
    # An open file is decompressed once, and not from its start for each slab.
    image = nib.Nifti1Image.from_filename(path, keep_file_open=True)
    if image.ndim != 3:
        raise WeaksegError(f"{path}: {image.ndim} dimensions instead of 3; export one 3D volume per file")
    if min(image.shape) < 1:
        raise WeaksegError(f"{path}: its header says {image.shape} voxels; download or export it again")
    affine = image.affine
    if not np.isfinite(affine).all() or np.isclose(np.linalg.det(affine[:3, :3]), 0, atol=1e-9):
        raise WeaksegError(f"{path}: its affine is degenerate (a voxel size of 0, or NaN); correct the header")
    turn = io_orientation(affine)
    if np.isnan(turn).any():
        raise WeaksegError(f"{path}: its affine is degenerate (two axes are one); correct the header")
    x, y, z = (image.shape[axis] for axis in np.argsort(turn[:, 0]))
    to_ras = affine @ inv_ornt_aff(turn, image.shape)
    return Volume(path, (x, y, z), to_ras, "".join(map(str, aff2axcodes(affine))), image)


def slabs(volume: Volume) -> Iterator[Slab]:
    """Read a volume once from its first to its last byte, in slabs along its last stored axis.

    Raises:
        WeaksegError: the file is shorter than its header says, or damaged.
    """
    image = volume.image
    turn = io_orientation(image.affine)
    planes = image.shape[2]
    step = max(1, VOXELS // (image.shape[0] * image.shape[1]))
    axis, mirrored = int(turn[2, 0]), turn[2, 1] < 0
    for start in range(0, planes, step):
        stop = min(start + step, planes)
        try:
            stored = np.asarray(image.dataobj[..., start:stop], dtype=np.float32)
        except Exception as error:  # a broken stream raises OSError, EOFError, ValueError or zlib's own
            text = " ".join(str(error).split()) or type(error).__name__
            raise WeaksegError(f"{volume.path}: truncated or damaged ({text}); download or export it again") from error
        place = [slice(None)] * 3
        place[axis] = slice(planes - stop, planes - start) if mirrored else slice(start, stop)
        yield Slab(apply_orientation(stored, turn), (place[0], place[1], place[2]))


def read_image(volume: Volume, bound: float) -> ImageFacts:
    """Read all voxels of an image.

    Args:
        volume: the image.
        bound: see :attr:`ImageFacts.share_above`.

    Raises:
        WeaksegError: the file is shorter than its header says, or damaged.
    """
    not_finite = above = 0
    lowest, highest = np.inf, -np.inf
    # Sums of bit patterns over each plane along X, Y and Z are exact in whatever order the slabs come.
    sums = [np.zeros(length, np.int64) for length in volume.shape]
    for slab in slabs(volume):
        values, bad = _finite(slab.data)
        not_finite += bad
        lowest = min(lowest, float(values.min(initial=np.inf)))
        highest = max(highest, float(values.max(initial=-np.inf)))
        above += int(np.count_nonzero(values > bound))
        bits = slab.data.view(np.int32)
        for axis, total in enumerate(sums):
            others = tuple(other for other in range(3) if other != axis)
            total[slab.place[axis]] += bits.sum(axis=others, dtype=np.int64)
    digest = hashlib.sha256(b"".join(total.tobytes() for total in (np.array(volume.shape), *sums))).hexdigest()
    return ImageFacts(not_finite, lowest, highest, above / math.prod(volume.shape), digest)


def read_mask(volume: Volume) -> MaskFacts:
    """Read all voxels of a mask.

    Raises:
        WeaksegError: the file is shorter than its header says, or damaged.
    """
    not_finite = 0
    labels: set[int] = set()
    fractions: set[float] = set()
    occupied: set[int] = set()
    for slab in slabs(volume):
        values, bad = _finite(slab.data)
        not_finite += bad
        found = np.unique(values[values != 0])
        whole = found == np.rint(found)
        labels.update(map(int, found[whole]))
        fractions.update(map(float, found[~whole][:1]))
        occupied.update((slab.place[2].start or 0) + np.flatnonzero(slab.data.any(axis=(0, 1))))
    extent = (int(min(occupied)), int(max(occupied))) if occupied else None
    return MaskFacts(not_finite, labels, min(fractions, default=None), extent)


def _finite(data: NDArray) -> tuple[NDArray, int]:
    """The finite voxels, and how many are not."""
    finite = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(finite))
    return (data[finite] if bad else data), bad
