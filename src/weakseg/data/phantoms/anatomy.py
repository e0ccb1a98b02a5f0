"""Brain anatomy that the phantoms share: the MNI152 maps, smooth noise and random deformation.

All positions are in mm in a right-anterior-superior frame whose origin is MNI152's. A deformation pulls: it tells for
each voxel of the new brain where to look in the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nilearn
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from weakseg import nifti

Field = NDArray[np.float32]

_STEP = 2  # mm; the maps are smooth at this scale, and an eighth of the voxels is quicker to sample
_MARGIN = -6.0  # mm; beyond it there is nothing but background
_LARGER = 1.05  # MNI152 is that much larger along each axis than most brains, and the field of view is full of it
VENTRICLES = np.array([0.0, -16.0, 14.0])  # mm, MNI152; between the lateral ones
_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True)
class Template:
    """MNI152 tissue maps (X, Y, Z) on a 2 mm grid.

    Attributes:
        grey, white: tissue fractions in [0, 1].
        depth: distance to the surface of the brain in mm, positive inside and negative outside.
        affine: voxel to mm.
    """

    grey: Field
    white: Field
    depth: Field
    affine: NDArray[np.float64]


@lru_cache(maxsize=4)
def load_template(blur_mm: float) -> Template:
    """Read the MNI152 maps inside nilearn's wheel (no network), blurred by ``blur_mm`` (sigma) against aliasing.

    Source: ICBM 2009a nonlinear symmetric template, Fonov et al., NeuroImage 2011.
    """
    grey, affine = _read("gm", blur_mm)
    white, _ = _read("wm", blur_mm)
    t1, _ = _read("t1", 0)
    # The T1 template is skull-stripped already; the closing bridges sulci that reach the surface.
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(t1 > 0.05, iterations=2))
    depth = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    depth = ndimage.gaussian_filter(_STEP * depth.astype(np.float32), blur_mm / _STEP)
    return Template(grey, white, depth, affine)


def _read(tissue: str, blur_mm: float) -> tuple[Field, NDArray[np.float64]]:
    data, affine = nifti.read(Path(nilearn.__file__).parent / "datasets" / "data" / _FILE.format(tissue))
    data = ndimage.gaussian_filter(data / data.max(), blur_mm, truncate=3)[::_STEP, ::_STEP, ::_STEP]
    return data, affine @ np.diag([_STEP, _STEP, _STEP, 1])


def affine_of(shape: tuple[int, int, int], extent_mm: tuple[float, float, float], centre_mm: NDArray) -> NDArray:
    """Affine (4, 4) of a RAS grid that fills the field of view ``extent_mm`` around ``centre_mm``."""
    spacing = np.asarray(extent_mm) / shape
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = centre_mm - spacing * (np.asarray(shape) - 1) / 2
    return affine


def positions(shape: tuple[int, int, int], affine: NDArray) -> Field:
    """Position of every voxel in mm, (3, X, Y, Z), for an affine without rotation."""
    axes = [affine[k, 3] + affine[k, k] * np.arange(shape[k]) for k in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def smooth_noise(
    generator: np.random.Generator, shape: tuple[int, int, int], affine: NDArray, scale_mm: float
) -> Field:
    """Gaussian noise of mean 0 and variance 1 at every voxel, smooth at ``scale_mm`` (the sigma of its kernel).

    White noise on a grid of ``scale_mm`` is spread by a separable Gaussian, so the cost falls with the scale and the
    same generator gives the same field at every resolution.
    """
    spacing = nifti.spacing_of(affine)
    weights = []
    for n, step in zip(shape, spacing, strict=True):
        x = (np.arange(n) + 0.5) * step
        nodes = np.arange(-2, np.ceil(n * step / scale_mm - 1e-9) + 3) * scale_mm
        kernel = np.exp(-0.5 * ((x[:, None] - nodes) / scale_mm) ** 2)
        weights.append((kernel / np.linalg.norm(kernel, axis=1, keepdims=True)).astype(np.float32))
    field = generator.standard_normal([len(w[0]) for w in weights], dtype=np.float32)
    x, y, z = weights
    spread: Field = y @ np.tensordot(x, field, 1) @ z.T
    return spread


@dataclass(frozen=True)
class Deformation:
    """Pull from a new brain to the template: affine about ``centre`` (mm), smooth field, left-right flip."""

    matrix: Field
    centre: Field
    field: Field
    flipped: bool

    def __call__(self, points: Field) -> Field:
        """Template positions of voxels whose content stems from ``points``; both (3, X, Y, Z) in mm."""
        centre = self.centre[:, None, None, None]
        pulled = np.tensordot(self.matrix, points - centre, 1) + centre + self.field
        if self.flipped:
            pulled[0] *= -1
        return pulled


def random_deformation(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    affine: NDArray,
    *,
    angle: float,
    stretch: float,
    bend_mm: float,
) -> Deformation:
    """Draw a head pose and shape: rotations (SD ``angle`` rad), scales (SD ``stretch``), a field (SD ``bend_mm``)."""
    matrix = np.eye(3) * _LARGER
    for axis, turn in enumerate(generator.normal(0, angle, 3)):
        i, j = (k for k in range(3) if k != axis)
        rotation = np.eye(3)
        rotation[[i, i, j, j], [i, j, i, j]] = np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)
        matrix = matrix @ rotation
    matrix = matrix @ np.diag(np.exp(generator.normal(0, stretch, 3)))
    fields = [
        bend_mm * (smooth_noise(generator, shape, affine, 30) + 0.35 * smooth_noise(generator, shape, affine, 10))
        for _ in range(3)
    ]
    middle = (affine @ np.array([*(np.asarray(shape) - 1) / 2, 1]))[:3]
    return Deformation(
        matrix.astype(np.float32), middle.astype(np.float32), np.stack(fields), bool(generator.random() < 0.5)
    )


def push(points: Field, centre_mm: NDArray, amount_mm: float, radius_mm: float) -> Field:
    """Displacement (3, X, Y, Z) in mm away from a centre, largest (``amount_mm``) at ``radius_mm``.

    It is where tissue goes; a pull subtracts it.
    """
    away = points - np.asarray(centre_mm, dtype=np.float32)[:, None, None, None]
    square = (away**2).sum(axis=0) / radius_mm**2
    return away * (amount_mm / radius_mm * np.exp(0.5 * (1 - square))).astype(np.float32)


def midline_shift(points: Field, centre_mm: NDArray, shift_mm: float) -> Field:
    """Displacement (3, X, Y, Z) in mm of the midline away from the side of ``centre_mm``, largest at its height."""
    scale = np.array([22, 45, 35], dtype=np.float32)[:, None, None, None]
    apart = (points - np.array([0, centre_mm[1], centre_mm[2]], dtype=np.float32)[:, None, None, None]) / scale
    shift = np.zeros_like(points)
    shift[0] = -float(np.sign(centre_mm[0])) * shift_mm * np.exp(-0.5 * (apart**2).sum(axis=0))
    return shift


def sample(data: Field, template: Template, points: Field) -> Field:
    """Linear interpolation of a template map at ``points`` (3, *) in mm; beyond its edge the edge's value."""
    inverse = np.linalg.inv(template.affine).astype(np.float32)
    voxels = np.tensordot(inverse[:3, :3], points, 1)
    voxels += inverse[:3, 3].reshape(3, *[1] * (points.ndim - 1))
    return ndimage.map_coordinates(data, voxels, order=1, mode="nearest")


