"""The regions of a glioma as classes that exclude each other, and what the paper does to predicted ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OEDEMA, CORE, ENHANCING = 1, 2, 3
"""Classes; 0 is background. The core without its enhancing part: necrosis, and tumour that does not enhance."""

REGIONS: dict[str, tuple[int, ...]] = {
    "whole_tumour": (OEDEMA, CORE, ENHANCING),
    "tumour_core": (CORE, ENHANCING),
    "enhancing_tumour": (ENHANCING,),
}
"""Classes of each region, as regions of :data:`weakseg.data.truth.REGIONS`."""

LEAST_SHARE = 1 / 3
LEAST_CORE_MM3 = 10
LEAST_ENHANCING_MM3 = 500
"""The paper counts voxels of 1 mm."""


def classes_of(masks: dict[str, NDArray]) -> NDArray:
    """Classes (X, Y, Z) uint8 of nested masks (X, Y, Z) bool of :data:`REGIONS`, by name."""
    classes = np.zeros(masks["whole_tumour"].shape, dtype=np.uint8)
    for region, label in (("whole_tumour", OEDEMA), ("tumour_core", CORE), ("enhancing_tumour", ENHANCING)):
        classes[masks[region]] = label
    return classes


def region_of(classes: NDArray, region: str) -> NDArray:
    """A region's mask (X, Y, Z) bool."""
    return np.isin(classes, REGIONS[region])


def postprocess(classes: NDArray, foreground: NDArray, voxel_mm3: float) -> NDArray:
    """What the public code of Zhang et al. 2021 does to predicted classes (X, Y, Z) before they are scored.

    Nothing stays outside the foreground. The tumour is dilated by two voxels, and components of less than a third of
    the largest go. With less than 10 mm3 of core, oedema becomes core; with less than 500 mm3 of enhancing tumour, that
    becomes oedema.

    Args:
        classes: uint8.
        foreground: (X, Y, Z) bool.
        voxel_mm3: volume of a voxel.
    """
    found = np.where(foreground, classes, 0).astype(np.uint8)
    if not found.any():
        return found
    components, _ = ndimage.label(ndimage.binary_dilation(found > 0, iterations=2))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    found[(sizes < LEAST_SHARE * sizes.max())[components]] = 0
    if np.count_nonzero(found >= CORE) * voxel_mm3 < LEAST_CORE_MM3:
        found[found == OEDEMA] = CORE
    if np.count_nonzero(found == ENHANCING) * voxel_mm3 < LEAST_ENHANCING_MM3:
        found[found == ENHANCING] = OEDEMA
    return found


def specificity(predicted: NDArray, truth: NDArray) -> float:
    """Share of the voxels without truth that nothing is predicted in; both (X, Y, Z) bool, over the whole volume.

    1 if there is no such voxel.
    """
    free = ~truth
    return 1 - int(np.count_nonzero(predicted & free)) / max(int(np.count_nonzero(free)), 1)
