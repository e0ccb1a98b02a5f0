"""What the default benchmark has to show on each data set, but for FEWER."""

import itertools

import pandas as pd
import pytest
from tests.runner import methods_of
from tests.system.conftest import FEWER

from weakseg import catalogue, plan

pytestmark = pytest.mark.system

LEAST_AUC = {"brats": 0.95, "instance": 0.94, "kits": 0.95}
"""Aimed at 0.95 on each. Reached were 0.98-0.99, 0.951-0.958 and 0.964-0.968 (docs/explanation/phantoms.md); another
processor's rounding may cost some thousandths."""

POINTS = ("fixed", "label-free", "val-1", "val-5", "val-10", "oracle-set")


@pytest.fixture(scope="module")
def tables(benchmark, config):
    for path in plan.build(config).published:
        assert (benchmark / path).stat().st_size > 0, path
    names = ("leaderboard", "comparisons", "classifiers", "labels")
    return {name: pd.read_csv(benchmark / "results" / "tables" / f"{name}.csv") for name in names}


def test_every_method_at_every_point_over_all_test_cases(tables, config):
    board = tables["leaderboard"]
    assert set(itertools.product(catalogue.DATASETS, methods_of(config), POINTS)) <= set(
        zip(board["dataset"], board["method"], board["operating_point"], strict=True)
    )
    assert set(board["n_cases"] + board["n_lesion_free"]) == {16}
    once = {name for name, method in config.maps.methods if method is not None and method.seeds == 1}
    assert (board["n_seeds"] == board["method"].map(lambda name: 1 if name in once else len(FEWER["seeds"]))).all()


def test_no_two_methods_score_the_same(tables):
    board = tables["leaderboard"]
    nulls = [name for name, method in catalogue.METHODS.items() if method.null]
    methods = board[~board["method"].isin(nulls)]
    assert not methods.duplicated(["dataset", "refinement", "operating_point", "dice"]).any()


def test_slice_classifier_beats_plain_statistics(tables):
    tested = tables["classifiers"].query("role == 'test'")
    assert tested.groupby("dataset").size().to_dict() == dict.fromkeys(catalogue.DATASETS, len(FEWER["seeds"]))
    assert (tested["auc"] >= tested["dataset"].map(LEAST_AUC)).all()
    assert (tested["auc"] >= tested["best_plain_auc"] + 0.03).all()


def test_few_lesion_slices_are_too_small_for_a_label(tables):
    assert (tables["labels"]["dropped"] <= 0.15).all()


def test_full_supervision_is_above_every_map(tables):
    board = tables["leaderboard"].query("operating_point != 'oracle-set'").set_index("dataset")
    unet = board.loc[board["method"] == "unet", "dice"]
    assert set(unet.index) == set(catalogue.DATASETS)
    assert unet["brats"] >= 0.8
    maps = board.loc[board["method"] != "unet", "dice"].groupby("dataset").max()
    assert (unet > maps).all()


@pytest.mark.parametrize("null", ["random", "centre", "untrained"])
def test_layercam_is_above_nulls_in_each_seed(tables, null):
    rows = tables["comparisons"].query(
        "method == 'layercam' and null == @null and operating_point == 'label-free' and refinement == 'threshold'"
    )
    seeds = rows[rows["seed"] != "all"]
    assert set(seeds["seed"].astype(str)) == set(map(str, FEWER["seeds"]))
    assert (seeds["median_difference"] >= 0.05).all()
    assert (seeds["low"] > 0).all()
