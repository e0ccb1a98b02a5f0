import numpy as np
import pytest
from scipy.stats import wilcoxon

from weakseg.evaluation.statistics import bootstrap_interval, holm, paired_p
from weakseg.randomness import rng

NAN = float("nan")


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.03, NAN, 0.01], [0.03, NAN, 0.02]),
        ([0.5, 0.6, 0.7], [1, 1, 1]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.01, 0.011], [0.02, 0.02]),
        ([0.04], [0.04]),
        ([NAN, NAN], [NAN, NAN]),
        ([], []),
    ],
)
def test_holm_by_hand(p, adjusted):
    np.testing.assert_allclose(holm(p), adjusted, rtol=1e-12)


@pytest.mark.parametrize("n", [10, 11, 30, 80])
def test_paired_p_is_the_signed_rank_test(n):
    differences = rng(0, "differences", str(n)).normal(0.3, 1, n)
    assert paired_p(differences) == wilcoxon(differences).pvalue
    assert paired_p(-differences) == pytest.approx(paired_p(differences))
    assert paired_p(differences) == pytest.approx(wilcoxon(differences, np.zeros(n)).pvalue)


def test_paired_p_of_ten_patients_that_agree():
    assert paired_p(np.arange(1, 11)) == pytest.approx(2 / 2**10)


def test_paired_p_of_few_patients_is_none():
    assert np.isnan(paired_p(np.arange(1, 10)))


def test_paired_p_of_equal_methods_is_one():
    assert paired_p(np.zeros(12)) == 1


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_interval_is_that_of_a_large_normal_sample(statistic):
    values = rng(0, "values").normal(5, 2, 2000)
    low, high = bootstrap_interval(values, rng(0, "bootstrap"), 2000, statistic)
    # The median's standard error is sqrt(pi / 2) times that of the mean.
    half = 1.96 * 2 / np.sqrt(2000) * (np.sqrt(np.pi / 2) if statistic is np.median else 1)
    assert high - low == pytest.approx(2 * half, rel=0.1)
    assert (low + high) / 2 == pytest.approx(statistic(values), abs=0.3 * half)


def test_interval_covers_the_mean_as_often_as_it_says():
    generator = rng(0, "coverage")
    intervals = [bootstrap_interval(generator.normal(1, 1, 50), generator, 300) for _ in range(300)]
    assert np.mean([low <= 1 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.03)


def test_interval_repeats_with_its_generator():
    values = rng(0, "values").normal(size=20)
    first = bootstrap_interval(values, rng(3, "bootstrap"), 500)
    assert bootstrap_interval(values, rng(3, "bootstrap"), 500) == first
    assert bootstrap_interval(values, rng(4, "bootstrap"), 500) != first


def test_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([0.4] * 7, rng(0, "bootstrap"), 100) == pytest.approx((0.4, 0.4))
