"""Cases of known truth and corrupted maps of it, for tests of refinements."""

import numpy as np
from scipy import ndimage

from weakseg.config_data import BratsConfig
from weakseg.config_refinements import RefinementsConfig
from weakseg.randomness import rng
from weakseg.refinements.case import Case

CONTRAST = 1.0
NOISE = 0.1


def settings(step):
    """The default settings of a step for an image of one channel."""
    dataset = BratsConfig(modalities=["flair"])
    return RefinementsConfig().parameters(step, dataset)


def ball(shape, centre, radius_mm, spacing):
    axes = np.meshgrid(*(np.arange(n) * size for n, size in zip(shape, spacing, strict=True)), indexing="ij")
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius_mm**2


def make(shape=(64, 64, 48), spacing=(1.5, 1.5, 1.5), radius_mm=14.0):
    """A case with a bright lesion and a bright distractor, its truth, and a map of the truth gone wrong.

    The map is the truth blurred with half the lesion's radius and shifted by two voxels, with a false blob of 0.8 on
    the distractor.
    """
    middle = [(n - 1) * size / 2 for n, size in zip(shape, spacing, strict=True)]
    foreground = ball(shape, middle, 0.48 * max(n * size for n, size in zip(shape, spacing, strict=True)), spacing)
    away = [4 * size for size in spacing]
    lesion = ball(shape, [m + a for m, a in zip(middle, away, strict=True)], radius_mm, spacing) & foreground
    place = [m - 2.6 * a for m, a in zip(middle, (away[0], away[1], 0), strict=True)]
    distractor = ball(shape, place, radius_mm / 2, spacing) & foreground & ~lesion
    tissue = rng(0, "tissue").normal(0, NOISE, shape) + CONTRAST * (lesion | distractor)
    image = np.where(foreground, tissue, 0).astype(np.float32)[None]
    return Case(image, foreground, spacing), lesion, distractor


def corrupted(case, lesion, distractor, radius_mm=14.0):
    sigma = [radius_mm / 2 / size for size in case.spacing]
    shift = [2 if size > 1 else 0 for size in lesion.shape]
    blurred = ndimage.gaussian_filter(np.roll(lesion, shift, (0, 1, 2)).astype(np.float32), sigma)
    false = 0.8 * ndimage.gaussian_filter(distractor.astype(np.float32), [1 / size for size in case.spacing])
    return np.where(case.foreground, np.maximum(blurred / blurred.max(), false), 0).astype(np.float32)


def dice(mask, truth):
    return 2 * (mask & truth).sum() / max(mask.sum() + truth.sum(), 1)


def best_dice(relevance, truth):
    """The Dice of the best of 50 thresholds."""
    return max(dice(relevance > threshold, truth) for threshold in np.arange(0, 1, 0.02))
