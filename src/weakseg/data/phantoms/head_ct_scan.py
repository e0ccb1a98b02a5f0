"""The scanner of the head-CT phantom: HU of brain, skull and face, then beam, kernel, noise and calibration."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Field, Head
from weakseg.data.phantoms.head_ct_blood import GAP_MM
from weakseg.data.phantoms.head_ct_patient import Patient, Population, slices

# Where calcium gathers with age: position (mm, MNI152; both sides), chance per side, range of the radius in mm.
_CALCIFIED = (
    ((24.0, -44.0, 10.0), 0.55, (2.0, 4.5)),  # choroid plexus
    ((0.0, -27.0, 2.0), 0.35, (1.5, 3.0)),  # pineal gland
    ((0.0, 38.0, 42.0), 0.12, (2.0, 4.0)),  # falx, front
    ((0.0, 5.0, 66.0), 0.12, (2.0, 4.0)),  # falx, top
    ((20.0, -4.0, 0.0), 0.08, (2.0, 4.0)),  # pallidum
)


def scan(
    generator: np.random.Generator, patient: Patient, affine: NDArray, fine_affine: NDArray, population: Population
) -> NDArray[np.int16]:
    """Image the patient: faults that beams make, slices, kernel, noise, calibration.

    ``affine`` is that of the slices, ``fine_affine`` that of the patient. Returns (X, Y, Z) in HU.
    """
    depth, still = patient.head.depth, patient.still
    inside = brain(generator, patient, fine_affine, population.calcified)
    inside += generator.uniform(*population.hardening) * np.exp(-np.maximum(depth, 0) / 6)
    value = slices(_wrap(generator, inside, depth, still, fine_affine))
    x, y, z = (slices(axis) for axis in still)
    # Between the petrous bones the beam has lost its soft part: a dark bar, and streaks that differ between slices.
    bar = np.exp(-0.5 * (((y + 28) / 10) ** 2 + ((z + 34) / 9) ** 2)) * special.expit((42 - np.abs(x)) / 4)
    phase = generator.uniform(0, 2 * np.pi, value.shape[2])
    lines = np.sin(2 * np.pi * (y + generator.normal(0, 0.2) * x) / generator.uniform(9, 16) + phase)
    value += generator.uniform(*population.streaks) * bar * (lines - 0.7) * (slices(depth) > 0)
    kernel = generator.uniform(*population.kernel_mm) / np.asarray(nifti.spacing_of(affine)[:2])
    value = ndimage.gaussian_filter(value, [*kernel, 0], truncate=3)
    # Long ways through bone at the skull base leave fewer photons; the kernel leaves a texture in the noise.
    sigma = generator.uniform(*population.noise) * (1 + 0.4 * np.exp(-0.5 * ((z + 40) / 15) ** 2))
    grain = generator.standard_normal(value.shape, dtype=np.float32)
    grain = 0.75 * grain + 0.66 * anatomy.smooth_noise(generator, value.shape, affine, 2.5)
    value += sigma * grain + generator.uniform(*population.offset)
    return np.clip(np.rint(value), -1024, 3071).astype(np.int16)


def brain(generator: np.random.Generator, patient: Patient, affine: NDArray, calcified: float) -> Field:
    """HU (X, Y, Z) of all that lies inside the skull, without the scanner's faults; ``affine`` is the patient's."""
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
    out = -depth - GAP_MM  # mm outside the inner table
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
