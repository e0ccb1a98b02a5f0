"""Haemorrhages of the head-CT phantom: where they lie, what they push aside, how dense they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Blob, Field, Head

CENTRE = np.array([0.0, -18.0, 14.0])  # mm, MNI152, of the field of view: from the foramen magnum to above the vertex
GAP_MM = 1.5  # fluid between brain and bone

_SUBDURAL = 0.2  # chance of a subdural haemorrhage
_FOCI = (0.45, 0.35, 0.20)  # chance of one, two, three parenchymal foci
_VENTRICULAR = 0.45  # chance that a parenchymal haemorrhage breaks into the ventricles
_DEEP = 0.5  # chance that a focus lies in the basal ganglia or the thalamus
_RADIUS_MM = 11.5  # median of a focus


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
        offset = points - CENTRE.astype(np.float32)[:, None, None, None]
        towards = np.tensordot(self.direction.astype(np.float32), offset, 1)
        angle = np.arccos(np.clip(towards / (np.linalg.norm(offset, axis=0) + 1e-3), -1, 1))
        width = self.thickness * np.sqrt(np.clip(1 - (angle / self.reach) ** 2, 0, 1))
        same_side = np.sign(self.direction[0]) * points[0] > 2  # the falx holds it back
        return np.where(same_side & (width > 0), depth + GAP_MM - width, 99).astype(np.float32)


@dataclass(frozen=True)
class Bleeding:
    """What bleeds: parenchymal foci, perhaps a crescent, and whether blood breaks into the ventricles."""

    foci: list[Blob]
    subdural: Subdural | None
    ventricular: bool


def draw_bleeding(generator: np.random.Generator, homes: Field) -> Bleeding:
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


def mass_effect(generator: np.random.Generator, points: Field, bleeding: Bleeding) -> Field:
    """Displacement (3, X, Y, Z) in mm by what the blood takes in room; only large bleedings shift the midline."""
    moved = np.zeros_like(points)
    for focus in bleeding.foci:
        moved += anatomy.push(points, focus.centre, generator.uniform(0.15, 0.4) * focus.radius, focus.radius)
        if focus.radius > 14:
            moved += anatomy.midline_shift(points, focus.centre, generator.uniform(0, 0.4) * focus.radius)
    if bleeding.subdural is not None:
        centre, thickness = CENTRE + 60 * bleeding.subdural.direction, bleeding.subdural.thickness
        moved += anatomy.midline_shift(points, centre, generator.uniform(0.2, 0.7) * thickness)
    if bleeding.ventricular:  # blood blocks the outflow
        moved += anatomy.push(points, anatomy.VENTRICLES, generator.uniform(2, 6), 26)
    return moved


def bleed(
    generator: np.random.Generator, bleeding: Bleeding, head: Head, points: Field, pulled: Field, affine: NDArray
) -> Blood:
    """Fill the foci, the crescent and, at times, the ventricles with blood of a density each.

    ``points`` and ``pulled`` (3, X, Y, Z) in mm are where voxels lie and where in MNI152 they stem from.
    """
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
        inside = special.expit((head.depth + GAP_MM) / 0.5)
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
