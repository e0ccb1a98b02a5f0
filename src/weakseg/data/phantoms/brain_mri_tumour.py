"""Gliomas of the brain-MRI phantom: foci in white matter, and the core, rim, necrosis and oedema that grow around."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Blob, Field, Head

_RADIUS_MM = {"HGG": 18.5, "LGG": 19.0}  # median of the core
_OEDEMA_MM = {"HGG": 12.0, "LGG": 6.0}  # median width in white matter
_EXTRA_FOCI = {"HGG": (0.75, 0.17, 0.08), "LGG": (0.9, 0.1, 0.0)}  # chance of none, one, two


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


def draw_foci(generator: np.random.Generator, homes: Field, grade: str) -> list[Blob]:
    """One focus in white matter, and at times one or two smaller ones near it; ``homes`` (3, N) in mm."""
    radius = float(np.clip(np.exp(generator.normal(np.log(_RADIUS_MM[grade]), 0.28)), 9, 34))
    foci = [anatomy.draw_blob(generator, homes, radius, spread=0.2)]
    distance = np.linalg.norm(homes - foci[0].centre[:, None], axis=0)
    near = homes[:, (distance > radius + 8) & (distance < radius + 35)]
    extra = int(generator.choice(3, p=_EXTRA_FOCI[grade])) if near.shape[1] else 0
    return foci + [
        anatomy.draw_blob(generator, near, generator.uniform(0.3, 0.6) * radius, spread=0.2) for _ in range(extra)
    ]


def grow(
    generator: np.random.Generator, foci: list[Blob], head: Head, points: Field, affine: NDArray, grade: str
) -> Tumour:
    """Grow the parts: an irregular core around the foci, and oedema that spreads along white matter.

    ``points`` (3, X, Y, Z) in mm is where voxels lie.
    """
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
