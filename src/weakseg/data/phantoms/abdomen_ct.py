"""An abdominal-CT phantom with kidney tumours and cysts, written in KiTS23's layout.

Every patient is built from ellipsoids under one smooth random warp. What is drawn per case: habitus, breathing, organs'
place and size, tumours and cysts (side, place, size, shape, enhancement, necrosis), contrast timing, and the scanner
(resolution, noise). docs/explanation/phantoms.md tells what is measured on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Field
from weakseg.data.phantoms.writing import mark, write_cases
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

Vector = Sequence[float] | NDArray

KIDNEY, TUMOUR, CYST = 1, 2, 3
SHAPE = (80, 64, 40)
FIELD_OF_VIEW = (360.0, 288.0, 200.0)  # mm
TUMOUR_FREE_SHARE = 0.2

_COARSEST_MM = 12.0  # beyond it a kidney is three voxels wide
_SHIFTED_FROM = 501
_CYST_CHANCE = {True: 0.38, False: 0.45}  # with and without a tumour: a third of all cases
_SECOND_TUMOUR_CHANCE = 0.2
_KIDNEY_ML = (150.0, 220.0)  # each, without sinus
_TUMOUR_ML = (6.0, 120.0)  # label 2 of a case
_RADIUS_MM = 24.0  # median of the tumour
_ENHANCED_HU = (60.0, 66.0, 138.0)  # of tumours: least, most frequent, highest; about as medulla
_NECROTIC_CHANCE = 0.35
_CYST_MM = (7.0, 15.0)  # radius
_FAT = -100.0  # HU
_MUSCLE = 55.0
_GAS = -950.0
_EVERYWHERE = 1e4  # mm, half-length of what runs through all slices


@dataclass(frozen=True)
class Population:
    """Ranges of what differs between one hospital's patients and protocol and another's."""

    half_width_mm: tuple[float, float]  # of the body
    fat_mm: tuple[float, float]  # under the skin
    cortex_hu: tuple[float, float]
    medulla_share: tuple[float, float]  # of the cortex's HU; 1 in the nephrographic phase
    aorta_hu: tuple[float, float]
    noise_hu: tuple[float, float]  # SD
    slice_blur_mm: tuple[float, float]  # sigma of the slice profile


TRAINING = Population(
    half_width_mm=(140.0, 166.0),
    fat_mm=(8.0, 26.0),
    cortex_hu=(165.0, 210.0),
    medulla_share=(0.57, 0.63),
    aorta_hu=(180.0, 300.0),
    noise_hu=(7.0, 14.0),
    slice_blur_mm=(0.8, 1.8),
)
SHIFTED = Population(
    half_width_mm=(154.0, 176.0),
    fat_mm=(20.0, 40.0),
    cortex_hu=(135.0, 175.0),
    medulla_share=(0.90, 1.02),
    aorta_hu=(130.0, 165.0),
    noise_hu=(22.0, 34.0),
    slice_blur_mm=(1.8, 3.0),
)


@dataclass(frozen=True)
class PhantomCase:
    """One patient.

    Attributes:
        image: (X, Y, Z) int16 in HU.
        segmentation: (X, Y, Z) uint8 in KiTS coding: 1 kidney, 2 tumour, 3 cyst.
        affine: (4, 4), RAS, mm; KiTS's headers put the origin at the right, anterior, superior corner.
    """

    case_id: str
    image: NDArray[np.int16]
    segmentation: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Canvas:
    """A volume in the making.

    Attributes:
        points: where each voxel's content stems from, (3, X, Y, Z) in mm; the middle of the field of view is 0.
        image: HU, (X, Y, Z), painted in place.
        firm: what neither a kidney nor a tumour grows into, (X, Y, Z), painted in place.
        voxel: voxel size in mm, over which an edge is spread as partial volume.
    """

    points: Field
    image: Field
    firm: NDArray[np.bool_]
    voxel: float

    def paint(self, level: NDArray, hu: float | NDArray, within: NDArray | float = 1.0) -> None:
        """Lay ``hu`` where ``level`` (mm, (X, Y, Z)) is negative and ``within`` (weight) is 1."""
        self.image[:] += np.clip(0.5 - level / self.voxel, 0, 1) * within * (hu - self.image)

    def ellipsoid(
        self, centre: Vector, half: Vector, hu: float, *, within: Field | None = None, firm: bool = False
    ) -> None:
        """Lay an axis-parallel ellipsoid around ``centre`` with half-lengths ``half``, in mm, where ``within`` is 1."""
        box = self._box(centre, half)
        level = ellipsoid_level(self.points[:, *box], centre, half)
        weight = np.clip(0.5 - level / self.voxel, 0, 1)
        if within is not None:
            weight *= within[box]
        self.image[box] += weight * (hu - self.image[box])
        if firm:
            self.firm[box] |= weight > 0.5

    def _box(self, centre: Vector, half: Vector) -> tuple[slice, ...]:
        """The voxels that the ellipsoid may reach; the rest is not worth the time."""
        lines = (self.points[0, :, 0, 0], self.points[1, 0, :, 0], self.points[2, 0, 0, :])
        margin = 25 + self.voxel  # mm, for the warp differs along the edges where these lines are taken
        ends = [np.flatnonzero(np.abs(line - c) < h + margin) for line, c, h in zip(lines, centre, half, strict=True)]
        return tuple(slice(e[0], e[-1] + 1) if e.size else slice(0, 0) for e in ends)


def ellipsoid_level(points: Field, centre: Vector, half: Vector) -> Field:
    """Distance from an axis-parallel ellipsoid's surface in mm, about, negative inside."""
    square = sum(((points[k] - np.float32(centre[k])) / np.float32(half[k])) ** 2 for k in range(3))
    return (np.sqrt(square) - 1) * np.float32(min(half))


