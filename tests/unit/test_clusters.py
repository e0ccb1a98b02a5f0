"""Clusters of intensity, and which of their pieces agree with a map."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.cluster import KMeans
from tests.refinements_factory import best_dice, corrupted, dice, make, settings

from weakseg.randomness import rng
from weakseg.refinements.case import Case, NotRefinedError
from weakseg.refinements.clusters import cluster, fuzzy_centres, refine, smooth

ALGORITHMS = ("kmeans", "gaussian_mixture", "fuzzy_cmeans")
ONE_MM = (1.0, 1.0, 1.0)


def alike(one, other):
    """Are two clusterings the same but for the clusters' names?"""
    pairs = np.unique(np.stack([one, other]), axis=1)
    return len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1]))


def clustered(relevance, image, foreground, **changed):
    case = Case(image[None].astype(np.float32), foreground, ONE_MM)
    plain = {**settings("clusters"), "smoothing_mm": 0}
    return refine(relevance.astype(np.float32), case, **{**plain, **changed})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_well_parted_groups_are_found_in_any_order(algorithm, channels):
    generator = rng(0, "groups")
    group = generator.integers(0, 3, 6000)
    centres = np.array([[0.1, 0.5, 0.9], [0.5, 0.1, 0.3], [0.9, 0.8, 0.6]])[:, :channels]
    values = (centres[group] + generator.normal(0, 0.02, (6000, channels))).astype(np.float32)
    found = cluster(values, algorithm, 3)
    assert alike(found, group)
    order = generator.permutation(6000)
    np.testing.assert_array_equal(cluster(values[order], algorithm, 3), found[order])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_fewer_intensities_than_clusters(algorithm):
    values = np.repeat(np.array([[0.2], [0.7]], np.float32), 50, axis=0)
    assert alike(cluster(values, algorithm, 4), np.repeat([0, 1], 50))


def test_kmeans_is_as_good_as_many_starts():
    values = np.concatenate(
        [rng(0, name).normal(mean, 0.08, size) for name, mean, size in (("a", 0.3, 9000), ("b", 0.5, 6000))]
        + [rng(0, "c").normal(0.9, 0.05, 300)]
    ).astype(np.float32)[:, None]
    found = cluster(values, "kmeans", 3)
    spread = sum(((values[found == name] - values[found == name].mean()) ** 2).sum() for name in range(3))
    assert spread <= 1.02 * KMeans(3, n_init=10, random_state=0).fit(values).inertia_


def test_fuzzy_centres_are_the_best():
    """With memberships at their best, the cost of exponent 2 is a sum of 1 / sum_k 1 / d_k^2: no centre lowers it."""
    sample = rng(0, "skewed").beta(2, 5, (500, 1))
    centres = fuzzy_centres(sample, np.array([[0.1], [0.8]]))

    def cost(of):
        return (1 / (1 / (sample - of.T) ** 2).sum(1)).sum()

    for moved in (0.02, -0.02):
        assert cost(centres) < cost(centres + np.array([[moved], [0]]))
        assert cost(centres) < cost(centres + np.array([[0], [moved]]))


def three_squares():
    """Bright squares on a dark plane of two intensities, and a map of 1, 0.5 and 0 on them and 0.1 around."""
    image = np.where(np.indices((40, 40, 2)).sum(0) % 2, 0.0, 0.1)
    relevance = np.full(image.shape, 0.1)
    squares = [np.s_[4:12, 4:12], np.s_[4:12, 24:32], np.s_[24:32, 4:12]]
    for square, value in zip(squares, (1, 0.6, 0), strict=True):
        image[square] = 1
        relevance[square] = value
    return image, relevance, squares


def test_pieces_are_kept_by_what_the_map_says_of_them():
    image, relevance, squares = three_squares()
    refined = clustered(relevance, image, np.ones(image.shape, bool))
    expected = np.zeros(image.shape)
    expected[squares[0]], expected[squares[1]] = 1, 0.6
    np.testing.assert_allclose(refined, expected, atol=1e-6)


def test_a_piece_needs_its_share_above_half_the_peak():
    image, relevance, squares = three_squares()
    relevance[4:12, 24:30] = 0.4  # two of its eight rows are left
    foreground = np.ones(image.shape, bool)
    assert not clustered(relevance, image, foreground)[squares[1]].any()
    assert clustered(relevance, image, foreground, overlap=0.2)[squares[1]].all()


def test_all_pieces_may_miss():
    image, relevance, _ = three_squares()
    with pytest.raises(NotRefinedError, match="missed"):
        clustered(relevance, image, np.ones(image.shape, bool), overlap=1.1)


def test_slices_without_relevance_do_not_count():
    """A gated slice is neither clustered nor can it hold a piece."""
    image, relevance, squares = three_squares()
    gated = np.full((40, 40, 2), 9.0)
    gated[:20] = -9
    image = np.concatenate([image, gated, image], axis=2)
    relevance = np.concatenate([relevance, 0 * gated, relevance], axis=2)
    refined = clustered(relevance, image, np.ones(image.shape, bool))
    assert refined[squares[0]][:, :, [0, 1, 4, 5]].all()
    assert not refined[:, :, 2:4].any()
    assert not refined[20:].any()


def test_what_lies_outside_the_foreground_does_not_seep_in():
    image, relevance, _ = three_squares()
    foreground = np.ones(image.shape, bool)
    foreground[34:] = False
    bright = image.copy()
    bright[34:] = 50
    relevance[34:] = 0
    plain, beside = (clustered(relevance, of, foreground, smoothing_mm=2) for of in (image, bright))
    np.testing.assert_array_equal(plain, beside)


def test_smoothing_leaves_a_constant_as_it_is():
    foreground = rng(0, "foreground").random((9, 8, 7)) < 0.6
    np.testing.assert_allclose(smooth(foreground[None].astype(np.float32), foreground, (1, 2, 0.5))[0], foreground)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_finds_the_lesion(algorithm):
    case, lesion, distractor = make()
    relevance = corrupted(case, lesion, distractor)
    refined = refine(relevance, case, **{**settings("clusters"), "algorithm": algorithm})
    assert best_dice(refined, lesion) > best_dice(relevance, lesion) + 0.1


def test_smoothing_helps_against_noise():
    case, lesion, _ = make((48, 48, 24), (1.0, 1.0, 1.0), 9.0)
    noise = np.where(case.foreground, rng(0, "more").normal(0, 0.35, lesion.shape), 0)
    noisy = Case((case.image + noise).astype(np.float32), case.foreground, case.spacing)
    relevance = ndimage.gaussian_filter(lesion.astype(np.float32), 4) * case.foreground
    plain, smooth = (
        refine(relevance / relevance.max(), noisy, **{**settings("clusters"), "smoothing_mm": mm}) for mm in (0, 0.5)
    )
    assert dice(smooth > 0.5, lesion) > dice(plain > 0.5, lesion) + 0.03
