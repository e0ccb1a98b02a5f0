"""Which lesions of a case were found: masks compared component by component instead of voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg.evaluation.segmentation import box_of

LEAST_IOU = 0.1
"""IoU from which a component counts as a lesion's, as in nnDetection (Baumgartner et al. 2021, arXiv 2106.00817)."""

BANDS_ML = (1.0, 10.0)
"""Limits between bands of lesion volume."""


@dataclass(frozen=True, eq=False)
class LesionMatch:
    """Lesions and predicted components of a case, and which of them belong to each other.

    Attributes:
        lesion_ml: (lesions,) volume of each.
        found: (lesions,) bool.
        component_ml: (components,) volume of each predicted component.
        right: (components,) bool, those that found a lesion.
    """

    lesion_ml: NDArray
    found: NDArray
    component_ml: NDArray
    right: NDArray

    def scores(self) -> dict[str, float]:
        """``lesion_recall``, ``lesion_precision`` and ``lesion_f1``, each in [0, 1], larger is better.

        Both masks empty: all 1. One empty: all 0.
        """
        lesions, components, hits = len(self.found), len(self.right), int(self.found.sum())
        if not lesions and not components:
            return {"lesion_recall": 1.0, "lesion_precision": 1.0, "lesion_f1": 1.0}
        return {
            "lesion_recall": hits / lesions if lesions else 0.0,
            "lesion_precision": hits / components if components else 0.0,
            "lesion_f1": 2 * hits / (lesions + components),
        }

    def by_volume(self, bands_ml: Sequence[float] = BANDS_ML) -> dict[str, tuple[int, int]]:
        """Lesions and how many of them were found, by band of volume: ``<1``, ``1-10``, ``>=10`` ml by default.

        Counts, so that recall in a band can be taken over all cases; a limit belongs to the band above it.
        """
        edges = [f"{limit:g}" for limit in bands_ml]
        inner = [f"{low}-{high}" for low, high in pairwise(edges)]
        band = np.digitize(self.lesion_ml, bands_ml)
        return {
            name: (int(np.sum(band == place)), int(np.sum(self.found[band == place])))
            for place, name in enumerate([f"<{edges[0]}", *inner, f">={edges[-1]}"])
        }


def match_lesions(predicted: NDArray, lesion: NDArray, voxel_ml: float, least_iou: float = LEAST_IOU) -> LesionMatch:
    """Match lesions and predicted components, both connected through 26 neighbours, one to one.

    A lesion is found by a component if their IoU is ``least_iou`` or more. Pairs are taken from the best IoU down, and
    each component finds at most one lesion: so one mask over everything does not find all. No component is too small
    to count.

    Args:
        predicted, lesion: (X, Y, Z) bool.
        voxel_ml: volume of a voxel.
        least_iou: in (0, 1].
    """
    both = box_of(predicted | lesion)
    lesions, n_lesions = ndimage.label(lesion[both], np.ones((3, 3, 3)))
    components, n_components = ndimage.label(predicted[both], np.ones((3, 3, 3)))
    lesion_size = np.bincount(lesions.ravel(), minlength=n_lesions + 1)[1:]
    component_size = np.bincount(components.ravel(), minlength=n_components + 1)[1:]
    shared = (lesions > 0) & (components > 0)
    pairs, common = np.unique(np.stack([lesions[shared], components[shared]]) - 1, axis=1, return_counts=True)
    iou = common / (lesion_size[pairs[0]] + component_size[pairs[1]] - common)
    found, right = np.zeros(n_lesions, bool), np.zeros(n_components, bool)
    for place in np.argsort(-iou, kind="stable"):
        a, b = pairs[:, place]
        if iou[place] >= least_iou and not found[a] and not right[b]:
            found[a] = right[b] = True
    return LesionMatch(lesion_size * voxel_ml, found, component_size * voxel_ml, right)
