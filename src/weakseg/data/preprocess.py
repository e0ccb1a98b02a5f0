"""Raw images onto the case's grid: RAS, one voxel size, one size, and intensities that compare between cases."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, ResizeWithPadOrCrop, Spacing
from nibabel.affines import from_matvec
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data import foreground as find
from weakseg.data.anatomy import organ_file
from weakseg.data.grid import foreground_file, image_file
from weakseg.data.index import read_cases
from weakseg.errors import WeaksegError
from weakseg.execution import Context

MARGIN = 3
"""Voxels kept around the foreground before it is resampled; interpolation reaches one."""

ROOM = 8
"""Voxels that a size made for the foreground has to spare; it is a multiple of them."""

Windows = list[tuple[float, float]]


def run(context: Context) -> None:
    """Write ``images/<case>.nii`` (C, X, Y, Z) float32 and ``foreground/<case>.nii.gz`` (X, Y, Z) for every case."""
    index = context.folder("index")
    paths: dict[str, dict[str, str]] = json.loads((index / "images.json").read_text())
    cases = read_cases(index)["case"]
    files = context.record("index")["params"]["modalities"]
    (anatomy,) = context.upstream.get("anatomy", [None])
    windows, channels = context.params["windows"], context.params["channels"]
    spacing, size = context.params["spacing"], context.params["size"]
    found: dict[str, Any] = {"kind": context.params["foreground"], "anatomy": anatomy}
    items = [(case, [Path(paths[case][name]) for name in files]) for case in cases]
    if size == "foreground":
        extents = context.map_cases(partial(_extent, spacing=spacing, **found), items, "foreground")
        size = common_size(extents)
    # By the channels' names: parameters come with their keys sorted.
    grid = {"spacing": spacing, "size": size, "windows": windows and [windows[name] for name in channels]}
    context.map_cases(partial(_write_case, out=context.out, **found, **grid), items, "preprocess")
    context.count("cases", len(cases))


def common_size(extents: list[NDArray]) -> list[int]:
    """Voxels along X, Y, Z that hold every foreground, given the extent (3,) of each, with room to turn them in."""
    return [int(-(-(largest + ROOM) // ROOM) * ROOM) for largest in np.max(extents, axis=0)]


def _extent(item: tuple[str, list[Path]], kind: str, anatomy: Path | None, spacing: list[float] | None) -> NDArray:
    """Extent (3,) of the foreground of a case, in voxels of its grid."""
    _, foreground, affine = _read(item, kind, anatomy)
    voxels = np.array([stop - start for start, stop in find.extent(foreground)])
    # Resampling may reach one voxel further on either side.
    return voxels if spacing is None else np.ceil(voxels * nifti.spacing_of(affine) / spacing).astype(int) + 2


def _write_case(
    item: tuple[str, list[Path]],
    out: Path,
    kind: str,
    anatomy: Path | None,
    spacing: list[float] | None,
    size: list[int] | None,
    windows: Windows | None,
) -> None:
    case, _ = item
    image, foreground, affine = _read(item, kind, anatomy)
    image, foreground, affine = to_grid(image, foreground, affine, spacing, size, windows, case)
    nifti.write(image_file(out, case), image, affine)
    nifti.write(foreground_file(out, case), foreground.astype(np.uint8), affine)


def _read(item: tuple[str, list[Path]], kind: str, anatomy: Path | None) -> tuple[NDArray, NDArray, NDArray]:
    """Raw image (C, X, Y, Z), its foreground and affine."""
    case, paths = item
    volumes = [nifti.read(path) for path in paths]
    affine = volumes[0][1]
    # One channel is not copied: it may fill a third of the memory of a large CT.
    image = volumes[0][0][None] if len(volumes) == 1 else np.stack([volume for volume, _ in volumes])
    foreground = _foreground(image, affine, kind, organ_file(anatomy, case) if anatomy else None)
    if not foreground.any():
        raise WeaksegError(f"{paths[0]}: no foreground ({kind}) was found in it; check orientation and units")
    return image, foreground, affine


def _foreground(image: NDArray, affine: NDArray, kind: str, organ: Path | None) -> NDArray:
    """Foreground (X, Y, Z) bool of a raw image (C, X, Y, Z)."""
    if kind == "nonzero":
        return find.nonzero(image)
    if kind == "body":
        return find.body(image[0])
    if kind == "brain":
        return find.brain(image[0], nifti.spacing_of(affine))
    assert organ is not None
    return find.around(nifti.read(organ, np.uint8)[0] > 0, nifti.spacing_of(affine))


def to_grid(
    image: NDArray,
    foreground: NDArray,
    affine: NDArray,
    spacing: list[float] | None,
    size: list[int] | None,
    windows: Windows | None,
    case: str,
) -> tuple[NDArray, NDArray, NDArray]:
    """Resample, crop or pad, and scale the intensities of one image.

    Args:
        image: (C, X, Y, Z) in RAS.
        foreground: (X, Y, Z) bool.
        affine: (4, 4), voxel to mm.
        spacing: voxel size in mm, or None to keep it.
        size: voxels along X, Y, Z around the centre of the foreground, or None to keep the grid.
        windows: (level, width) in HU of each channel to make from CT; None for z-scores.
        case: name for messages.

    Returns:
        Image (C, X, Y, Z) float32, 0 outside the foreground and inside either z-scored per channel or, per window, in
        [-4, 4]; foreground (X, Y, Z) bool; affine of the grid.

    Raises:
        WeaksegError: ``size`` would cut foreground off.
    """
    if size is not None:
        image, foreground, affine = _cut(image, foreground, affine)
    if spacing is not None or size is not None:
        image, foreground, affine = _resample(image, foreground, affine, spacing, size, case)
    scaled = _zscore(image, foreground) if windows is None else _window(image[0], windows)
    np.copyto(scaled, 0, where=~foreground)
    return scaled, foreground, affine


def _cut(image: NDArray, foreground: NDArray, affine: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Leave what lies far from the foreground, so that it need not be resampled."""
    low, high = np.transpose(find.extent(foreground))
    low = np.maximum(low - MARGIN, 0)
    box = tuple(slice(a, b + MARGIN) for a, b in zip(low, high, strict=True))
    return image[:, *box], foreground[box], affine @ from_matvec(np.eye(3), low)


