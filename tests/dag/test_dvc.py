"""DVC records exactly what is published, and finds the pointers of raw data."""

import configparser
import shutil
from pathlib import Path

import pytest
import yaml
from tests.runner import REPOSITORY, call

from weakseg import plan, runs
from weakseg.data.inventory import content_digest
from weakseg.workflow import read_config

PROJECT = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGE = PROJECT["stages"]["benchmark"]
OUTS, METRICS = (
    {Path(path): how for entry in STAGE[kind] for path, how in entry.items()} for kind in ("outs", "metrics")
)


def test_every_published_file_is_recorded_once():
    recorded = {*OUTS, *METRICS}
    planned = plan.build(read_config())
    published = [*planned.published, planned.page]
    holders = [[path for path in recorded if path == file or path in file.parents] for file in published]
    assert all(len(paths) == 1 for paths in holders)
    assert {path for (path,) in holders} == recorded - {runs.PHANTOMS}


def test_nothing_is_removed_before_a_run():
    assert all(how["persist"] for how in (*OUTS.values(), *METRICS.values()))


def test_metrics_are_kept_by_git():
    assert [how["cache"] for how in METRICS.values()] == [False]
    ignored = call(REPOSITORY, "git", "check-ignore", "--no-index", "dvc.lock", *map(str, METRICS), check=False)
    assert ignored.stdout == ""


def test_every_model_is_an_artifact_by_its_name():
    published = plan.build(read_config()).published
    models = {path.parent.name: str(path.parent) for path in published if path.suffix == ".safetensors"}
    assert {name: artifact["path"] for name, artifact in PROJECT["artifacts"].items()} == models
    assert {artifact["type"] for artifact in PROJECT["artifacts"].values()} == {"model"}


def test_dependencies_are_there():
    for path in STAGE["deps"]:
        assert (REPOSITORY / path).exists(), path


def test_dvc_reports_nothing_to_anyone():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / ".dvc" / "config")
    assert config["core"]["analytics"] == "false"


@pytest.fixture
def added(tmp_path):
    """A repository with this one's settings for git and DVC, and a raw data set that `dvc add` recorded."""
    for name in (".gitignore", ".dvcignore", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    root = tmp_path / "data" / "mine"
    root.mkdir(parents=True)
    (root / "a.nii").write_bytes(b"first")
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "add", "data/mine")
    return root


def test_git_takes_the_pointer_and_never_the_data(added, tmp_path):
    untracked = call(tmp_path, "git", "status", "--porcelain", "--untracked-files=all").stdout.split()
    assert [name for name in untracked if name.startswith("data")] == ["data/mine.dvc"]


def test_dvc_finds_the_pointer(added, tmp_path):
    """It skips folders that git ignores, and takes a pattern `/data/*` for one."""
    assert "up to date" in call(tmp_path, "dvc", "status").stdout
    (added / "a.nii").write_bytes(b"other")
    assert "modified:           data/mine" in call(tmp_path, "dvc", "status").stdout


def test_keys_follow_the_pointer(added, tmp_path):
    cache = tmp_path / "inventory.json"
    first = content_digest(added, cache)
    assert first in added.with_name("mine.dvc").read_text()
    (added / "a.nii").write_bytes(b"other")
    call(tmp_path, "dvc", "add", "data/mine")
    assert content_digest(added, cache) not in ("", first)
    assert not cache.exists()
