"""A head-CT phantom with haemorrhages in Hounsfield units, written in INSTANCE 2022's layout.

Every patient is a random deformation of one anatomy, MNI152's. What is drawn per case: head shape, ventricles, atrophy,
skull and scalp, calcifications, haemorrhages (place, size, shape, density, rim, mass effect), and the scanner (noise,
kernel, beam hardening, streaks, calibration). docs/explanation/phantoms.md tells what is measured on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
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

SHAPE = (64, 64, 30)
FIELD_OF_VIEW = (217.6, 217.6, 150.0)  # mm
LESION_FREE_SHARE = 0.2

_CENTRE = np.array([0.0, -18.0, 14.0])  # mm, MNI152; from the foramen magnum to above the vertex
_VENTRICLES = np.array([0.0, -16.0, 14.0])  # mm, MNI152
_COARSEST_MM = 10.0  # mm; beyond it the skull no longer makes a closed ring
_FINER = 2  # sub-slices that make a slice, so that thick slices mix what they cut
_SHIFTED_FROM = 501

_VOLUME_ML = (0.4, 150.0)  # of all haemorrhages of a case
_SUBDURAL = 0.2  # chance of a subdural haemorrhage
_FOCI = (0.45, 0.35, 0.20)  # chance of one, two, three parenchymal foci
_VENTRICULAR = 0.45  # chance that a parenchymal haemorrhage breaks into the ventricles
_DEEP = 0.5  # chance that a focus lies in the basal ganglia or the thalamus
_RADIUS_MM = 11.5  # median of a focus
_GAP_MM = 1.5  # fluid between brain and bone

# Where calcium gathers with age: position (mm, MNI152; both sides), chance per side, range of the radius in mm.
_CALCIFIED = (
    ((24.0, -44.0, 10.0), 0.55, (2.0, 4.5)),  # choroid plexus
    ((0.0, -27.0, 2.0), 0.35, (1.5, 3.0)),  # pineal gland
    ((0.0, 38.0, 42.0), 0.12, (2.0, 4.0)),  # falx, front
    ((0.0, 5.0, 66.0), 0.12, (2.0, 4.0)),  # falx, top
    ((20.0, -4.0, 0.0), 0.08, (2.0, 4.0)),  # pallidum
)


@dataclass(frozen=True)
class Population:
    """Ranges of what differs between a scanner with its patients and another."""

    angle: float  # rad, SD of the head's pose
    stretch: float  # SD of the log size per axis
    bend_mm: float  # SD of the smooth deformation
    ventricles_mm: tuple[float, float]  # outward push of the ventricles' walls
    calcified: float  # factor on the chance of calcifications
    noise: tuple[float, float]  # HU, SD
    kernel_mm: tuple[float, float]  # sigma of the in-plane blur
    hardening: tuple[float, float]  # HU added under the bone
    streaks: tuple[float, float]  # HU between the petrous bones
    offset: tuple[float, float]  # HU, error of calibration


TRAINING = Population(
    angle=0.07,
    stretch=0.04,
    bend_mm=3.0,
    ventricles_mm=(-1.0, 6.0),
    calcified=1.0,
    noise=(2.0, 4.0),
    kernel_mm=(0.6, 1.2),
    hardening=(1.0, 7.0),
    streaks=(4.0, 14.0),
    offset=(-2.5, 2.5),
)
SHIFTED = Population(
    angle=0.12,
    stretch=0.05,
    bend_mm=4.0,
    ventricles_mm=(1.0, 8.0),
    calcified=1.7,
    noise=(4.0, 7.0),
    kernel_mm=(0.2, 0.6),
    hardening=(5.0, 12.0),
    streaks=(10.0, 24.0),
    offset=(2.0, 6.0),
)


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


@dataclass(frozen=True)
class Blood:
    """Haemorrhage, (X, Y, Z) each: its fraction in [0, 1], its density in HU, the fraction of its oedematous rim."""

    fraction: Field
    density: Field
    rim: Field


@dataclass(frozen=True)
class Subdural:
    """A crescent along the inner skull: unit direction of its middle, half its opening (rad), thickness (mm)."""

    direction: NDArray[np.float64]
    reach: float
    thickness: float

    def level(self, points: Field, depth: Field) -> Field:
        """Distance from its inner surface in mm, negative inside; ``points`` (3, X, Y, Z) and ``depth`` in mm."""
        offset = points - _CENTRE.astype(np.float32)[:, None, None, None]
        towards = np.tensordot(self.direction.astype(np.float32), offset, 1)
        angle = np.arccos(np.clip(towards / (np.linalg.norm(offset, axis=0) + 1e-3), -1, 1))
        width = self.thickness * np.sqrt(np.clip(1 - (angle / self.reach) ** 2, 0, 1))
        same_side = np.sign(self.direction[0]) * points[0] > 2  # the falx holds it back
        return np.where(same_side & (width > 0), depth + _GAP_MM - width, 99).astype(np.float32)


@dataclass(frozen=True)
class Bleeding:
    """What bleeds: parenchymal foci, perhaps a crescent, and whether blood breaks into the ventricles."""

    foci: list[Blob]
    subdural: Subdural | None
    ventricular: bool


@dataclass(frozen=True)
class Patient:
    """A head on the fine grid.

    Attributes:
        still, pulled: (3, X, Y, Z), the MNI152 position in mm that each voxel stems from, for bone and for brain, which
            ventricles and blood push about.
    """

    head: Head
    still: Field
    pulled: Field
    blood: Blood

    def labels(self) -> NDArray[np.uint8]:
        """1 where blood makes up more than half a voxel of a slice, save voxels at the skull that bone outshines."""
        clear = self.head.depth > 1.2 - _GAP_MM
        return (_slices(self.blood.fraction * clear) > 0.5).astype(np.uint8)


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
    affine = anatomy.affine_of(shape, FIELD_OF_VIEW, _CENTRE)
    if max(nifti.spacing_of(affine)) > _COARSEST_MM:
        raise WeaksegError(f"shape {shape} gives voxels above {_COARSEST_MM:g} mm; use at least (22, 22, 15)")
    population = SHIFTED if shifted else TRAINING
    fine, fine_affine = _fine_grid(shape)
    patient = _make_patient(rng(data_seed, "head_ct/patient", case_id), lesion, fine, fine_affine, population)
    image = _scan(rng(data_seed, "head_ct/scan", case_id), patient, affine, fine_affine, population)
    return PhantomCase(case_id, image, patient.labels(), affine)


def _fine_grid(shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], NDArray]:
    fine = (shape[0], shape[1], shape[2] * _FINER)
    return fine, anatomy.affine_of(fine, FIELD_OF_VIEW, _CENTRE)


def _load_template(fine_affine: NDArray) -> anatomy.Template:
    return _close_vertex(0.4 * max(nifti.spacing_of(fine_affine)))


@lru_cache(maxsize=4)
def _close_vertex(blur_mm: float) -> anatomy.Template:
    """The shared template with a depth that knows no gap between the hemispheres, where the skull would dip in."""
    template = anatomy.load_template(blur_mm)
    step = float(template.affine[0, 0])
    margin = 10  # voxels; the closing needs room beyond the map's edge
    brain = np.pad(template.depth > 0, margin)
    wide = ndimage.distance_transform_edt(~brain) <= 7
    closed = ndimage.distance_transform_edt(wide) > 7
    closed[:, :, : margin + round((20 - template.affine[2, 3]) / step)] = False  # the skull base does dip in
    brain = (brain | closed)[(slice(margin, -margin),) * 3]
    depth = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    return replace(template, depth=ndimage.gaussian_filter(step * depth.astype(np.float32), 3 / step))


def _slices(fine: Field) -> Field:
    """Average the sub-slices into slices."""
    return fine.reshape(*fine.shape[:2], -1, _FINER).mean(axis=3)


def _make_patient(
    generator: np.random.Generator, lesion: bool, shape: tuple[int, int, int], affine: NDArray, population: Population
) -> Patient:
    """Draw a head, then haemorrhages until their volume is one that INSTANCE has."""
    template = _load_template(affine)
    points = anatomy.positions(shape, affine)
    deformation = anatomy.random_deformation(
        generator, shape, affine, angle=population.angle, stretch=population.stretch, bend_mm=population.bend_mm
    )
    wide = anatomy.push(points, _VENTRICLES, generator.uniform(*population.ventricles_mm), 26)
    still = deformation(points)
    depth = anatomy.sample(template.depth, template, still)
    atrophy = generator.normal(0, 0.5)
    if not lesion:
        pulled = deformation(points - wide)
        nothing = np.zeros_like(depth)
        head = anatomy.make_head(generator, template, pulled, depth, affine, atrophy)
        return Patient(head, still, pulled, Blood(nothing, nothing, nothing))
    homes = points[:, depth > 9]
    millilitres = float(np.prod(nifti.spacing_of(affine))) * _FINER / 1000
    for _ in range(60):
        bleeding = _draw_bleeding(generator, homes)
        moved = wide + _mass_effect(generator, points, bleeding)
        pulled = deformation(points - moved)
        head = anatomy.make_head(generator, template, pulled, depth, affine, atrophy)
        blood = _bleed(generator, bleeding, head, points, pulled, affine)
        patient = Patient(head, still, pulled, blood)
        if _VOLUME_ML[0] <= np.count_nonzero(patient.labels()) * millilitres <= _VOLUME_ML[1]:
            return patient
    raise RuntimeError(f"no haemorrhage of {_VOLUME_ML} ml in 60 draws at shape {shape}")


def _draw_bleeding(generator: np.random.Generator, homes: Field) -> Bleeding:
    """One to three foci, or a subdural crescent, which mostly comes alone; ``homes`` (3, N) in mm."""
    radius = float(np.clip(np.exp(generator.normal(np.log(_RADIUS_MM), 0.34)), 4.5, 30))
    x, y, z = homes
    deep = homes[:, (np.abs(x) > 10) & (np.abs(x) < 36) & (np.abs(y + 8) < 26) & (np.abs(z - 8) < 18)]
    foci = [
        anatomy.draw_blob(
            generator, deep if generator.random() < _DEEP else homes, radius * generator.uniform(*size), spread=0.25
        )
        for size in ((1.0, 1.0), (0.3, 0.65), (0.3, 0.65))[: 1 + int(generator.choice(3, p=_FOCI))]
    ]
    if generator.random() >= _SUBDURAL:
        return Bleeding(foci, None, generator.random() < _VENTRICULAR)
    direction = np.array([generator.choice([-1.0, 1.0]), generator.normal(0, 0.5), generator.uniform(0.0, 0.7)])
    direction /= np.linalg.norm(direction)
    crescent = Subdural(direction, generator.uniform(0.5, 1.1), generator.uniform(8, 18))
    return Bleeding(foci[: int(generator.random() < 0.3)], crescent, False)


def _mass_effect(generator: np.random.Generator, points: Field, bleeding: Bleeding) -> Field:
    """Displacement (3, X, Y, Z) in mm by what the blood takes in room; only large bleedings shift the midline."""
    moved = np.zeros_like(points)
    for focus in bleeding.foci:
        moved += anatomy.push(points, focus.centre, generator.uniform(0.15, 0.4) * focus.radius, focus.radius)
        if focus.radius > 14:
            moved += anatomy.midline_shift(points, focus.centre, generator.uniform(0, 0.4) * focus.radius)
    if bleeding.subdural is not None:
        centre, thickness = _CENTRE + 60 * bleeding.subdural.direction, bleeding.subdural.thickness
        moved += anatomy.midline_shift(points, centre, generator.uniform(0.2, 0.7) * thickness)
    if bleeding.ventricular:  # blood blocks the outflow
        moved += anatomy.push(points, _VENTRICLES, generator.uniform(2, 6), 26)
    return moved


def _bleed(
    generator: np.random.Generator, bleeding: Bleeding, head: Head, points: Field, pulled: Field, affine: NDArray
) -> Blood:
    """Fill the foci, the crescent and, at times, the ventricles with blood of a density each."""
    noise = partial(anatomy.smooth_noise, generator, head.depth.shape, affine)
    rough, texture = 0.16 * noise(9) + 0.10 * noise(5), noise(6)
    fraction, density, rim = np.zeros((3, *head.depth.shape), dtype=np.float32)
    parts: list[tuple[Field, float]] = []
    for focus in bleeding.foci:
        level = focus.level(points) + focus.radius * rough
        parts.append((special.expit(-level / 0.8) * (head.depth > 0), _clot(generator, 65, 6)))
        width = generator.uniform(2, 7)
        rim = np.maximum(rim, special.expit((width - level) / 1.0) * (1 - head.csf))
    if bleeding.ventricular:
        voxel_ml = float(np.prod(nifti.spacing_of(affine))) / 1000
        parts.append((_ventricular(generator, head, pulled, noise(9), voxel_ml), _clot(generator, 60, 5)))
    if bleeding.subdural is not None:
        level = bleeding.subdural.level(points, head.depth) + 1.2 * texture
        inside = special.expit((head.depth + _GAP_MM) / 0.5)
        parts.append((special.expit(-level / 0.8) * inside, _clot(generator, 59, 6)))
    for part, mean in parts:
        density += part * (mean + 2.5 * texture - density)
        fraction += part * (1 - fraction)
    rim *= (1 - fraction) * (head.depth > 0)
    return Blood(fraction, (density / np.maximum(fraction, 1e-3)).astype(np.float32), rim)


def _clot(generator: np.random.Generator, mean: float, spread: float) -> float:
    """Mean density of a haemorrhage in HU: old or anaemic blood is near grey matter, a fresh clot far above it."""
    return float(np.clip(generator.normal(mean, spread), 46, 78))


def _ventricular(generator: np.random.Generator, head: Head, pulled: Field, noise: Field, voxel_ml: float) -> Field:
    """Fraction of blood in the lateral and third ventricles; it sinks towards the back of a patient lying down."""
    x, y, z = pulled
    near = (np.abs(x) < 32) & (np.abs(y + 14) < 50) & (np.abs(z - 8) < 26) & (head.depth > 24)
    filled = generator.uniform(-1.0, 1.4) - (y + 26) / 30 + 0.7 * noise
    blood = special.expit(10 * (head.csf - 0.5)) * near * special.expit(8 * filled)
    pieces, _ = ndimage.label(blood > 0.5)  # drops in clefts are no one's lesion
    return blood * ((np.bincount(pieces.ravel()) * voxel_ml > 0.4)[pieces] & (pieces > 0))


def _brain(generator: np.random.Generator, patient: Patient, affine: NDArray, calcified: float) -> Field:
    """HU of all that lies inside the skull, without the scanner's faults."""
    head, blood = patient.head, patient.blood
    grey = generator.uniform(34, 40)
    value = head.csf * generator.uniform(3, 11) + head.grey * grey + head.white * (grey - generator.uniform(5, 9))
    value -= 8 * anatomy.white_matter_change(generator, head, affine, generator.beta(1.2, 1.8))
    value -= generator.uniform(6, 12) * blood.rim
    vessels = generator.uniform(42, 60)  # HU of flowing blood, which grows with the haematocrit
    value += _membranes(patient.pulled, head) * (vessels - value)
    x, y, z = patient.pulled
    for (side, front, top), chance, radii in _CALCIFIED:
        for sign in (1, -1) if side else (1,):
            drawn, radius, density = generator.random(), generator.uniform(*radii), generator.uniform(70, 220)
            where = np.array([sign * side, front, top]) + generator.normal(0, 2, 3)
            if drawn < chance * calcified:
                away = np.sqrt((x - where[0]) ** 2 + (y - where[1]) ** 2 + (z - where[2]) ** 2)
                value += special.expit((radius - away) / 0.6) * (density - value)
    return value + blood.fraction * (blood.density - value)


