"""COIN and Singla et al. on a tiny phantom, inside this process, while every lesion mask is away."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.end_to_end.conftest import VOLUME, masks_of
from tests.runner import run_stages

from weakseg import nifti, plan
from weakseg.config_text import load
from weakseg.execution import read_record

TINY = {"width": 2, "training": {"steps": 20, "generator_every": 2, "checkpoint": 10, "batch_size": 4, "slices": 4}}
EVALUATOR = {"blocks": [1, 1, 1, 1], "width": 4, "growth": 2, "training": {"epochs": 1}}
LEFT_OUT = dict.fromkeys(["gradcam", "layercam", *VOLUME["maps"]["methods"]])
SETTINGS = {
    **VOLUME,
    "name": "counterfactual",
    "seeds": [0],
    "views": {"volume": None},
    "maps": {"methods": {**LEFT_OUT, "coin": TINY, "singla": TINY}},
    "classifiers": {**VOLUME["classifiers"], "evaluator": EVALUATOR},
    "refinements": {"chains": ["threshold"]},
}


@pytest.fixture(scope="module")
def finished(volume):
    """A finished plan of slices beside that of both views, whose data and classifiers it shares."""
    _, folder = volume
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planned = plan.build(load(SETTINGS))
        run_stages(planned, "classifier")
        hidden = {path: folder / f"hidden-{number}" for number, path in enumerate(masks_of())}
        for path, away in hidden.items():
            path.rename(away)
        run_stages(planned, "map_fit", "maps")
        for path, away in hidden.items():
            away.rename(path)
        run_stages(planned, "mean_mask", "refinement", "scores", "faithfulness", "collect", "leaderboard")
        yield planned


def test_judges_are_other_classifiers(finished):
    (fitting,) = finished.of_stage("map_fit")
    judges = {
        role: finished.runs[key].label
        for role in ("classifier", "selector", "evaluator")
        for key in fitting.upstream[role]
    }
    assert judges == {
        "classifier": "brats-slice-resnet-s0-f0",
        "selector": "brats-slice-resnet-s1-f0",
        "evaluator": "brats-slice-densenet-s2-f0",
    }


def test_rows_of_both_methods_stand_in_the_leaderboard(finished):
    (board,) = finished.of_stage("leaderboard")
    rows = pd.read_csv(board.folder / "tables" / "leaderboard.csv")
    for name in ("coin", "singla"):
        of_method = rows[rows["method"] == name]
        assert set(of_method["operating_point"]) == {"fixed", "label-free", "val-1", "oracle-set"}
        assert of_method["dice"].notna().all()
        assert (of_method.query("operating_point == 'label-free'")["mask_budget"] == 0).all()
    (faithful,) = finished.of_stage("faithfulness")
    values = pd.read_parquet(faithful.folder / "values.parquet")
    assert {"coin", "singla"} <= set(values.query("metric == 'deletion'")["method"])


def test_maps_are_the_size_of_a_change_within_the_range(finished):
    (run,) = (run for run in finished.of_stage("maps") if "coin" in run.params["methods"])
    assert read_record(run.folder)["truth_opened"] == {}
    for name in ("coin", "singla"):
        maps = [nifti.read(path)[0] for path in sorted((run.folder / name).iterdir())]
        assert max(volume.max() for volume in maps) > 0
        assert min(volume.min() for volume in maps) >= 0
        assert max(volume.max() for volume in maps) < 1.1


def test_what_was_learnt_is_reported(finished):
    (fitting,) = finished.of_stage("map_fit")
    history = pd.read_csv(fitting.folder / "history.csv")
    assert list(history["step"]) == [10, 20] * 2
    metrics = json.loads((fitting.folder / "metrics.json").read_text())
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["coin.step"] in (10, 20)
    assert read_record(fitting.folder)["truth_opened"] == {}


def test_judges_are_not_published(finished):
    models = {path.parent.name for path in finished.published if path.suffix == ".safetensors"}
    assert models == {"brats-slice-resnet-s0-f0"}
