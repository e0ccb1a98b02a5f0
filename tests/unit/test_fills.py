"""What comes in place of what is taken away."""

import numpy as np
import pytest
from tests.maps_factory import explained, units

from weakseg.maps.fills import fill_of, neighbour_means


def test_neighbour_means_weigh_voxels():
    labels = np.array([[1, 1, 2, 3], [1, 1, 2, 3], [0, 0, 0, 4]])
    image = np.stack([labels * 10.0, -labels.astype(float)])
    means = neighbour_means(image, labels)
    # 2 touches 1 (four pixels) and 3 (two); 3 touches 2 (two) and 4 (one).
    np.testing.assert_allclose(means[1:, 0], [20, (4 * 10 + 2 * 30) / 6, (2 * 20 + 40) / 3, 30])
    np.testing.assert_allclose(means[:, 1], -means[:, 0] / 10)


def test_without_neighbours_it_is_zero():
    np.testing.assert_array_equal(neighbour_means(np.ones((2, 3, 3)), np.eye(3, dtype=int) * 3), np.zeros((4, 2)))


@pytest.mark.parametrize("name", ["zero", "blur", "noise"])
def test_a_unit_has_the_same_fill_whatever_others_are_explained(name):
    every, some = fill_of(explained(), name, 3), fill_of(explained((3, 1)), name, 3)
    np.testing.assert_array_equal(every[[3, 1]], some)
    assert not every.numpy()[~np.broadcast_to(units().foreground[:, None], every.shape)].any()
    assert bool(every.any()) == (name != "zero")


def test_noise_depends_on_seed_case_and_slice():
    noise = fill_of(explained(), "noise", 3)
    inside = units().foreground[0] & units().foreground[1]
    others = (fill_of(explained(seed=1), "noise", 3)[0], fill_of(explained(units=units("b")), "noise", 3)[0], noise[1])
    for other in others:
        assert abs(np.corrcoef(noise[0][:, inside].ravel(), other[:, inside].ravel())[0, 1]) < 0.15


def test_blur_is_in_millimetres():
    """Pixels are 1 x 1.5 mm: an impulse spreads farther, in pixels, along the first axis."""
    made = units()
    made.image[:] = 0
    made.image[0, 0, 9, 14] = 1
    blurred = fill_of(explained(units=made), "blur", 3)[0, 0]
    assert blurred[9, 14] > blurred[10, 14] > blurred[9, 15] > 0
