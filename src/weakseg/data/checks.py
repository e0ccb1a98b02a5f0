"""Whether the files of a case, and the cases of a data set, can be worked with. Every fault is one line of text."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.layouts import RawCase
from weakseg.errors import WeaksegError

LABELS: dict[str, tuple[int, ...]] = {"brats2017": (0, 1, 2, 4), "brats2015": (0, 1, 2, 3, 4)}
"""Labels that a mask may hold, by coding."""

_AFFINE_TOLERANCE = 1e-3  # mm


@dataclass(frozen=True)
class Checked:
    """A case after its voxels were read.

    Attributes:
        case: the case.
        faults: what is wrong with its files.
        digest: of the voxels of its first modality; None if they cannot be read or are all zero.
    """

    case: RawCase
    faults: tuple[str, ...]
    digest: str | None


@dataclass(frozen=True)
class _Volume:
    path: Path
    data: NDArray  # (X, Y, Z) float32, RAS
    affine: NDArray  # (4, 4), voxel to mm


def check_case(case: RawCase, coding: str) -> Checked:
    """Read all voxels of a case, one file at a time, and list what is wrong with them.

    Args:
        case: files to read.
        coding: key of :data:`LABELS`.
    """
    faults: list[str] = []
    reference: _Volume | None = None
    foreground = False
    digest = None
    for number, path in enumerate(case.images.values()):
        volume, unread = _read(path)
        faults += unread
        if volume is None:
            foreground = True  # unknown: no second fault for the same reason
            continue
        faults += _finite(volume)
        reference = reference or volume
        faults += _same_grid(volume, reference)
        foreground = foreground or bool(volume.data.any())
        if number == 0 and volume.data.any():
            digest = _digest(volume.data)
    if not foreground:
        faults.append(f"{case.folder}: every voxel of every modality is 0; restore the images, or remove the case")
    if case.mask is not None:
        faults += _check_mask(case.mask, reference, coding)
    return Checked(case, tuple(faults), digest)


def compare_cases(main: list[Checked], shift: list[Checked]) -> list[str]:
    """List cases that share their name or their voxels, and patients that are in both the main and the shift data."""
    everything = main + shift
    faults = [
        f"{one.case.folder} and {other.case.folder}: the same case name twice; remove one, or rename it with its files"
        for one, other in _pairs(everything, lambda checked: checked.case.case)
    ]
    faults += [
        f"{one.case.folder} and {other.case.folder}: identical images, so one patient under two names; remove one"
        for one, other in _pairs(everything, lambda checked: checked.digest)
        if one.case.case != other.case.case
    ]
    known = {checked.case.patient: checked.case for checked in main}
    for checked in shift:
        twin = known.get(checked.case.patient)
        if twin is not None and twin.case != checked.case.case:
            faults.append(
                f"{checked.case.folder}: patient {twin.patient} is in the main data too ({twin.folder}); "
                "remove one, a shift fold holds other patients"
            )
    return faults


def _pairs(cases: list[Checked], key: Callable[[Checked], str | None]) -> Iterator[tuple[Checked, Checked]]:
    groups: dict[str, list[Checked]] = defaultdict(list)
    for checked in cases:
        value = key(checked)
        if value is not None:
            groups[value].append(checked)
    for group in groups.values():
        yield from combinations(group, 2)


def _read(path: Path) -> tuple[_Volume | None, list[str]]:
    """A volume, or the fault why there is none."""
    try:
        data, affine = nifti.read(path)
    except WeaksegError as error:
        return None, [str(error)]
    if data.ndim != 3:
        return None, [f"{path}: {data.ndim} dimensions instead of 3; export one 3D volume per file"]
    return _Volume(path, data, affine), []


def _finite(volume: _Volume) -> list[str]:
    bad = int(np.size(volume.data) - np.count_nonzero(np.isfinite(volume.data)))
    return [f"{volume.path}: {bad} voxels are NaN or infinite; export it again, with 0 as background"] if bad else []


def _same_grid(volume: _Volume, reference: _Volume) -> list[str]:
    shape, wanted = volume.data.shape, reference.data.shape
    if shape != wanted:
        return [f"{volume.path}: shape {shape}, but {reference.path.name} has {wanted}; resample it to the same grid"]
    if not np.allclose(volume.affine, reference.affine, rtol=0, atol=_AFFINE_TOLERANCE):
        return [
            f"{volume.path}: its affine differs from that of {reference.path.name}; "
            "register it, or correct the header, so that both lie on one grid"
        ]
    return []


def _check_mask(path: Path, reference: _Volume | None, coding: str) -> list[str]:
    volume, unread = _read(path)
    if volume is None:
        return unread
    faults = _same_grid(volume, reference) if reference is not None else []
    if not_finite := _finite(volume):
        return faults + not_finite
    values = np.unique(volume.data[volume.data != 0])
    if np.any(values != np.rint(values)):
        return [
            *faults,
            f"{path}: values such as {values[values != np.rint(values)][0]:g} are no labels; save integers",
        ]
    extra = sorted({int(value) for value in values} - set(LABELS[coding]))
    return faults + ([_unknown_labels(path, extra, coding)] if extra else [])


def _unknown_labels(path: Path, extra: list[int], coding: str) -> str:
    shown = ", ".join(map(str, extra[:5])) + (f" and {len(extra) - 5} more" if len(extra) > 5 else "")
    found = f"{path}: unknown label {shown}"
    if extra == [3] and coding == "brats2017":
        return (
            f"{found}; set `label_coding: brats2015` if 3 is non-enhancing tumour, "
            "or change it to 4 if it is enhancing tumour (BraTS 2023)"
        )
    return f"{found}; {coding} knows {', '.join(map(str, LABELS[coding]))}: correct the mask or `label_coding`"


def _digest(data: NDArray) -> str:
    return hashlib.sha256(f"{data.shape}".encode() + np.ascontiguousarray(data).tobytes()).hexdigest()
