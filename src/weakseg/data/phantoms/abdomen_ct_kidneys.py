"""Kidneys of the abdominal-CT phantom, with their tumours and cysts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.abdomen_ct_body import FAT, Canvas, Population
from weakseg.data.phantoms.anatomy import Field

_KIDNEY_ML = (150.0, 220.0)  # each, without sinus
_SECOND_TUMOUR_CHANCE = 0.2
_TUMOUR_ML = (6.0, 120.0)  # label 2 of a case
_RADIUS_MM = 24.0  # median of the tumour
_ENHANCED_HU = (60.0, 66.0, 138.0)  # of tumours: least, most frequent, highest; about as medulla
_NECROTIC_CHANCE = 0.35
_CYST_MM = (7.0, 15.0)  # radius


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


def draw_kidney(generator: np.random.Generator, side: int, spine: float, breath: float) -> Kidney:
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


def paint_kidneys(
    generator: np.random.Generator,
    canvas: Canvas,
    levels: list[tuple[Field, Field]],
    free: NDArray,
    noise: partial[Field],
    population: Population,
) -> NDArray[np.bool_]:
    """Cortex with columns between pyramids of medulla, sinus fat around the pelvis. Returns the kidneys (X, Y, Z)."""
    mask = np.zeros(free.shape, dtype=np.bool_)
    cortex = generator.uniform(*population.cortex_hu)
    medulla = cortex * generator.uniform(*population.medulla_share)
    thickness = generator.uniform(6.5, 9)  # mm
    columns = noise(8)
    for level, sinus in levels:
        pyramids = np.clip((-level - thickness) / canvas.voxel + 0.5, 0, 1) * np.clip(1.1 - 0.8 * columns, 0, 1)
        canvas.paint(level, cortex + pyramids * (medulla - cortex), within=free)
        canvas.paint(np.maximum(sinus, level), FAT + 15, within=free)
        urine = generator.uniform(0, 25)  # HU, before contrast is excreted
        canvas.paint(np.maximum(sinus, level) + 5, urine, within=free)
        mask |= (level < 0) & (sinus > 1.5) & free  # KiTS leaves fat of the sinus out
    return mask


def paint_tumours(
    generator: np.random.Generator,
    canvas: Canvas,
    kidneys: list[Kidney],
    free: NDArray,
    noise: partial[Field],
    voxel_ml: float,
) -> NDArray[np.bool_]:
    """Draw one tumour or two until their volume is one that KiTS has, then paint them. Returns them (X, Y, Z)."""
    for _ in range(60):
        count = 1 + (generator.random() < _SECOND_TUMOUR_CHANCE)
        radii = [_RADIUS_MM * float(np.exp(generator.normal(0, 0.3))) * 0.7**k for k in range(count)]
        foci = [_draw_focus(generator, kidneys, r, (-0.7, 0.4), spread=0.12) for r in radii]
        grown = [focus.level(canvas.points) + focus.radius * (0.12 * noise(14) + 0.05 * noise(7)) for focus in foci]
        whole = np.min(grown, axis=0) < 0
        mask: NDArray[np.bool_] = whole & free
        millilitres = np.count_nonzero(mask) * voxel_ml
        # Real ones push the muscles aside; here those that would be cut are drawn again.
        if _TUMOUR_ML[0] <= millilitres <= _TUMOUR_ML[1] and mask.sum() > 0.85 * whole.sum():
            break
    else:
        raise RuntimeError(f"no tumour of {_TUMOUR_ML} ml in 60 draws at shape {free.shape}")
    texture = generator.uniform(8, 22) * noise(9)  # HU
    for level, focus in zip(grown, foci, strict=True):
        canvas.paint(level, generator.triangular(*_ENHANCED_HU) + texture, within=free)
        if generator.random() < _NECROTIC_CHANCE:
            dead = level + generator.uniform(0.3, 0.6) * focus.radius
            canvas.paint(dead, generator.uniform(20, 40) + 0.4 * texture, within=free)
    return mask


def paint_cysts(
    generator: np.random.Generator, canvas: Canvas, kidneys: list[Kidney], free: NDArray
) -> NDArray[np.bool_]:
    """Paint one to three simple cysts. Returns them (X, Y, Z)."""
    mask = np.zeros(free.shape, dtype=np.bool_)
    for _ in range(1 + generator.binomial(2, 0.3)):
        cyst = _draw_focus(generator, kidneys, generator.uniform(*_CYST_MM), (-0.6, 0.5), spread=0.06)
        level = cyst.level(canvas.points)
        canvas.paint(level, generator.uniform(0, 20), within=free)
        mask |= (level < 0) & free
    return mask


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
