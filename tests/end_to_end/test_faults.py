"""Nothing is lost, nothing is half there, and what is damaged is named, whatever happens to a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from multiprocessing import get_context

import pandas as pd
import pytest
from tests.end_to_end.conftest import SMOKE
from tests.faults import FORKS, command, copy_of, cut, damage, differing, garble, kill_once
from tests.runner import run_stages

from weakseg import plan, runs
from weakseg.cli import main
from weakseg.execution import execute
from weakseg.plan_partial import plan_partial
from weakseg.workflow import publish, read_config, verify_published

QUICK = ("index", "preprocess", "truth", "labels", "supervoxels", "mean_mask")
"""Stages whose kill is cheap; `make test-system` kills in the others."""

NOBODY = 65534


@pytest.fixture
def planned(smoke, tmp_path, monkeypatch):
    """The plan of the finished smoke run, in a copy of it."""
    copy_of(smoke, tmp_path)
    monkeypatch.chdir(tmp_path)
    return plan.build(read_config([SMOKE]))


def one(planned, stage):
    """The first run of a stage."""
    return planned.of_stage(stage)[0]


def told(capsys):
    """The one line of an error."""
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("weakseg: "))
    return line


@pytest.mark.parametrize("stage", QUICK)
def test_kill_leaves_nothing_half_done_and_the_next_try_gives_the_same_bytes(planned, smoke, stage):
    run = one(planned, stage)
    assert kill_once(run)
    assert not run.folder.exists() or (run.record.exists() and not differing(run.folder, smoke / run.folder))
    assert main(command(run)) == 0
    assert not differing(run.folder, smoke / run.folder)
    assert not list(run.folder.parent.glob(".*.partial"))
    assert not (runs.STATE / run.key).exists()


DAMAGE = {
    "safetensors": ("maps", "classifier", "weights.safetensors"),
    "image": ("labels", "preprocess", "*.nii"),
    "map": ("scores", "maps", "*/*.nii.gz"),
    "mask": ("labels", "truth", "grid/*.nii.gz"),
    "parquet": ("collect", "scores", "scores.parquet"),
    "csv": ("preprocess", "index", "cases.csv"),
}
"""A stage, the role of a run that it reads, and a file of that run."""


@pytest.mark.parametrize(("stage", "role", "pattern"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("how", [cut, garble], ids=lambda how: how.__name__)
def test_damaged_input_is_named_with_what_to_do(planned, capsys, stage, role, pattern, how):
    run = next(run for run in planned.of_stage(stage) if run.upstream[role])
    source = planned.runs[run.upstream[role][0]]
    path = sorted(source.folder.rglob(pattern))[0]
    shutil.rmtree(run.folder)
    damage(path, how)
    assert main(command(run)) == 1
    line = told(capsys)
    assert line.startswith(f"weakseg: {path}: damaged, ")
    assert line.endswith(f"; remove {source.folder} and run snakemake, which makes it again")
    assert not run.folder.exists()
    assert json.loads((runs.RESULTS / "failures" / f"{run.key}.json").read_text())["error"] in line


def test_damage_that_kept_size_and_time_is_named_once_a_stage_fails_of_it(planned, capsys):
    run, source = one(planned, "collect"), one(planned, "scores")
    path = source.folder / "scores.parquet"
    shutil.rmtree(run.folder)
    damage(path, garble, unseen=True)
    assert main(command(run)) == 1
    assert f"{path}: damaged, not the bytes that were written" in told(capsys)


@pytest.mark.parametrize("content", [b"", b'{"stage": "lab', b"[]"], ids=["empty", "cut", "list"])
def test_damaged_record_is_named(planned, capsys, content):
    run, source = one(planned, "collect"), one(planned, "scores")
    damage(source.record, lambda _: content)
    assert main(command(run)) == 1
    assert told(capsys).startswith(f"weakseg: {source.record}: damaged; remove {source.folder}")


def test_missing_input_is_named(planned, capsys):
    run, source = one(planned, "collect"), one(planned, "scores")
    (source.folder / "scores.parquet").unlink()
    assert main(command(run)) == 1
    assert f"{source.folder / 'scores.parquet'}: not there any more; remove {source.folder}" in told(capsys)


def test_what_to_do_mends_it(planned, smoke, capsys):
    """As the message says: remove the folder, run again."""
    run, source = one(planned, "labels"), one(planned, "truth")
    damage(sorted(source.folder.rglob("*.nii.gz"))[0], cut)
    shutil.rmtree(run.folder)
    assert main(command(run)) == 1
    shutil.rmtree(source.folder)
    run_stages(planned, "truth", "labels")
    assert not differing(source.folder, smoke / source.folder)
    assert not differing(run.folder, smoke / run.folder)
    assert not list((runs.RESULTS / "failures").glob("*.json"))


def test_damaged_published_run_is_named(planned, capsys):
    publish(planned.destination, [run.folder for run in planned.published_runs])
    assert "as planned" in verify_published(read_config([SMOKE]))
    path = one(planned, "leaderboard").folder / "tables" / "leaderboard.csv"
    damage(path, garble, unseen=True)
    assert main(["verify", "--configfile", str(SMOKE)]) == 1
    assert f"{path}: damaged" in told(capsys)


def test_two_processes_at_one_run(planned, smoke, capsys):
    run = one(planned, "supervoxels")
    shutil.rmtree(run.folder)
    first = FORKS.Process(target=main, args=(command(run),))
    first.start()
    while not (runs.STATE / f"{run.key}.lock").exists():
        time.sleep(0.005)
    os.kill(first.pid, signal.SIGSTOP)
    assert main(command(run)) == 1
    assert told(capsys) == f"weakseg: {run.folder}: another process is making it; wait for it, or end it"
    os.kill(first.pid, signal.SIGCONT)
    first.join()
    assert not differing(run.folder, smoke / run.folder)


def test_read_only_results_are_named(planned, tmp_path):
    run = one(planned, "labels")
    shutil.rmtree(run.folder)
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    job = get_context("fork").Process(target=_as_nobody, args=(command(run), tmp_path.parent / "stderr"))
    job.start()
    job.join()
    for folder in folders:
        folder.chmod(0o755)
    lines = (tmp_path.parent / "stderr").read_text().splitlines()
    assert job.exitcode == 1
    assert len(lines) == 1
    assert "cannot be written (Permission denied); change its rights, or use another folder" in lines[0]
    assert not run.folder.exists()


def _as_nobody(arguments, stderr):
    """Root may write anywhere, so it is put off first."""
    sys.stderr = stderr.open("w", buffering=1)
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os._exit(main(arguments))


def test_one_method_crashes_and_the_others_are_shown(planned, smoke, monkeypatch):
    """Tables of what there is, with the row that failed and why; the next run tries again and all is whole."""
    (run,) = (run for run in planned.of_stage("maps") if "-cam-" in run.label)
    for other in planned.runs.values():
        if other.stage in ("refinement", "scores", "collect") or other == run:
            shutil.rmtree(other.folder)

    def crash(*_args, **_named):
        raise RuntimeError("hooks broke")

    with monkeypatch.context() as patch:
        patch.setattr("weakseg.maps.cam.explain", crash)
        with pytest.raises(RuntimeError, match="hooks broke"):
            execute(planned.spec(run))
    assert not run.folder.exists()
    partial = plan_partial(planned)
    run_stages(partial, "refinement", "scores", "collect", "partial_tables")
    publish(partial.destination, [found.folder for found in partial.published_runs])
    board = pd.read_csv("results/partial/smoke/tables/leaderboard.csv")
    lost = board[board["missing"].notna()]
    assert dict(zip(lost["method"], lost["missing"], strict=True)) == dict.fromkeys(
        ("gradcam", "layercam"), "failed: hooks broke"
    )
    shown = board[board["missing"].isna()]
    whole = pd.read_csv(smoke / "results/smoke/tables/leaderboard.csv")
    wanted = whole[~whole["method"].isin(lost["method"])].set_index(["method", "refinement", "operating_point"])["dice"]
    found = shown.set_index(["method", "refinement", "operating_point"])["dice"]
    pd.testing.assert_series_equal(found.sort_index(), wanted.sort_index())
    readme = (partial.destination / "README.md").read_text()
    assert "**Incomplete**: 1 run is missing." in readme
    assert "| brats     | slice  | 0      | layercam |" in readme
    assert (runs.RESULTS / "failures" / f"{run.key}.json").exists()
    execute(planned.spec(run))
    assert not (runs.RESULTS / "failures" / f"{run.key}.json").exists()
    assert not differing(run.folder, smoke / run.folder)
