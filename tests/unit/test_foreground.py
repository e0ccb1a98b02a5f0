"""Foregrounds of head and body CT by hand-made geometry."""

import numpy as np
import pytest
from scipy import ndimage

from weakseg.data.foreground import around, body, brain
from weakseg.randomness import rng

SPACING = (1.0, 1.0, 5.0)
BRAIN, BONE, AIR = 35.0, 900.0, -1000.0


def head(gap=0, orbit=False):
    """(80, 80, 6) HU: a ring of bone with inner radius 26 and outer radius 31 around brain, and soft tissue outside it.

    ``gap``: width of a hole in the ring; ``orbit``: a pocket of soft tissue in front, open to the inside by 3 voxels.
    """
    x, y = np.indices((80, 80)) - 40
    radius = np.hypot(x, y)
    plane = np.where(radius < 26, BRAIN, np.where(radius < 31, BONE, np.where(radius < 34, BRAIN, AIR)))
    plane[(abs(x) * 2 < gap) & (y > 0) & (radius > 25) & (radius < 32)] = BRAIN
    if orbit:
        plane[(np.hypot(x, y - 34) < 9) & (radius >= 26)] = BONE
        plane[(np.hypot(x, y - 34) < 4) & (radius >= 26)] = BRAIN
        plane[(abs(x) < 2) & (y > 20) & (y < 34)] = BRAIN
    return np.repeat(plane[..., None], 6, axis=2).astype(np.float32), radius < 26


def test_brain_is_all_that_the_skull_encloses_up_to_the_bone():
    hu, inside = head()
    np.testing.assert_array_equal(brain(hu, SPACING), np.repeat(inside[..., None], 6, 2))


def test_blood_beside_the_bone_and_calcium_belong_to_the_brain():
    hu, inside = head()
    hu[15:18, 38:44] = 70
    hu[40:43, 40:43] = 600
    np.testing.assert_array_equal(brain(hu, SPACING), np.repeat(inside[..., None], 6, 2))


def test_gap_in_the_skull_is_closed():
    hu, inside = head(gap=8)
    found = brain(hu, SPACING)[..., 0]
    assert found[inside].all()
    assert np.count_nonzero(found & ~inside) < 60


def test_orbit_behind_a_narrow_passage_is_left_out():
    hu, inside = head(orbit=True)
    found = brain(hu, SPACING)[..., 0]
    assert found[inside].mean() > 0.99
    x, y = np.indices((80, 80)) - 40
    assert not found[(np.hypot(x, y - 34) < 4) & (y > 32)].any()


def test_body_leaves_table_and_air_out_and_keeps_lungs():
    x, y = np.indices((60, 60)) - 30
    plane = np.where(np.hypot(x, y) < 20, 40.0, AIR)
    plane[np.hypot(x - 5, y) < 6] = -850
    plane[10:50, 2:4] = 100
    found = body(np.repeat(plane[..., None], 4, axis=2).astype(np.float32))[..., 2]
    assert found[np.hypot(x, y) < 18].all()
    assert not found[:, :5].any()


@pytest.mark.parametrize("spacing", [(1.3, 0.9, 0.7), (4.5, 4.5, 5.0)])
def test_around_is_all_within_ten_millimetres(spacing):
    organ = ndimage.gaussian_filter(rng(0, "organ").normal(size=(40, 30, 90)), 4) > 0.06
    assert organ.any()
    distance = ndimage.distance_transform_edt(~organ, sampling=spacing)
    np.testing.assert_array_equal(around(organ, spacing), distance <= 10)


def test_around_nothing_is_nothing():
    assert not around(np.zeros((4, 5, 6), dtype=bool), SPACING).any()
