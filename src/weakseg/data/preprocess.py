"""Raw images onto the case's grid: RAS, one voxel size, one size, z-scored inside the foreground."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, ResizeWithPadOrCrop, Spacing
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import foreground_file, image_file
from weakseg.data.index import read_cases
from weakseg.errors import WeaksegError
from weakseg.execution import Context


def run(context: Context) -> None:
    """Write ``images/<case>.nii`` (C, X, Y, Z) float32 and ``foreground/<case>.nii.gz`` (X, Y, Z) for every case."""
    index = context.folder("index")
    paths: dict[str, dict[str, str]] = json.loads((index / "images.json").read_text())
    cases = read_cases(index)["case"]
    modalities = context.record("index")["params"]["modalities"]
    work = partial(_write_case, out=context.out, **context.params)
    context.map_cases(work, [(case, [Path(paths[case][name]) for name in modalities]) for case in cases], "preprocess")
    context.count("cases", len(cases))


def _write_case(item: tuple[str, list[Path]], out: Path, spacing: list[float] | None, size: list[int] | None) -> None:
    case, paths = item
    volumes = [nifti.read(path) for path in paths]
    image, affine = np.stack([volume for volume, _ in volumes]), volumes[0][1]
    image, foreground, affine = to_grid(image, affine, spacing, size, case)
    nifti.write(image_file(out, case), image, affine)
    nifti.write(foreground_file(out, case), foreground.astype(np.uint8), affine)


def to_grid(
    image: NDArray, affine: NDArray, spacing: list[float] | None, size: list[int] | None, case: str
) -> tuple[NDArray, NDArray, NDArray]:
    """Resample, crop or pad, and z-score one image.

    Args:
        image: (C, X, Y, Z) in RAS, background exactly 0 in every channel.
        affine: (4, 4), voxel to mm.
        spacing: voxel size in mm, or None to keep it.
        size: voxels along X, Y, Z around the centre of the foreground, or None to keep the grid.
        case: name for messages.

    Returns:
        Image (C, X, Y, Z) float32 with mean 0 and standard deviation 1 inside the foreground and 0 outside; foreground
        (X, Y, Z) bool (any channel differs from 0); affine of the grid.

    Raises:
        WeaksegError: ``size`` would cut foreground off.
    """
    foreground = np.any(image != 0, axis=0, keepdims=True)
    volume = np.concatenate([image, foreground]).astype(np.float32)
    stacked: Any = MetaTensor(torch.from_numpy(volume), affine=torch.from_numpy(affine))
    if spacing is not None:
        stacked = Spacing(pixdim=spacing, mode="bilinear", padding_mode="zeros")(stacked)
        # Interpolation smears the border outwards; outside the foreground all is 0 again.
        stacked = stacked * _inside(stacked)
    if size is not None:
        box = CropForeground(select_fn=_inside, allow_smaller=True)(stacked)
        if any(have > want for have, want in zip(box.shape[1:], size, strict=True)):
            raise WeaksegError(
                f"{case}: foreground of {tuple(box.shape[1:])} voxels does not fit into size {tuple(size)}"
            )
        stacked = ResizeWithPadOrCrop(size, mode="constant", value=0)(box)
    inside = _inside(stacked).numpy()
    channels = stacked[:-1].numpy()
    # A voxel of the foreground that is 0 in one channel is dark there, so it counts and moves like any other.
    over = {"axis": (1, 2, 3), "keepdims": True, "where": inside, "dtype": np.float64}
    mean, deviation = np.mean(channels, **over), np.std(channels, **over)
    normal = (channels - mean) / np.where(deviation > 1e-6, deviation, 1)
    return np.where(inside, normal, 0).astype(np.float32), inside[0], np.asarray(stacked.affine)


def _inside(stacked: Any) -> Any:
    """Select the foreground, which is kept as the last channel."""
    return stacked[-1:] > 0.5
