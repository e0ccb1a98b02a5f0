"""Tiny CT folders for tests, in the layouts of INSTANCE, KiTS and TotalSegmentator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.brats_factory import write_volume

from weakseg.randomness import rng

SHAPE = (10, 8, 6)
"""Voxels along X, Y, Z in RAS."""

HEAD = np.array([[-0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 5.0, 0], [0, 0, 0, 1]])
"""INSTANCE: stored as LPS, thick slices."""

KIDNEYS = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
"""KiTS: stored as (slices, height, width), top slice first."""

WHOLE = np.diag([1.5, 1.5, 1.5, 1])
"""TotalSegmentator: RAS, isotropic."""

LESION = np.zeros(SHAPE, np.uint8)
LESION[2:5, 2:5, 2:4] = 1

KIDNEY = LESION.copy()
KIDNEY[3, 3, 2:4] = 2, 3
"""Kidney with a voxel of tumour in slice 2, and one of cyst in slice 3."""


def hounsfield(name: str, shape: tuple[int, int, int] = SHAPE) -> NDArray:
    """A block of tissue in air, (X, Y, Z) int16 in HU, another one for each name."""
    image = np.full(shape, -1000, np.int16)
    inner = image[1:-1, 1:-1]
    inner[:] = rng(0, "ct_factory", name).integers(-100, 300, inner.shape)
    return image


def slices_first(volume: NDArray) -> NDArray:
    """A volume (X, Y, Z) in RAS as KiTS stores it with the affine :data:`KIDNEYS`."""
    return volume[::-1, ::-1, ::-1].transpose(2, 1, 0)


def write_instance(root: Path, cases: int = 2) -> Path:
    """Write ``train/data/001.nii.gz``, ``train/label/001.nii.gz`` and so on; returns the root."""
    for number in range(1, cases + 1):
        name = f"{number:03}.nii.gz"
        write_volume(root / "train" / "data" / name, hounsfield(name), HEAD)
        write_volume(root / "train" / "label" / name, LESION, HEAD)
    return root


def write_kits(root: Path, cases: int = 2, mask: str = "segmentation") -> Path:
    """Write ``case_00000/imaging.nii.gz`` with its mask, and so on; returns the root."""
    for number in range(cases):
        folder = root / f"case_{number:05}"
        write_volume(folder / "imaging.nii.gz", slices_first(hounsfield(folder.name)), KIDNEYS)
        write_volume(folder / f"{mask}.nii.gz", slices_first(KIDNEY), KIDNEYS)
    return root


def write_totalsegmentator(root: Path, cases: int = 2) -> Path:
    """Write ``s0000/ct.nii.gz`` with masks of three organs, and so on, and ``meta.csv``; returns the root."""
    for number in range(cases):
        folder = root / f"s{number:04}"
        write_volume(folder / "ct.nii.gz", hounsfield(folder.name), WHOLE)
        for organ in ("kidney_left", "kidney_right", "liver"):
            write_volume(folder / "segmentations" / f"{organ}.nii.gz", LESION, WHOLE)
    write_meta(root, {f"s{number:04}": "no_pathology" for number in range(cases)})
    return root


def write_meta(root: Path, pathologies: dict[str, str]) -> None:
    """Write TotalSegmentator's ``meta.csv`` with an entry under ``pathology`` for each case."""
    columns = "image_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp"
    rows = [f"{columns};pathology;pathology_location"]
    rows += [f"{case};60;m;A;ct abdomen;train;SIEMENS;Force;100;{said};" for case, said in pathologies.items()]
    (root / "meta.csv").write_text("\n".join(rows) + "\n")
