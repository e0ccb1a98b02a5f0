import numpy as np
import pytest
from scipy import ndimage

from weakseg import nifti, supervoxels
from weakseg.randomness import rng
from weakseg.supervoxels import read_supervoxels

SHAPE = (36, 32, 24)


def ball(shape=SHAPE, spacing=(1, 1, 1), share=0.9):
    grid = (np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2) * np.reshape(spacing, (3, 1, 1, 1))
    return np.linalg.norm(grid, axis=0) <= share * np.min(np.multiply(shape, spacing)) / 2


def textured(foreground, channels=2):
    noise = rng(0, "texture").normal(size=(channels, *foreground.shape))
    return (ndimage.gaussian_filter(noise, (0, 2, 2, 2)) * foreground).astype(np.float32)


def parts(image, foreground, spacing=(1.0, 1.0, 1.0), segments=60, compactness=0.1):
    return supervoxels.supervoxels(image, foreground, spacing, segments, compactness)


def assert_partition(labels, foreground):
    """Labels are 0 outside the foreground, 1 to n inside, none is empty, and each is one piece by faces."""
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, foreground)
    np.testing.assert_array_equal(np.unique(labels[foreground]), np.arange(labels.max()) + 1)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        assert ndimage.label(labels[box] == number)[1] == 1, f"supervoxel {number} is in pieces"


@pytest.mark.parametrize("segments", [20, 60, 200])
@pytest.mark.parametrize("compactness", [0.05, 0.1])
def test_partition_of_the_foreground(segments, compactness):
    foreground = ball()
    labels = parts(textured(foreground), foreground, segments=segments, compactness=compactness)
    assert_partition(labels, foreground)


@pytest.mark.parametrize("segments", [100, 200, 400])
def test_number_is_near_the_one_asked_for(segments):
    foreground = ball((48, 48, 48))
    labels = parts(textured(foreground), foreground, segments=segments)
    assert labels.max() == pytest.approx(segments, rel=0.3)


def test_number_does_not_depend_on_the_share_of_the_box():
    """Two balls in opposite corners, a tenth of the box around them."""
    near = np.indices((56, 56, 56))
    foreground = (np.linalg.norm(near - 12, axis=0) < 12) | (np.linalg.norm(near - 43, axis=0) < 12)
    assert foreground.mean() < 0.11
    assert parts(textured(foreground), foreground, segments=100).max() == pytest.approx(100, rel=0.3)


def test_white_noise_gives_connected_pieces_of_some_size():
    foreground = ball()
    image = rng(0, "white").normal(size=(1, *SHAPE)).astype(np.float32) * foreground
    labels = parts(image, foreground, compactness=0.05)
    assert_partition(labels, foreground)
    assert np.bincount(labels.ravel())[1:].min() >= supervoxels.SMALLEST * foreground.sum() / 60


def test_borders_follow_the_image():
    """Halves of different brightness share no supervoxel."""
    foreground = np.ones(SHAPE, bool)
    image = np.where(np.arange(36) < 17, 1.0, 5.0)[None, :, None, None] * np.ones((1, *SHAPE))
    labels = parts(image, foreground)
    assert_partition(labels, foreground)
    assert not set(labels[:17].ravel()) & set(labels[17:].ravel())


def test_channels_differ_in_unit_and_count_alike():
    foreground = np.ones(SHAPE, bool)
    image = textured(foreground)
    np.testing.assert_array_equal(parts(image, foreground), parts(image * [[[[300.0]]], [[[0.02]]]], foreground))


def test_three_channels_are_no_colours():
    """A fourth that says nothing changes nothing."""
    foreground = ball()
    image = textured(foreground, channels=3)
    np.testing.assert_array_equal(parts(image, foreground), parts(np.concatenate([image, 0 * image[:1]]), foreground))


def test_thick_slices_give_flat_supervoxels():
    spacing, shape = (1.0, 1.0, 4.0), (40, 40, 10)
    foreground = np.ones(shape, bool)
    labels = parts(textured(foreground, 1) * 1e-3, foreground, spacing, segments=50, compactness=2)
    assert_partition(labels, foreground)
    extents = np.array([[side.stop - side.start for side in box] for box in ndimage.find_objects(labels)])
    voxels = extents.mean(axis=0)
    assert voxels[0] > 2 * voxels[2]
    assert voxels[1] > 2 * voxels[2]
    # 64 ml among 50: 10.9 mm on a side.
    np.testing.assert_allclose(voxels * spacing, (64000 / 50) ** (1 / 3), rtol=0.5)


def test_two_islands():
    foreground = np.zeros(SHAPE, bool)
    foreground[2:14, 4:28, 3:20] = True
    foreground[20:34, 4:28, 3:20] = True
    labels = parts(textured(foreground), foreground, segments=40)
    assert_partition(labels, foreground)
    assert labels.max() == pytest.approx(40, rel=0.3)


def test_speck_keeps_a_supervoxel_of_its_own():
    """A small island has no neighbour that it could join."""
    foreground = np.zeros(SHAPE, bool)
    foreground[2:20, 4:28, 3:20] = True
    foreground[30, 30, 20] = True
    labels = parts(textured(foreground), foreground, segments=30)
    assert_partition(labels, foreground)
    assert np.bincount(labels.ravel())[labels[30, 30, 20]] == 1


@pytest.mark.parametrize("segments", [1, 5])
def test_few_segments(segments):
    foreground = ball()
    labels = parts(textured(foreground), foreground, segments=segments)
    assert_partition(labels, foreground)
    assert labels.max() <= segments + 2


def test_margin_does_not_matter_and_runs_repeat():
    foreground = ball()
    image = textured(foreground)
    labels = parts(image, foreground)
    np.testing.assert_array_equal(parts(image, foreground), labels)
    margin = [(3, 5), (0, 2), (4, 0)]
    wide = parts(np.pad(image, [(0, 0), *margin]), np.pad(foreground, margin))
    np.testing.assert_array_equal(wide, np.pad(labels, margin))


def test_stage_writes_labels_of_every_case(context, tmp_path):
    affine, foreground = np.diag([1.0, 1.0, 2.0, 1]), ball()
    for case in ("a", "b"):
        nifti.write(tmp_path / f"preprocess/images/{case}.nii", textured(foreground), affine)
        nifti.write(tmp_path / f"preprocess/foreground/{case}.nii.gz", foreground.astype(np.uint8), affine)
    running = context("supervoxels", {"segments": 20, "compactness": 0.1}, preprocess=tmp_path / "preprocess")
    supervoxels.run(running)
    expected = parts(textured(foreground), foreground, (1.0, 1.0, 2.0), 20)
    np.testing.assert_array_equal(read_supervoxels(running.out, "a"), expected)
    np.testing.assert_array_equal(read_supervoxels(running.out, "b"), expected)
    assert running.counts == {"supervoxels": 2 * expected.max()}
