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
from scipy import ndimage, special

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Blob, Field, Head
from weakseg.data.phantoms.writing import mark, write_cases
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

MODALITIES = ("t1", "t1ce", "t2", "flair")
GRADES = ("HGG", "LGG")
SHAPE = (64, 64, 48)
FIELD_OF_VIEW = (192.0, 192.0, 144.0)  # mm
HIGH_GRADE_SHARE = 0.65

_CENTRE = np.array([0.0, -18.0, 10.0])  # mm, MNI152; the brain lies well inside the field of view
_VENTRICLES = np.array([0.0, -16.0, 14.0])  # mm, MNI152
_COARSEST_MM = 8.0  # mm; beyond it a rim of enhancement no longer makes a voxel
_HEADER = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)

_SHIFTED_FROM = 501
_VOLUME_ML = (12.0, 260.0)  # of the whole tumour
_RADIUS_MM = {"HGG": 18.5, "LGG": 19.0}  # median of the core
_OEDEMA_MM = {"HGG": 12.0, "LGG": 6.0}  # median width in white matter
_EXTRA_FOCI = {"HGG": (0.75, 0.17, 0.08), "LGG": (0.9, 0.1, 0.0)}  # chance of none, one, two
_WMH_BURDEN = (1.2, 1.8)  # beta distribution
_STRIP_SHARE = 0.35  # of cases with a residual rim

_INFILTRATION = (0.75, 1.05)  # how far oedema and core change the signal: 1 is all the way to the table's
_PATCHY = 0.45  # SD of the log of how far oedema changes the signal, from place to place
_UPTAKE = (0.7, 1.2)  # of contrast medium by the rim, 1 as in the table
_FLOW = (0.3, 0.75)  # the same for vessels
_AGED = 0.85  # signal of white-matter hyperintensities beside that of oedema

# Relative signal of a spin-echo protocol. "strip" is what is left of meninges and fat after skull stripping.
_TISSUES = ("csf", "grey", "white", "oedema", "core", "rim", "necrosis", "vessel", "strip")
_SIGNAL = {
    modality: dict(zip(_TISSUES, signals, strict=True))
    for modality, signals in {
        "t1": (0.25, 0.66, 0.88, 0.58, 0.50, 0.62, 0.34, 0.60, 0.90),
        "t1ce": (0.27, 0.68, 0.90, 0.60, 0.54, 1.70, 0.36, 1.70, 0.95),
        "t2": (1.55, 0.86, 0.64, 1.18, 1.25, 1.00, 1.38, 0.60, 0.85),
        "flair": (0.22, 0.84, 0.68, 1.30, 1.05, 1.10, 0.92, 0.65, 1.05),
    }.items()
}


@dataclass(frozen=True)
class Population:
    """Ranges of what differs between a scanner with its patients and another."""

    angle: float  # rad, SD of the head's pose
    stretch: float  # SD of the log size per axis
    bend_mm: float  # SD of the smooth deformation
    ventricles_mm: tuple[float, float]  # outward push of the ventricles' walls
    gamma: tuple[float, float]  # exponent on the relative signal: below 1 flattens the contrast
    tissue_spread: float  # SD of the log signal per tissue and case
    bias: tuple[float, float]  # SD of the log bias field
    noise: tuple[float, float]  # SD of the noise in units of relative signal
    slice_blur_mm: tuple[float, float]  # sigma of the slice profile along Z
    scale: tuple[float, float]  # scanner units at relative signal 1


