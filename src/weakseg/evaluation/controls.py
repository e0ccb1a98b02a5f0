"""Changes of slices that know nothing of a lesion, of the same size as a counterfactual's: what chance would do.

A change is (N, C, *spatial) in units of each channel's range, and 0 outside the foreground. Its size is the mean over
channels and foreground of its absolute value, its L1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ALIKE = 1e-6
"""Slices nearer to each other than this, in units of the range, differ by rounding alone."""


def size_within(change: NDArray, region: NDArray) -> NDArray:
    """Mean over channels and a region of the absolute change of each slice, (N,); NaN where the region is empty.

    Args:
        change: (N, C, *spatial).
        region: (N, *spatial) bool.
    """
    area = region.reshape(len(region), -1).sum(axis=1)
    within = np.where(region, readout(change), 0).reshape(len(region), -1).sum(axis=1)
    return np.divide(within, area, out=np.full(len(region), np.nan), where=area > 0)


def share_within(change: NDArray, region: NDArray) -> NDArray:
    """Share of the absolute change of each slice that lies in a region, (N,) in [0, 1].

    NaN where the region is empty, and where nothing is changed.
    """
    absolute = readout(change).reshape(len(region), -1)
    flat = region.reshape(len(region), -1)
    total, within = absolute.sum(axis=1), np.where(flat, absolute, 0).sum(axis=1)
    return np.divide(within, total, out=np.full(len(region), np.nan), where=(total > 0) & flat.any(axis=1))


def readout(change: NDArray) -> NDArray:
    """The map of a change, (N, *spatial) float64: the mean over channels of its absolute value."""
    return np.abs(change.astype(float)).mean(axis=1)


def displaced(change: NDArray, foreground: NDArray, places: NDArray) -> NDArray:
    """The same change at a random place: its strongest pixel comes to lie on a random pixel of the foreground.

    What leaves the foreground is cut, and the rest is made stronger by the factor that gives it the size of the whole.
    As the strongest pixel stays there is always a rest.

    Args:
        change: (N, C, *spatial).
        foreground: (N, *spatial) bool, at least one pixel in each slice.
        places: (N,) in [0, 1), which of the foreground's pixels it is.
    """
    moved = np.zeros_like(change)
    for unit, (of_unit, inside, place) in enumerate(zip(change, foreground, places, strict=True)):
        strongest = np.unravel_index(np.abs(of_unit).mean(axis=0).argmax(), inside.shape)
        pixels = np.argwhere(inside)
        shift = pixels[int(place * len(pixels))] - strongest
        moved[unit] = ndimage.shift(of_unit, (0, *shift), order=0) * inside
    return resized(moved, foreground, size_within(change, foreground))


def towards(
    blank: NDArray, image: NDArray, foreground: NDArray, width: NDArray, size: NDArray
) -> tuple[NDArray, NDArray]:
    """The change from slices towards others that has a given size, and its strength (N,).

    Strength 1 is the other slice itself, less is on the way there, more is on the same way beyond it. Where the two are
    alike there is no way: the strength is NaN and the slice stays as it is.

    Args:
        blank: (N, C, *spatial), where it goes, such as the blurred slice.
        image: (N, C, *spatial); both are in the classifier's units.
        foreground: (N, *spatial) bool.
        width: (C,) of the range of each channel, in the classifier's units.
        size: (N,) of the change.
    """
    whole = (blank - image) / width.reshape(1, -1, *[1] * (image.ndim - 2))
    own = size_within(whole, foreground)
    alike = ~(own > ALIKE)
    whole[alike] = 0
    strength = np.divide(size, own, out=np.full(len(own), np.nan), where=~alike)
    return resized(whole, foreground, size), strength


def resized(change: NDArray, foreground: NDArray, size: NDArray) -> NDArray:
    """A change (N, C, *spatial) times the factor that gives each slice a size (N,); no change stays none."""
    own = size_within(change, foreground)
    factor = np.divide(size, own, out=np.zeros(len(own)), where=own > 0)
    scaled: NDArray = (change * factor.reshape(-1, *[1] * (change.ndim - 1))).astype(np.float32)
    return scaled