@dataclass(frozen=True)
class Kidney:
    """A kidney: centre (mm), axes (rows: lateral, anterior, superior), half-lengths along them (mm)."""

    centre: Field
    axes: Field
    half: Field

    def levels(self, points: Field) -> tuple[Field, Field]:
        """Distance in mm from the surface of the kidney and of its sinus at ``points``, about, negative inside."""
        lateral, front, up = np.tensordot(self.axes, points - self.centre[:, None, None, None], 1)
        lateral = lateral - 5 * (0.5 - (up / self.half[2]) ** 2)  # a bean: poles bend to the midline
        scaled = np.stack([lateral, front, up]) / self.half[:, None, None, None]
        norm = np.sqrt((scaled**2).sum(axis=0)) + 1e-6
        slope = np.sqrt(((scaled / self.half[:, None, None, None]) ** 2).sum(axis=0)) / norm + 1e-6
        width, depth, length = self.half * np.array([0.75, 0.34, 0.42], dtype=np.float32)
        hilum = np.sqrt(((lateral + 0.72 * self.half[0]) / width) ** 2 + (front / depth) ** 2 + (up / length) ** 2)
        return (norm - 1) / slope, (hilum - 1) * depth

    def near_surface(self, generator: np.random.Generator, offset_mm: float) -> NDArray:
        """A place (mm) at ``offset_mm`` outwards of the surface, away from the hilum."""
        direction = generator.standard_normal(3)
        direction[0] = abs(direction[0]) - 0.25
        direction /= np.linalg.norm(direction)
        outwards = direction / self.half
        outwards /= np.linalg.norm(outwards)
        place: NDArray = self.centre + self.axes.T @ (direction * self.half + outwards * offset_mm)
        return place


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
        lesion: has one tumour or two. Cysts are drawn either way.
        shape: voxels along X, Y, Z in a fixed field of view of 360 x 288 x 200 mm.
        shifted: draw from another protocol and population.

    Raises:
        WeaksegError: voxels above 12 mm.
    """
    spacing = np.asarray(FIELD_OF_VIEW) / shape
    if spacing.max() > _COARSEST_MM:
        raise WeaksegError(f"shape {shape} gives voxels above {_COARSEST_MM:g} mm; use at least (30, 24, 17)")
    affine = anatomy.affine_of(shape, FIELD_OF_VIEW, -spacing * (np.asarray(shape) - 1) / 2)
    population = SHIFTED if shifted else TRAINING
    generator = rng(data_seed, "abdomen_ct/patient", case_id)
    image, segmentation = _make_patient(generator, lesion, shape, affine, population)
    scan = _scan(rng(data_seed, "abdomen_ct/scan", case_id), image, affine, population)
    return PhantomCase(case_id, scan, segmentation, affine)


def _make_patient(
    generator: np.random.Generator, lesion: bool, shape: tuple[int, int, int], affine: NDArray, population: Population
) -> tuple[Field, NDArray[np.uint8]]:
    """Paint a patient from the outside in: body, organs, kidneys, lesions. Returns HU and labels."""
    noise = partial(anatomy.smooth_noise, generator, shape, affine)
    points = anatomy.positions(shape, anatomy.affine_of(shape, FIELD_OF_VIEW, np.zeros(3)))
    points += np.stack([3.5 * noise(35) for _ in range(3)])
    canvas = Canvas(points, np.full(shape, -1000, np.float32), np.zeros(shape, np.bool_), nifti.spacing_of(affine)[0])
    breath = generator.uniform(-12, 12)  # mm
    cavity, spine = _paint_body(generator, canvas, population)
    _paint_bowel(generator, canvas, cavity, spine)
    _paint_upper_organs(generator, canvas, cavity, breath)
    kidneys = [_draw_kidney(generator, side, spine, breath) for side in (1, -1)]
    levels = [kidney.levels(points) for kidney in kidneys]
    capsule = generator.uniform(5, 14)  # mm of fat around the kidneys
    for level, _ in levels:
        canvas.paint(level - capsule, _FAT + 8, within=cavity)
    _paint_middle(generator, canvas, spine, population)
    free = (cavity > 0.5) & ~canvas.firm
    labels = _paint_kidneys(generator, canvas, levels, free, noise, population)
    voxel_ml = float(np.prod(nifti.spacing_of(affine))) / 1000
    if lesion:
        _add_tumours(generator, canvas, kidneys, labels, free, noise, voxel_ml)
    if generator.random() < _CYST_CHANCE[lesion]:
        _add_cysts(generator, canvas, kidneys, labels, free)
    return canvas.image, labels


def _paint_body(generator: np.random.Generator, canvas: Canvas, population: Population) -> tuple[Field, float]:
    """Skin, fat, wall and ribs. Returns the cavity (weight, (X, Y, Z)) and the spine's Y in mm."""
    half = generator.uniform(*population.half_width_mm)
    size = np.array([half, generator.uniform(0.66, 0.74) * half])
    fat, wall = generator.uniform(*population.fat_mm), generator.uniform(12, 17)  # mm
    x, y, z = canvas.points
    flat_x, flat_y = np.abs(x) ** 2.4, np.abs(y) ** 2.4  # between an ellipse and a rounded box

    def level(inset: float) -> Field:
        a, b = (size - inset).tolist()
        out: Field = ((flat_x * a**-2.4 + flat_y * b**-2.4) ** (1 / 2.4) - 1) * b
        return out

    canvas.paint(level(0), 10)  # skin
    canvas.paint(level(2.5), _FAT)
    muscle, inner = level(fat), level(fat + wall)
    canvas.paint(muscle, _MUSCLE)
    # Ribs run obliquely down to the front, so a slice cuts each of them once.
    height = z + 0.45 * y + generator.uniform(0, 34)
    rib = np.maximum(np.abs(np.mod(height, 34) - 17) - 5, np.abs(muscle + 0.55 * wall) - 4)
    canvas.paint(np.maximum(rib, generator.uniform(-15, 15) - z), generator.uniform(350, 600))
    canvas.paint(inner, _FAT)
    return np.clip(0.5 - inner / canvas.voxel, 0, 1), float(-size[1] + fat + generator.uniform(60, 68))


