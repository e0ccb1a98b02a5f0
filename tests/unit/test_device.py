"""Which device a job gets; GPUs are made up, as there is none here."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
import torch
from tests.runner import call

from weakseg import catalogue, cli, device, versions
from weakseg.device import VISIBLE, taken, visible_gpus
from weakseg.errors import WeaksegError


class Waited(Exception):
    """A job had to wait."""


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Make torch see so many GPUs, with lock files of this test alone; a job that waits raises Waited."""

    def sleep(_seconds):
        raise Waited

    def make(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv(VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)

    monkeypatch.setattr(device, "lock_folder", lambda: tmp_path / "locks")
    monkeypatch.setattr(device.time, "sleep", sleep)
    return make


@pytest.mark.parametrize(("asked", "expected"), [("cpu", "cpu"), ("auto", "cpu")])
def test_without_a_gpu_networks_run_on_the_cpu(gpus, asked, expected):
    gpus(0)
    with taken(asked) as got:
        assert got == expected


@pytest.mark.parametrize("visible", [None, ""])
def test_cuda_fails_in_one_line_where_there_is_none(gpus, visible):
    gpus(0, visible)
    with (
        pytest.raises(WeaksegError, match=r"^device cuda: [^\n]*; set device to cpu or auto in the profile$"),
        taken("cuda"),
    ):
        pass


def test_cpu_is_kept_where_there_is_a_gpu(gpus, tmp_path):
    gpus(2)
    with taken("cpu") as got:
        assert got == "cpu"
        assert VISIBLE not in os.environ
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_jobs_side_by_side_have_a_gpu_each_and_the_next_one_waits(gpus, asked, capsys):
    gpus(2)
    with ExitStack() as jobs:
        names = []
        for _ in range(2):
            os.environ.pop(VISIBLE, None)  # jobs are processes, each with an environment of its own
            assert jobs.enter_context(taken(asked)) == "cuda"
            names.append(os.environ[VISIBLE])
        assert names == ["0", "1"]
        os.environ.pop(VISIBLE)
        with pytest.raises(Waited), taken(asked):
            pass
    assert "waiting for a GPU: all 2 are taken" in capsys.readouterr().err


def test_a_gpu_that_was_given_back_is_taken_again(gpus):
    gpus(1)
    for _ in range(2):
        with taken("auto"):
            assert os.environ[VISIBLE] == "0"
        assert VISIBLE not in os.environ


def test_of_the_gpus_that_are_visible_one_is_taken(gpus):
    gpus(2, "5, 3")
    assert visible_gpus() == ["5", "3"]
    with taken("cuda") as got:
        assert (got, os.environ[VISIBLE]) == ("cuda", "5")
    assert os.environ[VISIBLE] == "5, 3"


def test_a_schedulers_only_gpu_is_not_locked(gpus, tmp_path):
    # Slurm calls the only GPU of each of its jobs 0, whichever that is: a lock would let one wait for the other.
    gpus(1, "0")
    with taken("cuda") as first, taken("cuda") as second:
        assert (first, second) == ("cuda", "cuda")
    assert not (tmp_path / "locks").exists()


def test_a_killed_job_gives_its_gpu_back(gpus, tmp_path):
    held = tmp_path / "locks" / "0.lock"
    held.parent.mkdir()
    holds = f"from filelock import FileLock; lock = FileLock({str(held)!r}); lock.acquire(); print('held'); input()"
    job = subprocess.Popen([sys.executable, "-uc", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "held\n"
    gpus(1)
    with pytest.raises(Waited), taken("auto"):
        pass
    job.send_signal(signal.SIGKILL)
    job.wait()
    with taken("auto") as got:
        assert got == "cuda"


@pytest.fixture
def executed(monkeypatch, tmp_path):
    """Run the command of a stage that does nothing but tell on which device it would have run."""
    devices = []
    monkeypatch.setattr("weakseg.execution.execute", lambda spec, threads, device: devices.append(device))

    def run(stage, asked):
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps({"stage": stage}))
        status = cli.main([stage, "--spec", str(spec), "--device", asked])
        return status, devices

    return run


@pytest.mark.parametrize(("stage", "expected"), [("classifier", "cuda"), ("preprocess", "cpu")])
def test_only_stages_with_networks_take_a_gpu(gpus, executed, stage, expected):
    gpus(1)
    assert executed(stage, "cuda") == (0, [expected])


@pytest.mark.parametrize("stage", ["classifier", "preprocess"])
def test_a_stage_without_the_gpu_asked_for_does_not_run(gpus, executed, capsys, stage):
    gpus(0)
    assert executed(stage, "cuda") == (1, [])
    assert capsys.readouterr().err.count("\n") == 1


def test_stages_that_set_torch_up_are_stages_of_networks():
    entries = {name: versions._source(stage.entry.split(":")[0]) for name, stage in catalogue.STAGES.items()}
    found = {name for name, source in entries.items() if "reproducible(" in source or "learning.run(" in source}
    assert found
    assert found <= set(catalogue.NETWORK_STAGES) <= set(catalogue.STAGES)


def test_command_line_names_the_devices(tmp_path):
    said = call(tmp_path, sys.executable, "-m", "weakseg", "maps", "--spec", "x", "--device", "gpu", check=False)
    assert said.returncode == 2
    assert "auto" in said.stderr