TRAINING = Population(
    angle=0.06,
    stretch=0.05,
    bend_mm=3.5,
    ventricles_mm=(-2.0, 5.0),
    gamma=(0.8, 1.2),
    tissue_spread=0.04,
    bias=(0.04, 0.13),
    noise=(0.02, 0.05),
    slice_blur_mm=(0.6, 1.8),
    scale=(150.0, 1500.0),
)
SHIFTED = Population(
    angle=0.10,
    stretch=0.07,
    bend_mm=5.0,
    ventricles_mm=(1.0, 8.0),
    gamma=(0.6, 0.9),
    tissue_spread=0.08,
    bias=(0.08, 0.20),
    noise=(0.07, 0.14),
    slice_blur_mm=(1.5, 3.0),
    scale=(40.0, 400.0),
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


@dataclass(frozen=True)
class Tumour:
    """Fractions in [0, 1] of the parts of a tumour, (X, Y, Z) each; they add up to at most 1."""

    oedema: Field
    core: Field
    rim: Field
    necrosis: Field

    def labels(self) -> NDArray[np.uint8]:
        """BraTS labels where the parts make up more than half a voxel."""
        parts = np.stack([self.core + self.necrosis, self.oedema, self.rim])
        coded = np.array([1, 2, 4], dtype=np.uint8)[parts.argmax(axis=0)]
        return np.where(parts.sum(axis=0) > 0.5, coded, 0).astype(np.uint8)


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
    images = _scan(rng(data_seed, "brain_mri/scan", case_id), head, tumour, affine, population)
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
    wide = anatomy.push(points, _VENTRICLES, generator.uniform(*population.ventricles_mm), 26)
    depth = anatomy.sample(template.depth, template, deformation(points))
    atrophy = generator.normal(0, 0.5)
    inner = depth > 4
    pulled = deformation(points - wide)[:, inner]
    # Gliomas of adults grow above the tentorium.
    homes = points[:, inner][:, (anatomy.sample(template.white, template, pulled) > 0.7) & (pulled[2] > -14)]
    millilitres = float(np.prod(nifti.spacing_of(affine))) / 1000
    for _ in range(60):
        foci = _draw_foci(generator, homes, grade)
        moved = wide + anatomy.midline_shift(points, foci[0].centre, generator.uniform(0, 8))
        for focus in foci:
            moved += anatomy.push(points, focus.centre, generator.uniform(0.1, 0.35) * focus.radius, focus.radius)
        head = anatomy.make_head(generator, template, deformation(points - moved), depth, affine, atrophy)
        tumour = _grow(generator, foci, head, points, affine, grade)
        labels = tumour.labels()
        parts = [np.count_nonzero(labels == label) for label in (1, 2, 4)]
        needed = parts if grade == "HGG" else parts[:2]
        if min(needed) >= 3 and _VOLUME_ML[0] <= sum(parts) * millilitres <= _VOLUME_ML[1]:
            return head, tumour
    raise RuntimeError(f"no tumour of {_VOLUME_ML} ml in 60 draws at shape {shape}")


def _load_template(affine: NDArray) -> anatomy.Template:
    return anatomy.load_template(0.4 * max(nifti.spacing_of(affine)))


def _draw_foci(generator: np.random.Generator, homes: Field, grade: str) -> list[Blob]:
    """One focus in white matter, and at times one or two smaller ones near it."""
    radius = float(np.clip(np.exp(generator.normal(np.log(_RADIUS_MM[grade]), 0.28)), 9, 34))
    foci = [anatomy.draw_blob(generator, homes, radius, spread=0.2)]
    distance = np.linalg.norm(homes - foci[0].centre[:, None], axis=0)
    near = homes[:, (distance > radius + 8) & (distance < radius + 35)]
    extra = int(generator.choice(3, p=_EXTRA_FOCI[grade])) if near.shape[1] else 0
    return foci + [
        anatomy.draw_blob(generator, near, generator.uniform(0.3, 0.6) * radius, spread=0.2) for _ in range(extra)
    ]


def _grow(
    generator: np.random.Generator, foci: list[Blob], head: Head, points: Field, affine: NDArray, grade: str
) -> Tumour:
    """Grow the parts: an irregular core around the foci, and oedema that spreads along white matter."""
    noise = partial(anatomy.smooth_noise, generator, head.depth.shape, affine)
    level = np.min([focus.level(points) for focus in foci], axis=0)  # mm outside the core, negative inside
    level += foci[0].radius * (0.22 * noise(10) + 0.11 * noise(5))
    brain = head.depth > 0
    core = special.expit(-level) * brain
    width = np.exp(generator.normal(np.log(_OEDEMA_MM[grade]), 0.35) + 0.35 * noise(12))
    width *= head.white + 0.35 * head.grey  # vasogenic oedema keeps out of the cortex
    oedema = special.expit((width - np.maximum(level, 0)) / 1.5) * (1 - head.csf) * brain * (1 - core)
    # Oedema hangs together with the core; islands beyond a sulcus are no one's lesion.
    pieces, _ = ndimage.label(oedema + core > 0.3)
    oedema *= np.isin(pieces, np.unique(pieces[core > 0.5]))
    nothing = np.zeros_like(core)
    if grade == "LGG":
        return Tumour(oedema, core, nothing, nothing)
    thickness = generator.uniform(3.0, 6.5) * np.exp(0.35 * noise(8))  # mm
    dead = special.expit((-level - thickness) / 0.8)
    return Tumour(oedema, nothing, core * (1 - dead), core * dead)


def _scan(
    generator: np.random.Generator, head: Head, tumour: Tumour, affine: NDArray, population: Population
) -> dict[str, NDArray[np.int16]]:
    """Image the patient in all modalities with one skull stripping, as co-registered BraTS cases have."""
    noise = partial(anatomy.smooth_noise, generator, head.depth.shape, affine)
    mask, strip = _strip_skull(generator, head, affine)
    csf, grey, white = head.csf[mask], head.grey[mask], head.white[mask]
    oedema, core, rim, necrosis = (part[mask] for part in (tumour.oedema, tumour.core, tumour.rim, tumour.necrosis))
    healthy = 1 - (oedema + core + rim + necrosis)
    aged = anatomy.white_matter_change(generator, head, affine, generator.beta(*_WMH_BURDEN))[mask] * healthy
    vessels = _vessels(generator, head, affine)[mask] * healthy
    # How far oedema changes the signal, and how much contrast medium the rim and the vessels take.
    infiltration = generator.uniform(*_INFILTRATION) * np.exp(_PATCHY * noise(6)[mask])
    uptake, flow = generator.uniform(*_UPTAKE), generator.uniform(*_FLOW)
    images = {}
    for modality, signals in _SIGNAL.items():
        s = {tissue: float(v * np.exp(generator.normal(0, population.tissue_spread))) for tissue, v in signals.items()}
        if modality == "t1ce":
            s["rim"] = s["white"] + uptake * (s["rim"] - s["white"])
            s["vessel"] = s["white"] + flow * (s["vessel"] - s["white"])
        value = csf * s["csf"] + grey * s["grey"] + white * s["white"]
        value += aged * (_AGED * s["oedema"] - value) + vessels * (s["vessel"] - value)
        value += infiltration * (oedema * (s["oedema"] - value) + core * (s["core"] - value))
        value += rim * (s["rim"] - value) + necrosis * (s["necrosis"] - value)
        value = np.where(strip[mask], s["strip"] * np.exp(0.2 * noise(6)[mask]), value)
        value = np.maximum(value, 0.02) ** generator.uniform(*population.gamma)
        value *= np.exp(generator.uniform(*population.bias) * noise(45)[mask])
        blur = np.array([0.9, 0.9, generator.uniform(*population.slice_blur_mm)]) / nifti.spacing_of(affine)
        image = np.full(mask.shape, s["csf"], dtype=np.float32)
        image[mask] = value
        value = ndimage.gaussian_filter(image, blur, truncate=3)[mask]
        level = generator.uniform(*population.noise)
        real, imaginary = level * generator.standard_normal((2, value.size), dtype=np.float32)
        value = np.hypot(value + real, imaginary)  # magnitude images have Rician noise
        unit = float(np.exp(generator.uniform(*np.log(population.scale))))
        images[modality] = np.zeros(mask.shape, dtype=np.int16)
        images[modality][mask] = np.clip(np.rint(unit * value), 1, 32767)
    return images


def _strip_skull(generator: np.random.Generator, head: Head, affine: NDArray) -> tuple[NDArray, NDArray]:
    """Mask of the image and, inside it, what a sloppy skull stripping left of the meninges in some cases."""
    error = 0.7 * anatomy.smooth_noise(generator, head.depth.shape, affine, 12)  # mm
    if generator.random() < _STRIP_SHARE:
        patches = anatomy.smooth_noise(generator, head.depth.shape, affine, 16) > generator.uniform(0.2, 1.2)
        error = error - generator.uniform(2.5, 5.0) * patches
    mask = head.depth > error
    return mask, mask & (head.depth < -0.5)


def _vessels(generator: np.random.Generator, head: Head, affine: NDArray) -> Field:
    """Fraction of blood in [0, 1]: thin random tubes near the surface and in fissures, and the sagittal sinus."""
    first, second = (anatomy.smooth_noise(generator, head.depth.shape, affine, 7) for _ in range(2))
    tubes = np.exp(-(first**2 + second**2) / (2 * 0.10**2)) * (1 - head.white) * (head.depth < 30)
    x, y, z = anatomy.positions(head.depth.shape, affine)
    sinus = np.exp(-0.5 * (x / 3) ** 2) * (head.depth < 4) * ((z > 40) | (y < -70)) * (z > 0)
    return np.clip(tubes + 0.8 * sinus, 0, 1)


def roster(data_seed: int, cases: int, *, shifted: bool = False) -> dict[str, str]:
    """Case names and grades of a data set: an exact share of HGG, at shuffled positions.

    Raises:
        WeaksegError: ``cases`` is below 1 or above what the numbering holds.
    """
    if not 1 <= cases <= _SHIFTED_FROM - 1:
        raise WeaksegError(f"cases is {cases}; choose 1 to {_SHIFTED_FROM - 1}")
    first = _SHIFTED_FROM if shifted else 1
    names = [f"BraTS20_Training_{first + k:03d}" for k in range(cases)]
    high = max(1, round(HIGH_GRADE_SHARE * cases))
    order = rng(data_seed, "brain_mri/grades", "shifted" if shifted else "").permutation(cases)
    return {name: "HGG" if place < high else "LGG" for name, place in zip(names, order, strict=True)}


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
