import numpy as np

from weakseg.evaluation.protocol import normalise
from weakseg.randomness import rng

SHAPE = (11, 13, 7)
EVERYWHERE = np.ones(SHAPE, bool)


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