def _paint_bowel(generator: np.random.Generator, canvas: Canvas, cavity: Field, spine: float) -> None:
    """Loops with an enhancing wall around gas, oral contrast, stool or fluid, in front of the kidneys and beside."""
    for k in range(60):
        beside = k < 10  # ascending and descending colon
        x = generator.choice([-1, 1]) * generator.uniform(98, 112) if beside else generator.uniform(-90, 90)
        y = spine + (generator.uniform(5, 35) if beside else generator.uniform(48, 115))
        centre = np.array([x, y, generator.uniform(-105, 90)])
        half = generator.uniform(13, 24) * np.exp(generator.normal(0, 0.25, 3))
        content = generator.choice([_GAS, 240.0, 15.0, -60.0], p=[0.15, 0.15, 0.6, 0.1])
        canvas.ellipsoid(centre, half, generator.uniform(60, 95), within=cavity)
        canvas.ellipsoid(centre, half - 3, 15.0 if content == _GAS else content, within=cavity)
        if content == _GAS:  # it lies in front of fluid
            canvas.ellipsoid(centre + half * (0, 0.35, 0), half * (0.75, 0.55, 0.75), _GAS, within=cavity)


def _paint_upper_organs(generator: np.random.Generator, canvas: Canvas, cavity: Field, breath: float) -> None:
    """Liver on the right (positive X) and spleen on the left."""
    liver, spleen = generator.uniform(80, 115), generator.uniform(95, 135)  # HU
    size = np.exp(generator.normal(0, 0.06, 3))
    canvas.ellipsoid((70, 15, 75 + breath), np.array([88, 88, 92]) * size, liver, within=cavity)
    canvas.ellipsoid((0, 55, 90 + breath), np.array([80, 38, 45]) * size, liver, within=cavity)
    canvas.ellipsoid((-105, -20, 72 + breath), np.array([30, 46, 48]) * size, spleen, within=cavity)


