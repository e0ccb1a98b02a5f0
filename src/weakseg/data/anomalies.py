"""Synthetic anomalies on slices of healthy kidneys, as COIN is tested on (Shvetsov et al. 2024, arXiv 2404.12832).

A bright Gaussian blob, bent and turned at random, is drawn into one of the two largest kidneys of a slice. Lengths are
in pixels, as there. In the manner of it: the blob is computed where its pixels lie, not interpolated from a template.
The kidneys come from organ masks, so rows about such slices say so under ``anatomy``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CHANCE = 0.65
"""Probability that a slice gets an anomaly, where a kidney is large enough."""
HALF_WIDTH = 10
"""Half of the blob's window, of 20 pixels: 1 in the coordinates of the Gaussian."""
SIGMA = 0.4
"""Standard deviation of the Gaussian, in those coordinates."""
SHRINK = 0.25
"""The window becomes smaller by up to this share."""
BEND = 0.2
"""The Gaussian's centre moves along each axis by up to this, while the ends of the window stay where they are."""
STRENGTH = 0.9
"""What the blob adds at its peak to an image in [0, 1]."""
EDGE = 0.25
"""The anomaly is where the blob exceeds this share of its peak."""
LEAST_BOX = 400
"""A kidney whose bounding box has no more pixels gets no anomaly."""
MARGIN = 0.05
"""Share of the bounding box along each of its sides in which no blob is centred."""
KIDNEYS = 2
"""So many largest connected parts of the organ mask count."""


@dataclass(frozen=True)
class Anomalous:
    """A slice into which an anomaly may be drawn: image (X, Y) in [0, 1], and mask (X, Y) bool of the anomaly."""

    image: NDArray
    mask: NDArray

    @property
    def label(self) -> int:
        """1 if an anomaly was drawn, else 0."""
        return int(self.mask.any())


def add_anomaly(image: NDArray, kidneys: NDArray, generator: np.random.Generator) -> Anomalous:
    """Draw an anomaly into a slice with the probability :data:`CHANCE`, if a kidney is large enough.

    Args:
        image: (X, Y) in [0, 1]; it stays as it is.
        kidneys: (X, Y) bool.
        generator: decides whether, where and how.
    """
    parts = large_kidneys(kidneys)
    if not parts or generator.random() >= CHANCE:
        return Anomalous(image, np.zeros(image.shape, bool))
    part = parts[generator.integers(len(parts))]
    drawn = blob(image.shape, draw_centre(part, generator), generator)
    return Anomalous(np.minimum(image + STRENGTH * drawn, 1).astype(image.dtype), drawn > EDGE)


def large_kidneys(kidneys: NDArray) -> list[NDArray]:
    """Those of the largest connected parts of a mask (X, Y) that an anomaly fits into, each (X, Y) bool."""
    labels, count = ndimage.label(kidneys)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:KIDNEYS]
    boxes = ndimage.find_objects(labels)
    return [labels == 1 + part for part in largest if _pixels(boxes[part]) > LEAST_BOX]


def _pixels(box: tuple[slice, ...]) -> int:
    return int(np.prod([side.stop - side.start for side in box]))


def draw_centre(part: NDArray, generator: np.random.Generator) -> NDArray:
    """A random pixel (2,) of a connected part (X, Y) bool that is not near the sides of its bounding box."""
    pixels = np.argwhere(part)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    room = MARGIN * (high + 1 - low)
    inner = pixels[((pixels >= low + room) & (pixels <= high - room)).all(axis=1)]
    chosen: NDArray = inner[generator.integers(len(inner))]
    return chosen


def blob(shape: tuple[int, ...], centre: NDArray, generator: np.random.Generator) -> NDArray:
    """A blob (X, Y) in [0, 1] about a pixel (2,): a Gaussian shrunk, bent, turned at random; 0 outside its window."""
    angle = generator.uniform(-np.pi / 2, np.pi / 2)
    size = HALF_WIDTH * (1 - generator.uniform(0, SHRINK))
    middle = generator.uniform(-BEND, BEND, 2)
    x, y = (axis - at for axis, at in zip(np.indices(shape), centre, strict=True))
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    # Each half of the window is stretched or squeezed until the Gaussian's centre is where it is to be.
    u, v = (np.interp(axis / size, [-1, at, 1], [-1, 0, 1]) for axis, at in zip(turned, middle, strict=True))
    inside = (np.abs(turned) <= size).all(axis=0)
    return np.where(inside, np.exp(-(u**2 + v**2) / (2 * SIGMA**2)), 0)
