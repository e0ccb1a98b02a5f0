"""Deletion, insertion and similarity on models and maps whose answer is known by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.maps_factory import network

from weakseg.evaluation.faithfulness import (
    BATCH,
    CASCADE,
    METRICS,
    baseline,
    deletion_insertion,
    most_relevant,
    randomised,
    spearman,
    ssim,
)
from weakseg.randomness import rng

STEPS = 5
SHAPE = (4, 6)


def foreground():
    """Two units: all of the first, and 10 pixels of the second."""
    inside = np.zeros((2, *SHAPE), bool)
    inside[0] = True
    inside[1, 1:3, 1:] = True
    return inside


def image():
    return rng(0, "image").normal(size=(2, 3, *SHAPE)).astype(np.float32) * foreground()[:, None]


def weighted(weights):
    """A linear model: its logit is the weighted sum over the pixels of the first channel."""
    return lambda images: (images[:, 0] * torch.tensor(weights, dtype=torch.float32)).sum((1, 2))[:, None]


def areas(model, images, blank, inside, relevance, steps=STEPS):
    tops = tops_of([[one] for one in relevance], inside, steps)
    return [area[:, 0] for area in deletion_insertion(model, images, blank, inside, tops)]


def tops_of(maps, inside, steps=STEPS):
    """The masks of units' maps, (N, M, *SHAPE)."""
    pairs = zip(maps, inside, strict=True)
    return np.stack([[most_relevant(one, mask, steps, rng(0, "ties")) for one in unit] for unit, mask in pairs])


