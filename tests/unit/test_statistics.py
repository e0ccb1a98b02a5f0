from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, norm, ttest_1samp, wilcoxon

from weakseg.evaluation.statistics import (
    bootstrap_interval,
    cohens_dz,
    friedman_p,
    holm,
    mean_intervals,
    minimum_detectable_difference,
    paired_p,
    paired_power,
    rank_biserial,
    resample_counts,
    variance_components,
)
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


def scores(patients=30, methods=5):
    values = rng(0, "scores").normal(np.linspace(0.4, 0.6, methods), 0.1, (patients, methods))
    columns = [f"method{place}" for place in range(methods)]
    return pd.DataFrame(values, index=[f"p{place:03d}" for place in range(patients)], columns=columns)


def test_resamples_draw_as_many_patients_as_there_are():
    counts = resample_counts(7, rng(0, "bootstrap"), 20000)
    assert counts.shape == (20000, 7)
    np.testing.assert_array_equal(counts.sum(axis=1), 7)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(counts.var(axis=0), 6 / 7, atol=0.05)


def test_mean_intervals_are_those_of_each_method():
    table = scores()
    have = mean_intervals(table, rng(0, "bootstrap"), 20000)
    assert list(have.index) == list(table.columns)
    np.testing.assert_allclose(have["mean"], table.mean())
    for method in table:
        low, high = bootstrap_interval(table[method], rng(1, "bootstrap"), 20000)
        assert have.loc[method, ["low", "high"]].tolist() == pytest.approx([low, high], abs=0.002)
        half = 1.96 * table[method].std(ddof=0) / np.sqrt(len(table))
        assert (high - low) / 2 == pytest.approx(half, rel=0.05)


def test_order_of_patients_and_methods_makes_no_difference():
    table = scores()
    mixed = table.sample(frac=1, random_state=0).sample(frac=1, random_state=1, axis=1)
    assert list(mixed.index) != list(table.index)
    assert list(mixed.columns) != list(table.columns)
    pd.testing.assert_frame_equal(
        mean_intervals(mixed, rng(0, "bootstrap"), 500).loc[table.columns],
        mean_intervals(table, rng(0, "bootstrap"), 500),
        check_exact=True,
    )
    differences, shuffled = (each["method4"] - each["method0"] for each in (table, mixed))
    for statistic in (np.mean, np.median):
        intervals = [bootstrap_interval(each, rng(0, "b"), 500, statistic) for each in (differences, shuffled)]
        assert intervals[0] == intervals[1]
    for function in (paired_p, rank_biserial, cohens_dz):
        assert function(differences) == function(shuffled)
    assert friedman_p(table) == pytest.approx(friedman_p(mixed), rel=1e-12)


def test_friedman_is_that_of_scipy():
    table = scores()
    assert friedman_p(table) == friedmanchisquare(*table.to_numpy().T).pvalue < 0.001
    assert np.isnan(friedman_p(table[:9]))
    assert friedman_p(np.ones((12, 3))) == 1
    with pytest.raises(ValueError, match="three methods"):
        friedman_p(table.iloc[:, :2])


def test_rank_biserial_by_hand():
    # Ranks 1, 2.5, 2.5, 4 without the 0: (1 + 2.5 + 4 - 2.5) / 10.
    assert rank_biserial([0.1, -0.2, 0.2, 0.5, 0]) == 0.5
    assert rank_biserial([0, 0, 1, 2, -3]) == 0  # ranks of what is not 0 begin at 1
    assert rank_biserial([-1, -2, -3]) == -1
    assert rank_biserial(np.arange(1, 30)) == 1
    assert rank_biserial([0, 0]) == 0


def test_comparisons_tested_together_are_as_one_by_one():
    generator = rng(0, "together")
    columns = np.round(generator.normal(0.1, 1, (14, 40)), 1)  # ties, and some differences of 0
    columns[:, 0] = 0
    columns[:, 1:9] = generator.normal(0.1, 1, (14, 8))
    for function in (paired_p, rank_biserial):
        assert function(columns).tolist() == [function(column) for column in columns.T]
    assert paired_p(columns)[0] == 1
    assert paired_p(columns)[1:9].tolist() == [wilcoxon(column, method="exact").pvalue for column in columns.T[1:9]]
    assert np.isnan(paired_p(columns[:9])).all()


def test_rank_biserial_goes_with_wilcoxon():
    differences = rng(0, "differences").normal(0.3, 1, 40)
    smaller = wilcoxon(differences).statistic
    assert rank_biserial(differences) == pytest.approx(1 - 2 * smaller / (40 * 41 / 2))


def test_cohens_dz_goes_with_t():
    differences = rng(0, "differences").normal(0.3, 1, 40)
    assert cohens_dz(differences) * np.sqrt(40) == pytest.approx(ttest_1samp(differences, 0).statistic)
    assert cohens_dz([1, 3]) == pytest.approx(np.sqrt(2))
    assert cohens_dz([0, 0]) == 0
    assert cohens_dz([0.1] * 10) == np.inf
    assert cohens_dz([-2, -2]) == -np.inf
    with pytest.raises(ValueError, match="two patients"):
        cohens_dz([1])


