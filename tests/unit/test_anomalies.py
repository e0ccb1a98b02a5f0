"""Synthetic anomalies: where, how large and how bright they are, and how often there is one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from weakseg.data import anomalies
from weakseg.data.anomalies import add_anomaly, blob, draw_centre, large_kidneys
from weakseg.randomness import rng

HALF_WIDTH = anomalies.HALF_WIDTH_MM / 1.5  # pixels
SHAPE, SPACING = (90, 120), (1.5, 1.5)


def ellipse(x, y, half_x, half_y):
    i, j = np.indices(SHAPE)
    return ((i - x) / half_x) ** 2 + ((j - y) / half_y) ** 2 <= 1


LEFT, RIGHT = ellipse(25, 60, 15, 24), ellipse(66, 55, 12, 20)
KIDNEYS = LEFT | RIGHT


def drawn(count, kidneys=KIDNEYS, image=None):
    image = np.full(SHAPE, 0.3, np.float32) if image is None else image
    return [add_anomaly(image, kidneys, SPACING, rng(0, "anomaly", str(number))) for number in range(count)]


def test_two_thirds_of_slices_have_one_in_either_kidney():
    found = drawn(600)
    assert np.mean([slice_.label for slice_ in found]) == pytest.approx(anomalies.CHANCE, abs=0.05)
    with_one = [slice_ for slice_ in found if slice_.label]
    on_left = [ndimage.center_of_mass(slice_.mask)[0] < 45 for slice_ in with_one]
    assert np.mean(on_left) == pytest.approx(0.5, abs=0.08)
    for slice_ in with_one:
        assert ndimage.label(slice_.mask)[1] == 1
        # At most the ellipse of a Gaussian at a quarter of its peak.
        radius = anomalies.SIGMA * np.sqrt(2 * np.log(4)) * HALF_WIDTH
        assert 0.5 * np.pi * radius**2 < slice_.mask.sum() < 1.25 * np.pi * radius**2


def test_image_changes_by_the_blob_alone_and_stays_in_range():
    image = rng(0, "image").random(SHAPE, dtype=np.float32)
    before = image.copy()
    for slice_ in drawn(20, image=image):
        assert slice_.image.dtype == np.float32
        added = slice_.image - before
        assert added.min() >= 0
        assert slice_.image.max() <= 1
        if slice_.label:
            unclipped = slice_.mask & (slice_.image < 1)
            assert added[unclipped].min() > anomalies.STRENGTH * anomalies.EDGE - 1e-5
            assert added[~slice_.mask].max() <= anomalies.STRENGTH * anomalies.EDGE + 1e-5
        else:
            assert not added.any()
    np.testing.assert_array_equal(image, before)


def test_same_generator_same_anomaly():
    for one, same in zip(drawn(5), drawn(5), strict=True):
        np.testing.assert_array_equal(one.image, same.image)
        np.testing.assert_array_equal(one.mask, same.mask)


def test_without_random_changes_it_is_the_gaussian(monkeypatch):
    for name in ("SHRINK", "BEND"):
        monkeypatch.setattr(anomalies, name, 0.0)
    have = blob(SHAPE, np.array([40, 50]), SPACING, rng(0, "blob"))
    assert have[40, 50] == 1
    assert have[44, 50] == pytest.approx(np.exp(-(0.4**2) / (2 * 0.4**2)), abs=1e-6)
    assert have[43, 54] == pytest.approx(np.exp(-(0.5**2) / (2 * 0.4**2)), abs=1e-6)
    assert not have[40, 65:].any()


def test_bent_blob_keeps_its_window():
    for number in range(20):
        have = blob(SHAPE, np.array([40, 50]), SPACING, rng(1, "blob", str(number)))
        place = np.argwhere(have > 0) - [40, 50]
        assert np.linalg.norm(place, axis=1).max() <= HALF_WIDTH * np.sqrt(2) + 1e-9
        peak = np.argwhere(have == have.max())[0] - [40, 50]
        assert np.linalg.norm(peak) <= anomalies.BEND * HALF_WIDTH * np.sqrt(2) + 1


def test_centres_lie_in_the_kidney_and_off_the_sides_of_its_box():
    for number in range(200):
        x, y = draw_centre(LEFT, rng(0, "centre", str(number)))
        assert LEFT[x, y]
        assert 10 + 0.05 * 31 <= x <= 40 - 0.05 * 31
        assert 36 + 0.05 * 49 <= y <= 84 - 0.05 * 49


def test_the_two_largest_parts_count_if_they_are_large_enough():
    third, speck = ellipse(45, 100, 11, 12), ellipse(5, 5, 3, 3)
    parts = large_kidneys(KIDNEYS | third | speck, SPACING)
    assert len(parts) == 2
    np.testing.assert_array_equal(parts[0], LEFT)
    np.testing.assert_array_equal(parts[1], RIGHT)
    at_limit, above = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    at_limit[10:30, 10:30] = True
    above[10:30, 10:31] = True
    assert not large_kidneys(at_limit, SPACING)
    assert len(large_kidneys(above, SPACING)) == 1


@pytest.mark.parametrize("kidneys", [np.zeros(SHAPE, bool), ellipse(20, 20, 6, 6)])
def test_small_or_no_kidneys_stay_healthy(kidneys):
    assert not any(slice_.label for slice_ in drawn(30, kidneys))
