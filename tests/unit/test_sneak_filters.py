"""Filters on toy slices: what they keep, and that they tell nothing by how much."""

import numpy as np
import pandas as pd
import pytest

from weakseg import nifti
from weakseg.classifiers.resnet import SliceImages
from weakseg.data.grid import foreground_file, image_file
from weakseg.randomness import rng
from weakseg.studies.sneak_attack.classifier import FilteredImages, slice_weights
from weakseg.studies.sneak_attack.filters import filter_weights, ranks, share_of
from weakseg.studies.sneak_attack.masks import place, place_one

X, Y = np.indices((20, 24))
FOREGROUND = ((X - 9) / 8) ** 2 + ((Y - 12) / 10) ** 2 <= 1
LESION = (X - 6) ** 2 + (Y - 12) ** 2 <= 6
MAPS = {
    "noise": rng(0, "map").random(FOREGROUND.shape),
    "one peak": np.exp(-((X - 12) ** 2 + (Y - 9) ** 2) / 8),
    "no evidence": np.zeros(FOREGROUND.shape),
    "mostly zero": np.where((X == 9) & (Y < 14), 1.0, 0),
    "constant": np.ones(FOREGROUND.shape),
}


def weights(name, kept, volume, keep=0.1, foreground=FOREGROUND):
    params = {"filter": name, "kept": kept, "keep": keep}
    return slice_weights(foreground, volume, params, rng(0, "place"))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("keep", [0.05, 0.1, 0.3])
def test_every_map_keeps_the_same_share(name, keep):
    """Maps without evidence too, or "blank" would be the label."""
    kept = weights("gradcam", "hard", MAPS[name], keep)
    assert kept.sum() == round(keep * FOREGROUND.sum())
    assert not kept[~FOREGROUND].any()
    assert set(np.unique(kept)) == {0, 1}


@pytest.mark.parametrize("name", MAPS)
def test_soft_has_the_same_values_in_every_slice_and_the_sum_of_hard(name):
    soft, reference = (weights("gradcam", "soft", MAPS[which]) for which in (name, "noise"))
    np.testing.assert_array_equal(np.sort(soft.ravel()), np.sort(reference.ravel()))
    assert soft.sum() == pytest.approx(round(0.1 * FOREGROUND.sum()), abs=1e-3)
    assert soft.max() < 1
    assert not soft[~FOREGROUND].any()


def test_the_most_relevant_pixels_are_kept_and_weigh_most():
    values = MAPS["noise"]
    hard, soft = (weights("gradcam", kept, values) for kept in ("hard", "soft"))
    assert values[hard > 0].min() > values[FOREGROUND & (hard == 0)].max()
    order = np.argsort(values[soft > 0])
    assert (np.diff(soft[soft > 0][order]) > 0).all()


@pytest.mark.parametrize(
    ("name", "volume"), [("gradcam", MAPS["one peak"]), ("truth", LESION), ("truth-area", LESION), ("area", 0 * X)]
)
def test_filter_and_inverse_part_the_foreground(name, volume):
    hard, inverse = (weights(name, kept, volume.astype(float)) for kept in ("hard", "inverse"))
    np.testing.assert_array_equal(hard + inverse, FOREGROUND)


def test_truth_keeps_the_mask():
    np.testing.assert_array_equal(weights("truth", "hard", LESION.astype(float)), LESION)


def test_area_matched_random_is_as_large_as_the_truth_and_elsewhere():
    placed = weights("truth-area", "hard", LESION.astype(float))
    assert placed.sum() == LESION.sum()
    other = slice_weights(
        FOREGROUND,
        LESION.astype(float),
        {"filter": "truth-area", "kept": "hard", "keep": 0.1},
        rng(0, "another place"),
    )
    assert (placed != other).any()
    assert placed[~FOREGROUND].sum() == 0


def test_original_is_the_whole_foreground():
    np.testing.assert_array_equal(weights("foreground", "hard", 0.0 * X), FOREGROUND)


