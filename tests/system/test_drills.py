"""Faults that need root, much time, or whole workflows: a full disk, kills in trainings, two Snakemakes at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from tests.end_to_end.conftest import SMOKE, smoke  # noqa: F401
from tests.faults import command, copy_of, differing, kill_once
from tests.runner import REPOSITORY, call, snakemake

from weakseg import plan, runs
from weakseg.cli import main
from weakseg.workflow import read_config

pytestmark = pytest.mark.system

SLOW = (
    "phantom",
    "classifier",
    "maps",
    "refinement",
    "references",
    "scores",
    "collect",
    "leaderboard",
    "faithfulness",
    "faithfulness_table",
    "figures",
    "models",
)
"""The stages that `make test` kills none of."""


@pytest.fixture
def planned(smoke, tmp_path, monkeypatch):  # noqa: F811
    """The plan of the finished smoke run, in a copy of it."""
    copy_of(smoke, tmp_path)
    monkeypatch.chdir(tmp_path)
    return plan.build(read_config([SMOKE]))


@pytest.mark.parametrize("stage", SLOW)
def test_kill_in_long_stages(planned, smoke, stage):  # noqa: F811
    run = planned.of_stage(stage)[0]
    assert kill_once(run)
    assert not run.folder.exists() or (run.record.exists() and not differing(run.folder, smoke / run.folder))
    assert main(command(run)) == 0
    assert not differing(run.folder, smoke / run.folder)


@pytest.mark.parametrize("stage", ["preprocess", "classifier", "scores"])
def test_full_disk(planned, smoke, tmp_path, capsys, stage):  # noqa: F811
    """Half of what a stage writes is all the room there is: one line, nothing under its name; with room it goes on."""
    run = planned.of_stage(stage)[0]
    size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    place = run.folder.parent
    shutil.rmtree(place)
    place.mkdir()
    call(tmp_path, "mount", "-t", "tmpfs", "-o", f"size={max(size // 2, 4096)}", "tmpfs", str(place))
    try:
        assert main(command(run)) == 1
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("weakseg: "))
        assert line == f"weakseg: {place}: no space left on the disk; make room and run again"
        assert list(place.iterdir()) == []
    finally:
        call(tmp_path, "umount", str(place))
    assert main(command(run)) == 0
    assert not differing(run.folder, smoke / run.folder)


def _start(folder, *arguments):
    place = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder), "--cores", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *place, *arguments, "--configfile", str(SMOKE)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _forget(planned, *stages):
    for run in planned.runs.values():
        if run.stage in stages:
            shutil.rmtree(run.folder)
    for path in planned.published:
        path.unlink(missing_ok=True)


def _until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_two_snakemakes_at_once_then_a_kill_of_all_then_again(planned, smoke, tmp_path):  # noqa: F811
    _forget(planned, "leaderboard", "figures", "models")
    first = _start(tmp_path)
    _until(lambda: list(runs.RESULTS.glob("runs/*/.*.partial")))
    second = snakemake(tmp_path, "--configfile", str(SMOKE), check=False)
    assert second.returncode == 1
    assert "cannot be locked" in second.stdout + second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    snakemake(tmp_path, "--unlock", "--configfile", str(SMOKE))
    snakemake(tmp_path, "--rerun-incomplete", "--configfile", str(SMOKE))
    for path in planned.published:
        assert path.read_bytes() == (smoke / path).read_bytes(), path


def test_a_method_crashes_the_others_finish_and_the_next_run_tries_again(planned, smoke, tmp_path):  # noqa: F811
    """Its code is broken in a checkout of its own, on the same results."""
    broken = tmp_path / "broken"
    for name in ("rules", "src", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, broken / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copyfile(REPOSITORY / name, broken / name)
    with (broken / "src" / "weakseg" / "maps" / "cam.py").open("a") as stream:
        stream.write('\n\ndef explain(*_):\n    raise RuntimeError("hooks broke")\n')
    _forget(planned, "maps", "refinement", "scores", "collect", "leaderboard", "figures")
    place = ["--snakefile", str(broken / "Snakefile"), "--directory", str(tmp_path), "--cores", "2"]
    configuration = ["--configfile", str(SMOKE)]
    made = call(tmp_path, "snakemake", *place, "--keep-going", *configuration, check=False)
    assert made.returncode == 1
    there = {run.label for run in planned.of_stage("maps") if run.record.exists()}
    assert there == {"brats-slice-nulls-s0-f0"}
    assert "supervised" in " ".join(run.label for run in planned.of_stage("scores") if run.record.exists())
    shown = call(tmp_path, "snakemake", "partial", *place, *configuration)
    assert "maps/brats-slice-cam-s0-f0 is missing (failed: hooks broke)" in shown.stdout + shown.stderr
    readme = (tmp_path / "results" / "partial" / "smoke" / "README.md").read_text()
    assert "**Incomplete**: 1 run is missing." in readme
    assert not any(path.exists() for path in planned.published if path.name == "leaderboard.csv")
    snakemake(tmp_path, *configuration)
    for path in planned.published:
        assert path.read_bytes() == (smoke / path).read_bytes(), path
