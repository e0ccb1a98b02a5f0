"""The random walker against known probabilities and scikit-image."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.segmentation import random_walker
from tests.refinements_factory import best_dice, corrupted, make, settings

from weakseg.randomness import rng
from weakseg.refinements import random_walker as module
from weakseg.refinements.case import Case, NotRefinedError
from weakseg.refinements.random_walker import blocks, refine, walk


def test_on_a_line_the_probability_falls_evenly():
    relative = np.array([1, 0.5, 0.5, 0.5, 0])[:, None, None]
    flat = np.zeros((1, *relative.shape), np.float32)
    walked = walk(flat, np.ones(relative.shape, bool), relative, (1, 1, 1), 0.8, 0.2, 100)
    np.testing.assert_allclose(walked.ravel(), [1, 0.75, 0.5, 0.25, 0], atol=1e-4)


def test_a_border_holds_walks_back():
    relative = np.array([1, 0.5, 0.5, 0.5, 0])[:, None, None]
    image = np.array([1, 1, 1, 0, 0], np.float32)[None, :, None, None]
    walked = walk(image, np.ones(relative.shape, bool), relative, (1, 1, 1), 0.8, 0.2, 100)
    np.testing.assert_allclose(walked.ravel(), [1, 1, 1, 0, 0], atol=1e-3)


def test_a_step_across_thick_slices_is_rare():
    """One unknown voxel between lesion along X at 1 mm and normal tissue along Z at 2 mm: 1 against 1/4."""
    relative, inside = np.full((2, 1, 2), 0.5), np.ones((2, 1, 2), bool)
    relative[1, 0, 0], relative[0, 0, 1], inside[1, 0, 1] = 1, 0, False
    walked = walk(np.zeros((1, 2, 1, 2), np.float32), inside, relative, (1, 1, 2), 0.8, 0.2, 100)
    assert walked[0, 0, 0] == pytest.approx(1 / (1 + 1 / 4), abs=1e-4)


@pytest.mark.parametrize("shape", [(14, 12, 10), (30, 24, 1)])
def test_as_scikit_image_where_voxels_are_cubes(shape):
    image = rng(0, "image").random((2, *shape)).astype(np.float32)
    relative = rng(0, "relative").random(shape)
    beta = 5.0
    # Its weights are exp(-beta |difference|^2 / (10 SD sqrt(C))) + 1e-10.
    theirs = beta * 10 * float(np.moveaxis(image, 0, -1).std()) * 2**0.5
    labels = np.where(relative >= 0.9, 1, np.where(relative <= 0.1, 2, 0))
    expected = random_walker(
        np.moveaxis(image, 0, -1), labels, beta=theirs, tol=1e-8, return_full_prob=True, channel_axis=-1
    )[0]
    walked = walk(image, np.ones(shape, bool), relative, (1, 1, 1), 0.9, 0.1, beta)
    np.testing.assert_allclose(walked, expected, atol=5e-3)


def test_walks_stay_in_the_foreground():
    """Islands without a seed keep their relevance; those with one kind of seed alone become that."""
    relative = np.array([0.5, 0.5, 0, 0.5, 0, 0.5, 1, 0.5, 0, 0, 0.5])[:, None, None]
    inside = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1], bool)[:, None, None]
    flat = np.zeros((1, *relative.shape), np.float32)
    walked = walk(flat, inside, relative, (1, 1, 1), 0.8, 0.2, 100)
    np.testing.assert_allclose(walked.ravel(), [0.5, 0.5, 0, 0.5, 0, 1, 1, 0.5, 0, 0, 0.5], atol=1e-4)


def test_without_a_normal_seed_the_map_stays():
    case, _, _ = make((12, 12, 6), (1.0, 1.0, 1.0), 3.0)
    relevance = np.where(case.foreground, rng(0, "relevance").uniform(0.5, 1, case.foreground.shape), 0)
    with pytest.raises(NotRefinedError, match="no_normal_seed"):
        refine(relevance.astype(np.float32), case, **settings("random_walker"))


def test_a_large_problem_is_solved_on_blocks(monkeypatch):
    case, lesion, distractor = make()
    relevance = corrupted(case, lesion, distractor)
    exact = refine(relevance, case, **settings("random_walker"))
    monkeypatch.setattr(module, "LARGEST", 500)
    coarse = refine(relevance, case, **settings("random_walker"))
    assert not np.array_equal(coarse, exact)
    assert np.abs(coarse - exact).mean() < 0.02
    assert best_dice(coarse, lesion) > best_dice(relevance, lesion)
    high = relevance >= 0.9 * relevance.max()
    np.testing.assert_array_equal(coarse[high], 1)
    slab = replace(case, image=case.image[..., 24:25], foreground=case.foreground[..., 24:25])
    assert refine(relevance[..., 24:25], slab, **settings("random_walker")).shape == (64, 64, 1)


def test_blocks_by_hand():
    volume = np.arange(6).reshape(3, 2, 1)
    np.testing.assert_array_equal(blocks(volume, (2, 2, 1)), [[[[0, 1, 2, 3]]], [[[4, 5, 0, 0]]]])
    np.testing.assert_array_equal(blocks(volume, (1, 1, 2))[..., 0], volume)


def test_blocks_do_not_shift_the_result(monkeypatch):
    """On an even line, lesion and normal tissue change places when it is turned round."""
    monkeypatch.setattr(module, "LARGEST", 40)
    relevance = np.concatenate([[1, 1], np.full(60, 0.5), [0, 0]]).astype(np.float32)[:, None, None]
    image = np.arange(64, dtype=np.float32)[None, :, None, None]
    case = Case(image, np.ones(relevance.shape, bool), (1.0, 1.0, 1.0))
    line = refine(relevance, case, **{**settings("random_walker"), "beta": 0}).ravel()
    np.testing.assert_allclose(line, np.interp(np.arange(64), [1, 62], [1, 0]), atol=0.03)
    np.testing.assert_allclose(line + line[::-1], 1, atol=1e-3)


def test_all_channels_hold_walks_back():
    relevance = np.array([0, 0.1, 0.5, 0.5, 0.5, 1, 1], np.float32)[:, None, None]
    image = np.zeros((2, 7, 1, 1), np.float32)
    image[1, 4:] = 1
    case = Case(image, np.ones(relevance.shape, bool), (1.0, 1.0, 1.0))
    plain = settings("random_walker")
    seen = refine(relevance, case, **{**plain, "channels": [0, 1]})
    np.testing.assert_allclose(seen.ravel(), [0, 0, 0, 0, 1, 1, 1], atol=1e-2)
    with pytest.raises(NotRefinedError, match="constant_image"):
        refine(relevance, case, **plain)