class TestMostRelevant:
    def test_takes_the_largest_first_within_the_foreground(self):
        inside = foreground()[1]
        relevance = np.full(SHAPE, 99.0)
        relevance[inside] = np.arange(10)
        masks = most_relevant(relevance, inside, STEPS, rng(0, "ties"))
        assert masks.shape == (STEPS - 1, *SHAPE)
        for taken, mask in zip((2, 4, 6, 8), masks, strict=True):
            assert sorted(relevance[mask]) == list(range(10 - taken, 10))

    def test_steps_that_do_not_divide_the_foreground_are_rounded(self):
        masks = most_relevant(np.zeros(SHAPE), foreground()[1], 4, rng(0, "ties"))
        assert masks.sum(axis=(1, 2)).tolist() == [2, 5, 8]

    def test_equal_ones_come_in_an_order_that_the_seed_decides(self):
        inside = foreground()[0]
        relevance = np.zeros(SHAPE)
        relevance[3, 5] = 1
        one, again, other = (most_relevant(relevance, inside, STEPS, rng(seed, "ties")) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()
        assert one[0, 3, 5]
        assert other[0, 3, 5]
        # The order of the array would take the first row first.
        assert not one[0, 0].all()


class TestDeletionInsertion:
    def test_one_pixel_that_alone_counts(self):
        """Found first, it is gone from the first step on; found last, only at the end."""
        inside = foreground()
        images = np.ones((2, 3, *SHAPE), np.float32) * inside[:, None]
        weights = np.zeros(SHAPE)
        weights[1, 1] = 7
        for relevance, area in ((weights, 1 - 0.5 / STEPS), (-weights, 0.5 / STEPS)):
            deletion, insertion = areas(weighted(weights), images, np.zeros_like(images), inside, [relevance] * 2)
            np.testing.assert_allclose(deletion, 7 * area)
            np.testing.assert_allclose(insertion, 7 * area)

    def test_linear_model_is_the_sum_of_what_was_taken(self):
        inside, images = foreground(), image()
        blank = baseline("noise", images, inside, (1, 1), rng(0, "noise"))
        weights = rng(1, "weights").normal(size=SHAPE)
        contributions = weights * (images - blank)[:, 0]
        deletion, insertion = areas(weighted(weights), images, blank, inside, contributions)
        for unit in range(2):
            ordered = np.sort(contributions[unit][inside[unit]])[::-1]
            taken = np.rint(np.arange(STEPS + 1) / STEPS * len(ordered)).astype(int)
            curve = [ordered[:n].sum() for n in taken]
            expected = sum((a + b) / 2 for a, b in pairwise(curve)) / STEPS
            np.testing.assert_allclose(deletion[unit], expected, rtol=1e-5)
            np.testing.assert_allclose(insertion[unit], expected, rtol=1e-5)

    def test_no_map_does_better_than_the_contributions_of_a_linear_model(self):
        inside, images = foreground(), image()
        weights = rng(1, "weights").normal(size=SHAPE)
        contributions = weights * images[:, 0]
        best = areas(weighted(weights), images, np.zeros_like(images), inside, contributions)
        for other in (-contributions, rng(0, "map").random(contributions.shape), images[:, 1]):
            found = areas(weighted(weights), images, np.zeros_like(images), inside, other)
            assert (np.array(found) < best).all()

    def test_needs_one_and_other_part(self):
        """Where the logit is the least of two pixels, one deleted takes all and one inserted brings nothing."""
        inside = np.ones((1, 1, 10), bool)
        images = np.ones((1, 1, 1, 10), np.float32)

        def least(images):
            return images[:, 0, 0, :2].amin(1, keepdim=True)

        relevance = np.arange(10)[None, None, ::-1]
        deletion, insertion = areas(least, images, 0 * images, inside, relevance, steps=10)
        np.testing.assert_allclose(deletion, 0.95)
        np.testing.assert_allclose(insertion, 0.85)

    def test_outside_the_foreground_nothing_changes(self):
        inside = foreground()
        seen = []

        def watch(images):
            seen.append(images)
            return images.sum((1, 2, 3))[:, None]

        images = rng(0, "image").normal(size=(2, 3, *SHAPE)).astype(np.float32)
        areas(watch, images, np.zeros_like(images), inside, rng(0, "map").random((2, *SHAPE)))
        shown = torch.cat(seen).numpy().reshape(2, 2 + 2 * (STEPS - 1), 3, *SHAPE)
        outside = np.broadcast_to(~inside[1], (3, *SHAPE))
        for one in shown[1]:
            np.testing.assert_array_equal(one[outside], images[1][outside])
        np.testing.assert_array_equal(shown[:, 0], images)
        assert not shown[0, 1].any()

    def test_maps_and_units_beside_make_no_difference(self):
        inside, images = foreground(), image()
        model, blank = network(), np.zeros((2, 4, *SHAPE), np.float32)
        images = np.concatenate([images, images[:, :1]], axis=1)
        maps = rng(0, "maps").random((2, 40, *SHAPE))
        tops = tops_of(maps, inside)
        assert tops[..., 0, 0].size > BATCH
        together = deletion_insertion(model, images, blank, inside, tops)
        alone = deletion_insertion(model, images[1:], blank[1:], inside[1:], tops[1:, 7:8])
        for both, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(both[1, 7], one[0, 0], atol=1e-5)

    def test_no_graph_is_kept(self):
        def model(images):
            assert torch.is_inference_mode_enabled()
            return images.sum((1, 2, 3))[:, None]

        areas(model, image(), np.zeros_like(image()), foreground(), np.zeros((2, *SHAPE)))


class TestBaseline:
    @pytest.mark.parametrize("name", ["zero", "blur", "noise"])
    def test_zero_outside_the_foreground_and_as_it_was(self, name):
        images = image()
        blank = baseline(name, images, foreground(), (1, 2), rng(0, "noise"))
        assert blank.shape == images.shape
        assert blank.dtype == np.float32
        assert not blank[~np.broadcast_to(foreground()[:, None], blank.shape)].any()
        np.testing.assert_array_equal(images, image())

    def test_zero(self):
        assert not baseline("zero", image(), foreground(), (1, 1), rng(0, "noise")).any()

    def test_blur_leaves_a_constant_foreground_and_flattens_a_peak_along_each_axis(self):
        inside = foreground()
        constant = np.full((2, 3, *SHAPE), 2.5, np.float32) * inside[:, None]
        np.testing.assert_allclose(baseline("blur", constant, inside, (1, 1), rng(0, "x")), constant, rtol=1e-5)
        peak = np.zeros((1, 1, 15, 15), np.float32)
        peak[..., 7, 7] = 1
        blurred = baseline("blur", peak, np.ones((1, 15, 15), bool), (1, 2), rng(0, "x"))[0, 0]
        np.testing.assert_allclose(blurred[8, 7] / blurred[7, 7], np.exp(-1 / 2), rtol=1e-4)
        np.testing.assert_allclose(blurred[7, 8] / blurred[7, 7], np.exp(-1 / 8), rtol=1e-4)

    def test_noise_has_the_statistics_of_each_channel_of_the_foreground(self):
        inside = np.zeros((1, 80, 80), bool)
        inside[:, 10:70, 10:70] = True
        images = rng(0, "image").normal(size=(1, 2, 80, 80)).astype(np.float32) * inside[:, None]
        images[:, 1] = images[:, 1] * 3 + 5 * inside
        blank = baseline("noise", images, inside, (1, 1), rng(1, "noise"))
        for channel in range(2):
            values, noise = images[0, channel][inside[0]], blank[0, channel][inside[0]]
            assert abs(noise.mean() - values.mean()) < 0.1 * values.std()
            assert abs(noise.std() / values.std() - 1) < 0.05
            assert abs(np.corrcoef(values, noise)[0, 1]) < 0.05

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="unknown baseline 'grey'"):
            baseline("grey", image(), foreground(), (1, 1), rng(0, "x"))