def _paint_middle(generator: np.random.Generator, canvas: Canvas, spine: float, population: Population) -> None:
    """Muscles along the spine, vertebrae with discs and arches, aorta and vena cava."""
    through = _EVERYWHERE
    for side in (1, -1):
        canvas.ellipsoid((side * 30, spine - 40, 0), (32, 20, through), _MUSCLE, firm=True)
        canvas.ellipsoid((side * 68, spine - 34, -70), (26, 12, 75), _MUSCLE, firm=True)  # quadratus lumborum
        canvas.ellipsoid((side * 36, spine - 4, -110), (19, 20, 120), _MUSCLE, firm=True)  # psoas
    spongy, compact = generator.uniform(130, 230), generator.uniform(350, 600)  # HU
    canvas.ellipsoid((0, spine, 0), (24, 19, through), compact, firm=True)
    canvas.ellipsoid((0, spine, 0), (20.5, 15.5, through), spongy)
    first = generator.uniform(-120, -86)
    for z in np.arange(first, 110, 34):
        canvas.ellipsoid((0, spine, z), (24, 19, 5), 85)  # disc
        canvas.ellipsoid((0, spine - 26, z + 14), (42, 6, 8), compact)  # arch with transverse processes
    canvas.ellipsoid((0, spine - 44, 0), (4, 18, through), 0.7 * compact, firm=True)  # spinous processes
    canvas.ellipsoid((0, spine - 26, 0), (10, 8, through), 35)  # canal
    aorta = generator.uniform(*population.aorta_hu)
    canvas.ellipsoid((-9, spine + 30, 0), (generator.uniform(9, 12),) * 2 + (through,), aorta, firm=True)
    canvas.ellipsoid((17, spine + 28, 0), (13, generator.uniform(7, 11), through), 0.6 * aorta, firm=True)


def _draw_kidney(generator: np.random.Generator, side: int, spine: float, breath: float) -> Kidney:
    """Draw a kidney of the right (side 1) or left; it lies beside the spine, upper pole and hilum to the midline."""
    turn, tilt, slope = np.radians([generator.uniform(15, 40), generator.uniform(5, 16), generator.uniform(0, 12)])
    up = np.array([-side * np.sin(tilt), -np.sin(slope), np.cos(tilt)])
    up /= np.linalg.norm(up)
    lateral = np.array([side * np.cos(turn), -np.sin(turn), 0.0])
    lateral -= (lateral @ up) * up
    lateral /= np.linalg.norm(lateral)
    axes = np.stack([lateral, side * np.cross(up, lateral), up])
    # The notch of the sinus takes an eighth of the ellipsoid.
    radius = np.cbrt(1000 * generator.uniform(*_KIDNEY_ML) / (0.875 * 4 / 3 * np.pi))
    half = radius * np.array([0.84, 0.77, 1.546]) * np.exp(generator.normal(0, 0.04, 3))
    centre = [
        side * generator.uniform(66, 76),
        spine + generator.uniform(-8, 4),
        -6 * side + 0.7 * breath + generator.normal(0, 7),
    ]
    return Kidney(*(np.asarray(v, dtype=np.float32) for v in (centre, axes, half)))


