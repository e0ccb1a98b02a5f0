"""What `snakemake partial` plans when something is missing."""

from __future__ import annotations

import json

import pytest
from tests.plans_factory import FEW

from weakseg import config_text, plan
from weakseg.execution import write_json
from weakseg.plan_partial import plan_partial
from weakseg.runs import RESULTS

CONFIG = {
    "seeds": [0, 1],
    "data": {"brats": {"split": {"folds": 2}}, "instance": None, "kits": None},
    "views": {"volume": None},
    "maps": {"methods": FEW},
    "refinements": {"declared": None},
    "references": {"methods": ["unet"]},
}
BEHIND = ("refinement", "scores", "collect", "leaderboard", "faithfulness", "faithfulness_table", "repeatability")


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A plan of which everything is there but what needs all maps."""
    monkeypatch.chdir(tmp_path)
    planned = plan.build(config_text.load(CONFIG))
    for run in planned.runs.values():
        if run.stage not in (*BEHIND, "figures"):
            run.folder.mkdir(parents=True)
            run.record.write_text("{}")
    return planned


def lose(planned, stage, label, error=None):
    (run,) = (run for run in planned.of_stage(stage) if run.label == label)
    run.record.unlink(missing_ok=True)
    if error is not None:
        (RESULTS / "failures").mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / "failures" / f"{run.key}.json", {"error": error, "traceback": ""})
    return run


def test_nothing_missing_plans_the_same_scores(planned):
    partial = plan_partial(planned)
    for stage in ("scores", "refinement", "collect"):
        assert {run.key for run in partial.of_stage(stage)} == {run.key for run in planned.of_stage(stage)}
    (tables,) = partial.published_runs
    # Not run yet, and no part of these tables.
    assert {row["stage"] for row in tables.params["missing"]} == {"faithfulness", "repeatability"}
    assert {row["why"] for row in tables.params["missing"]} == {"not run"}


def test_one_failed_method_leaves_the_others(planned):
    lost = lose(planned, "maps", "brats-slice-cam-s0-f1", "no such layer\nand more")
    partial = plan_partial(planned)
    by_label = {run.label: run for run in partial.of_stage("scores")}
    assert set(by_label) == {"brats-slice-s0", "brats-slice-s1", "brats-supervised-s0"}
    labels = [partial.runs[key].label for key in by_label["brats-slice-s0"].upstream["maps"]]
    # The fold that has its maps is left out too: half a test set is another one.
    assert labels == [f"brats-slice-{family}-s0-f{fold}" for fold in (0, 1) for family in ("nulls", "mean_mask")]
    assert len(by_label["brats-slice-s0"].upstream["refinements"]) == 2
    whole = {run.label: run.key for run in planned.of_stage("scores")}
    assert by_label["brats-slice-s1"].key == whole["brats-slice-s1"]
    assert by_label["brats-slice-s0"].key != whole["brats-slice-s0"]
    assert lost.key not in partial.runs
    rows = [row for row in partial.missing if "method" in row]
    assert [(row["method"], row["seed"], row["why"]) for row in rows] == [
        ("gradcam", 0, "failed: no such layer"),
        ("layercam", 0, "failed: no such layer"),
    ]


def test_a_missing_classifier_takes_its_seed_along(planned):
    lose(planned, "classifier", "brats-slice-resnet-s1-f0", "out of memory")
    for run in planned.of_stage("maps") + planned.of_stage("mean_mask"):
        if run.label.endswith("-s1-f0"):
            run.record.unlink()
    partial = plan_partial(planned)
    assert {run.label for run in partial.of_stage("scores")} == {"brats-slice-s0", "brats-supervised-s0"}
    rows = [row for row in partial.missing if "method" in row]
    assert {row["label"] for row in rows} == {"brats-slice-resnet-s1-f0"}
    assert {row["seed"] for row in rows} == {1}
    assert {row["method"] for row in rows} > {"layercam", "random", "mean_mask"}


def test_a_failed_refinement_leaves_maps_without_it(planned):
    lose(planned, "refinement", "brats-slice-s0-f0", "it crashed")
    partial = plan_partial(planned)
    by_label = {run.label: run for run in partial.of_stage("scores")}
    assert by_label["brats-slice-s0"].upstream["refinements"] == []
    assert len(by_label["brats-slice-s1"].upstream["refinements"]) == 2
    assert not [run for run in partial.of_stage("refinement") if run.label.startswith("brats-slice-s0")]
    (row,) = (row for row in partial.missing if "refinement" in row)
    assert (row["refinement"], row["seed"], row["why"]) == ("supervoxel", 0, "failed: it crashed")


def test_nothing_there_plans_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan_partial(plan.build(config_text.load(CONFIG))).published_runs == []


def test_a_success_later_forgets_the_failure(planned):
    lost = lose(planned, "maps", "brats-slice-cam-s0-f1", "no such layer")
    lost.record.write_text(json.dumps({}))
    assert not [row for row in plan_partial(planned).missing if "method" in row]


def test_partial_results_lie_apart(planned):
    partial = plan_partial(planned)
    assert str(partial.destination) == "results/partial"
    assert [run.stage for run in partial.published_runs] == ["partial_tables"]
    assert not planned.of_stage("partial_tables")
