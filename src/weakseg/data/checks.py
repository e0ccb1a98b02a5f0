"""Whether the files of a case, and the cases of a data set, can be worked with. Every fault is one line of text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from weakseg.data.layouts import RawCase
from weakseg.data.slabs import ImageFacts, Volume, open_volume, read_image, read_mask
from weakseg.errors import WeaksegError

LABELS: dict[str, tuple[int, ...]] = {
    "brats2017": (0, 1, 2, 4),
    "brats2015": (0, 1, 2, 3, 4),
    "instance": (0, 1),
    "kits": (0, 1, 2, 3),
}
"""Labels that a lesion mask may hold, by coding."""

ORGAN_LABELS = (0, 1)

CT = "ct"
"""The channel that must be in HU."""

AIR, METAL = -200, 5000
"""HU. Every scan has air below the first; above the second there is metal, in a small part of the scan."""

MIN_SLICES = 3

_METAL_SHARE = 0.01
_AFFINE_TOLERANCE = 1e-3  # mm
_SHEAR_TOLERANCE = 0.01  # cosine between two axes
_THICK = 2  # slices are thick if they are this many times as thick as a voxel is wide


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


def check_case(case: RawCase, coding: str) -> Checked:
    """Read all voxels of a case, one slab of one file at a time, and list what is wrong with them.

    Args:
        case: files to read; without a mask, none is checked.
        coding: key of :data:`LABELS` for the lesion mask.
    """
    faults: list[str] = []
    reference: Volume | None = None
    foreground = False
    digest = None
    for number, (modality, path) in enumerate(case.images.items()):
        try:
            volume = open_volume(path)
            facts = read_image(volume, METAL)
        except WeaksegError as error:
            faults.append(str(error))
            foreground = True  # unknown: no second fault for the same reason
            continue
        faults += _finite(path, facts.not_finite)
        faults += _same_grid(volume, reference) if reference else _geometry(volume)
        reference = reference or volume
        faults += _hounsfield(path, facts) if modality == CT else []
        foreground = foreground or not facts.all_zero
        if number == 0 and not facts.all_zero:
            digest = facts.digest
    if not foreground:
        faults.append(f"{case.place}: every voxel of every modality is 0; restore the images, or remove the case")
    if case.mask is not None:
        faults += _check_mask(case.mask, reference, coding)
    for organ in case.organs:
        if organ != case.mask:
            faults += _check_mask(organ, reference, None)
    return Checked(case, tuple(faults), digest)


def compare_cases(main: list[Checked], shift: list[Checked]) -> list[str]:
    """List cases that share their name or their voxels, and patients that are in both the main and the shift data."""
    everything = main + shift
    faults = [
        f"{one.case.place} and {other.case.place}: the same case name twice; remove one, or rename it with its files"
        for one, other in _pairs(everything, lambda checked: checked.case.case)
    ]
    faults += [
        f"{one.case.place} and {other.case.place}: identical images, so one patient under two names; remove one"
        for one, other in _pairs(everything, lambda checked: checked.digest)
        if one.case.case != other.case.case
    ]
    known = {checked.case.patient: checked.case for checked in main}
    for checked in shift:
        twin = known.get(checked.case.patient)
        if twin is not None and twin.case != checked.case.case:
            faults.append(
                f"{checked.case.place}: patient {twin.patient} is in the main data too ({twin.place}); "
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


def _finite(path: Path, not_finite: int) -> list[str]:
    if not not_finite:
        return []
    return [f"{path}: {not_finite} voxels are NaN or infinite; export it again, with 0 as background"]


def _geometry(volume: Volume) -> list[str]:
    """Faults of a grid on its own; for spacing 5 x 0.5 x 0.5 mm the slices lie along the wrong axis."""
    if volume.shape[2] < MIN_SLICES:
        count = f"{volume.shape[2]} slice" + ("s" if volume.shape[2] != 1 else "")
        return [f"{volume.path}: {count} along Z; a case needs at least {MIN_SLICES}, export the whole scan"]
    axes = volume.affine[:3, :3] / volume.spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR_TOLERANCE:
        return [f"{volume.path}: its axes are not at right angles (a tilted gantry?); resample it to a straight grid"]
    order = np.argsort(volume.spacing)
    thickest, next_thickest = volume.spacing[order[2]], volume.spacing[order[1]]
    if order[2] != 2 and thickest > _THICK * next_thickest:
        return [
            f"{volume.path}: its slices of {thickest:g} mm lie along {'XY'[order[2]]}, not along Z (stored as "
            f"{volume.stored}); the orientation in its header is permuted, or the scan is not axial: correct the affine"
        ]
    return []


def _same_grid(volume: Volume, reference: Volume) -> list[str]:
    shape, wanted, name = volume.shape, reference.shape, reference.path.name
    if shape != wanted and sorted(shape) == sorted(wanted):
        return [
            f"{volume.path}: shape {shape}, but {name} has {wanted}, so its axes are permuted; "
            "save it with the axes and the affine of the image"
        ]
    if shape != wanted:
        return [f"{volume.path}: shape {shape}, but {name} has {wanted}; resample it to the same grid"]
    if np.allclose(volume.affine, reference.affine, rtol=0, atol=_AFFINE_TOLERANCE):
        return []
    if volume.stored != reference.stored:
        return [
            f"{volume.path}: stored as {volume.stored}, {name} as {reference.stored}, and not on one grid, so it is "
            "mirrored or permuted; save it with the axes and the affine of the image"
        ]
    return [
        f"{volume.path}: its affine differs from that of {name}; "
        "register it, or correct the header, so that both lie on one grid"
    ]


def _hounsfield(path: Path, facts: ImageFacts) -> list[str]:
    """Faults of a CT whose values are no HU."""
    lowest, highest = facts.lowest, facts.highest
    export = "export HU (rescale slope and intercept applied)"
    if facts.not_finite or facts.all_zero:
        return []  # told already
    if lowest == highest:
        return [f"{path}: every voxel is {lowest:g}; restore the image, or remove the case"]
    if lowest >= 0 and highest <= 255:
        return [f"{path}: values from {lowest:g} to {highest:g}, an 8-bit picture and not HU; {export}"]
    if lowest >= AIR:
        return [f"{path}: no voxel below {AIR} HU (lowest {lowest:g}), already windowed or not in HU; {export}"]
    if facts.share_above > _METAL_SHARE:
        share = f"{100 * facts.share_above:.0f} % of the voxels are above {METAL} (highest {highest:g})"
        return [f"{path}: {share}, not in HU; {export}"]
    return []


def _check_mask(path: Path, reference: Volume | None, coding: str | None) -> list[str]:
    """Faults of a lesion mask in its coding, or with None of an organ mask."""
    try:
        volume = open_volume(path)
        facts = read_mask(volume)
    except WeaksegError as error:
        return [str(error)]
    faults = _same_grid(volume, reference) if reference is not None else []
    if facts.not_finite:
        return faults + _finite(path, facts.not_finite)
    if facts.fraction is not None:
        return [*faults, f"{path}: values such as {facts.fraction:g} are no labels; save integers"]
    extra = sorted(facts.labels - set(LABELS[coding] if coding else ORGAN_LABELS))
    return faults + ([_unknown_labels(path, extra, coding)] if extra else [])


def _unknown_labels(path: Path, extra: list[int], coding: str | None) -> str:
    shown = ", ".join(map(str, extra[:5])) + (f" and {len(extra) - 5} more" if len(extra) > 5 else "")
    found = f"{path}: unknown label {shown}"
    if coding is None:
        return f"{found}; an organ mask knows {', '.join(map(str, ORGAN_LABELS))}: correct it"
    if extra == [3] and coding == "brats2017":
        return (
            f"{found}; set `label_coding: brats2015` if 3 is non-enhancing tumour, "
            "or change it to 4 if it is enhancing tumour (BraTS 2023)"
        )
    return f"{found}; {coding} knows {', '.join(map(str, LABELS[coding]))}: correct the mask or `label_coding`"