def _membranes(pulled: Field, head: Head) -> Field:
    """Fraction of falx, tentorium and the venous sinuses at their edges, in [0, 1]."""
    x, y, z = pulled
    callosum = np.hypot((y + 12) / 58, (z - 4) / 36)  # below 1 lie the brain's bridges, where the falx ends
    falx = np.exp(-0.5 * (x / 1.1) ** 2) * (callosum > 1) * (z > -10)
    sinus = special.expit((5.5 - head.depth - np.abs(x)) / 1.5) * ((z > 40) | (y < -70)) * (z > -20)
    slope = z - (6 - 0.55 * np.abs(x))
    notch = np.hypot(x / 20, (y + 22) / 28)  # the brainstem passes inside
    tent = np.exp(-0.5 * (slope / 1.3) ** 2) * (notch > 1) * (y < -18)
    return np.clip(0.8 * falx + sinus + 0.8 * tent, 0, 1) * (1 - 0.7 * head.white)


def _wrap(generator: np.random.Generator, inside: Field, depth: Field, still: Field, affine: NDArray) -> Field:
    """HU of the whole head: air, scalp, face, skull with diploe and petrous bones, and what lies ``inside``."""
    noise = partial(anatomy.smooth_noise, generator, depth.shape, affine)
    share = partial(_share_below, width=max(nifti.spacing_of(affine)[:2]))
    x, y, z = still
    out = -depth - _GAP_MM  # mm outside the inner table
    thick = generator.uniform(5.0, 8.0) * np.exp(0.15 * noise(20))
    # Below the skull base the head goes on with the face.
    base = share(z + 0.25 * y + 22)
    face = share(60 * (np.hypot(x / 60, (y - 18) / 68) - 1)) * base
    scalp = share(out - thick - generator.uniform(5, 10))
    tissue = np.where(noise(7) > 0.3, -90, 45)  # fat and muscle
    spaces = noise(8)
    tissue = np.where((spaces > 1.3) & (y > 10), -800, np.where(spaces < -1.5, 350, tissue))  # sinuses and thin bone
    value = -1000 + np.maximum(scalp, face) * (tissue + 1000)
    tables, diploe = generator.uniform(1000, 1500), generator.uniform(350, 700)
    middle = np.exp(-(((out / thick - 0.5) / 0.22) ** 2))
    bone = share(out - thick)
    value += bone * (tables - (tables - diploe) * middle - value)
    value += share(out) * (inside - value)
    petrous = share(_petrous_distance(still) - 8) * share(depth - 2)
    return value + petrous * (0.8 * tables - value)


