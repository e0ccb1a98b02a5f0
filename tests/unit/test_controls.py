"""Changes that know nothing of a lesion: as large as what they stand beside, and where they are said to be."""

import numpy as np
import pytest

from weakseg.evaluation.controls import displaced, readout, share_within, size_within, towards
from weakseg.randomness import rng

SIZE = (24, 28)


@pytest.fixture
def foreground():
    x, y = np.indices(SIZE)
    return np.stack([((x - 12) / 10) ** 2 + ((y - centre) / 10) ** 2 <= 1 for centre in (11, 13, 15)])


@pytest.fixture
def change(foreground):
    """Noise with a sign, stronger in one channel, and nothing outside the foreground."""
    noise = rng(0, "change").normal(0, [[[[0.1]], [[0.2]]]], (3, 2, *SIZE))
    return (noise * foreground[:, None]).astype(np.float32)


def test_size_and_share_by_hand():
    change = np.zeros((2, 2, 2, 2), np.float32)
    change[0, :, 0, 0], change[0, 0, 1, 1] = (0.2, -0.4), 0.2
    region = np.zeros((2, 2, 2), bool)
    region[0, 0] = True
    np.testing.assert_allclose(readout(change)[0], [[0.3, 0], [0, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(size_within(change, region), [0.15, np.nan], rtol=1e-6)
    np.testing.assert_allclose(share_within(change, region), [0.75, np.nan], rtol=1e-6)
    # Where nothing is changed, no share of it is anywhere.
    np.testing.assert_allclose(share_within(change, np.ones_like(region)), [1, np.nan])


class TestDisplaced:
    @pytest.mark.parametrize("place", [0, 0.3, 0.7, 0.9999])
    def test_same_size_within_the_foreground(self, change, foreground, place):
        moved = displaced(change, foreground, np.full(3, place))
        np.testing.assert_allclose(size_within(moved, foreground), size_within(change, foreground), rtol=1e-5)
        assert not moved[np.broadcast_to(~foreground[:, None], moved.shape)].any()

    @pytest.mark.parametrize("place", [0, 0.5, 0.9999])
    def test_strongest_pixel_comes_to_the_place(self, change, foreground, place):
        change[:, :, 12, 12] = -2
        moved = displaced(change, foreground, np.full(3, place))
        for of_unit, inside in zip(moved, foreground, strict=True):
            pixels = np.argwhere(inside)
            i, j = pixels[int(place * len(pixels))]
            assert readout(of_unit[None])[0, i, j] == readout(of_unit[None]).max()
            assert of_unit[0, i, j] == of_unit[1, i, j] < 0

    def test_what_fits_is_the_same_change_elsewhere(self, foreground):
        change = np.zeros((3, 2, *SIZE), np.float32)
        change[:, :, 11:14, 12:14] = rng(0, "small").normal(size=(2, 3, 2))
        strongest = np.unravel_index(readout(change)[0].argmax(), SIZE)
        pixels = [[tuple(pixel) for pixel in np.argwhere(inside)] for inside in foreground]
        places = np.array([(of_unit.index((15, 11)) + 0.5) / len(of_unit) for of_unit in pixels])
        moved = displaced(change, foreground, places)
        expected = np.roll(change, (15 - strongest[0], 11 - strongest[1]), (2, 3))
        np.testing.assert_allclose(moved, expected, rtol=1e-6)

    def test_nothing_comes_from_beyond_the_edge(self):
        change = np.zeros((1, 1, *SIZE), np.float32)
        change[..., 0, 0], change[..., 0, 1] = 2, -1
        everywhere = np.ones((1, *SIZE), bool)
        moved = displaced(change, everywhere, np.array([(3 * SIZE[1] + 5) / SIZE[0] / SIZE[1]]))
        np.testing.assert_allclose(moved, np.roll(change, (3, 5), (2, 3)), rtol=1e-6)

    def test_no_change_stays_none(self, foreground):
        assert not displaced(np.zeros((3, 2, *SIZE), np.float32), foreground, np.full(3, 0.5)).any()


class TestTowards:
    def test_on_the_way_and_beyond(self, change, foreground):
        image, width = rng(0, "image").normal(size=(3, 2, *SIZE)), np.array([4.0, 8.0])
        difference = change * width[:, None, None]
        whole = size_within(change, foreground)
        found, strength = towards(image + difference, image, foreground, width, whole * [0.25, 1, 2])
        np.testing.assert_allclose(strength, [0.25, 1, 2], rtol=1e-5)
        np.testing.assert_allclose(found, change * np.reshape([0.25, 1, 2], (3, 1, 1, 1)), atol=1e-6)
        np.testing.assert_allclose(size_within(found, foreground), whole * [0.25, 1, 2], rtol=1e-5)

    def test_no_way_between_slices_that_differ_by_rounding(self, foreground):
        image = np.ones((3, 2, *SIZE), np.float32)
        blank = np.nextafter(image, np.float32(2))
        found, strength = towards(blank, image, foreground, np.ones(2), np.ones(3))
        assert np.isnan(strength).all()
        assert not found.any()
