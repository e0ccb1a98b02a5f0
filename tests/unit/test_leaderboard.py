import numpy as np
import pandas as pd
import pytest

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.summary import weak
from weakseg.randomness import rng
from weakseg.report.board import write_board
from weakseg.studies.comparisons import PAIRED, compare_in_pairs, compare_with_nulls
from weakseg.studies.leaderboard import leaderboard

# fmt: off
COLUMNS = [
    "dataset", "source", "region", "view", "classifier", "method", "refinement", "gate", "operating_point",
    "headline", "rank", "n_cases", "n_empty", "n_seeds", "mask_budget", "label_budget", "anatomy",
    "recall_<1_ml", "recall_>=1_ml", "n_lesion_free", "lesion_free_ml", "lesion_free_touched",
    "dice", "dice_low", "dice_high", "iou", "iou_low", "iou_high",
]
# fmt: on
SETTING = {
    "dataset": "brats",
    "source": "phantom",
    "region": "whole_tumour",
    "view": "slice",
    "classifier": "resnet",
    "refinement": "threshold",
    "gate": "classifier",
}
ABOVE_RANDOM = {"gradcam": 0.2, "layercam": -0.1, "random": 0.0, "centre": 0.05}
"""gradcam beats both nulls in every patient, its worse twin loses to both."""
PATIENTS, SHIFTED = 12, 4


def scores(patients=PATIENTS):
    """Scores of two methods and two nulls: two seeds, two operating points, a test and a shift set."""
    rows = []
    noise = rng(0, "noise")
    for method, above in ABOVE_RANDOM.items():
        for point in ("fixed", "oracle-set"):
            for role, number in (("test", patients), ("shift", SHIFTED)):
                for case in range(number):
                    for seed in (0, 1):
                        dice = 0.3 + 0.02 * (case % 5) + above + 0.1 * (point == "oracle-set") - 0.1 * (role == "shift")
                        dice += 0.002 * noise.random()
                        rows.append(
                            SETTING
                            | dict.fromkeys(SCORES, 0.5)
                            | {
                                "method": method,
                                "operating_point": point,
                                "role": role,
                                "patient": f"{role}-{case}",
                                "case": f"{role}-{case}",
                                "seed": seed,
                                "dice": dice,
                                "iou": dice / 2,
                                "sensitivity": 0.5 + 0.1 * seed,
                                "precision": 0.6,
                                "hd95_mm": 10.0 + case,
                                "prevalence": 0.1,
                                "lesions_<1_ml": 0.0,
                                "found_<1_ml": 0.0,
                                "lesions_>=1_ml": 1.0 + (case == 0),
                                "found_>=1_ml": 1.0,
                                "lesion_ml": 30.0,
                                "predicted_ml": 20.0,
                                "anatomy": "none",
                                "mask_budget": number if point == "oracle-set" else 0,
                                "label_budget": 700 + 10 * seed,
                            }
                        )
    return pd.DataFrame(rows)


def comparisons(table):
    return pd.DataFrame(compare_with_nulls(table[table["role"] == "test"], 0, 200))


def board_of(table):
    return leaderboard(table, comparisons(table), 0, 200)


@pytest.fixture(scope="module")
def board():
    """The board of the scores as they are."""
    return board_of(scores())


def row(board, method, point="fixed"):
    (found,) = board[(board["method"] == method) & (board["operating_point"] == point)].to_dict("records")
    return found


def test_columns_and_rows(board):
    assert list(board)[: len(COLUMNS)] == COLUMNS
    assert list(board["operating_point"]) == ["fixed"] * 4 + ["oracle-set"] * 4
    assert list(board["method"]) == ["gradcam", "centre", "random", "layercam"] * 2
    assert not board.duplicated(ROW_KEY).any()


