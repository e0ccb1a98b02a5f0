"""Tiny BraTS folders for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from weakseg.execution import Context
from weakseg.randomness import rng

MODALITIES = ("t1", "t1ce", "t2", "flair")
PAIR = ("t1", "flair")
"""What most tests make do with, since opening a file costs more than reading it."""

SHAPE = (8, 8, 6)
LPS = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 7], [0, 0, 1.0, 0], [0, 0, 0, 1]])
"""The orientation of the published BraTS volumes."""

TUMOUR = np.zeros(SHAPE, np.uint8)
TUMOUR[2:5, 2:5, 2:4] = 2
TUMOUR[3, 3, 2:4] = 1, 4


def write_volume(path: Path, data: NDArray, affine: NDArray = LPS) -> None:
    """Write a NIfTI file as a publisher would, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def write_case(
    folder: Path,
    name: str,
    *,
    modalities: Iterable[str] = MODALITIES,
    seed: int = 0,
    mask: NDArray | None = TUMOUR,
    suffix: str = ".nii.gz",
) -> Path:
    """Write ``folder/name`` with random images (a margin of 0, the rest positive) and a mask, unless that is None."""
    for modality in modalities:
        image = np.zeros(SHAPE, np.int16)
        image[1:-1, 1:-1, 1:-1] = rng(seed, "factory", f"{name}/{modality}").integers(1, 1000, (6, 6, 4))
        write_volume(folder / name / f"{name}_{modality}{suffix}", image)
    if mask is not None:
        write_volume(folder / name / f"{name}_seg{suffix}", mask)
    return folder / name


def write_graded(root: Path, high: int = 3, low: int = 2) -> Path:
    """Write a BraTS 2018 folder, ``HGG/Brats18_SYN_0_1`` and so on, then ``LGG``, with the modalities :data:`PAIR`."""
    for number in range(high + low):
        write_case(root / ("HGG" if number < high else "LGG"), f"Brats18_SYN_{number}_1", modalities=PAIR, seed=number)
    return root


def write_table(folder: Path, grades: dict[str, str]) -> Path:
    """Write BraTS 2020's ``name_mapping.csv``."""
    columns = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID"
    rows = [f"{grade},NA,NA,NA,NA,{case}" for case, grade in grades.items()]
    path = folder / "name_mapping.csv"
    path.write_text("\n".join([f"{columns},BraTS_2020_subject_ID", *rows]) + "\n")
    return path


def index_context(
    out: Path,
    roots: Sequence[Path] | None,
    *,
    phantoms: Sequence[Path] = (),
    split: dict[str, Any] | None = None,
    threads: int = 1,
    **params: Any,
) -> Context:
    """The context of the stage ``index`` as the plan would make it; ``split`` and ``params`` replace defaults."""
    out.mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "dataset": "brats",
        "modalities": list(PAIR),
        "label_coding": "brats2017",
        "split": {"folds": 1, "test": 0.2, "val": 0.2, "train_only": []} | (split or {}),
        "data_seed": 0,
    }
    if roots is not None:
        defaults["roots"] = [str(root) for root in roots]
    return Context(
        stage="index",
        key="k",
        params=defaults | params,
        upstream={"phantom": list(phantoms)},
        out=out,
        state=out / ".state",
        threads=threads,
    )