def _resample(
    image: NDArray,
    foreground: NDArray,
    affine: NDArray,
    spacing: list[float] | None,
    size: list[int] | None,
    case: str,
) -> tuple[NDArray, NDArray, NDArray]:
    volume = np.concatenate([image, foreground[None]], dtype=np.float32)
    stacked: Any = MetaTensor(torch.from_numpy(volume), affine=torch.from_numpy(affine))
    if spacing is not None:
        stacked = Spacing(pixdim=spacing, mode="bilinear", padding_mode="border")(stacked)
    if size is not None:
        box = CropForeground(select_fn=_inside, allow_smaller=True)(stacked)
        if any(have > want for have, want in zip(box.shape[1:], size, strict=True)):
            raise WeaksegError(
                f"{case}: foreground of {tuple(box.shape[1:])} voxels does not fit into size {tuple(size)}"
            )
        stacked = ResizeWithPadOrCrop(size, mode="constant", value=0)(box)
    return stacked[:-1].numpy(), _inside(stacked).numpy()[0], np.asarray(stacked.affine)


def _inside(stacked: Any) -> Any:
    """Select the foreground, which is kept as the last channel."""
    return stacked[-1:] > 0.5


def _zscore(channels: NDArray, inside: NDArray) -> NDArray:
    # A voxel of the foreground that is 0 in one channel is dark there, so it counts and moves like any other.
    over: Any = {"axis": (1, 2, 3), "keepdims": True, "where": inside, "dtype": np.float64}
    mean, deviation = np.mean(channels, **over), np.std(channels, **over)
    result: NDArray = ((channels - mean) / np.where(deviation > 1e-6, deviation, 1)).astype(np.float32)
    return result


def _window(hu: NDArray, windows: Windows) -> NDArray:
    """One channel per window, clipped to it, fixed and never fitted: 0 is its level, 1 an eighth of its width above.

    So tissue varies by about 1, as in z-scored images: 10 HU in a brain window of 80, 50 in a soft-tissue one of 400.
    """
    scaled = np.empty((len(windows), *hu.shape), dtype=np.float32)
    for channel, (level, width) in zip(scaled, windows, strict=True):
        np.subtract(hu, level, out=channel)
        channel *= 8 / width
        np.clip(channel, -4, 4, out=channel)
    return scaled