def test_numbers_of_a_row(board):
    table = scores()
    chosen = table[(table["method"] == "gradcam") & (table["operating_point"] == "fixed")]
    tested, shifted = chosen[chosen["role"] == "test"], chosen[chosen["role"] == "shift"]
    have = row(board, "gradcam")
    assert have["dice"] == pytest.approx(tested["dice"].mean())
    assert have["iou"] == pytest.approx(tested["iou"].mean())
    assert have["sensitivity"] == pytest.approx(0.55)
    assert have["precision"] == pytest.approx(0.6)
    assert have["hd95_mm"] == pytest.approx(10 + 11 / 2)
    assert have["dice_shift"] == pytest.approx(shifted["dice"].mean())
    assert (have["n_cases"], have["n_seeds"], have["n_shift"]) == (PATIENTS, 2, SHIFTED)
    assert (have["mask_budget"], have["label_budget"]) == (0, 710)
    assert row(board, "gradcam", "oracle-set")["mask_budget"] == PATIENTS


def test_interval_is_over_patients(board):
    have = row(board, "gradcam")
    assert have["dice_low"] < have["dice"] < have["dice_high"]
    by_patient = scores().query("method == 'gradcam' and operating_point == 'fixed' and role == 'test'")
    spread = by_patient.groupby("patient")["dice"].mean().std(ddof=0)
    assert have["dice_high"] - have["dice_low"] == pytest.approx(2 * 1.96 * spread / np.sqrt(PATIENTS), rel=0.3)


def test_two_cases_of_a_patient_weigh_as_one_patient_in_the_interval():
    table = scores()
    table.loc[table["case"].isin([f"test-{number}" for number in range(1, PATIENTS)]), "patient"] = "test-1"
    have = row(board_of(table), "gradcam")
    by_patient = table.query("method == 'gradcam' and operating_point == 'fixed' and role == 'test'")
    low, high = sorted(by_patient.groupby("patient")["dice"].mean())
    assert (have["dice_low"], have["dice_high"]) == pytest.approx((low, high))
    assert have["dice"] == pytest.approx((low + high) / 2)
    assert have["n_cases"] == PATIENTS


def test_lesion_free_cases_stand_apart():
    table = scores()
    free = table["case"].isin(["test-0", "test-1"])
    table.loc[free, ["lesion_ml", "dice"]] = 0.0, 1.0
    have, before = row(board_of(table), "gradcam"), table[~free].query("method == 'gradcam' and role == 'test'")
    assert have["n_cases"] == PATIENTS - 2
    assert have["n_lesion_free"] == 2
    assert have["lesion_free_ml"] == 20.0
    assert have["lesion_free_touched"] == 0.5
    assert have["dice"] == pytest.approx(before.query("operating_point == 'fixed'")["dice"].mean())


def test_empty_predictions_are_counted_once_a_case():
    table = scores()
    this = (table["method"] == "random") & (table["operating_point"] == "fixed")
    table.loc[this & table["case"].isin(["test-3", "shift-1"]), "predicted_ml"] = 0.0
    table.loc[this & (table["case"] == "test-5") & (table["seed"] == 1), "predicted_ml"] = 0.0
    board = board_of(table)
    assert row(board, "random")["n_empty"] == 2
    assert board["n_empty"].sum() == 2


def test_rank_leaves_the_upper_bound_out(board):
    assert dict(zip(board["method"][:4], board["rank"][:4], strict=True)) == {
        "gradcam": 1,
        "centre": 2,
        "random": 3,
        "layercam": 4,
    }
    assert board.loc[board["operating_point"] == "oracle-set", "rank"].isna().all()


def test_only_a_method_above_every_null_beats_them(board):
    assert row(board, "gradcam")["beats_null"] == "yes"
    assert row(board, "layercam")["beats_null"] == "no"
    # All 12 patients agree, so p is 2 / 2 ** 12 for both methods, doubled by Holm.
    assert row(board, "gradcam")["p_holm"] == pytest.approx(2 * 2 / 2**12)
    assert row(board, "layercam")["p_holm"] == pytest.approx(2 * 2 / 2**12)
    nulls = board[board["method"].isin(["random", "centre"])]
    assert nulls["beats_null"].isna().all()


