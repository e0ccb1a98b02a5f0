"""Patients of the abdominal-CT phantom without their kidneys: body, bowel, liver, spleen, spine and great vessels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weakseg.data.phantoms.anatomy import Field

Vector = Sequence[float] | NDArray

FAT = -100.0  # HU
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
        level = _ellipsoid_level(self.points[:, *box], centre, half)
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


def _ellipsoid_level(points: Field, centre: Vector, half: Vector) -> Field:
    """Distance from an axis-parallel ellipsoid's surface in mm, about, negative inside."""
    square = sum(((points[k] - np.float32(centre[k])) / np.float32(half[k])) ** 2 for k in range(3))
    return (np.sqrt(square) - 1) * np.float32(min(half))


def paint_body(generator: np.random.Generator, canvas: Canvas, population: Population) -> tuple[Field, float]:
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
    canvas.paint(level(2.5), FAT)
    muscle, inner = level(fat), level(fat + wall)
    canvas.paint(muscle, _MUSCLE)
    # Ribs run obliquely down to the front, so a slice cuts each of them once.
    height = z + 0.45 * y + generator.uniform(0, 34)
    rib = np.maximum(np.abs(np.mod(height, 34) - 17) - 5, np.abs(muscle + 0.55 * wall) - 4)
    canvas.paint(np.maximum(rib, generator.uniform(-15, 15) - z), generator.uniform(350, 600))
    canvas.paint(inner, FAT)
    return np.clip(0.5 - inner / canvas.voxel, 0, 1), float(-size[1] + fat + generator.uniform(60, 68))


def paint_bowel(generator: np.random.Generator, canvas: Canvas, cavity: Field, spine: float) -> None:
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


def paint_upper_organs(generator: np.random.Generator, canvas: Canvas, cavity: Field, breath: float) -> None:
    """Liver on the right (positive X) and spleen on the left."""
    liver, spleen = generator.uniform(80, 115), generator.uniform(95, 135)  # HU
    size = np.exp(generator.normal(0, 0.06, 3))
    canvas.ellipsoid((70, 15, 75 + breath), np.array([88, 88, 92]) * size, liver, within=cavity)
    canvas.ellipsoid((0, 55, 90 + breath), np.array([80, 38, 45]) * size, liver, within=cavity)
    canvas.ellipsoid((-105, -20, 72 + breath), np.array([30, 46, 48]) * size, spleen, within=cavity)


def paint_middle(generator: np.random.Generator, canvas: Canvas, spine: float, population: Population) -> None:
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
