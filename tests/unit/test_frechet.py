"""Distances of two sets of features: known answers, and peers."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import polynomial_kernel

from weakseg.evaluation import frechet
from weakseg.evaluation.frechet import LEAST, frechet_distance, kernel_distance
from weakseg.randomness import rng


def features(name, count=LEAST, width=8):
    generator = rng(0, "features", name)
    mixing = rng(0, "mixing").normal(size=(width, width))
    return (generator.normal(size=(count, width)) @ mixing + 3).astype(np.float32)


class TestFrechet:
    def test_the_same_set_in_any_order_is_at_0(self):
        real = features("real")
        assert frechet_distance(real, real[::-1]) == pytest.approx(0, abs=1e-6)

    def test_shift_alone_is_its_square(self):
        real, shift = features("real"), np.arange(8)
        assert frechet_distance(real, real + shift) == pytest.approx(np.square(shift).sum(), rel=1e-5)

    def test_twice_the_spread_is_the_variance(self):
        """tr(S + 4 S - 2 * 2 S) = tr(S)."""
        real = features("real").astype(float)
        wider = real.mean(axis=0) + 2 * (real - real.mean(axis=0))
        assert frechet_distance(real, wider) == pytest.approx(real.var(axis=0, ddof=1).sum(), rel=1e-5)

    def test_as_peers_compute_it(self):
        real, made = features("real", 900, 80), features("made", 700, 80) * np.linspace(0.5, 2, 80)
        components = PCA(64, svd_solver="full").fit(real.astype(float))
        one, other = components.transform(real), components.transform(made)
        covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
        root = sqrtm(covariances[0] @ covariances[1]).real
        mean = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
        peer = mean + np.trace(covariances[0] + covariances[1] - 2 * root)
        assert frechet_distance(real, made) == pytest.approx(peer, rel=1e-4)

    def test_components_are_those_of_the_real_set(self):
        """A 65th feature that does not vary in the real set is not looked at."""
        real = features("real", 700, 65)
        real[:, 64] = 0
        made = real.copy()
        made[:, 64] = rng(0, "more").normal(0, 100, 700)
        assert frechet_distance(real, made) == pytest.approx(0, abs=1e-3)
        assert frechet_distance(made, real) > 1000

    def test_one_feature(self):
        real = features("real", LEAST, 1)
        assert frechet_distance(real, real + 3) == pytest.approx(9, rel=1e-5)

    @pytest.mark.parametrize("sizes", [(LEAST - 1, LEAST), (LEAST, LEAST - 1), (LEAST, 0)])
    def test_blank_where_a_set_is_small(self, sizes):
        assert np.isnan(frechet_distance(*(features(str(number), size) for number, size in enumerate(sizes))))
        assert np.isfinite(frechet_distance(features("one"), features("two")))


class TestKernel:
    def test_by_hand(self):
        """Within 3^3 and 1^3; across (1 + 8 + 1 + 27) / 4."""
        assert kernel_distance(np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])) == pytest.approx(28 - 2 * 37 / 4)

    def test_as_a_peer_computes_it(self, monkeypatch):
        one, other = features("one", 30), features("other", 25) + 1
        kernels = [polynomial_kernel(*pair, degree=3, gamma=1 / 8, coef0=1) for pair in ((one, one), (other, other))]
        within = [(kernel.sum() - np.trace(kernel)) / len(kernel) / (len(kernel) - 1) for kernel in kernels]
        across = polynomial_kernel(one, other, degree=3, gamma=1 / 8, coef0=1).mean()
        whole = kernel_distance(one, other)
        assert whole == pytest.approx(sum(within) - 2 * across, rel=1e-5)
        monkeypatch.setattr(frechet, "ROWS", 7)
        assert kernel_distance(one, other) == pytest.approx(whole, rel=1e-9)

    def test_has_no_bias(self):
        """Two halves of one set are at 0 on average; with pairs of an image and itself it would be far above."""
        generator = rng(0, "halves")
        drawn = generator.normal(size=(400, 2, 10, 4))
        values = [kernel_distance(*halves) for halves in drawn]
        assert abs(np.mean(values)) < 3 * np.std(values) / 20
        assert np.std(values) < 2

    def test_blank_where_there_is_no_pair(self):
        assert np.isnan(kernel_distance(features("one", 1), features("other")))
        assert np.isnan(kernel_distance(features("one"), features("other", 0)))