def _share_below(distance: Field, width: float) -> Field:
    """Share in [0, 1] of a voxel of ``width`` mm on the inner side of a surface, by signed distance in mm.

    It has no tails: a thousandth of bone would show in the brain window.
    """
    return np.clip(0.5 - distance / width, 0, 1)


def _petrous_distance(still: Field) -> Field:
    """Distance in mm from the axes of the petrous bones, which run outwards and back along the skull base."""
    apex, along = np.array([10.0, -16.0, -36.0]), np.array([45.0, -22.0, 3.0])
    offset = np.stack([np.abs(still[0]), still[1], still[2]]) - apex.astype(np.float32)[:, None, None, None]
    share = np.clip(np.tensordot(along.astype(np.float32), offset, 1) / float(along @ along), 0, 1)
    return np.linalg.norm(offset - share * along.astype(np.float32)[:, None, None, None], axis=0)


def _scan(
    generator: np.random.Generator, patient: Patient, affine: NDArray, fine_affine: NDArray, population: Population
) -> NDArray[np.int16]:
    """Image the patient: faults that beams make, slices, kernel, noise, calibration."""
    depth, still = patient.head.depth, patient.still
    inside = _brain(generator, patient, fine_affine, population.calcified)
    inside += generator.uniform(*population.hardening) * np.exp(-np.maximum(depth, 0) / 6)
    value = _slices(_wrap(generator, inside, depth, still, fine_affine))
    x, y, z = (_slices(axis) for axis in still)
    # Between the petrous bones the beam has lost its soft part: a dark bar, and streaks that differ between slices.
    bar = np.exp(-0.5 * (((y + 28) / 10) ** 2 + ((z + 34) / 9) ** 2)) * special.expit((42 - np.abs(x)) / 4)
    phase = generator.uniform(0, 2 * np.pi, value.shape[2])
    lines = np.sin(2 * np.pi * (y + generator.normal(0, 0.2) * x) / generator.uniform(9, 16) + phase)
    value += generator.uniform(*population.streaks) * bar * (lines - 0.7) * (_slices(depth) > 0)
    kernel = generator.uniform(*population.kernel_mm) / np.asarray(nifti.spacing_of(affine)[:2])
    value = ndimage.gaussian_filter(value, [*kernel, 0], truncate=3)
    # Long ways through bone at the skull base leave fewer photons; the kernel leaves a texture in the noise.
    sigma = generator.uniform(*population.noise) * (1 + 0.4 * np.exp(-0.5 * ((z + 40) / 15) ** 2))
    grain = generator.standard_normal(value.shape, dtype=np.float32)
    grain = 0.75 * grain + 0.66 * anatomy.smooth_noise(generator, value.shape, affine, 2.5)
    value += sigma * grain + generator.uniform(*population.offset)
    return np.clip(np.rint(value), -1024, 3071).astype(np.int16)


