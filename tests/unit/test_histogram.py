from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from skimage.filters import threshold_otsu
from sklearn.metrics import average_precision_score

from weakseg.evaluation.histogram import (
    CUT_ALL,
    STEPS,
    THRESHOLDS,
    Histogram,
    average_precision,
    best_threshold,
    histogram,
    load,
    otsu,
    overlap_curves,
    prevalence,
    save,
    volume_curves,
)
from weakseg.evaluation.segmentation import overlap, volume_errors
from weakseg.randomness import rng

SHAPE = (13, 17, 11)
VOXEL_ML = 0.25
EVERYWHERE = np.ones(SHAPE, bool)
FOREGROUND = rng(0, "foreground").random(SHAPE) < 0.7
# Some of it outside the foreground.
LESION = rng(0, "lesion").random(SHAPE) < 0.2


def noise(seed=0, foreground=FOREGROUND):
    """Values in [0, 1] with exact zeros and ones, 0 outside the foreground."""
    values = np.clip(rng(seed, "relevance").normal(0.3, 0.5, SHAPE), 0, 1) * foreground
    return values.astype(np.float32)


def on_thresholds(foreground=FOREGROUND):
    """Each threshold, and the float32 just above and just below it."""
    centres = THRESHOLDS.astype(np.float32)
    each = np.concatenate([centres, np.nextafter(centres, np.float32(2)), np.nextafter(centres[1:], np.float32(0))])
    values = rng(0, "places").permutation(np.resize(each, np.prod(SHAPE))).reshape(SHAPE)
    return np.where(foreground, values, np.float32(0))


MAPS = {
    "noise": noise(),
    "thresholds": on_thresholds(),
    "eighths": (np.round(noise() * 8) / 8).astype(np.float32),
    "zero": np.zeros(SHAPE, np.float32),
    "one": FOREGROUND.astype(np.float32),
}


@pytest.mark.parametrize("name", MAPS)
def test_curves_are_those_of_every_cut(name):
    """To the voxel, whatever float a threshold is: the map's precision decides."""
    relevance = MAPS[name]
    counts = histogram(relevance, LESION, FOREGROUND, VOXEL_ML)
    curves, volumes = overlap_curves(counts), volume_curves(counts)
    for place, threshold in enumerate(THRESHOLDS.tolist()):
        predicted = relevance > threshold
        assert counts.predicted[place] == np.count_nonzero(predicted)
        assert counts.hits[place] == np.count_nonzero(predicted & LESION)
        assert {metric: curve[place] for metric, curve in curves.items()} == overlap(predicted, LESION)
        assert volumes["predicted_ml"][place] == np.count_nonzero(predicted) * VOXEL_ML
        expected = volume_errors(predicted, LESION, VOXEL_ML)["volume_error_ml"]
        assert volumes["volume_error_ml"][place] == expected


def test_bin_zero_holds_exactly_zero():
    relevance = np.zeros(SHAPE, np.float32)
    relevance[0, 0, :3] = [np.finfo(np.float32).tiny, 0.001, 1]
    counts = histogram(relevance, LESION, EVERYWHERE, VOXEL_ML)
    total = counts.inside + counts.outside
    assert total[[0, 1, STEPS]].tolist() == [relevance.size - 3, 2, 1]
    assert total.sum() == relevance.size


def test_lesion_outside_the_foreground_is_missed():
    truth = (LESION & FOREGROUND).astype(np.float32)
    counts = histogram(truth, LESION, FOREGROUND, VOXEL_ML)
    missed = np.count_nonzero(LESION & ~FOREGROUND)
    assert counts.missed == missed > 0
    assert counts.lesion == np.count_nonzero(LESION)
    found = counts.lesion - missed
    assert overlap_curves(counts)["dice"][0] == 2 * found / (found + counts.lesion) < 1
    assert counts.auprc == 1


def test_empty_masks():
    nothing, zero = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.float32)
    for curve in overlap_curves(histogram(zero, nothing, FOREGROUND, VOXEL_ML)).values():
        np.testing.assert_array_equal(curve, 1)
    for counts in (histogram(zero, LESION, FOREGROUND, 1.0), histogram(MAPS["one"], nothing, FOREGROUND, 1.0)):
        for curve in overlap_curves(counts).values():
            np.testing.assert_array_equal(curve, 0)
    assert np.isnan(histogram(MAPS["noise"], nothing, FOREGROUND, 1.0).auprc)
    assert np.isnan(prevalence(histogram(zero, nothing, nothing, 1.0)))


