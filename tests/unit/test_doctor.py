"""What the doctor says of machines that are made up, where they differ from this one."""

import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.ct_factory import write_instance
from tests.runner import REPOSITORY

from weakseg import cli, doctor
from weakseg.config_text import load
from weakseg.device import VISIBLE
from weakseg.errors import WeaksegError
from weakseg.execution import write_json

PHANTOMS = {"data": {"instance": None, "kits": None}}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder, and no programs but git."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(programs))
    return programs


def program(folder, name, text):
    """A program that prints a text."""
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    path.chmod(0o755)


def on(config):
    """The checks of data folders of a configuration, by data set."""
    return {check.name.split()[-1]: check for check in doctor.data_folders(load(config))}


def test_this_machine_is_fit_for_the_phantoms(capsys, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning"}
    names = " ".join(lines)
    for name in ("python", "packages", "gpu", "profile", "slurm", "data brats", "data kits", "memory", "disk"):
        assert name in names


def test_a_fault_ends_in_failure_and_all_else_is_still_looked_at(capsys, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("name: mine\ndata:\n  brats:\n    path: nowhere\n")
    assert cli.main(["doctor", "--configfile", str(overlay)]) == 1
    said = capsys.readouterr()
    assert "fault   data brats     nowhere: no such folder; set data.brats.path" in said.out
    assert "ok      data kits" in said.out
    assert said.err == "weakseg: doctor: 1 fault; mend what its line says\n"


def test_a_configuration_that_cannot_be_read_is_a_fault():
    def read():
        raise WeaksegError("config: data.brat: unknown key; did you mean brats?")

    *_, last = doctor.examine(read)
    assert (last.name, last.state) == ("configuration", "fault")
    assert last.text.endswith("did you mean brats?")


@pytest.mark.parametrize(
    ("line", "state", "said"),
    [
        ("numpy==0.1", "warning", "results get other keys"),
        ("tqdm==0.1", "warning", f"tqdm {version('tqdm')} (lock: 0.1); run"),
        ("snakemake==0.1", "warning", "snakemake"),
        ("not-there==1", "ok", "as in"),
        (f"numpy=={version('numpy')}", "ok", "as in"),
    ],
)
def test_versions_are_those_of_the_lock(tmp_path, monkeypatch, line, state, said):
    lock = tmp_path / "lock"
    lock.write_text(f"# Made by `make lock`.\n{line}\n")
    monkeypatch.setattr(doctor, "LOCK", lock)
    (check,) = doctor.packages()
    assert check.state == state
    assert said in check.text


def test_a_package_that_is_needed_and_missing_is_a_fault(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    lock.write_text("Not-There==1\n")
    monkeypatch.setattr(doctor, "LOCK", lock)
    monkeypatch.setattr(doctor, "requires", lambda _: ["not_there>=1", 'other; extra == "dev"'])
    (check,) = doctor.packages()
    assert check.state == "fault"
    assert check.text.startswith("not installed: Not-There; run")


def test_a_card_that_torch_cannot_use_is_a_warning(elsewhere, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert doctor.graphics().state == "ok"
    program(elsewhere, "nvidia-smi", "H200, 143771 MiB, 550.54")
    elsewhere.joinpath("cat").symlink_to("/bin/cat")
    check = doctor.graphics()
    assert check.state == "warning"
    assert "H200, 143771 MiB, 550.54: this torch is built for CPUs alone" in check.text


def test_a_card_that_torch_can_use_is_named(elsewhere, monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    program(elsewhere, "nvidia-smi", "H200, 143771 MiB, 550.54")
    elsewhere.joinpath("cat").symlink_to("/bin/cat")
    check = doctor.graphics()
    assert check.state == "ok"
    assert check.text.endswith("1 GPU: H200, 143771 MiB, 550.54")


@pytest.mark.parametrize(
    ("profile", "state"),
    [("cores: all", "ok"), ("default-resources:\n  device: cuda", "fault"), ("", "fault")],
)
def test_profiles_ask_for_what_is_there(tmp_path, monkeypatch, profile, state):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (tmp_path / "profile.yaml").write_text(profile)
    (check,) = doctor.profile_devices([doctor._settings(tmp_path)])
    assert check.state == state


def test_partitions_of_a_profile_are_those_of_the_cluster(elsewhere):
    settings = {"executor": "slurm", "set-resources": {"maps": {"slurm_partition": "gpu", "device": "cuda"}}}
    profile = [(Path("slurm/profile.yaml"), settings)]
    assert doctor.slurm(profile).state == "fault"
    assert doctor.slurm([]).state == "ok"
    elsewhere.joinpath("cat").symlink_to("/bin/cat")
    program(elsewhere, "sinfo", "cpu*\nlong")
    check = doctor.slurm(profile)
    assert check.state == "fault"
    assert check.text.startswith("no partition gpu; there are cpu, long")
    site = (Path("site/profile.yaml"), {"set-resources": {"maps": {"slurm_partition": "long"}}})
    assert doctor.slurm([*profile, site]).state == "ok"
    program(elsewhere, "sinfo", "cpu*\ngpu")
    assert doctor.slurm(profile).state == "ok"


def test_data_folders_have_their_layout_and_terms(tmp_path):
    root = write_instance(tmp_path / "heads", 3)
    config = {"data": {"brats": None, "kits": None, "instance": {"path": str(root)}}}
    check = on(config)["instance"]
    assert check.state == "warning"
    assert check.text == "3 cases; no licence file in it; the publisher's terms: https://instance.grand-challenge.org"
    (root / "LICENSE.txt").write_text("terms")
    assert (on(config)["instance"].state, on(config)["instance"].text) == ("ok", "3 cases; terms in LICENSE.txt")
    (root / "train/label/002.nii.gz").unlink()
    check = on(config)["instance"]
    assert check.state == "fault"
    assert "002" in check.text


def test_data_that_git_would_take_are_a_fault(tmp_path):
    root = write_instance(tmp_path / "heads")
    config = {"data": {"brats": None, "kits": None, "instance": {"path": str(root)}}}
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert on(config)["instance"].state == "fault"
    (tmp_path / ".gitignore").write_text("heads\n")
    assert on(config)["instance"].state == "warning"


def test_memory_is_held_against_what_runs_took(tmp_path):
    assert doctor.memory().state in ("ok", "warning")
    record = tmp_path / "results/runs/maps/x-0/run.json"
    record.parent.mkdir(parents=True)
    write_json(record, {"peak_memory_mib": 10**8})
    check = doctor.memory()
    assert check.state == "warning"
    assert check.text.endswith("run with fewer --cores")


@pytest.mark.parametrize(("free", "state"), [(10**6, "fault"), (10**13, "ok")])
def test_the_disk_has_room_for_what_is_left(monkeypatch, free, state):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    check = doctor.disk(load(PHANTOMS))
    assert check.state == state
    assert "runs will write about" in check.text


def test_terms_are_known_of_every_data_set():
    assert set(doctor.TERMS) == set(load({}).datasets)
    assert (REPOSITORY / "envs" / "requirements.lock") == doctor.LOCK
