"""Patients of the head-CT phantom: a deformed MNI152 head with blood in it, on a grid of thin slices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Field, Head
from weakseg.data.phantoms.head_ct_blood import CENTRE, GAP_MM, Blood, bleed, draw_bleeding, mass_effect

FIELD_OF_VIEW = (217.6, 217.6, 150.0)  # mm

_FINER = 2  # sub-slices that make a slice, so that thick slices mix what they cut
_VOLUME_ML = (0.4, 150.0)  # of all haemorrhages of a case


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
        clear = self.head.depth > 1.2 - GAP_MM
        return (slices(self.blood.fraction * clear) > 0.5).astype(np.uint8)


def make_patient(
    generator: np.random.Generator, lesion: bool, shape: tuple[int, int, int], affine: NDArray, population: Population
) -> Patient:
    """Draw a head, then haemorrhages until their volume is one that INSTANCE has.

    ``shape`` and ``affine`` are those of :func:`fine_grid`.

    Raises:
        RuntimeError: no draw gave such a volume.
    """
    template = load_template(affine)
    points = anatomy.positions(shape, affine)
    deformation = anatomy.random_deformation(
        generator, shape, affine, angle=population.angle, stretch=population.stretch, bend_mm=population.bend_mm
    )
    wide = anatomy.push(points, anatomy.VENTRICLES, generator.uniform(*population.ventricles_mm), 26)
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
        bleeding = draw_bleeding(generator, homes)
        moved = wide + mass_effect(generator, points, bleeding)
        pulled = deformation(points - moved)
        head = anatomy.make_head(generator, template, pulled, depth, affine, atrophy)
        blood = bleed(generator, bleeding, head, points, pulled, affine)
        patient = Patient(head, still, pulled, blood)
        if _VOLUME_ML[0] <= np.count_nonzero(patient.labels()) * millilitres <= _VOLUME_ML[1]:
            return patient
    raise RuntimeError(f"no haemorrhage of {_VOLUME_ML} ml in 60 draws at shape {shape}")


def fine_grid(shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], NDArray]:
    """Shape and (4, 4) affine of the grid of sub-slices for slices of a shape."""
    fine = (shape[0], shape[1], shape[2] * _FINER)
    return fine, anatomy.affine_of(fine, FIELD_OF_VIEW, CENTRE)


def load_template(fine_affine: NDArray) -> anatomy.Template:
    """MNI152's head, blurred to suit a fine grid; it is kept for the next case."""
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


def slices(fine: Field) -> Field:
    """Average the sub-slices (X, Y, Z) into slices."""
    return fine.reshape(*fine.shape[:2], -1, _FINER).mean(axis=3)