def _paint_kidneys(
    generator: np.random.Generator,
    canvas: Canvas,
    levels: list[tuple[Field, Field]],
    free: NDArray,
    noise: partial[Field],
    population: Population,
) -> NDArray[np.uint8]:
    """Cortex with columns between pyramids of medulla, sinus fat around the pelvis. Returns the labels."""
    labels = np.zeros(free.shape, dtype=np.uint8)
    cortex = generator.uniform(*population.cortex_hu)
    medulla = cortex * generator.uniform(*population.medulla_share)
    thickness = generator.uniform(6.5, 9)  # mm
    columns = noise(8)
    for level, sinus in levels:
        pyramids = np.clip((-level - thickness) / canvas.voxel + 0.5, 0, 1) * np.clip(1.1 - 0.8 * columns, 0, 1)
        canvas.paint(level, cortex + pyramids * (medulla - cortex), within=free)
        canvas.paint(np.maximum(sinus, level), _FAT + 15, within=free)
        urine = generator.uniform(0, 25)  # HU, before contrast is excreted
        canvas.paint(np.maximum(sinus, level) + 5, urine, within=free)
        labels[(level < 0) & (sinus > 1.5) & free] = KIDNEY  # KiTS leaves fat of the sinus out
    return labels


def _add_tumours(
    generator: np.random.Generator,
    canvas: Canvas,
    kidneys: list[Kidney],
    labels: NDArray[np.uint8],
    free: NDArray,
    noise: partial[Field],
    voxel_ml: float,
) -> None:
    """Draw one tumour or two until their volume is one that KiTS has, then paint and label them."""
    for _ in range(60):
        count = 1 + (generator.random() < _SECOND_TUMOUR_CHANCE)
        radii = [_RADIUS_MM * float(np.exp(generator.normal(0, 0.3))) * 0.7**k for k in range(count)]
        foci = [_draw_focus(generator, kidneys, r, (-0.7, 0.4), spread=0.12) for r in radii]
        grown = [focus.level(canvas.points) + focus.radius * (0.12 * noise(14) + 0.05 * noise(7)) for focus in foci]
        whole = np.min(grown, axis=0) < 0
        mask = whole & free
        millilitres = np.count_nonzero(mask) * voxel_ml
        # Real ones push the muscles aside; here those that would be cut are drawn again.
        if _TUMOUR_ML[0] <= millilitres <= _TUMOUR_ML[1] and mask.sum() > 0.85 * whole.sum():
            break
    else:
        raise RuntimeError(f"no tumour of {_TUMOUR_ML} ml in 60 draws at shape {labels.shape}")
    texture = generator.uniform(8, 22) * noise(9)  # HU
    for level, focus in zip(grown, foci, strict=True):
        canvas.paint(level, generator.triangular(*_ENHANCED_HU) + texture, within=free)
        if generator.random() < _NECROTIC_CHANCE:
            dead = level + generator.uniform(0.3, 0.6) * focus.radius
            canvas.paint(dead, generator.uniform(20, 40) + 0.4 * texture, within=free)
    labels[mask] = TUMOUR


def _draw_focus(
    generator: np.random.Generator,
    kidneys: list[Kidney],
    radius_mm: float,
    offset: tuple[float, float],
    *,
    spread: float,
) -> anatomy.Blob:
    """An ellipsoid at the surface of a kidney, ``offset`` radii outwards; exophytic above 0."""
    kidney = kidneys[generator.integers(2)]
    place = kidney.near_surface(generator, radius_mm * generator.uniform(*offset))
    return anatomy.draw_blob(generator, place[:, None], radius_mm, spread=spread)


