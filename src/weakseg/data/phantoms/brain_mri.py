"""A brain-MRI phantom with gliomas, written in BraTS 2020's layout.

Every patient is a random deformation of one anatomy, MNI152's. What is drawn per case: head shape, ventricles,
atrophy, white-matter hyperintensities, tumour (place, size, shape, foci, oedema, mass effect), and the scanner
(contrast, bias field, noise, resolution, skull stripping). docs/explanation/phantoms.md tells what is measured on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Head
from weakseg.data.phantoms.brain_mri_scan import SHIFTED, TRAINING, Population, scan
from weakseg.data.phantoms.brain_mri_tumour import Tumour, draw_foci, grow
from weakseg.data.phantoms.writing import mark, shuffle_cases, write_cases
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

MODALITIES = ("t1", "t1ce", "t2", "flair")
GRADES = ("HGG", "LGG")
SHAPE = (64, 64, 48)
FIELD_OF_VIEW = (192.0, 192.0, 144.0)  # mm
HIGH_GRADE_SHARE = 0.65

_CENTRE = np.array([0.0, -18.0, 10.0])  # mm, MNI152; the brain lies well inside the field of view
_COARSEST_MM = 8.0  # mm; beyond it a rim of enhancement no longer makes a voxel
_VOLUME_ML = (12.0, 260.0)  # of the whole tumour
_HEADER = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)


@dataclass(frozen=True)
class PhantomCase:
    """One patient.

    Attributes:
        images: modality to (X, Y, Z) int16 in arbitrary scanner units; background 0, brain at least 1.
        segmentation: (X, Y, Z) uint8 in BraTS coding: 1 necrosis or non-enhancing core, 2 oedema, 4 enhancing.
        affine: (4, 4), RAS, mm.
    """

    case_id: str
    grade: str
    images: dict[str, NDArray[np.int16]]
    segmentation: NDArray[np.uint8]
    affine: NDArray[np.float64]


def make_case(
    data_seed: int,
    case_id: str,
    *,
    grade: str,
    shape: tuple[int, int, int] = SHAPE,
    shifted: bool = False,
) -> PhantomCase:
    """Make one patient with a glioma; the same arguments give the same case.

    Args:
        data_seed: seed of the data set.
        case_id: names the case; every draw depends on it.
        grade: HGG (necrosis, enhancing rim, wide oedema) or LGG (non-enhancing core, little oedema).
        shape: voxels along X, Y, Z in a fixed field of view of 192 x 192 x 144 mm.
        shifted: draw from another scanner and population.

    Raises:
        WeaksegError: unknown grade, or voxels above 8 mm.
    """
    if grade not in GRADES:
        raise WeaksegError(f"grade {grade!r} of {case_id} is unknown; use one of {', '.join(GRADES)}")
    affine = anatomy.affine_of(shape, FIELD_OF_VIEW, _CENTRE)
    if max(nifti.spacing_of(affine)) > _COARSEST_MM:
        raise WeaksegError(f"shape {shape} gives voxels above {_COARSEST_MM:g} mm; use at least (24, 24, 18)")
    population = SHIFTED if shifted else TRAINING
    head, tumour = _make_patient(rng(data_seed, "brain_mri/patient", case_id), grade, shape, affine, population)
    images = scan(rng(data_seed, "brain_mri/scan", case_id), head, tumour, affine, population)
    seen = images["t1"] > 0  # stripping may cut into a tumour at the surface; BraTS labels what is left
    return PhantomCase(case_id, grade, images, tumour.labels() * seen, affine)


def _make_patient(
    generator: np.random.Generator, grade: str, shape: tuple[int, int, int], affine: NDArray, population: Population
) -> tuple[Head, Tumour]:
    """Draw a brain, then tumours until one has a size that BraTS has."""
    template = _load_template(affine)
    points = anatomy.positions(shape, affine)
    deformation = anatomy.random_deformation(
        generator, shape, affine, angle=population.angle, stretch=population.stretch, bend_mm=population.bend_mm
    )
    wide = anatomy.push(points, anatomy.VENTRICLES, generator.uniform(*population.ventricles_mm), 26)
    depth = anatomy.sample(template.depth, template, deformation(points))
    atrophy = generator.normal(0, 0.5)
    inner = depth > 4
    pulled = deformation(points - wide)[:, inner]
    # Gliomas of adults grow above the tentorium.
    homes = points[:, inner][:, (anatomy.sample(template.white, template, pulled) > 0.7) & (pulled[2] > -14)]
    millilitres = float(np.prod(nifti.spacing_of(affine))) / 1000
    for _ in range(60):
        foci = draw_foci(generator, homes, grade)
        moved = wide + anatomy.midline_shift(points, foci[0].centre, generator.uniform(0, 8))
        for focus in foci:
            moved += anatomy.push(points, focus.centre, generator.uniform(0.1, 0.35) * focus.radius, focus.radius)
        head = anatomy.make_head(generator, template, deformation(points - moved), depth, affine, atrophy)
        tumour = grow(generator, foci, head, points, affine, grade)
        labels = tumour.labels()
        parts = [np.count_nonzero(labels == label) for label in (1, 2, 4)]
        needed = parts if grade == "HGG" else parts[:2]
        if min(needed) >= 3 and _VOLUME_ML[0] <= sum(parts) * millilitres <= _VOLUME_ML[1]:
            return head, tumour
    raise RuntimeError(f"no tumour of {_VOLUME_ML} ml in 60 draws at shape {shape}")


def _load_template(affine: NDArray) -> anatomy.Template:
    return anatomy.load_template(0.4 * max(nifti.spacing_of(affine)))


def roster(data_seed: int, cases: int, *, shifted: bool = False) -> dict[str, str]:
    """Case names and grades of a data set: an exact share of HGG, at shuffled positions.

    Raises:
        WeaksegError: ``cases`` is below 1 or above what the numbering holds.
    """
    places = shuffle_cases(data_seed, "brain_mri/grades", "BraTS20_Training_{:03d}", cases, first=1, shifted=shifted)
    high = max(1, round(HIGH_GRADE_SHARE * cases))
    return {name: "HGG" if place < high else "LGG" for name, place in places.items()}


def write(
    root: Path,
    *,
    data_seed: int,
    cases: int,
    shape: tuple[int, int, int] = SHAPE,
    shifted: bool = False,
    workers: int = 1,
) -> None:
    """Write a data set in BraTS 2020's layout: a folder per case, ``name_mapping.csv``, and last ``PHANTOM.json``.

    ``workers`` processes share the cases; they change nothing in the files.

    Raises:
        WeaksegError: as :func:`make_case` and :func:`roster`.
    """
    grades = roster(data_seed, cases, shifted=shifted)
    _load_template(anatomy.affine_of(shape, FIELD_OF_VIEW, _CENTRE))  # once, before the processes part
    write_cases(root, grades, partial(_write_case, root, data_seed, shape, shifted), workers)
    rows = [f"{grade},NA,NA,NA,NA,{name}" for name, grade in grades.items()]
    (root / "name_mapping.csv").write_text("\n".join([_HEADER, *rows]) + "\n", encoding="utf-8")
    mark(root, "brain_mri", data_seed=data_seed, cases=cases, shape=shape, shifted=shifted)


def _write_case(
    root: Path, data_seed: int, shape: tuple[int, int, int], shifted: bool, named_grade: tuple[str, str]
) -> None:
    name, grade = named_grade
    case = make_case(data_seed, name, grade=grade, shape=shape, shifted=shifted)
    for modality, image in case.images.items():
        nifti.write(root / name / f"{name}_{modality}.nii.gz", image, case.affine)
    nifti.write(root / name / f"{name}_seg.nii.gz", case.segmentation, case.affine)