def roster(data_seed: int, cases: int, *, shifted: bool = False) -> dict[str, bool]:
    """Case names, and whether each has a lesion: an exact share is lesion-free, at shuffled positions.

    Raises:
        WeaksegError: ``cases`` is below 1 or above what the numbering holds.
    """
    if not 1 <= cases <= _SHIFTED_FROM - 1:
        raise WeaksegError(f"cases is {cases}; choose 1 to {_SHIFTED_FROM - 1}")
    first = _SHIFTED_FROM if shifted else 1
    order = rng(data_seed, "head_ct/lesions", "shifted" if shifted else "").permutation(cases)
    free = round(LESION_FREE_SHARE * cases)
    return {f"{first + k:03d}": bool(place >= free) for k, place in enumerate(order)}


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
    _load_template(_fine_grid(shape)[1])  # once, before the processes part
    write_cases(root, lesions, partial(_write_case, root, data_seed, shape, shifted), workers)
    mark(root, "head_ct", data_seed=data_seed, cases=cases, shape=shape, shifted=shifted)


def _write_case(
    root: Path, data_seed: int, shape: tuple[int, int, int], shifted: bool, named_lesion: tuple[str, bool]
) -> None:
    name, lesion = named_lesion
    case = make_case(data_seed, name, lesion=lesion, shape=shape, shifted=shifted)
    nifti.write(root / "train" / "data" / f"{name}.nii.gz", case.image, case.affine)
    nifti.write(root / "train" / "label" / f"{name}.nii.gz", case.lesion, case.affine)