@dataclass(frozen=True)
class Head:
    """A deformed brain, (X, Y, Z) each: tissue fractions that add up to 1, and depth below its surface in mm."""

    csf: Field
    grey: Field
    white: Field
    depth: Field


def make_head(
    generator: np.random.Generator, template: Template, points: Field, depth: Field, affine: NDArray, atrophy: float
) -> Head:
    """Sample the template's tissues at ``points`` (3, X, Y, Z) in mm, wherever ``depth`` (mm) says brain.

    The MNI152 maps are averages over people, so they lack one person's sulci. A smooth random preference per tissue
    brings such sulci in; ``atrophy`` (log odds) widens all spaces with fluid.
    """
    near = depth > _MARGIN
    grey, white = (sample(data, template, points[:, near]) for data in (template.grey, template.white))
    folds, edges = (smooth_noise(generator, depth.shape, affine, 3)[near] for _ in range(2))
    odds = (
        np.clip(1 - grey - white, 0, 1) ** 1.5 * np.exp(atrophy + 0.9 * folds),
        grey**1.5,
        white**1.5 * np.exp(0.4 * edges),
    )
    total = sum(odds) + 1e-6
    csf, grey, white = np.ones_like(depth), np.zeros_like(depth), np.zeros_like(depth)
    grey[near], white[near] = odds[1] / total, odds[2] / total
    csf[near] = 1 - grey[near] - white[near]
    return Head(csf, grey, white, depth)


def white_matter_change(generator: np.random.Generator, head: Head, affine: NDArray, burden: float) -> Field:
    """Age-related change in [0, 1], (X, Y, Z): caps around the ventricles and spots; ``burden`` in [0, 1]."""
    ventricles = head.csf * (head.depth > 22)
    caps = ndimage.gaussian_filter(ventricles, 4.0 / np.asarray(nifti.spacing_of(affine)), truncate=2)
    patchy = special.expit(3 * smooth_noise(generator, head.depth.shape, affine, 8) + 4 * burden - 2)
    spots = np.clip(smooth_noise(generator, head.depth.shape, affine, 3.5) - 2.6 + 0.9 * burden, 0, 1)
    return np.clip(burden * (4 * caps * patchy + 1.5 * spots), 0, 1) * head.white


@dataclass(frozen=True)
class Blob:
    """An ellipsoid that a lesion starts from: centre, axes (3, 3; unit directions over half-lengths), radius, in mm."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    radius: float

    def level(self, points: Field) -> Field:
        """Distance from the surface in mm at ``points`` (3, X, Y, Z), about, negative inside."""
        offset = points - self.centre.astype(np.float32)[:, None, None, None]
        reach = np.tensordot(self.axes.astype(np.float32), offset, 1)
        return (np.sqrt((reach**2).sum(axis=0)) - 1) * self.radius


def draw_blob(generator: np.random.Generator, homes: Field, radius_mm: float, *, spread: float) -> Blob:
    """Draw an ellipsoid of random direction at one of ``homes`` (3, N) in mm; ``spread`` is the SD of its log axes."""
    centre = homes[:, generator.integers(homes.shape[1])].astype(np.float64)
    directions = np.linalg.qr(generator.standard_normal((3, 3)))[0]
    lengths = radius_mm * np.exp(generator.normal(0, spread, 3))
    return Blob(centre, directions / lengths[:, None], radius_mm)