@pytest.mark.parametrize("name", MAPS)
def test_auprc_is_that_of_scikit_learn(name):
    """To rounding where values stand apart by more than a bin, to 1e-3 else."""
    relevance = MAPS[name]
    have = histogram(relevance, LESION, FOREGROUND, VOXEL_ML).auprc
    close = 1e-3 if name in ("noise", "thresholds") else 1e-12
    assert have == pytest.approx(average_precision_score(LESION[FOREGROUND], relevance[FOREGROUND]), abs=close)


def test_auprc_parts_what_thresholds_do_not():
    """Supervoxels that share ten bins."""
    means = rng(0, "means").random(400) * 0.01
    means[0] = 1
    relevance = means[rng(0, "supervoxels").integers(0, 400, SHAPE)].astype(np.float32) * FOREGROUND
    lesion = FOREGROUND & (rng(0, "lesion").random(SHAPE) < 30 * relevance)
    counts = histogram(relevance, lesion, FOREGROUND, VOXEL_ML)
    expected = average_precision_score(lesion[FOREGROUND], relevance[FOREGROUND])
    assert counts.auprc == pytest.approx(expected, abs=1e-3)
    assert average_precision(counts.inside, counts.outside) < expected - 0.003


def test_auprc_by_hand():
    relevance = np.array([0.9, 0.8, 0.8, 0.3, 0.0], np.float32).reshape(5, 1, 1)
    lesion = np.array([1, 1, 0, 0, 1], bool).reshape(5, 1, 1)
    counts = histogram(relevance, lesion, lesion | True, VOXEL_ML)
    assert counts.auprc == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert prevalence(counts) == 3 / 5


def test_a_map_that_tells_nothing_has_the_prevalence():
    for name in ("zero", "one"):
        counts = histogram(MAPS[name], LESION, FOREGROUND, VOXEL_ML)
        assert counts.auprc == pytest.approx(prevalence(counts))
        assert prevalence(counts) == LESION[FOREGROUND].mean()


@pytest.mark.parametrize("seed", range(4))
def test_otsu_is_that_of_scikit_image(seed):
    """Within the width of one of its 256 bins."""
    generator = rng(seed, "modes")
    bright = generator.random(SHAPE) < 0.3
    values = np.where(bright, generator.normal(0.7, 0.1, SHAPE), generator.normal(0.3, 0.1, SHAPE)) * FOREGROUND
    relevance = np.clip(values, 0, 1).astype(np.float32)
    have = otsu(histogram(relevance, LESION, FOREGROUND, VOXEL_ML))
    assert have == pytest.approx(threshold_otsu(relevance[FOREGROUND]), abs=1 / 256 + 1 / STEPS)
    assert have == otsu(histogram(relevance, ~LESION, FOREGROUND, VOXEL_ML))


def test_otsu_by_hand():
    relevance = np.zeros((10, 10, 10), np.float32)
    relevance[:2], relevance[2:3] = 0.8, 0.2
    counts = histogram(relevance, relevance > 2, relevance > -1, VOXEL_ML)
    # 700 zeros, 100 of 0.2, 200 of 0.8: the split above 0.2 has the larger variance, from 0.2 up to below 0.8.
    assert otsu(counts) == 0.2


def test_otsu_of_one_bin_cuts_all():
    for value in (0, 0.3, 1):
        constant = np.full(SHAPE, value, np.float32)
        threshold = otsu(histogram(constant, LESION, EVERYWHERE, VOXEL_ML))
        assert threshold == CUT_ALL
        assert not (constant > threshold).any()
    assert otsu(histogram(MAPS["zero"], LESION, ~EVERYWHERE, VOXEL_ML)) == CUT_ALL


def steps(inside_above, outside_above):
    """Voxels just above some thresholds."""
    inside, outside = np.zeros(STEPS + 1, int), np.zeros(STEPS + 1, int)
    for counts, above in ((inside, inside_above), (outside, outside_above)):
        for place, number in above.items():
            counts[place + 1] = number
    return Histogram(inside, outside, 0, VOXEL_ML, average_precision(inside, outside))


