import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, kendalltau, wilcoxon

from weakseg.evaluation.ranking import (
    SCHEMES,
    agreement,
    by_significant_wins,
    mean_then_rank,
    rank_then_mean,
    rankings,
    signed_rank_z,
)
from weakseg.evaluation.statistics import resample_counts
from weakseg.randomness import rng

ONCE = np.ones((1, 12))


def scores(patients=25, methods=6, apart=0.03):
    values = rng(0, "scores").normal(apart * np.arange(methods), 0.1, (patients, methods))
    columns = [f"method{place}" for place in range(methods)]
    return pd.DataFrame(values, index=[f"p{place:03d}" for place in range(patients)], columns=columns)


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_z_is_that_of_scipy_on_the_drawn_differences(decimals):
    """Few decimals make ties and zeros."""
    differences = np.round(rng(0, "differences").normal(0.05, 0.2, 30), decimals)
    counts = resample_counts(30, rng(1, "bootstrap"), 50)
    have = signed_rank_z(differences, counts)
    for z, row in zip(have, counts, strict=True):
        drawn = np.repeat(differences, row)
        assert z == pytest.approx(wilcoxon(drawn, method="asymptotic", alternative="less").zstatistic, rel=1e-9)
    np.testing.assert_allclose(signed_rank_z(-differences, counts), -have)


def test_z_without_a_difference_is_zero():
    np.testing.assert_array_equal(signed_rank_z(np.zeros(12), ONCE), 0)
    only_last = np.eye(12)[11]
    assert signed_rank_z(only_last, ONCE)[0] == 1
    assert signed_rank_z(only_last, np.eye(12)[:1] * 12)[0] == 0


def test_one_odd_patient_parts_the_schemes():
    # The second is best for 11 of 12 patients, but fails once.
    values = np.tile([0.50, 0.52, 0.40], (12, 1)) + rng(0, "noise").normal(0, 1e-4, (12, 3))
    values[0, 1] = 0.0
    assert mean_then_rank(values, ONCE).tolist() == [[1, 2, 3]]
    assert rank_then_mean(values, ONCE).tolist() == [[2, 1, 3]]
    # Only that the first beats the third is sure: there all twelve agree.
    assert by_significant_wins(values, ONCE).tolist() == [[1, 2, 2]]


def test_wins_are_significant_ones():
    values = scores(patients=12, methods=4, apart=0.0).to_numpy()
    assert by_significant_wins(values, ONCE).tolist() == [[1, 1, 1, 1]]
    # All twelve agree: p = 0.0011 of one pair, above 0.05 / 12 for none of the twelve tests.
    values = rng(0, "noise").normal(0, 1e-3, (12, 4)) + np.array([0.3, 0.1, 0.2, 0.4])
    assert by_significant_wins(values, ONCE).tolist() == [[2, 4, 3, 1]]


def test_wins_are_those_of_scipy_and_holm():
    table = scores(patients=40)
    p = {
        (a, b): wilcoxon(table[a], table[b], alternative="greater", method="asymptotic").pvalue
        for a in table
        for b in table
        if a != b
    }
    wins, open_tests = dict.fromkeys(table, 0), len(p)
    for (winner, _), value in sorted(p.items(), key=lambda item: item[1]):
        if value * open_tests >= 0.05:
            break
        wins[winner] += 1
        open_tests -= 1
    expected = pd.Series(wins).rank(ascending=False, method="min")
    assert 1 < expected.nunique() < 7
    np.testing.assert_array_equal(by_significant_wins(table.to_numpy(), np.ones((1, 40)))[0], expected)


def test_few_patients_are_not_tested():
    assert np.isnan(by_significant_wins(scores(patients=9).to_numpy(), np.ones((3, 9)))).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_resample_ranks_as_its_patients_do(scheme):
    values = scores().to_numpy()
    counts = resample_counts(25, rng(0, "bootstrap"), 20)
    have = SCHEMES[scheme](values, counts)
    for ranks, row in zip(have, counts, strict=True):
        np.testing.assert_array_equal(ranks, SCHEMES[scheme](np.repeat(values, row, axis=0), np.ones((1, 25)))[0])


def test_equal_methods_share_their_rank_in_every_resample():
    table = scores(methods=4)
    table["again"] = table["method2"]
    counts = resample_counts(25, rng(0, "bootstrap"), 300)
    for scheme in SCHEMES.values():
        ranks = scheme(table.to_numpy(), counts)
        np.testing.assert_array_equal(ranks[:, 2], ranks[:, 4])


def test_the_last_digit_of_a_mean_decides_no_rank():
    values = np.stack([rng(0, "order", str(n)).permutation(scores()["method0"]) for n in range(20)], axis=1)
    assert len(np.unique(np.ones(25) @ values)) > 1
    np.testing.assert_array_equal(mean_then_rank(values, np.ones((1, 25))), 1)


def test_rankings_do_not_depend_on_the_order():
    table = scores()
    mixed = table.sample(frac=1, random_state=0).sample(frac=1, random_state=1, axis=1)
    have, want = (rankings(each, rng(0, "bootstrap"), 200) for each in (mixed, table))
    pd.testing.assert_frame_equal(have, want, check_exact=True)


def test_intervals_hold_the_rank_and_tell_how_sure_it_is():
    for apart, sure in ((1.0, True), (0.0, False)):
        have = rankings(scores(apart=apart), rng(0, "bootstrap"), 500)
        assert len(have) == 3 * 6
        assert have["low"].le(have["rank"]).all()
        if sure:
            np.testing.assert_array_equal(have["rank"], [6, 5, 4, 3, 2, 1] * 3)
            assert have["low"].equals(have["high"])
        else:
            by_mean = have[have["scheme"] == "mean_then_rank"]
            assert (by_mean["high"] - by_mean["low"]).mean() > 2


def test_agreement_by_hand():
    ranks = pd.DataFrame({"first": [1, 2, 3, 4], "second": [1, 2, 4, 3], "third": [4, 3, 2, 1]}, index=list("abcd"))
    tau, w = agreement(ranks)
    assert tau.loc["first", "second"] == tau.loc["second", "first"] == pytest.approx(4 / 6)
    assert tau.loc["first", "third"] == -1
    assert np.diag(tau).tolist() == [1, 1, 1]
    # Sums of ranks 6, 7, 9, 8 about their mean of 7.5.
    assert w == pytest.approx(12 * 5 / (9 * (64 - 4)))
    assert agreement(ranks[["first", "first"]].set_axis(["a", "b"], axis=1))[1] == 1
    assert np.isnan(agreement(ranks * 0)[1])


def test_agreement_is_that_of_scipy():
    ranks = pd.DataFrame(rng(0, "ranks").integers(1, 6, (9, 5)), columns=list("vwxyz"))
    tau, w = agreement(ranks)
    assert tau.loc["v", "x"] == kendalltau(ranks["v"], ranks["x"]).statistic
    # W is Friedman's statistic over its largest value, with rankings as blocks.
    assert w == pytest.approx(friedmanchisquare(*ranks.to_numpy()).statistic / (5 * 8))
    mixed_tau, mixed_w = agreement(ranks.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(mixed_tau, tau)
    assert mixed_w == w
