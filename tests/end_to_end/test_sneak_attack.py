"""The sneak attack on the smoke phantom, inside this process."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.end_to_end.conftest import SMOKE
from tests.runner import run_stages

from weakseg import plan
from weakseg.execution import read_record
from weakseg.studies.plans import sneak_attack
from weakseg.workflow import prune, publish, read_config, verify_published

STAGES = ("classifier", "sneak_maps", "sneak_masks", "sneak_classifier", "sneak_tables")


@pytest.fixture(scope="module")
def study(smoke, tmp_path_factory):
    """The plan and the working directory of a finished study, beside the published smoke benchmark."""
    directory = tmp_path_factory.mktemp("sneak_attack")
    shutil.copytree(smoke / "results", directory / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        planned = sneak_attack(read_config([SMOKE]))
        run_stages(planned, *STAGES)
    return planned, directory


def test_tables_have_every_filter_and_point(study, monkeypatch):
    planned, directory = study
    monkeypatch.chdir(directory)
    tables = planned.of_stage("sneak_tables")[0].folder / "tables"
    aucs, dice = (pd.read_csv(tables / f"{name}.csv") for name in ("sneak_attack", "sneak_attack_dice"))
    assert len(aucs) == 7 + 3
    assert set(aucs["source"]) == {"phantom"}
    assert aucs[["auc", "alone", "on_originals", "low", "high"]].notna().all(axis=None)
    assert dice["operating_point"].tolist() == [f"0.{n}" for n in range(1, 10)] + ["label-free", "val-2", "oracle-set"]
    assert dice["dice"].max() == dice["dice"].iloc[-1] > 0
    assert dice["mask_budget"].tolist() == [0] * 10 + [2, 3]
    judged = pd.read_csv(tables / "sneak_attack_verdicts.csv")
    assert judged["verdict"].isin(["yes", "no"]).all()
    assert len(judged) == 2


def test_original_is_the_classifier_itself(study, monkeypatch):
    planned, directory = study
    monkeypatch.chdir(directory)
    (classifier,) = planned.of_stage("classifier")
    aucs = pd.read_csv(planned.of_stage("sneak_tables")[0].folder / "tables" / "sneak_attack.csv")
    (original,) = aucs[aucs["filter"] == "foreground"].to_dict("records")
    expected = json.loads((classifier.folder / "metrics.json").read_text())["roles"]["test"]["auc"]
    assert original["auc"] == pytest.approx(expected, abs=1e-6)
    assert original["on_originals"] == original["auc"]


def test_masks_are_opened_for_the_study_alone(study, monkeypatch):
    planned, directory = study
    monkeypatch.chdir(directory)
    opened = {run.stage: read_record(run.folder)["truth_opened"] for stage in STAGES for run in planned.of_stage(stage)}
    assert {stage for stage, purposes in opened.items() if purposes} == {"sneak_masks"}
    assert set(opened["sneak_masks"]) == {"sneak_attack"}
    assert len(opened["sneak_masks"]["sneak_attack"]) == 15
    for run in planned.of_stage("sneak_classifier"):
        used = len(read_record(run.folder)["masks_used"])
        assert used == (15 if run.params["filter"].startswith("truth") else 0), run.label


def test_benchmark_and_study_leave_each_other_alone(study, monkeypatch):
    planned, directory = study
    monkeypatch.chdir(directory)
    benchmark = plan.build(read_config([SMOKE]))
    folders = [run.folder for run in benchmark.published_runs]
    assert verify_published(read_config([SMOKE])) == f"results/smoke: {len(benchmark.published)} files, as planned"
    publish(planned.destination, [run.folder for run in planned.published_runs], benchmark.published)
    publish(benchmark.destination, folders, planned.published)
    both = [*benchmark.published, *planned.published]
    assert all(path.stat().st_size > 0 for path in both)
    assert verify_published(read_config([SMOKE])) == f"results/smoke: {len(both)} files, as planned"
    # Of what is published nothing is pruned, whatever configuration one asks with; a run made since then is.
    stray = Path("results/runs/sneak_tables/brats-00000000")
    stray.mkdir()
    assert prune([read_config()], delete=False) == [stray]
    stray.rmdir()
    publish(benchmark.destination, folders)
    assert not any(Path(path).exists() for path in planned.published)
