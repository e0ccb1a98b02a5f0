"""COIN and Singla et al. on a tiny phantom, inside this process, while every lesion mask is away."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.end_to_end.conftest import VOLUME, masks_of
from tests.runner import run_stages

from weakseg import nifti, plan
from weakseg.config_text import load
from weakseg.data.grid import read_foreground
from weakseg.data.labels import LESION, NORMAL, read_labels
from weakseg.execution import read_record
from weakseg.plan_counterfactuals import plan_counterfactuals
from weakseg.plan_views import evaluator_of, views_of

TINY = {"width": 2, "training": {"steps": 20, "generator_every": 2, "checkpoint": 10, "batch_size": 4, "slices": 4}}
EVALUATOR = {"blocks": [1, 1, 1, 1], "width": 4, "growth": 2, "training": {"epochs": 1, "least_steps": 0}}
LEFT_OUT = dict.fromkeys(["gradcam", "layercam", *VOLUME["maps"]["methods"]])
SETTINGS = {
    **VOLUME,
    "name": "counterfactual",
    "seeds": [0],
    "views": {"volume": None},
    "maps": {"methods": {**LEFT_OUT, "coin": TINY, "singla": TINY}},
    "classifiers": {**VOLUME["classifiers"], "evaluator": EVALUATOR},
    "refinements": {"chains": ["threshold"], "declared": None},
    "references": {"methods": []},
}


@pytest.fixture(scope="module")
def finished(volume):
    """A finished plan of slices beside that of both views, whose data and classifiers it shares."""
    _, folder = volume
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planned = plan.build(load(SETTINGS))
        ask(planned)
        run_stages(planned, "classifier")
        hidden = {path: folder / f"hidden-{number}" for number, path in enumerate(masks_of())}
        for path, away in hidden.items():
            path.rename(away)
        run_stages(planned, "map_fit", "maps")
        for path, away in hidden.items():
            away.rename(path)
        run_stages(planned, "mean_mask", "refinement", "scores", "faithfulness", "collect", "leaderboard")
        run_stages(planned, "counterfactuals")
        yield planned


def ask(planned):
    """Plan what judges say of the counterfactuals, as a study does."""
    data = {stage: planned.of_stage(stage)[0].key for stage in ("index", "preprocess", "labels", "truth")}
    (fitting,) = planned.of_stage("map_fit")
    (view,) = views_of(planned.config, "brats")
    judge = plan.plan_classifier(planned, "brats", data, *evaluator_of(planned.config, view, 0), 0)
    networks = [*fitting.upstream["classifier"], judge, fitting.key]
    plan_counterfactuals(planned, "brats-slice", data, *networks, fitting.params["methods"], view, 0, 0)
    plan.check_truth_access(planned)


def test_judges_are_other_classifiers(finished):
    (asked,) = finished.of_stage("counterfactuals")
    (fitting,) = finished.of_stage("map_fit")
    judges = {
        role: finished.runs[key].label
        for upstream in (asked.upstream, fitting.upstream)
        for role in ("classifier", "selector", "evaluator")
        for key in upstream.get(role, ())
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
        assert set(of_method["operating_point"]) == {"fixed", "label-free", "paper", "val-1", "oracle-set"}
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


@pytest.fixture(scope="module")
def asked(finished):
    (run,) = finished.of_stage("counterfactuals")
    return run, pd.read_parquet(run.folder / "slices.parquet"), pd.read_csv(run.folder / "metrics.csv")


def test_judges_are_asked_about_every_test_slice(finished, asked):
    run, slices, metrics = asked
    assert run.label == "brats-slice-s0-f0"
    folders = {role: finished.runs[keys[0]].folder for role, keys in run.upstream.items()}
    cases = pd.read_csv(folders["index"] / "cases.csv").query("role_f0 == 'test'")
    labels = read_labels(folders["labels"])
    labels = labels[labels["case"].isin(cases["case"])].sort_values(["case", "position"], ignore_index=True)
    for name in ("coin", "singla"):
        of_method = slices[slices["method"] == name].sort_values(["case", "position"], ignore_index=True)
        pd.testing.assert_frame_equal(of_method[["case", "position", "label"]], labels)
        # What the training wrote down of the same slices.
        for judge in ("classifier", "evaluator"):
            predictions = pd.read_csv(folders[judge] / "predictions.csv")
            logits = labels.merge(predictions[["case", "position", "logit"]], validate="one_to_one")["logit"]
            threshold = json.loads((folders[judge] / "metrics.json").read_text())["threshold"]
            np.testing.assert_allclose(of_method[judge], 1 / (1 + np.exp(threshold - logits)), rtol=1e-3)
    assert read_record(run.folder)["truth_opened"] == {"scores": sorted(cases["case"])}
    assert read_record(run.folder)["masks_used"] == []
    assert list(metrics["method"]) == ["coin", "singla"]
    assert (metrics["slices"] == len(labels)).all()
    assert (slices.loc[slices["label"] == LESION, "lesion_share"] > 0).all()
    assert (slices.loc[slices["label"] == NORMAL, "lesion_share"] == 0).all()
    assert slices["classifier_flip"].notna().equals(slices["method"] == "singla")


def test_changes_are_those_of_the_maps(finished, asked):
    run, slices, _ = asked
    maps = next(run for run in finished.of_stage("maps") if "coin" in run.params["methods"])
    preprocessed = finished.runs[run.upstream["preprocess"][0]].folder
    called = slices[slices["classifier"] >= 0.5]
    assert len(called) > 0
    for row in called.to_dict("records"):
        change, _ = nifti.read(maps.folder / row["method"] / f"{row['case']}.nii.gz")
        foreground, _ = read_foreground(preprocessed, row["case"])
        inside = foreground[..., row["position"]]
        assert change[..., row["position"]][inside].mean() == pytest.approx(row["size"], rel=0.01, abs=1e-4)