def test_one_null_that_is_not_beaten_is_enough():
    table = scores()
    table.loc[table["method"] == "centre", "dice"] += 0.2
    board = board_of(table)
    assert row(board, "gradcam")["beats_null"] == "no"
    pooled = comparisons(table).query("seed == 'all' and method == 'gradcam' and operating_point == 'fixed'")
    assert pooled.set_index("null")["median_difference"]["random"] == pytest.approx(0.2, abs=0.003)
    assert pooled.set_index("null")["median_difference"]["centre"] == pytest.approx(-0.05, abs=0.003)


def test_every_null_has_to_be_beaten_beyond_chance():
    """Against one null all patients agree; against the other the median is above 0 and the p-value is not small."""
    table = scores()
    nearly = table["method"] == "centre"
    # No two are alike: with ties SciPy tries all 2 ** 12 signs, which takes a second.
    shifts = {f"test-{number}": 0.01 * (-5, 1, 2)[number % 3] * (1 + number / 99) for number in range(PATIENTS)}
    better = table[table["method"] == "gradcam"]["dice"].to_numpy()
    table.loc[nearly, "dice"] = better - table[nearly]["case"].map(shifts).fillna(0).to_numpy()
    board = board_of(table)
    assert row(board, "gradcam")["beats_null"] == "no"
    pooled = comparisons(table).query("seed == 'all' and method == 'gradcam' and operating_point == 'fixed'")
    assert (pooled["median_difference"] > 0).all()


def test_verdict_is_over_the_mean_of_the_seeds():
    """Each seed alone is noise that the other one cancels."""
    table = scores()
    sign = np.where(table["case"].str.slice(5).astype(int) % 2 == table["seed"], 1, -1)
    table.loc[table["method"] == "gradcam", "dice"] += 0.5 * sign[table["method"] == "gradcam"]
    assert row(board_of(table), "gradcam")["beats_null"] == "yes"
    alone = comparisons(table).query("seed == '0' and method == 'gradcam'")
    assert (alone["p"] > 0.05).all()


def test_interval_of_a_comparison_is_that_of_the_median():
    table = scores()
    table.loc[(table["method"] == "gradcam") & (table["case"] == "test-4"), "dice"] += 50
    pooled = comparisons(table).query("seed == 'all' and method == 'gradcam' and null == 'random'")
    np.testing.assert_allclose(pooled[["low", "median_difference", "high"]], 0.2, atol=0.003)


def test_nothing_is_tested_under_ten_patients():
    board = board_of(scores(patients=9))
    assert row(board, "gradcam")["beats_null"] == "not tested"
    assert np.isnan(row(board, "gradcam")["p_holm"])
    assert row(board_of(scores(patients=10)), "gradcam")["beats_null"] == "yes"


def test_comparisons_for_each_seed_and_over_them():
    table = comparisons(scores())
    assert len(table) == 2 * 2 * 2 * 3  # methods, nulls, operating points; seeds and their mean
    assert set(table["seed"]) == {"all", "0", "1"}
    assert set(table["n_patients"]) == {PATIENTS}
    assert (table["low"] <= table["median_difference"]).all()
    assert (table["median_difference"] <= table["high"]).all()


