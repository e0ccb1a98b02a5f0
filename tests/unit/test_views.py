"""Units of both views: what is cut out of a volume, and put back."""

import numpy as np
import pytest

from weakseg import nifti
from weakseg.data.views import foreground_box, read_units, windows_of
from weakseg.randomness import rng

SHAPE = (12, 14, 10)
AFFINE = np.diag([2.0, 1.0, 3.0, 1.0])
VIEWS = {
    "slice": {"view": "slice", "min_foreground_mm2": 0},
    "sequence": {"view": "sequence", "min_foreground_mm2": 0, "window": {"slices": 3, "distance_mm": 6}},
    "volume": {"view": "volume", "least_mm": (12, 4, 6)},
}


@pytest.fixture
def preprocessed(tmp_path):
    """One case with foreground at 3..5, 2..8, 4..8."""
    foreground = np.zeros(SHAPE, bool)
    foreground[3:6, 2:9, 4:9] = True
    image = rng(0, "image").normal(size=(2, *SHAPE)).astype(np.float32) * foreground
    nifti.write(tmp_path / "images/a.nii", image, AFFINE)
    nifti.write(tmp_path / "foreground/a.nii.gz", foreground.astype(np.uint8), AFFINE)
    return tmp_path, image, foreground


@pytest.mark.parametrize("view", VIEWS)
def test_units_hold_the_whole_foreground_and_stack_to_it(preprocessed, view):
    folder, image, foreground = preprocessed
    units = read_units(folder, "a", VIEWS[view])
    assert units.image.shape == (len(units.positions), 2, *units.foreground.shape[1:])
    np.testing.assert_array_equal(units.stack(units.image[:, 1]), image[1])
    np.testing.assert_array_equal(units.stack(units.foreground), foreground)
    np.testing.assert_array_equal(units.cut(foreground), units.foreground)


@pytest.mark.parametrize("view", VIEWS)
def test_indices_are_those_of_the_grid(preprocessed, view):
    units = read_units(preprocessed[0], "a", VIEWS[view])
    indices = np.broadcast_arrays(*units.indices())
    for index, whole in zip(indices, np.indices(SHAPE), strict=True):
        np.testing.assert_array_equal(index, units.cut(whole))


def test_a_case_is_one_unit_in_its_box(preprocessed):
    units = read_units(preprocessed[0], "a", VIEWS["volume"])
    assert units.foreground.shape == (1, 6, 7, 5)
    assert len(read_units(preprocessed[0], "a", VIEWS["slice"]).positions) == 5


def test_box_is_widened_about_its_middle_within_the_grid():
    foreground = np.zeros(SHAPE, bool)
    foreground[3:6, 12:14, 4:9] = True
    have = foreground_box(foreground, AFFINE, (12, 5, 300))
    # 6 voxels of 2 mm around the middle; 5 of 1 mm, moved back into the grid; all 10 of 3 mm, for there are no more.
    assert have == (slice(1, 7), slice(9, 14), slice(0, 10))
    assert foreground_box(foreground, AFFINE, (1, 1, 1)) == (slice(3, 6), slice(12, 14), slice(4, 9))


@pytest.mark.parametrize(
    ("slices", "distance_mm", "windows"),
    [
        (1, None, [[0], [1], [2], [3], [4]]),
        (3, None, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]),
        (5, None, [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]),
        # Two slices of 3 mm.
        (3, 6, [[0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 4], [2, 4, 4]]),
        (3, 7.4, [[0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 4], [2, 4, 4]]),
        # Nearer than slices lie: those that there are.
        (3, 0.5, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]),
        (3, 1000, [[0, 0, 4], [0, 1, 4], [0, 2, 4], [0, 3, 4], [0, 4, 4]]),
    ],
)
def test_windows_are_cut_in_mm_and_replicate_edges(slices, distance_mm, windows):
    assert windows_of(np.arange(4, 9), 3.0, slices, distance_mm).tolist() == windows


def test_thick_and_thin_scans_have_windows_of_the_same_height():
    thin, thick = (windows_of(np.arange(count), spacing, 3, 5.0) for count, spacing in ((30, 1.0), (6, 5.0)))
    assert (thin[10] * 1.0).tolist() == (thick[2] * 5.0).tolist() == [5, 10, 15]


def test_a_slice_that_is_no_unit_is_replaced_from_the_side_of_the_middle():
    positions = np.array([2, 3, 4, 6, 7, 11])
    # 5 is as near to 4 as to 6, and 9 as near to 7 as to 11.
    assert windows_of(positions, 1.0, 3, None).tolist() == [
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 2],
        [3, 3, 4],
        [3, 4, 4],
        [5, 5, 5],
    ]
    assert windows_of(positions, 1.0, 3, 2)[4].tolist() == [3, 4, 4]
    assert windows_of(positions, 1.0, 3, 3)[4].tolist() == [2, 4, 5]


def test_sequences_have_the_units_of_slices(preprocessed):
    slices, sequence = (read_units(preprocessed[0], "a", VIEWS[view]) for view in ("slice", "sequence"))
    for name, values in vars(slices).items():
        np.testing.assert_array_equal(getattr(sequence, name), values)
    # Slices of 3 mm, so every second one.
    assert sequence.windows.tolist() == [[0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 4], [2, 4, 4]]
