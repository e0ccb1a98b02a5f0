"""What a refinement is given of a case, and how it says that it cannot refine a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weakseg.evaluation.segmentation import box_of

PERCENTILES = (0.1, 99.9)
"""These intensities of the foreground become 0 and 1. Nearer ones would clip lesions that fill little of it."""


class NotRefinedError(Exception):
    """A step cannot refine a map; its argument says why in one word, as ``run.json`` counts it.

    It never ends a run: the map stays as it came to the step.
    """


@dataclass(frozen=True)
class Case:
    """All that a step may look at beside the map. There is no mask among it.

    Attributes:
        image: (C, X, Y, Z) as preprocessed.
        foreground: (X, Y, Z) bool, not empty.
        spacing: voxel size in mm along X, Y, Z.
        supervoxels: (X, Y, Z) integers, 0 outside the foreground; None if no step of the chain needs them.
        called: (Z,) bool, the slices that the classifier calls lesion; None where no gate stands before maps.
    """

    image: NDArray
    foreground: NDArray
    spacing: tuple[float, float, float]
    supervoxels: NDArray | None = None
    called: NDArray | None = None


def box_around(mask: NDArray, margin: int = 0) -> tuple[slice, ...]:
    """The box of a mask (X, Y, Z) bool that is not empty, with a margin of voxels where the grid allows."""
    return tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box_of(mask))


def scaled(case: Case, channels: Sequence[int], box: tuple[slice, ...]) -> NDArray:
    """Channels of an image cut to a box, each scaled to [0, 1] over :data:`PERCENTILES` of the whole foreground.

    Args:
        case: whose image it is.
        channels: their places in the image; one that is constant in the foreground is left out.
        box: of voxels along X, Y, Z.

    Returns:
        (C, X, Y, Z) float32, 0 outside the foreground.

    Raises:
        NotRefinedError: every channel is constant.
    """
    inside = case.foreground[box]
    kept = []
    for channel in channels:
        low, high = np.percentile(case.image[channel][case.foreground], PERCENTILES).astype(np.float32)
        if high > low:
            values = np.clip((case.image[channel][box] - low) / (high - low), 0, 1)
            kept.append(np.where(inside, values, 0).astype(np.float32))
    if not kept:
        raise NotRefinedError("constant_image")
    return np.stack(kept)