def test_declared_methods_are_compared_with_every_other_in_their_setting():
    table = scores()
    table = table[table["role"] == "test"]
    pairs = pd.DataFrame(compare_in_pairs(table, ["layercam", "coin"], 0, 200), columns=PAIRED)
    assert not pairs.drop(columns="p_holm").isna().any(axis=None)  # `coin` was not run
    assert set(pairs["method"]) == {"layercam"}
    assert pairs["other"].tolist() == ["centre", "gradcam", "random"] * 2
    of_point = pairs[pairs["operating_point"] == "fixed"].set_index("other")
    assert of_point["median_difference"].tolist() == pytest.approx([-0.15, -0.3, -0.1], abs=0.005)
    assert (of_point["low"] <= of_point["median_difference"]).all()
    assert (of_point["median_difference"] <= of_point["high"]).all()
    # Twelve patients who all agree, then three pairs in their setting.
    assert of_point["p"].tolist() == pytest.approx([2 / 2**PATIENTS] * 3)
    assert of_point["p_holm"].tolist() == pytest.approx([3 * 2 / 2**PATIENTS] * 3)
    # The same as where the other one is a null.
    nulls = pd.DataFrame(compare_with_nulls(table, 0, 200)).query("seed == 'all' and operating_point == 'fixed'")
    same = nulls[nulls["method"] == "layercam"].set_index("null")
    for null in ("centre", "random"):
        assert same.loc[null, ["low", "high"]].tolist() == of_point.loc[null, ["low", "high"]].tolist()


def test_order_of_the_rows_does_not_matter(board):
    table = scores()
    shuffled = table.iloc[rng(0, "order").permutation(len(table))].reset_index(drop=True)
    pd.testing.assert_frame_equal(board_of(shuffled), board, rtol=1e-12, atol=0)
    pd.testing.assert_frame_equal(comparisons(shuffled), comparisons(table), rtol=1e-9, atol=1e-12)


def test_settings_are_compared_within_themselves():
    """A gate that helps every row alike makes no method better than the nulls behind the same gate."""
    table = scores()
    ungated = table.assign(gate="none", dice=table["dice"] - 0.15, label_budget=0)
    board = board_of(pd.concat([table, ungated]))
    ungated_rows = board[board["gate"] == "none"]
    assert row(ungated_rows, "gradcam")["beats_null"] == "yes"
    pooled = comparisons(pd.concat([table, ungated])).query("seed == 'all' and method == 'gradcam'")
    differences = pooled.groupby(["gate", "null"])["median_difference"].mean().unstack(0)
    np.testing.assert_allclose(differences["none"], differences["classifier"])


def test_without_a_shift_set_there_is_no_column_for_it():
    assert "dice_shift" not in board_of(scores().query("role == 'test'"))


def test_board_of_nulls_alone():
    nulls = scores()
    nulls = nulls[nulls["method"].isin(["random", "centre"])]
    assert list(board_of(nulls)["method"]) == ["centre", "random"] * 2


def at_points(points):
    """Scores at `fixed`, again under other names."""
    fixed = scores().query("operating_point == 'fixed'")
    return pd.concat([fixed.assign(operating_point=point, dice=fixed["dice"] + up) for point, up in points.items()])


def test_headline_leads_whatever_its_dice():
    board = board_of(at_points({"fixed": 0.3, "val-5": 0.2, "val-10": 0, "val-20": 0.1, "oracle-set": 0.4}))
    assert list(dict.fromkeys(board["operating_point"])) == ["val-10", "fixed", "val-5", "val-20", "oracle-set"]
    assert set(board.loc[board["headline"] == "yes", "operating_point"]) == {"val-10"}
    assert (board.groupby("operating_point", sort=False)["dice"].diff().dropna() <= 0).all()


def test_each_data_set_has_its_own_headline():
    small = at_points({"label-free": 0, "val-5": 0}).assign(dataset="kits")
    board = board_of(pd.concat([at_points({"label-free": 0, "val-10": 0}), small]))
    headline = board[board["headline"] == "yes"]
    assert headline.groupby("dataset")["operating_point"].unique().map(list).to_dict() == {
        "brats": ["val-10"],
        "kits": ["val-5"],
    }


def test_recall_by_volume_is_over_all_lesions(board):
    assert row(board, "gradcam")["recall_>=1_ml"] == pytest.approx(PATIENTS / (PATIENTS + 1))
    assert np.isnan(row(board, "gradcam")["recall_<1_ml"])


