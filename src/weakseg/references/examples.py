"""What references learn from: images with their lesions, and patches cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.truth import open_lesion
from weakseg.evaluation.segmentation import box_of
from weakseg.execution import Context

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Example:
    """A case with its mask, on the case's grid.

    Attributes:
        case: case name.
        image: (C, X, Y, Z) float32, z-scored, 0 outside the foreground; a memory map.
        foreground: the box around it.
        lesions: (R, *) bool, a lesion for each region, cut to the box ``around`` them.
        around: where all lesions lie; None for a case without any.
    """

    case: str
    image: NDArray
    foreground: Box
    lesions: NDArray
    around: Box | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of the case's grid."""
        x, y, z = self.image.shape[1:]
        return x, y, z

    @cached_property
    def voxels(self) -> NDArray:
        """Flat indices of the voxels of any lesion in the box around them, found once for all patches."""
        return np.flatnonzero(np.any(self.lesions, axis=0)).astype(np.int32)

    def mask(self) -> NDArray:
        """The lesions on the whole grid, (R, X, Y, Z) bool."""
        whole = np.zeros((len(self.lesions), *self.shape), dtype=bool)
        if self.around is not None:
            whole[:, *self.around] = self.lesions
        return whole


def read_example(context: Context, case: str, regions: Sequence[str]) -> Example:
    """Open a case's image and its mask, which is logged, for some regions."""
    preprocessed = context.folder("preprocess")
    opened = [
        open_lesion(context, context.folder("truth"), case, "references", region, "grid")[0] for region in regions
    ]
    lesions = np.stack(opened)
    image = nifti.open_channels(image_file(preprocessed, case))
    foreground = box_of(read_foreground(preprocessed, case)[0])
    if not lesions.any():
        return Example(case, image, foreground, lesions[:, :0, :0, :0], None)
    around = box_of(np.any(lesions, axis=0))
    return Example(case, image, foreground, lesions[:, *around].copy(), around)


def corner(example: Example, size: Sequence[int], on_lesion: bool, generator: np.random.Generator) -> list[int]:
    """Where a random patch begins, along X, Y and Z.

    Args:
        example: to cut from.
        size: of the patch in voxels along X, Y, Z.
        on_lesion: the patch is to hold a random voxel of the lesions, if there are any; else one of the foreground's
            box.
        generator: of three or more draws.
    """
    if on_lesion and example.around is not None:
        voxel = example.voxels[generator.integers(len(example.voxels))]
        inside = np.unravel_index(voxel, example.lesions.shape[1:])
        at = np.array([i + side.start for i, side in zip(inside, example.around, strict=True)])
    else:
        at = np.array([generator.integers(side.start, side.stop) for side in example.foreground])
    # Anywhere in the patch, but inside the grid where it is large enough.
    start = at - [generator.integers(width) for width in size]
    return [int(min(max(s, 0), max(0, n - width))) for s, n, width in zip(start, example.shape, size, strict=True)]


def cut(example: Example, start: Sequence[int], size: Sequence[int]) -> tuple[NDArray, NDArray]:
    """The patch that begins somewhere inside the grid: image (C, *size) float32 and lesions (R, *size) float32.

    What lies beyond the grid is 0, as all that lies outside the foreground.
    """
    inside = tuple(slice(s, min(s + width, n)) for s, width, n in zip(start, size, example.shape, strict=True))
    filled = tuple(slice(0, side.stop - side.start) for side in inside)
    image = np.zeros((len(example.image), *size), dtype=np.float32)
    image[:, *filled] = example.image[:, *inside]
    lesions = np.zeros((len(example.lesions), *size), dtype=np.float32)
    if example.around is not None:
        shared = [(max(a.start, i.start), min(a.stop, i.stop)) for a, i in zip(example.around, inside, strict=True)]
        if all(low < high for low, high in shared):
            to = tuple(slice(low - s, high - s) for (low, high), s in zip(shared, start, strict=True))
            of = tuple(
                slice(low - a.start, high - a.start) for (low, high), a in zip(shared, example.around, strict=True)
            )
            lesions[:, *to] = example.lesions[:, *of]
    return image, lesions