def test_best_threshold_is_the_best_mean_over_the_set():
    # At 0.3 and above, 10 of 10 voxels are right; up to 0.2, and above 0.6, the Dice is lower.
    first = steps({600: 10}, {200: 20})
    assert best_threshold([first]) == 0.201
    second = steps({900: 10}, {650: 200})
    assert best_threshold([second]) == 0.651
    # 0.201 to 0.600 gives (1 + 0.087) / 2, 0.651 to 0.900 gives (0 + 1) / 2, 0 gives (0.5 + 0.087) / 2.
    assert best_threshold([first, second]) == best_threshold([second, first]) == 0.201
    assert best_threshold([first, second, second]) == 0.651
    assert best_threshold([steps({}, {})]) == 0


def test_best_threshold_is_that_of_all_cuts():
    lesions = [FOREGROUND & (rng(seed, "lesion").random(SHAPE) < 0.1 + 0.05 * seed) for seed in range(5)]
    maps = [noise(seed) * np.float32(0.7) + lesion * np.float32(0.3) for seed, lesion in enumerate(lesions)]
    cases = list(zip(maps, lesions, strict=True))
    histograms = [histogram(relevance, lesion, FOREGROUND, VOXEL_ML) for relevance, lesion in cases]
    dice = [
        np.mean([overlap(relevance > threshold, lesion)["dice"] for relevance, lesion in cases])
        for threshold in THRESHOLDS.tolist()
    ]
    assert best_threshold(histograms) == THRESHOLDS[int(np.argmax(dice))] > 0
    assert best_threshold(histograms[::-1]) == best_threshold(histograms)


def test_best_threshold_finds_the_lesion_of_a_perfect_map():
    relevance = np.where(LESION, 0.62, 0.41).astype(np.float32)
    threshold = best_threshold([histogram(relevance, LESION, EVERYWHERE, VOXEL_ML)])
    np.testing.assert_array_equal(relevance > threshold, LESION)


def test_best_threshold_of_nothing():
    with pytest.raises(ValueError, match="no histogram"):
        best_threshold([])


@pytest.mark.parametrize(
    ("relevance", "words"),
    [
        (MAPS["noise"].astype(np.float64), "float64"),
        (MAPS["noise"] * 2, "normalise"),
        (MAPS["noise"] - FOREGROUND * np.float32(0.5), "normalise"),
        (np.where(FOREGROUND, np.float32(np.nan), MAPS["zero"]), "normalise"),
        (EVERYWHERE.astype(np.float32), "outside the foreground"),
    ],
)
def test_a_map_that_is_not_fit_is_refused(relevance, words):
    with pytest.raises(ValueError, match=words):
        histogram(relevance, LESION, FOREGROUND, VOXEL_ML)


def test_rounding_beyond_one_and_zero_is_no_fault():
    relevance = MAPS["noise"].copy()
    relevance[relevance == 1] = np.nextafter(np.float32(1), np.float32(2))
    first_zero = tuple(np.argwhere(FOREGROUND & (relevance == 0))[0])
    relevance[first_zero] = -1e-9
    have, want = (histogram(each, LESION, FOREGROUND, VOXEL_ML) for each in (relevance, MAPS["noise"]))
    np.testing.assert_equal(asdict(have), asdict(want))


@pytest.mark.parametrize("number", [0, 1, 4])
def test_histograms_come_back_from_their_file(tmp_path, number):
    keys = pd.DataFrame({"case": [f"c{place}" for place in range(number)], "seed": np.arange(number)})
    histograms = [histogram(noise(seed), LESION, FOREGROUND, VOXEL_ML) for seed in range(number)]
    save(tmp_path / "histograms.parquet", keys, histograms)
    read_keys, read = load(tmp_path / "histograms.parquet")
    assert read_keys.astype(keys.dtypes).equals(keys)
    assert len(read) == number
    for have, want in zip(read, histograms, strict=True):
        np.testing.assert_equal(asdict(have), asdict(want))
        assert otsu(have) == otsu(want)
    assert (tmp_path / "histograms.parquet").stat().st_size < 5000 * (number + 1)
