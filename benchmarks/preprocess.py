"""Seconds and peak memory of the data stages for a CT of 512 x 512 x 600 voxels.

    python benchmarks/preprocess.py

Five abdominal phantoms in KiTS's layout, one of them large (0.7 x 0.56 x 0.33 mm). Every stage runs in a process of its
own on one thread, as `config/paper.yaml` has it (kidneys, resampled) and on the publisher's grid (the whole body).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from weakseg import nifti
from weakseg.catalogue import DATASETS
from weakseg.config_text import load
from weakseg.data.phantoms.abdomen_ct import make_case
from weakseg.execution import read_record
from weakseg.plan import build
from weakseg.runs import spec_file

STAGES = ("index", "anatomy", "preprocess", "truth")
GRIDS: dict[str, dict[str, Any]] = {
    "kidneys, 0.8 x 0.8 x 3 mm": {"spacing": [0.8, 0.8, 3], "size": [400, 320, 200]},
    "body, publisher's grid": {"foreground": "body"},
}
REPEAT = 4


def write_case(folder: Path, number: int, repeat: int) -> None:
    """Write one patient, every voxel of the phantom ``repeat`` times along each axis, with noise of its own."""
    shape = (512 // REPEAT, 512 // REPEAT, 600 // REPEAT) if repeat > 1 else (80, 64, 40)
    case = make_case(0, f"case_{number:05}", lesion=True, shape=shape)
    image, labels = (
        volume.repeat(repeat, 0).repeat(repeat, 1).repeat(repeat, 2) for volume in (case.image, case.segmentation)
    )
    image += np.random.default_rng(0).integers(-10, 11, image.shape, dtype=np.int16)
    affine = case.affine @ np.diag([1 / repeat] * 3 + [1])
    nifti.write(folder / case.case_id / "imaging.nii.gz", image, affine)
    nifti.write(folder / case.case_id / "segmentation.nii.gz", labels, affine)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # In another process: a child's peak counts from its parent's.
        with ProcessPoolExecutor(1) as pool:
            for number in range(5):
                pool.submit(write_case, Path("kits"), number, REPEAT if number == 0 else 1).result()
        for title, grid in GRIDS.items():
            data = {**dict.fromkeys(DATASETS), "kits": {"path": "kits", **grid}}
            plan = build(load({"data": data}))
            plan.write_specs()
            for run in (run for run in plan.runs.values() if run.stage in STAGES):
                command = [sys.executable, "-m", "weakseg", run.stage, "--spec", str(spec_file(run.key))]
                subprocess.run(command, check=True, capture_output=True)
                record = read_record(run.folder)
                took = f"{record['seconds']:6.1f} s {record['peak_memory_mib']:6} MiB"
                print(f"{title:28}{run.stage:12}{took}", flush=True)


if __name__ == "__main__":
    main()
