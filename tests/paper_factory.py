"""Folders as large as the papers' data sets, by number and names of files: all that a plan looks at."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

BRATS, INSTANCE, KITS = 369, 100, 489
"""Cases of BraTS 2020, INSTANCE 2022 and KiTS23, as ``config/paper.yaml`` has them."""


def header(shape: tuple[int, ...], spacing: tuple[float, ...]) -> bytes:
    """A compressed NIfTI file of this shape that holds its header alone."""
    volume = nib.Nifti1Header()
    volume.set_data_shape(shape)
    volume.set_data_dtype(np.int16)
    volume.set_zooms(spacing)
    return gzip.compress(volume.binaryblock + b"\0" * 4, mtime=0)


def write_paper_data(root: Path) -> Path:
    """Write ``data/`` as ``config/paper.yaml`` names it, each volume by its header alone; returns the root."""
    brain, head, abdomen = (
        header((240, 240, 155), (1, 1, 1)),
        header((512, 512, 30), (0.5, 0.5, 5)),
        header((200, 512, 512), (3, 0.8, 0.8)),
    )
    for number in range(1, BRATS + 1):
        case = f"BraTS20_Training_{number:03}"
        folder = root / "data" / "MICCAI_BraTS2020_TrainingData" / case
        folder.mkdir(parents=True)
        for channel in ("t1", "t1ce", "t2", "flair", "seg"):
            (folder / f"{case}_{channel}.nii.gz").write_bytes(brain)
    for kind in ("data", "label"):
        folder = root / "data" / "INSTANCE22" / "train" / kind
        folder.mkdir(parents=True)
        for number in range(1, INSTANCE + 1):
            (folder / f"{number:03}.nii.gz").write_bytes(head)
    for number in range(KITS):
        folder = root / "data" / "kits23" / f"case_{number:05}"
        folder.mkdir(parents=True)
        for name in ("imaging", "segmentation"):
            (folder / f"{name}.nii.gz").write_bytes(abdomen)
    return root
