"""Regions as classes, their post-processing and patches."""

import numpy as np
import pytest
import torch

from weakseg import nifti
from weakseg.data.grid import image_file
from weakseg.references.patches import MODALITIES, draw_patches, order_of, predict, read_volume
from weakseg.references.regions import CORE, ENHANCING, OEDEMA, REGIONS, classes_of, postprocess, region_of, specificity

EVERYWHERE = np.ones((20, 20, 20), bool)


def ball(centre, radius, shape=(20, 20, 20)):
    return ((np.moveaxis(np.indices(shape), 0, -1) - centre) ** 2).sum(-1) <= radius**2


def test_classes_and_regions_are_each_others_inverse():
    nested = dict(zip(REGIONS, (ball((10, 10, 10), radius) for radius in (8, 5, 3)), strict=True))
    classes = classes_of(nested)
    assert set(np.unique(classes)) == {0, OEDEMA, CORE, ENHANCING}
    for region, mask in nested.items():
        np.testing.assert_array_equal(region_of(classes, region), mask)


def whole(centre=(10, 10, 10)):
    """A tumour with all three classes, large enough for every rule at 1 mm."""
    return classes_of(dict(zip(REGIONS, (ball(centre, radius) for radius in (8, 7, 6)), strict=True)))


def test_a_good_tumour_stays():
    np.testing.assert_array_equal(postprocess(whole(), EVERYWHERE, 1), whole())


def test_nothing_stays_outside_the_foreground():
    half = EVERYWHERE.copy()
    half[:10] = False
    found = postprocess(whole(), half, 1)
    assert not found[:10].any()
    np.testing.assert_array_equal(found[10:], whole()[10:])


def test_small_components_go_and_large_ones_stay():
    shape = (60, 20, 20)
    classes = np.zeros(shape, np.uint8)
    for centre, radius in ((10, 6), (30, 5), (50, 2)):
        classes[ball((centre, 10, 10), radius, shape)] = ENHANCING
    found = postprocess(classes, np.ones(shape, bool), 1)
    assert (found[:40] == classes[:40]).all()
    assert not found[40:].any()


def test_parts_that_are_near_are_one_component():
    """A crumb three voxels away from the tumour is joined to it by the dilation."""
    classes = whole((10, 10, 8))
    classes[10, 10, 19] = OEDEMA
    assert postprocess(classes, EVERYWHERE, 1)[10, 10, 19] == OEDEMA


def test_without_a_core_oedema_becomes_core():
    classes = np.where(ball((10, 10, 10), 6), OEDEMA, 0).astype(np.uint8)
    assert set(np.unique(postprocess(classes, EVERYWHERE, 1))) == {0, CORE}
    classes[10, 10, 5:15] = CORE
    assert set(np.unique(postprocess(classes, EVERYWHERE, 1))) == {0, OEDEMA, CORE}
    classes[10, 10, 5] = OEDEMA
    assert set(np.unique(postprocess(classes, EVERYWHERE, 1))) == {0, CORE}, "nine voxels are too few"


@pytest.mark.parametrize(("voxel_mm3", "kept"), [(1, False), (8, True)])
def test_little_enhancing_tumour_becomes_oedema(voxel_mm3, kept):
    """A ball of 123 voxels: 123 mm3 or 984 mm3."""
    classes = classes_of(dict(zip(REGIONS, (ball((10, 10, 10), radius) for radius in (8, 7, 3)), strict=True)))
    assert np.count_nonzero(classes == ENHANCING) == 123
    found = postprocess(classes, EVERYWHERE, voxel_mm3)
    assert set(found[classes == ENHANCING]) == {ENHANCING if kept else OEDEMA}


def test_no_prediction_stays_none():
    empty = np.zeros((20, 20, 20), np.uint8)
    np.testing.assert_array_equal(postprocess(empty, EVERYWHERE, 1), empty)


def test_specificity_by_hand():
    truth, predicted = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    truth[0], predicted[0, 0], predicted[1, 0, 0] = True, True, True
    assert specificity(predicted, truth) == pytest.approx(3 / 4)
    assert specificity(predicted, np.ones((2, 2, 2), bool)) == 1


@pytest.fixture
def case(tmp_path):
    """A case of 24 x 20 x 24 voxels whose channels say where they are, and whose foreground is a box."""
    names = ["flair", "t2", "t1", "t1ce"]
    image = np.stack([np.full((24, 20, 24), 10.0 * MODALITIES.index(name)) for name in names])
    image += np.arange(1, 25)[:, None, None] / 100
    foreground = np.zeros((24, 20, 24), np.uint8)
    foreground[2:22, 1:19, 3:23] = 1
    nifti.write(image_file(tmp_path, "one"), (image * foreground).astype(np.float32), np.eye(4))
    return read_volume(tmp_path, order_of(names), "one")


def test_volume_is_the_foreground_in_the_papers_order(case):
    assert [channel.shape for channel in case.image] == [(20, 18, 20)] * 4
    assert [float(channel[0, 0, 0]) for channel in case.image] == pytest.approx([0.03, 10.03, 20.03, 30.03])


def test_patches_and_targets_show_the_same_place(case):
    targets = np.broadcast_to((np.arange(20) % 4).astype(np.uint8)[:, None, None], (20, 18, 20))
    images, classes = draw_patches([case], [targets], 6, 8, np.random.default_rng(0))
    assert images.shape == (6, 4, 8, 8, 8)
    place = (images[:, 0] * 100 - 3).round().long()
    torch.testing.assert_close(classes, place % 4)
    assert len(place[:, 0, 0, 0].unique()) > 2


def test_a_case_smaller_than_a_patch_is_padded_behind(case):
    images, classes = draw_patches([case], [np.ones((20, 18, 20), np.uint8)], 1, 32, np.random.default_rng(0))
    assert classes.sum() == 20 * 18 * 20
    assert classes[0, 19, 17, 19] == 1
    assert not images[0, :, 20:].any()
    assert draw_patches([case], None, 1, 32, np.random.default_rng(0))[1] is None


def test_prediction_lies_where_the_case_does(case):
    """A network that copies its input gives the image back, and 0 around it."""
    found = predict(lambda windows: windows, case, 16, 2, "cpu")
    assert found.shape == (4, 24, 20, 24)
    np.testing.assert_allclose(found[:, *case.box], np.stack(case.image), rtol=1e-5)
    found[:, *case.box] = 0
    assert not found.any()
