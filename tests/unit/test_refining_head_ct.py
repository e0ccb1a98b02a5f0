"""Refinements on real head CT slices with expert masks, on a map that is plain brightness above that of the tissue."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage
from tests.refinements_factory import best_dice, dice, settings

from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.refinements.case import Case
from weakseg.refinements.chains import refine_map

pytestmark = pytest.mark.skipif("WEAKSEG_REALDATA" not in os.environ, reason="WEAKSEG_REALDATA is not set")
EVERY = 2
"""Slices are shown at half their resolution of 650 x 650."""
SPACING = (0.9, 0.9, 5.0)
"""In mm; the pictures do not say, so it is that of a head 20 cm long."""


@cache
def slices():
    """Case, map and experts' mask of each slice; the map is that of the null `intensity`: brightness above the mean."""
    folder = Path(os.environ["WEAKSEG_REALDATA"]) / "ct_ich_slices"
    found = []
    for path in sorted((folder / "images").glob("*.jpg")):
        grey = imread(path)[::EVERY, ::EVERY].mean(axis=2) / 255
        mask = imread(folder / "masks" / f"{path.stem}.png")[::EVERY, ::EVERY, :3].max(axis=2) > 0.1
        # Inside the skull, which the window shows white, without its blurred edge.
        bone = ndimage.binary_closing(grey > 0.95, iterations=4)
        inside = ndimage.binary_erosion(ndimage.binary_fill_holes(bone) & ~bone, iterations=3)
        if not inside.any():
            # The skull is not closed in this slice.
            inside = ndimage.binary_opening((grey > 0.1) & ~bone, iterations=3)
        pieces, _ = ndimage.label(inside)
        inside = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
        image = np.where(inside, grey, 0).astype(np.float32)[..., None]
        relevance = normalise(image - grey[inside].mean(), inside[..., None])
        found.append((Case(image[None], inside[..., None], SPACING), relevance, mask[..., None]))
    return found


def cut_by_otsu(relevance, case):
    return relevance > otsu(histogram(relevance, np.zeros_like(case.foreground), case.foreground, 1.0))


def mean_dice(step):
    scores = []
    for case, relevance, truth in slices():
        refined = relevance if step is None else refine_map(relevance, case, [step], {step: settings(step)})[0]
        scores.append((dice(cut_by_otsu(refined, case), truth), best_dice(refined, truth)))
    return np.mean(scores, axis=0)


@pytest.mark.parametrize("step", ["clusters", "random_walker", "crf"])
def test_refinements_help_on_expert_masks(step):
    """Without a mask, cut by Otsu's threshold; best thresholds are printed beside."""
    assert len(slices()) == 36
    before, after = mean_dice(None), mean_dice(step)
    print(f"{step}: Dice by Otsu {before[0]:.3f} -> {after[0]:.3f}, at best {before[1]:.3f} -> {after[1]:.3f}")
    assert after[0] > before[0]