def crossed(sizes, deviations, seed=0):
    """Scores with known deviations of each factor and the residual, as one series."""
    generator = rng(seed, "crossed")
    cells = generator.normal(0, deviations[-1], sizes)
    for axis, (size, deviation) in enumerate(zip(sizes, deviations[:-1], strict=True)):
        cells += generator.normal(0, deviation, size).reshape(
            [-1 if axis == other else 1 for other in range(len(sizes))]
        )
    names = ["case", "seed", "draw"][: len(sizes)]
    index = pd.MultiIndex.from_tuples(list(product(*map(range, sizes))), names=names)
    return pd.Series(cells.ravel(), index=index)


def test_variance_components_by_hand():
    """Mean squares 10.5 (cases), 4.1667 (seeds) and 0.1667 in a table of three cases by two seeds."""
    index = pd.MultiIndex.from_product([["a", "b", "c"], [0, 1]], names=["case", "seed"])
    values = pd.Series([1.0, 3.0, 2.0, 3.0, 6.0, 8.0], index=index)
    have = variance_components(values)
    assert have == pytest.approx({"case": (15.1666667 - 1 / 6) / 2, "seed": (25 / 6 - 1 / 6) / 3, "residual": 1 / 6})


@pytest.mark.parametrize(
    ("sizes", "deviations"), [((400, 300), (3.0, 1.0, 2.0)), ((100, 90, 80), (2.0, 1.0, 0.5, 0.3))]
)
def test_variance_components_find_the_true_ones(sizes, deviations):
    have = variance_components(crossed(sizes, deviations))
    np.testing.assert_allclose(list(have.values()), np.square(deviations), rtol=0.4)


def test_variance_components_are_right_on_average():
    estimates = [list(variance_components(crossed((12, 5), (3.0, 2.0, 0.5), seed)).values()) for seed in range(400)]
    np.testing.assert_allclose(np.mean(estimates, axis=0), [9, 4, 0.25], rtol=0.12)


def test_variance_components_do_not_depend_on_the_order():
    values = crossed((10, 4, 3), (1.0, 1.0, 1.0, 1.0))
    assert variance_components(values.sample(frac=1, random_state=0)) == variance_components(values)
    swapped = values.reorder_levels(["draw", "case", "seed"])
    assert variance_components(swapped) == pytest.approx(variance_components(values))


def test_variance_components_that_cannot_be_told():
    one_seed = variance_components(crossed((10, 1, 4), (1.0, 0.0, 1.0, 1.0)))
    assert np.isnan(one_seed.pop("seed"))
    assert min(one_seed.values()) > 0
    assert np.isnan(list(variance_components(crossed((10, 1), (1.0, 0.0, 1.0))).values())).all()


def test_variance_components_are_never_negative():
    values = pd.Series([1.0, 2.0, 2.0, 1.0], index=pd.MultiIndex.from_product([[0, 1], [0, 1]], names=["case", "seed"]))
    assert variance_components(values) == {"case": 0, "seed": 0, "residual": 1}


def test_variance_components_need_every_combination():
    values = crossed((5, 3), (1.0, 1.0, 1.0))
    for wrong in (values[:-1], pd.concat([values, values[:1]])):
        with pytest.raises(ValueError, match="each combination once"):
            variance_components(wrong)


def test_power_is_that_of_published_tables():
    """G*Power: dz 0.5 needs 34 patients for 80 %, dz 0.8 15, dz 0.2 199."""
    for effect, patients in ((0.5, 34), (0.8, 15), (0.2, 199)):
        assert paired_power(effect, patients) >= 0.8 > paired_power(effect, patients - 1)
    assert paired_power(0, 20, alpha=0.03) == pytest.approx(0.03)


def test_power_is_how_often_the_test_finds():
    drawn = rng(0, "power").normal(0.6, 1, (20000, 18))
    assert np.mean(ttest_1samp(drawn, 0, axis=1).pvalue < 0.05) == pytest.approx(paired_power(0.6, 18), abs=0.01)


@pytest.mark.parametrize("patients", [2, 3, 10, 100, 3000])
@pytest.mark.parametrize("power", [0.06, 0.5, 0.8, 0.99])
def test_detectable_difference_has_the_power_asked_for(patients, power):
    difference = minimum_detectable_difference(2.5, patients, 0.05, power)
    assert paired_power(difference / 2.5, patients) == pytest.approx(power, abs=1e-6)


def test_detectable_difference_of_many_patients_is_the_normal_one():
    expected = 0.3 * (norm.isf(0.005) + norm.isf(0.1)) / np.sqrt(5000)
    assert minimum_detectable_difference(0.3, 5000, alpha=0.01, power=0.9) == pytest.approx(expected, rel=2e-3)
    for patients, power in ((1, 0.8), (10, 0.05), (10, 1.0)):
        with pytest.raises(ValueError, match="at least two"):
            minimum_detectable_difference(1.0, patients, 0.05, power)
