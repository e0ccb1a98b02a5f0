"""What is said of costs before and after a run, on the smoke run."""

import json

import pytest
from tests.end_to_end.conftest import SMOKE

from weakseg import plan
from weakseg.cli import main
from weakseg.estimate.asks import asked_of
from weakseg.estimate.extent import extent_of
from weakseg.estimate.rates import finished_runs
from weakseg.workflow import read_config


@pytest.fixture
def config(smoke, monkeypatch):
    monkeypatch.chdir(smoke)
    return read_config([SMOKE])


def test_sizes_told_before_a_run_are_those_found_after_it(config, tmp_path, monkeypatch):
    planned = plan.build(config)
    (labels,) = planned.of_stage("labels")
    after = extent_of(labels, planned.runs, config)
    monkeypatch.chdir(tmp_path)  # where nothing has run
    before = extent_of(labels, planned.runs, config)
    assert before.grid == after.grid
    assert before.spacing == pytest.approx(after.spacing)
    assert before.roles == {role: pytest.approx(count) for role, count in after.roles.items()}
    assert before.channels == after.channels
    assert before.slices == pytest.approx(after.slices, rel=0.25)
    assert before.lesion == pytest.approx(after.lesion, rel=0.5)


def test_forwards_that_maps_ask_for_are_about_those_that_they_made(config):
    runs = finished_runs()
    maps = [run for run in runs.values() if run.stage == "maps"]
    assert maps
    for run in maps:
        counts = json.loads(run.record.read_text())["counts"]
        (passes,) = asked_of(run, runs, extent_of(run, runs, None)).passes
        # Each unit costs what it is asked for; how many units pass is the classifier's say.
        units = counts["units"] - counts["units_gated"]
        each = (passes.forwards + passes.steps) / (counts["units"] * extent_of(run, runs, None).lesion)
        assert each * units == pytest.approx(counts["forwards"], rel=0.1)


def test_nothing_is_left_to_do_after_a_run(config, capsys):
    assert main(["estimate", "--configfile", str(SMOKE), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    table = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:] if line}
    number = len(plan.build(config).runs)
    assert table["all"] == [str(number), "0", "0.00", "0.00"]
    assert "finished runs here" in said


def test_profile_counts_every_run(config, capsys):
    assert main(["profile", "--configfile", str(SMOKE)]) == 0
    said = capsys.readouterr().out
    table = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:] if line}
    assert int(table["all"][0]) == len(plan.build(config).runs)
    minutes = float(table["classifier"][1])
    (record,) = (json.loads(run.record.read_text()) for run in plan.build(config).of_stage("classifier"))
    assert minutes == pytest.approx(record["cpu_seconds"] / 60, abs=0.06)
    assert "cores without a job" in said
