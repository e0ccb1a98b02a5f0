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


class Lesions:
    """The lesions of a case, told apart once and matched with many predictions.

    Args:
        lesion: (X, Y, Z) bool; lesions are connected through 26 neighbours.
        voxel_ml: volume of a voxel.
    """

    def __init__(self, lesion: NDArray, voxel_ml: float) -> None:
        self.voxel_ml = voxel_ml
        self.labels, self.number = ndimage.label(lesion, np.ones((3, 3, 3)))
        self.sizes = np.bincount(self.labels.ravel(), minlength=self.number + 1)[1:]

    def match(self, predicted: NDArray, least_iou: float = LEAST_IOU) -> LesionMatch:
        """Match lesions and predicted components, connected alike, one to one.

        A lesion is found by a component if their IoU is ``least_iou`` or more. Pairs are taken from the best IoU down,
        and each component finds at most one lesion: so one mask over everything does not find all. No component is too
        small to count.

        Args:
            predicted: (X, Y, Z) bool.
            least_iou: in (0, 1].
        """
        box = box_of(predicted)
        lesions = self.labels[box]
        components, number = ndimage.label(predicted[box], np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel(), minlength=number + 1)[1:]
        shared = (lesions > 0) & predicted[box]
        pairs, common = np.unique((lesions[shared] - 1) * number + components[shared] - 1, return_counts=True)
        of_lesion, of_component = np.divmod(pairs, max(number, 1))
        iou = common / (self.sizes[of_lesion] + sizes[of_component] - common)
        found, right = np.zeros(self.number, bool), np.zeros(number, bool)
        for place in (place for place in np.argsort(-iou, kind="stable") if iou[place] >= least_iou):
            a, b = of_lesion[place], of_component[place]
            if not found[a] and not right[b]:
                found[a] = right[b] = True
        return LesionMatch(self.sizes * self.voxel_ml, found, sizes * self.voxel_ml, right)


def match_lesions(predicted: NDArray, lesion: NDArray, voxel_ml: float, least_iou: float = LEAST_IOU) -> LesionMatch:
    """Match the lesions and predicted components of two masks (X, Y, Z) bool; see :meth:`Lesions.match`.

    For many predictions of one truth, :class:`Lesions` is faster.
    """
    return Lesions(lesion, voxel_ml).match(predicted, least_iou)