def test_every_metric_has_an_interval_around_its_mean(board):
    for name in SCORES:
        assert (board[f"{name}_low"] <= board[name] + 1e-12).all(), name
        assert (board[name] <= board[f"{name}_high"] + 1e-12).all(), name
    assert list(board["prevalence"]) == pytest.approx([0.1] * len(board))


def test_patient_without_a_lesion_free_slice_is_left_out_of_that_metric_alone():
    table = scores()
    table["share_touched"] = (
        table["case"].map({"test-1": np.nan, "test-2": 1.0}).where(table["case"].isin(["test-1", "test-2"]), 0.0)
    )
    have = row(board_of(table), "gradcam")
    assert have["share_touched"] == pytest.approx(1 / (PATIENTS - 1))
    assert have["dice"] == pytest.approx(row(board_of(scores()), "gradcam")["dice"])


def test_effect_is_that_against_the_hardest_null(board):
    """gradcam is above both nulls in every patient, layercam below; the upper bound has no verdict."""
    assert row(board, "gradcam")["effect"] == 1
    assert row(board, "layercam")["effect"] == -1
    assert board.loc[board["operating_point"] == "oracle-set", ["effect", "p_holm", "beats_null"]].isna().all(axis=None)


def test_verdicts_follow_from_the_published_comparisons(board):
    pooled = comparisons(scores()).query("seed == 'all' and operating_point == 'fixed'")
    hardest = pooled.groupby("method")["p"].max()
    for method in ("gradcam", "layercam"):
        have = row(board, method)
        assert have["p_holm"] >= hardest[method]
        all_above = (pooled.query("method == @method")["median_difference"] > 0).all()
        assert have["beats_null"] == ("yes" if have["p_holm"] < 0.05 and all_above else "no")


def test_readable_board_shows_the_headline_and_says_which(tmp_path):
    write_board(board_of(at_points({"fixed": 0, "val-5": 0.1, "oracle-set": 0.2})), tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "## brats phantom (made-up images)" in text
    assert "Sorted by Dice at `val-5`, as this data set has no `val-10`" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| 1 ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["1", "gradcam", "threshold"]
    assert cells[3].startswith("0.6")
    assert max(map(len, text.splitlines())) < 320


def test_readable_board_at_the_declared_headline_needs_no_excuse(tmp_path):
    write_board(board_of(at_points({"val-5": 0.1, "val-10": 0})), tmp_path)
    assert "Sorted by Dice at `val-10`.\n" in (tmp_path / "leaderboard.md").read_text()


def with_references(table):
    """The same scores with those of two references, which are better than all maps."""
    rows = table[(table["method"] == "gradcam") & (table["operating_point"] == "fixed")]
    none = {"view": "supervised", "classifier": "none", "gate": "none", "label_budget": 0}
    added = [
        rows.assign(method=name, dice=rows["dice"] + better, mask_budget=masks, **none)
        for name, better, masks in (("unet_k1", 0.1, 1), ("unet", 0.2, 64))
    ]
    return pd.concat([table, *added], ignore_index=True)


def test_references_are_not_ranked_and_change_nothing_for_maps(board):
    table = with_references(scores())
    found = leaderboard(table, comparisons(weak(table)), 0, 200)
    references = found.tail(2)
    assert references["method"].tolist() == ["unet", "unet_k1"]
    assert references["mask_budget"].tolist() == [64, 1]
    assert references["headline"].tolist() == ["yes", "yes"]
    assert references[["rank", "beats_null", "p_holm"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(found.head(len(board)), board, check_dtype=False)


def test_references_have_a_table_of_their_own_below_the_maps(tmp_path):
    table = with_references(scores())
    write_board(leaderboard(table, comparisons(weak(table)), 0, 200), tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    ranked, beside = text.split("Supervised references")
    assert "U-Net" not in ranked
    assert "| U-Net, all masks |" in beside
    assert "view" not in ranked
