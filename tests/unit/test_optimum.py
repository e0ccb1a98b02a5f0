"""What every metric must give for the truth, and for masks and maps that know nothing of it."""

import numpy as np
import pytest
from scipy import ndimage

from weakseg.evaluation.histogram import best_threshold, histogram, otsu, overlap_curves, prevalence
from weakseg.evaluation.lesions import match_lesions
from weakseg.evaluation.localisation import box_iou_curve, mass_accuracy, pointing_game, rank_accuracy
from weakseg.evaluation.segmentation import compare_surfaces, false_positives, overlap, volume_errors
from weakseg.evaluation.statistics import bootstrap_interval
from weakseg.randomness import rng

SHAPE, SPACING = (48, 56, 40), (1.0, 1.0, 1.5)
VOXEL_ML = 1.5 / 1000
CASES = [f"case{number}" for number in range(12)]


def distance(centre, radii):
    grid = np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    return np.linalg.norm(grid / np.reshape(radii, (3, 1, 1, 1)), axis=0)


def phantom(case):
    """A head's foreground and one to three lumpy lesions in it, (X, Y, Z) bool."""
    generator = rng(0, "phantom", case)
    foreground = distance((24, 28, 20), (20, 24, 16)) < 1
    lumps = 0.25 * ndimage.gaussian_filter(generator.normal(size=SHAPE), 2) / 0.05
    lesion = np.zeros(SHAPE, bool)
    for _ in range(generator.integers(1, 4)):
        centre = generator.uniform([15, 19, 11], [33, 37, 29])
        lesion |= distance(centre, generator.uniform(4, 7, 3)) + 0.2 * lumps < 1
    return foreground, lesion & foreground


def random_map(case, foreground):
    return (rng(0, "random", case).random(SHAPE) * foreground).astype(np.float32)


def mask_scores(predicted, lesion):
    return {
        **overlap(predicted, lesion),
        **compare_surfaces(predicted, lesion, SPACING),
        **match_lesions(predicted, lesion, VOXEL_ML).scores(),
        **volume_errors(predicted, lesion, VOXEL_ML),
    }


OPTIMUM = {
    **dict.fromkeys(["dice", "iou", "sensitivity", "precision", "nsd", "nsd_voxel"], 1),
    **dict.fromkeys(["lesion_recall", "lesion_precision", "lesion_f1"], 1),
    **dict.fromkeys(["hd_mm", "hd95_mm", "volume_error_ml", "absolute_volume_error_ml", "relative_volume_error"], 0),
}


@pytest.mark.parametrize("case", CASES)
def test_truth_has_the_best_of_every_score(case):
    foreground, lesion = phantom(case)
    truth = lesion.astype(np.float32)
    assert mask_scores(lesion, lesion) == OPTIMUM
    assert false_positives(lesion, lesion, foreground, VOXEL_ML) == {"false_positive_ml": 0, "share_touched": 0}
    counts = histogram(truth, lesion, foreground, VOXEL_ML)
    assert counts.auprc == 1
    assert overlap_curves(counts)["dice"].min() == 1
    assert best_threshold([counts]) == otsu(counts) == 0
    assert pointing_game(truth, lesion, SPACING, 0) == mass_accuracy(truth, lesion) == rank_accuracy(truth, lesion) == 1
    assert box_iou_curve(truth, lesion).min() == 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["empty", "full", "random", "half random"])
def test_ignorance_is_below_the_optimum(kind, case):
    foreground, lesion = phantom(case)
    relevance = random_map(case, foreground)
    masks = {
        "empty": np.zeros_like(lesion),
        "full": foreground,
        "random": relevance > 1 - lesion.sum() / foreground.sum(),
        "half random": relevance > 0.5,
    }
    have = mask_scores(masks[kind], lesion)
    for name in ("dice", "nsd", "lesion_f1"):
        assert have[name] < 0.6, name
    assert have["hd95_mm"] > 5


@pytest.mark.parametrize("case", CASES)
def test_full_random_and_zero_maps_are_below_the_optimum(case):
    foreground, lesion = phantom(case)
    for relevance in (foreground.astype(np.float32), random_map(case, foreground), np.zeros(SHAPE, np.float32)):
        assert histogram(relevance, lesion, foreground, VOXEL_ML).auprc < 0.5
        assert mass_accuracy(relevance, lesion) < 0.5
        assert rank_accuracy(relevance, lesion) < 0.5
        assert box_iou_curve(relevance, lesion).max() < 0.8


def test_auprc_of_random_maps_is_the_prevalence():
    """Per case and within the interval of its mean over cases."""
    gains = []
    for case in CASES:
        foreground, lesion = phantom(case)
        counts = histogram(random_map(case, foreground), lesion, foreground, VOXEL_ML)
        assert counts.auprc == pytest.approx(prevalence(counts), rel=0.15)
        assert 0.01 < prevalence(counts) < 0.2
        gains.append(counts.auprc - prevalence(counts))
    low, high = bootstrap_interval(gains, rng(0, "bootstrap"), 2000)
    assert low < 0 < high
