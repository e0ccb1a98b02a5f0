"""The scanners of the brain-MRI phantom: contrast, bias field, noise, resolution and skull stripping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.anatomy import Field, Head
from weakseg.data.phantoms.brain_mri_tumour import Tumour

_STRIP_SHARE = 0.35  # of cases with a residual rim
_WMH_BURDEN = (1.2, 1.8)  # beta distribution
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


def scan(
    generator: np.random.Generator, head: Head, tumour: Tumour, affine: NDArray, population: Population
) -> dict[str, NDArray[np.int16]]:
    """Image (X, Y, Z) of the patient in every modality, with one skull stripping, as co-registered BraTS cases have."""
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
