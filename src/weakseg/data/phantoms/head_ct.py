"""A head-CT phantom with haemorrhages in Hounsfield units, written in INSTANCE 2022's layout.

Every patient is a random deformation of one anatomy, MNI152's. What is drawn per case: head shape, ventricles, atrophy,
skull and scalp, calcifications, haemorrhages (place, size, shape, density, rim, mass effect), and the scanner (noise,
kernel, beam hardening, streaks, calibration). docs/explanation/phantoms.md tells what is measured on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.head_ct_blood import CENTRE
from weakseg.data.phantoms.head_ct_patient import (
    FIELD_OF_VIEW,
    SHIFTED,
    TRAINING,
    fine_grid,
    load_template,
    make_patient,
)
from weakseg.data.phantoms.head_ct_scan import scan
from weakseg.data.phantoms.writing import mark, shuffle_cases, write_cases
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

SHAPE = (96, 96, 30)
LESION_FREE_SHARE = 0.2
_COARSEST_MM = 10.0  # mm; beyond it the skull no longer makes a closed ring


@dataclass(frozen=True)
class PhantomCase:
    """One patient.

    Attributes:
        image: (X, Y, Z) int16 in HU, within -1024 to 3071.
        lesion: (X, Y, Z) uint8, 1 where blood makes up more than half a voxel; all 0 in a lesion-free case.
        affine: (4, 4), RAS, mm.
    """

    case_id: str
    image: NDArray[np.int16]
    lesion: NDArray[np.uint8]
    affine: NDArray[np.float64]


def make_case(
    data_seed: int,
    case_id: str,
    *,
    lesion: bool,
    shape: tuple[int, int, int] = SHAPE,
    shifted: bool = False,
) -> PhantomCase:
    """Make one patient; the same arguments give the same case.

    Args:
        data_seed: seed of the data set.
        case_id: names the case; every draw depends on it.
        lesion: whether there is a haemorrhage.
        shape: voxels along X, Y, Z in a fixed field of view of 217.6 x 217.6 x 150 mm.
        shifted: draw from another scanner and population.

    Raises:
        WeaksegError: voxels above 10 mm.
    """
    affine = anatomy.affine_of(shape, FIELD_OF_VIEW, CENTRE)
    if max(nifti.spacing_of(affine)) > _COARSEST_MM:
        raise WeaksegError(f"shape {shape} gives voxels above {_COARSEST_MM:g} mm; use at least (22, 22, 15)")
    population = SHIFTED if shifted else TRAINING
    fine, fine_affine = fine_grid(shape)
    patient = make_patient(rng(data_seed, "head_ct/patient", case_id), lesion, fine, fine_affine, population)
    image = scan(rng(data_seed, "head_ct/scan", case_id), patient, affine, fine_affine, population)
    return PhantomCase(case_id, image, patient.labels(), affine)


def roster(data_seed: int, cases: int, *, shifted: bool = False) -> dict[str, bool]:
    """Case names, and whether each has a lesion: an exact share is lesion-free, at shuffled positions.

    Raises:
        WeaksegError: ``cases`` is below 1 or above what the numbering holds.
    """
    places = shuffle_cases(data_seed, "head_ct/lesions", "{:03d}", cases, first=1, shifted=shifted)
    free = round(LESION_FREE_SHARE * cases)
    return {name: place >= free for name, place in places.items()}


def write(
    root: Path,
    *,
    data_seed: int,
    cases: int,
    shape: tuple[int, int, int] = SHAPE,
    shifted: bool = False,
    workers: int = 1,
) -> None:
    """Write a data set in INSTANCE 2022's layout: ``train/data``, ``train/label``, and last ``PHANTOM.json``.

    ``workers`` processes share the cases; they change nothing in the files.

    Raises:
        WeaksegError: as :func:`make_case` and :func:`roster`.
    """
    lesions = roster(data_seed, cases, shifted=shifted)
    load_template(fine_grid(shape)[1])  # once, before the processes part
    write_cases(root, lesions, partial(_write_case, root, data_seed, shape, shifted), workers)
    mark(root, "head_ct", data_seed=data_seed, cases=cases, shape=shape, shifted=shifted)


def _write_case(
    root: Path, data_seed: int, shape: tuple[int, int, int], shifted: bool, named_lesion: tuple[str, bool]
) -> None:
    name, lesion = named_lesion
    case = make_case(data_seed, name, lesion=lesion, shape=shape, shifted=shifted)
    nifti.write(root / "train" / "data" / f"{name}.nii.gz", case.image, case.affine)
    nifti.write(root / "train" / "label" / f"{name}.nii.gz", case.lesion, case.affine)
