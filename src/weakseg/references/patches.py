"""Four modalities of many cases, in patches to learn from and whole to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from weakseg import nifti
from weakseg.data.grid import image_file
from weakseg.evaluation.segmentation import box_of

PAIRS = (("t1", "t1ce"), ("t2", "flair"))
"""Which modalities go together (Zhang et al. 2021, Fig. 5)."""
MODALITIES = [name for pair in PAIRS for name in pair]
"""The order of channels here."""
OVERLAP = 0.25
"""Least share of a patch that it has in common with the next one along each axis, when a whole case is predicted."""


class Volume(NamedTuple):
    """Four modalities of a case, cut to the box of its foreground.

    Attributes:
        image: a channel (*box) float32 for each of :data:`MODALITIES`, memory-mapped.
        box: where they lie on the case's grid.
        shape: (X, Y, Z) of that grid.
    """

    image: list[NDArray]
    box: tuple[slice, ...]
    shape: tuple[int, ...]


def order_of(channels: Sequence[str]) -> list[int]:
    """The places of :data:`MODALITIES` among the channels of an image."""
    return [channels.index(name) for name in MODALITIES]


def volume_of(image: NDArray, order: Sequence[int]) -> Volume:
    """Cut a preprocessed image (C, X, Y, Z), 0 outside the foreground, and put its channels in order."""
    box = box_of(np.any(image != 0, axis=0))
    return Volume([image[channel][box] for channel in order], box, image.shape[1:])


def read_volume(preprocessed: Path, order: Sequence[int], case: str) -> Volume:
    """Open a preprocessed case."""
    return volume_of(nifti.open_channels(image_file(preprocessed, case)), order)


def draw_patches(
    volumes: Sequence[Volume],
    targets: Sequence[NDArray] | None,
    count: int,
    edge: int,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Draw patches, uniform over cases and positions, with replacement.

    Args:
        volumes: to draw from; where one is smaller than a patch, 0 follows it.
        targets: classes (*box) of each, or None.
        count: how many.
        edge: of a patch, in voxels.
        generator: decides all.

    Returns:
        (count, 4, edge, edge, edge) float32, and (count, edge, edge, edge) int64 or None.
    """
    images = torch.zeros(count, len(MODALITIES), edge, edge, edge)
    classes = torch.zeros(count, edge, edge, edge, dtype=torch.int64)
    for row in range(count):
        number = int(generator.integers(len(volumes)))
        image = volumes[number].image
        x, y, z = (_stretch(size, edge, generator) for size in image[0].shape)
        a, b, c = (len(range(*stretch.indices(size))) for stretch, size in zip((x, y, z), image[0].shape, strict=True))
        images[row, :, :a, :b, :c] = torch.from_numpy(np.stack([volume[x, y, z] for volume in image]))
        if targets is not None:
            classes[row, :a, :b, :c] = torch.from_numpy(targets[number][x, y, z].astype(np.int64))
    return images, classes if targets is not None else None


def _stretch(size: int, edge: int, generator: np.random.Generator) -> slice:
    """Where a patch lies along an axis."""
    start = int(generator.integers(max(size - edge, 0) + 1))
    return slice(start, start + edge)


def predict(network: Callable[[Tensor], Tensor], volume: Volume, edge: int, batch_size: int, device: str) -> NDArray:
    """Send a whole case through a network, window by window, and blend the windows (MONAI, Gaussian weights).

    Args:
        network: (N, 4, edge, edge, edge) -> (N, K, edge, edge, edge).
        volume: the case.
        edge: of a window, in voxels.
        batch_size: windows at a time.
        device: where the network is.

    Returns:
        (K, X, Y, Z) float32 on the case's grid, 0 outside the box of the foreground.
    """
    image = torch.from_numpy(np.stack(volume.image)[None])
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        blended = sliding_window_inference(
            image, edge, batch_size, network, OVERLAP, mode="gaussian", sw_device=device, device="cpu"
        )
    assert isinstance(blended, Tensor)
    whole = np.zeros((blended.shape[1], *volume.shape), dtype=np.float32)
    whole[(slice(None), *volume.box)] = blended[0].float().numpy()
    return whole
