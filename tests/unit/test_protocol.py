import numpy as np
import pytest

from weakseg.evaluation.protocol import BINS, dice_curve, normalise, oracle_threshold, otsu, thresholds
from weakseg.randomness import rng

SHAPE = (11, 13, 7)
EVERYWHERE = np.ones(SHAPE, bool)


def relevance(seed=0):
    """Values in [0, 1] with exact zeros and ones."""
    return np.clip(rng(seed, "relevance").normal(0.3, 0.5, SHAPE), 0, 1).astype(np.float32)


def foreground():
    return rng(0, "foreground").random(SHAPE) < 0.7


def test_normalise_divides_by_the_percentile_inside_the_foreground():
    raw = rng(0, "raw").gamma(2, 3, SHAPE).astype(np.float32)
    raw[~foreground()] += 100
    normal = normalise(raw, foreground())
    top = np.percentile(raw[foreground()], 99.9)
    np.testing.assert_allclose(normal[foreground()], np.minimum(raw[foreground()] / top, 1), rtol=1e-5)
    np.testing.assert_array_equal(normal[~foreground()], 0)
    assert normal.dtype == np.float32
    assert normal.max() == 1


def test_normalise_ignores_one_bright_voxel():
    raw = np.ones((20, 20, 20))
    raw[3, 4, 5] = 1e6
    np.testing.assert_array_equal(normalise(raw, np.ones(raw.shape, bool)), 1)


def test_normalise_counts_negative_values_as_no_evidence():
    raw = rng(0, "raw").normal(size=SHAPE)
    normal = normalise(raw, EVERYWHERE)
    np.testing.assert_array_equal(normal[raw <= 0], 0)
    assert (normal[raw > 0] > 0).all()
    np.testing.assert_array_equal(normal, normalise(np.maximum(raw, 0), EVERYWHERE))
    np.testing.assert_array_equal(normalise(-np.abs(raw), EVERYWHERE), 0)


def test_normalise_does_not_depend_on_the_scale():
    raw = rng(0, "raw").gamma(2, 3, SHAPE)
    np.testing.assert_allclose(normalise(raw * 1e-9, EVERYWHERE), normalise(raw, EVERYWHERE), rtol=1e-5)


def test_normalise_is_idempotent_where_the_top_is_reached():
    raw = np.minimum(rng(0, "raw").gamma(2, 3, SHAPE), 12)
    once = normalise(raw, foreground())
    np.testing.assert_array_equal(normalise(once, foreground()), once)


def test_normalise_nothing():
    np.testing.assert_array_equal(normalise(np.zeros(SHAPE), EVERYWHERE), 0)
    np.testing.assert_array_equal(normalise(np.ones(SHAPE), ~EVERYWHERE), 0)


def test_normalise_evidence_in_less_than_a_thousandth():
    raw = np.zeros((30, 30, 30), np.float32)
    raw[4, 5, 6], raw[7, 8, 9] = 0.2, 0.1
    normal = normalise(raw, np.ones(raw.shape, bool))
    np.testing.assert_allclose(normal, raw / 0.2, rtol=1e-6)


def test_otsu_of_a_constant_map_cuts_all():
    for constant in (0, 0.3, 1):
        assert otsu(np.full(SHAPE, constant, np.float32), EVERYWHERE) == 1
    assert otsu(relevance(), ~EVERYWHERE) == 1


def test_otsu_parts_two_modes_inside_the_foreground():
    generator = rng(0, "modes")
    bright = generator.random(SHAPE) < 0.2
    values = np.where(bright, generator.normal(0.8, 0.03, SHAPE), generator.normal(0.2, 0.03, SHAPE))
    outside = ~foreground()
    values[outside] = 55.0
    cut = otsu(values, foreground())
    assert 0.2 < cut < 0.8
    assert ((values > cut) == bright)[foreground()].mean() > 0.99


def brute_force(values, lesion):
    masks = [values.astype(np.float64) > threshold for threshold in thresholds()]
    return [2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) for mask in masks]


@pytest.mark.parametrize("seed", range(3))
def test_dice_curve_is_that_of_every_threshold(seed):
    values, lesion = relevance(seed), rng(seed, "lesion").random(SHAPE) < 0.3
    assert dice_curve(values, lesion).shape == thresholds().shape == (BINS,)
    np.testing.assert_allclose(dice_curve(values, lesion), brute_force(values, lesion), rtol=1e-12)


@pytest.mark.parametrize(
    "steps",
    [8, BINS],
)
def test_dice_curve_of_values_on_the_thresholds(steps):
    values = rng(0, "steps").integers(0, steps + 1, SHAPE) / steps
    lesion = rng(0, "lesion").random(SHAPE) < 0.3
    np.testing.assert_allclose(dice_curve(values, lesion), brute_force(values, lesion), rtol=1e-12)


def test_dice_curve_of_nothing():
    nothing = np.zeros(SHAPE)
    np.testing.assert_array_equal(dice_curve(nothing, nothing > 0), 1)
    np.testing.assert_array_equal(dice_curve(nothing, EVERYWHERE), 0)
    np.testing.assert_array_equal(dice_curve(nothing + 1, nothing > 0), 0)


def test_oracle_takes_the_best_mean_over_the_set():
    first, second = np.zeros(BINS), np.zeros(BINS)
    first[[20, 60]] = 1.0, 0.7
    second[[60, 90]] = 0.6, 0.9
    assert oracle_threshold([first]) == 20 / BINS
    assert oracle_threshold([first, second]) == 60 / BINS
    assert oracle_threshold([second, first]) == 60 / BINS
    assert oracle_threshold([np.ones(BINS)]) == 0


def test_oracle_finds_the_lesion_of_a_perfect_map():
    lesion = rng(0, "lesion").random(SHAPE) < 0.3
    values = np.where(lesion, 0.62, 0.41)
    threshold = oracle_threshold([dice_curve(values, lesion)])
    np.testing.assert_array_equal(values > threshold, lesion)