class TestRandomised:
    def test_each_level_takes_one_part_more_from_the_top(self):
        trained, fresh = network(0).state_dict(), network(1).state_dict()
        changed = {}
        for level in CASCADE:
            weights = randomised(trained, fresh, level)
            assert list(weights) == list(trained)
            # Counters of batches agree between the two networks by chance of the factory.
            changed[level] = {name for name in weights if weights[name] is fresh[name]}
            assert all(weights[name] is trained[name] for name in weights if name not in changed[level])
        assert changed["logit"] == {"fc.weight", "fc.bias"}
        assert {name.split(".")[0] for name in changed["layer4"]} == {"layer4", "fc"}
        assert changed["all"] == set(trained)


class TestSimilarity:
    def test_spearman_sees_order_alone(self):
        values = rng(0, "values").random(50)
        assert spearman(values, np.exp(5 * values)) == pytest.approx(1)
        assert spearman(values, -values) == pytest.approx(-1)
        assert spearman(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])) == pytest.approx(0.8)

    def test_spearman_of_ties_is_that_of_mean_ranks(self):
        # Ranks 1.5 1.5 3 and 1 2 3.
        assert spearman(np.array([0, 0, 1]), np.array([1, 2, 3])) == pytest.approx(np.sqrt(3) / 2)

    def test_spearman_of_constant_maps(self):
        zero, values = np.zeros(5), np.arange(5)
        assert spearman(zero, zero + 3) == 1
        assert spearman(zero, values) == 0
        assert spearman(values, zero) == 0

    def test_ssim_of_equal_and_of_unlike_maps(self):
        one = rng(0, "one").random((2, 16, 16), dtype=np.float32)
        inside = np.ones(one.shape, bool)
        assert ssim(one, one, inside) == pytest.approx(1)
        assert ssim(one, 1 - one, inside) < -0.5
        assert ssim(0 * one, 0 * one, inside) == pytest.approx(1)

    def test_ssim_counts_the_foreground_alone(self):
        one = rng(0, "one").random((1, 32, 32), dtype=np.float32)
        other = one.copy()
        other[:, :16] = 1 - one[:, :16]
        inside = np.zeros(one.shape, bool)
        inside[:, 24:] = True
        assert ssim(one, other, inside) == pytest.approx(1)
        assert ssim(one, other, ~inside) < 0.5


def test_every_metric_says_what_is_better():
    assert {name: metric.direction for name, metric in METRICS.items() if metric.direction == "lower"}.keys() == {
        "randomised_spearman",
        "randomised_ssim",
    }