def test_a_map_without_evidence_gives_one_disc():
    """Not a pattern such as the first rows, which a classifier would learn as "no evidence"."""
    kept = np.argwhere(weights("gradcam", "hard", MAPS["no evidence"]))
    assert np.ptp(kept, axis=0).max() <= 2 * np.sqrt(len(kept))


def test_ties_are_broken_by_nearness_to_the_peak():
    foreground = np.ones((1, 7), dtype=bool)
    order = ranks(np.array([[0, 0, 0, 0, 2.0, 0, 1]]), foreground, rng(0, "place"))
    assert order[0, 4] == 0
    assert order[0, 6] == 1
    assert set(order[0, [3, 5]]) == {2, 3}
    assert order[0, 0] == 6


def test_share_is_never_nothing():
    assert share_of(np.eye(2, dtype=bool), 0.1) == 1
    assert filter_weights(ranks(np.eye(2), np.eye(2, dtype=bool), rng(0, "place")), 1, "hard").sum() == 1


def test_placed_mask_keeps_its_shape_inside_the_foreground():
    lesion = np.zeros_like(FOREGROUND)
    lesion[0:4, 0:3] = True
    lesion[1, 3] = True
    placed = place(lesion, FOREGROUND)
    assert placed.sum() == lesion.sum()
    assert not (placed & ~FOREGROUND).any()
    corner = np.argwhere(placed).min(0)
    np.testing.assert_array_equal(placed[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4], lesion[:4, :4])


def test_mask_that_fits_stays_where_it_is():
    np.testing.assert_array_equal(place(LESION, FOREGROUND), LESION)


def test_no_smaller_move_would_do():
    placed = place(np.roll(LESION, 8, axis=1), FOREGROUND)
    moved = np.argwhere(placed).min(0) - np.argwhere(np.roll(LESION, 8, axis=1)).min(0)
    for move in np.ndindex(9, 9):
        shift = np.array(move) - 4
        if (shift**2).sum() < (moved**2).sum():
            assert (np.roll(LESION, 8 + shift[1], axis=1) & ~np.roll(FOREGROUND, -shift[0], axis=0)).any()


def test_first_lesion_that_fits_is_taken():
    large = np.ones_like(FOREGROUND)
    np.testing.assert_array_equal(place_one([large, LESION], FOREGROUND), LESION)
    np.testing.assert_array_equal(place_one([large], FOREGROUND), FOREGROUND)


@pytest.fixture
def stored(tmp_path):
    """A preprocessed case of two slices and a map of it."""
    foreground = np.stack([FOREGROUND, FOREGROUND], 2)
    image = rng(0, "image").normal(size=(2, *foreground.shape)).astype(np.float32) * foreground
    nifti.write(image_file(tmp_path, "a"), image, np.eye(4))
    nifti.write(foreground_file(tmp_path, "a"), foreground.astype(np.uint8), np.eye(4))
    nifti.write_map(tmp_path / "maps" / "a.nii.gz", np.stack([MAPS["one peak"], MAPS["noise"]], 2), np.eye(4))
    return tmp_path


def rows():
    return pd.DataFrame({"case": ["a", "a"], "position": [1, 0]})


def test_images_behind_filters(stored):
    params = {"filter": "gradcam", "kept": "hard", "keep": 0.1, "seed": 0}
    original = SliceImages(stored).batch(rows())
    shown = FilteredImages(stored, stored / "maps", {**params, "shown": "image"}).batch(rows())
    alone = FilteredImages(stored, stored / "maps", {**params, "shown": "filter"}).batch(rows())
    kept = np.stack([weights("gradcam", "hard", MAPS[name]) for name in ("noise", "one peak")])
    np.testing.assert_array_equal(alone, np.repeat(kept[:, None], 2, axis=1))
    np.testing.assert_array_equal(shown, original * kept[:, None])
    assert shown.dtype == alone.dtype == np.float32


def test_whole_foreground_shows_the_original(stored):
    params = {"filter": "foreground", "kept": "hard", "keep": 0.1, "seed": 0, "shown": "image"}
    np.testing.assert_array_equal(FilteredImages(stored, None, params).batch(rows()), SliceImages(stored).batch(rows()))
