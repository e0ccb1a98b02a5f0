"""What of a slice a classifier is shown: weights in [0, 1] of its pixels, made so that they tell little by themselves.

Every filter orders the foreground from first to last and keeps as many pixels as its rule says, in *every* slice,
lesion or not. Were a map cut at a value, slices without evidence would be blank, and "blank" would become the label.

| filter | order | pixels kept |
| --- | --- | --- |
| ``foreground`` | none | all: the original image |
| ``truth`` | the lesion mask, for slices without lesion one that was placed there | those of the mask |
| ``truth-area`` | a disc at a random place | as many as in the mask |
| ``area`` | a disc at a random place | a share of the foreground |
| a map method | its map | a share of the foreground |

In the manner of Guan & Loew 2022, arXiv 2201.02771, which filters images by heat maps but does not say how.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kept = Literal["hard", "soft", "inverse"]


def ranks(relevance: NDArray, foreground: NDArray, generator: np.random.Generator) -> NDArray:
    """Order the foreground of a slice: 0 for the most relevant pixel, 1 for the next, and so on.

    Of equal values the pixel nearest to the most relevant one comes first, so that the first n are in one place and
    no pattern tells a slice where the map has no evidence. Of a map without any, it is a random pixel: the first n are
    a disc there.

    Args:
        relevance: (X, Y), larger is more relevant.
        foreground: (X, Y) bool, not empty.
        generator: draws the place where the map says nothing.

    Returns:
        (X, Y) int; as many as there are foreground pixels, or more, outside the foreground.
    """
    places, values = np.argwhere(foreground), relevance[foreground]
    first = generator.choice(np.flatnonzero(values == values.max()))
    distance = ((places - places[first]) ** 2).sum(axis=1)
    order = np.lexsort((distance, -values))
    result = np.full(foreground.shape, foreground.size)
    result[tuple(places[order].T)] = np.arange(len(order))
    return result


def filter_weights(ranked: NDArray, count: int, kept: Kept) -> NDArray:
    """Weights of a slice from :func:`ranks`, (X, Y) float32 in [0, 1], 0 outside the foreground.

    ``hard`` keeps the first ``count`` pixels and ``inverse`` all others. ``soft`` falls linearly from the first pixel
    to zero at the ``2 * count``-th: the same sum as ``hard`` where the foreground is large enough, and the same values
    in every slice of a size. A map's own values would tell the class by themselves.
    """
    if kept == "soft":
        return np.clip(1 - (ranked + 0.5) / (2 * count), 0, 1).astype(np.float32)
    chosen = ranked < count if kept == "hard" else (ranked >= count) & (ranked < ranked.size)
    return chosen.astype(np.float32)


def share_of(foreground: NDArray, share: float) -> int:
    """Pixels that a share of the foreground is, at least one."""
    return max(1, round(share * int(np.count_nonzero(foreground))))
