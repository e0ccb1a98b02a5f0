"""Statistics of whole families, on scores whose answer is known by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.statistics import minimum_detectable_difference
from weakseg.randomness import rng
from weakseg.studies.spread import cases_of_small_families, family_statistics, ranks, variances

SETTING = {**dict.fromkeys(ROW_KEY, "same"), "operating_point": "val-10", "role": "test", "lesion_ml": 5.0}


def scores(patients=12, seeds=(0, 1)):
    """Each method is 0.1 worse than the one before, a case counts 0.01, a seed 0.02, a draw 0.03; `c` is uneven."""
    table = pd.DataFrame(
        SETTING
        | {
            "method": method,
            "patient": f"p{case:02}",
            "case": f"c{case:02}",
            "seed": seed,
            "dice": 0.8 - 0.1 * place + 0.01 * case + 0.02 * seed + 0.004 * (method == "c") * (-1) ** case,
        }
        for place, method in enumerate("abc")
        for case in range(patients)
        for seed in seeds
    )
    return table.assign(dice_by_draw=[[dice - 0.03, dice, dice + 0.03] for dice in table["dice"]])


def test_three_schemes_agree_where_every_patient_does():
    table = ranks(scores(), 0, 200)
    assert list(table["method"]) == list("abc") * 3
    assert list(table["scheme"]) == ["mean_then_rank"] * 3 + ["rank_then_mean"] * 3 + ["test_based"] * 3
    for column in ("rank", "low", "high"):
        assert list(table[column]) == [1, 2, 3] * 3
    (family,) = family_statistics(scores(), table).to_dict("records")
    assert family["kendall_w"] == pytest.approx(1)
    assert [value for name, value in family.items() if name.startswith("tau_")] == pytest.approx([1, 1, 1])


def test_friedman_and_the_detectable_difference_are_those_of_the_means_over_seeds():
    table = scores()
    dice = table.groupby(["patient", "method"])["dice"].mean().unstack()
    (family,) = family_statistics(table, ranks(table, 0, 100)).to_dict("records")
    assert family["friedman_p"] == pytest.approx(friedmanchisquare(*dice.to_numpy().T).pvalue)
    # a and b differ by a constant, c from both by +-0.004.
    spread = np.std([0.004, -0.004] * 6, ddof=1)
    assert family["detectable_median"] == pytest.approx(minimum_detectable_difference(spread, 12))
    assert family["detectable_largest"] == pytest.approx(family["detectable_median"])
    assert (family["n_patients"], family["n_rows"], family["tested"]) == (12, 3, "yes")


def test_variance_by_case_seed_and_draw():
    """Without interaction the components are the variances of what was added."""
    table = variances(scores()).set_index("method")
    assert table.loc["a", "variance_case"] == pytest.approx(np.var(0.01 * np.arange(12), ddof=1))
    assert table.loc["a", "variance_seed"] == pytest.approx(np.var([0, 0.02], ddof=1))
    assert table.loc["a", "variance_draw"] == pytest.approx(0.03**2)
    assert table.loc["a", "variance_residual"] == pytest.approx(0, abs=1e-12)
    assert list(table.loc["a", ["n_cases", "n_seeds", "n_draws"]]) == [12, 2, 3]


def test_what_there_is_one_of_has_no_variance():
    one_seed = variances(scores(seeds=[0])).set_index("method")
    assert one_seed["variance_seed"].isna().all()
    assert one_seed.loc["a", "variance_draw"] == pytest.approx(0.03**2)
    blind = scores().assign(dice_by_draw=[[dice] for dice in scores()["dice"]])
    assert variances(blind)["variance_draw"].isna().all()
    assert variances(blind)["variance_case"].notna().all()


def test_few_patients_give_cases_and_no_test():
    table = scores(patients=9)
    ranked = ranks(table, 0, 100)
    (family,) = family_statistics(table, ranked).to_dict("records")
    assert family["tested"] == "no"
    assert np.isnan([family["friedman_p"], family["detectable_median"], family["detectable_largest"]]).all()
    assert ranked.query("scheme == 'test_based'")["rank"].isna().all()
    assert list(ranked.query("scheme == 'mean_then_rank'")["rank"]) == [1, 2, 3]
    cases = cases_of_small_families(table)
    assert len(cases) == 3 * 9
    assert cases.query("method == 'b' and case == 'c03'")["dice"].item() == pytest.approx(0.7 + 0.03 + 0.01)
    assert cases_of_small_families(scores(patients=10)).empty


def test_only_tested_lesions_at_the_headline_count():
    table = scores()
    noise = pd.concat(
        [
            table.assign(operating_point="oracle-set", dice=0.9),
            table.assign(role="shift", case="s" + table["case"], dice=0.1),
            table.assign(patient="q" + table["patient"], case="q" + table["case"], lesion_ml=0.0, dice=1.0),
        ]
    )
    both = pd.concat([table, noise])
    pd.testing.assert_frame_equal(ranks(both, 0, 100), ranks(table, 0, 100))
    pd.testing.assert_frame_equal(variances(both), variances(table))


def test_order_of_rows_does_not_matter():
    table = scores()
    noise = 0.1 * rng(0, "noise").random(len(table))
    table["dice"] += noise
    table["dice_by_draw"] = [[dice - 0.02, dice] for dice in table["dice"]]
    shuffled = table.iloc[rng(0, "order").permutation(len(table))].reset_index(drop=True)
    ranked = ranks(table, 0, 100)
    pd.testing.assert_frame_equal(ranks(shuffled, 0, 100), ranked)
    pd.testing.assert_frame_equal(family_statistics(shuffled, ranked), family_statistics(table, ranked))
    pd.testing.assert_frame_equal(variances(shuffled), variances(table))