def _add_cysts(
    generator: np.random.Generator, canvas: Canvas, kidneys: list[Kidney], labels: NDArray[np.uint8], free: NDArray
) -> None:
    """Paint and label one to three simple cysts; a tumour stays on top."""
    for _ in range(1 + generator.binomial(2, 0.3)):
        cyst = _draw_focus(generator, kidneys, generator.uniform(*_CYST_MM), (-0.6, 0.5), spread=0.06)
        level, open_to = cyst.level(canvas.points), free & (labels != TUMOUR)
        canvas.paint(level, generator.uniform(0, 20), within=open_to)
        labels[(level < 0) & open_to] = CYST


def _scan(generator: np.random.Generator, image: Field, affine: NDArray, population: Population) -> NDArray[np.int16]:
    """Image the patient: blur within and across slices, noise that lacks low frequencies as after a ramp filter."""
    spacing = np.asarray(nifti.spacing_of(affine))
    blur = np.array([1.3, 1.3, generator.uniform(*population.slice_blur_mm)]) / spacing
    white = generator.standard_normal(image.shape, dtype=np.float32)
    grain = white - 0.7 * ndimage.gaussian_filter(white, (1.2, 1.2, 0), truncate=2)
    grain *= generator.uniform(*population.noise_hu) / grain.std()
    return np.clip(np.rint(ndimage.gaussian_filter(image, blur, truncate=3) + grain), -1024, 3071).astype(np.int16)


def roster(data_seed: int, cases: int, *, shifted: bool = False) -> dict[str, bool]:
    """Case names, and whether each has a tumour: an exact share without, at shuffled positions.

    Raises:
        WeaksegError: ``cases`` is below 1 or above what the numbering holds.
    """
    if not 1 <= cases <= _SHIFTED_FROM:
        raise WeaksegError(f"cases is {cases}; choose 1 to {_SHIFTED_FROM}")
    first = _SHIFTED_FROM if shifted else 0
    without = round(TUMOUR_FREE_SHARE * cases)
    order = rng(data_seed, "abdomen_ct/tumours", "shifted" if shifted else "").permutation(cases)
    return {f"case_{first + k:05d}": bool(place >= without) for k, place in enumerate(order)}


def write(
    root: Path,
    *,
    data_seed: int,
    cases: int,
    shape: tuple[int, int, int] = SHAPE,
    shifted: bool = False,
    workers: int = 1,
) -> None:
    """Write a data set in KiTS23's layout: a folder per case, ``kits23.json``, and last ``PHANTOM.json``.

    ``workers`` processes share the cases; they change nothing in the files.

    Raises:
        WeaksegError: as :func:`make_case` and :func:`roster`.
    """
    tumours = roster(data_seed, cases, shifted=shifted)
    write_cases(root, tumours, partial(_write_case, root, data_seed, shape, shifted), workers)
    # No histology is drawn, so the clinical fields are there without a value.
    clinical = [{"case_id": name, "malignant": None, "tumor_histologic_subtype": None} for name in tumours]
    (root / "kits23.json").write_text(json.dumps(clinical, indent=2) + "\n", encoding="utf-8")
    mark(root, "abdomen_ct", data_seed=data_seed, cases=cases, shape=shape, shifted=shifted)


def _write_case(
    root: Path, data_seed: int, shape: tuple[int, int, int], shifted: bool, named_lesion: tuple[str, bool]
) -> None:
    name, lesion = named_lesion
    case = make_case(data_seed, name, lesion=lesion, shape=shape, shifted=shifted)
    affine = as_stored(case.affine, shape)
    for file, data in (("imaging", case.image), ("segmentation", case.segmentation)):
        nifti.write(root / name / f"{file}.nii.gz", data.transpose(2, 1, 0)[::-1, ::-1, ::-1], affine)


def as_stored(affine: NDArray, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The affine of KiTS's array order: (slices, H, W), each axis against Z, Y and X.

    ``affine`` (4, 4) is that of the (X, Y, Z) volume of ``shape`` in RAS.
    """
    turn = np.zeros((4, 4))
    for k in range(3):
        turn[k, 2 - k], turn[k, 3] = -1, shape[k] - 1
    turn[3, 3] = 1
    stored: NDArray[np.float64] = affine @ turn
    return stored
