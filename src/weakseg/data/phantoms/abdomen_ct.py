"""An abdominal-CT phantom with kidney tumours and cysts, written in KiTS23's layout.

Every patient is built from ellipsoids under one smooth random warp. What is drawn per case: habitus, breathing, organs'
place and size, tumours and cysts (side, place, size, shape, enhancement, necrosis), contrast timing, and the scanner
(resolution, noise). docs/explanation/phantoms.md tells what is measured on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg import nifti
from weakseg.data.phantoms import anatomy
from weakseg.data.phantoms.abdomen_ct_body import (
    FAT,
    SHIFTED,
    TRAINING,
    Canvas,
    Population,
    paint_body,
    paint_bowel,
    paint_middle,
    paint_upper_organs,
)
from weakseg.data.phantoms.abdomen_ct_kidneys import draw_kidney, paint_cysts, paint_kidneys, paint_tumours
from weakseg.data.phantoms.anatomy import Field
from weakseg.data.phantoms.writing import mark, shuffle_cases, write_cases
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

KIDNEY, TUMOUR, CYST = 1, 2, 3
SHAPE = (120, 96, 40)
FIELD_OF_VIEW = (360.0, 288.0, 200.0)  # mm
TUMOUR_FREE_SHARE = 0.2

_COARSEST_MM = 12.0  # beyond it a kidney is three voxels wide
_CYST_CHANCE = {True: 0.38, False: 0.45}  # with and without a tumour: a third of all cases


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
    cavity, spine = paint_body(generator, canvas, population)
    paint_bowel(generator, canvas, cavity, spine)
    paint_upper_organs(generator, canvas, cavity, breath)
    kidneys = [draw_kidney(generator, side, spine, breath) for side in (1, -1)]
    levels = [kidney.levels(points) for kidney in kidneys]
    capsule = generator.uniform(5, 14)  # mm of fat around the kidneys
    for level, _ in levels:
        canvas.paint(level - capsule, FAT + 8, within=cavity)
    paint_middle(generator, canvas, spine, population)
    free = (cavity > 0.5) & ~canvas.firm
    labels = np.zeros(shape, dtype=np.uint8)
    labels[paint_kidneys(generator, canvas, levels, free, noise, population)] = KIDNEY
    voxel_ml = float(np.prod(nifti.spacing_of(affine))) / 1000
    if lesion:
        labels[paint_tumours(generator, canvas, kidneys, free, noise, voxel_ml)] = TUMOUR
    if generator.random() < _CYST_CHANCE[lesion]:
        labels[paint_cysts(generator, canvas, kidneys, free & (labels != TUMOUR))] = CYST  # a tumour stays on top
    return canvas.image, labels


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
    places = shuffle_cases(data_seed, "abdomen_ct/tumours", "case_{:05d}", cases, first=0, shifted=shifted)
    without = round(TUMOUR_FREE_SHARE * cases)
    return {name: place >= without for name, place in places.items()}


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
