"""Published results in a fresh clone: from S3 and from a disk, without a run and with all, and versions of them."""

import shutil
import sys
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer
from snakemake.utils import update_config
from tests.runner import REPOSITORY, call, commit_all, make_repository

from weakseg import catalogue, plan
from weakseg.config_text import load

pytestmark = pytest.mark.system

CLEAN = "Data and pipelines are up to date."
NOTHING = "Nothing to be done"
EVERY_STAGE = {
    *("index", "preprocess", "truth", "labels", "classifier", "maps", "mean_mask", "faithfulness", "scores"),
    *("collect", "leaderboard", "faithfulness_table", "figures", "models", "publish", "all"),
    "page",
    "viewer",
}
"""Rules behind TINY, but for the phantom, which is restored."""
TINY = {
    "seeds": [0],
    "data": {
        "brats": {"phantom": {"cases": 10, "shape": [32, 32, 24], "shift_cases": 0}},
        "instance": None,
        "kits": None,
    },
    "views": {"volume": None},
    "classifiers": {"resnet": {"width": 4, "training": {"epochs": 1, "least_steps": 0}}},
    "maps": {"methods": {name: None for name, of in catalogue.METHODS.items() if not of.null and name != "gradcam"}},
    "refinements": {"chains": ["threshold"], "declared": None},
    "references": {"methods": []},
    "protocol": {"val_k": [1], "draws": 2, "bootstrap": 100, "faithfulness": {"slices": 1, "randomised_cases": 0}},
    "report": {"overlay_cases": 1},
}


@pytest.fixture(scope="module")
def bucket():
    """An S3 server on loopback with one bucket; its address, and the bucket's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        server = ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        address = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="weakseg")
        yield address, "s3://weakseg/results"
        server.stop()


@pytest.fixture(scope="module")
def project(tmp_path_factory, bucket):
    """A repository with the tags v1 (seed 0) and v2 (seed 1), pushed to S3, and the branch `runs`, pushed to a disk.

    Returns it, and by tag the bytes of every published file.
    """
    directory, (address, url) = tmp_path_factory.mktemp("project"), bucket
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    update_config(config, TINY)
    make_repository(directory, config)
    call(directory, "dvc", "remote", "add", "--default", "bucket", url)
    call(directory, "dvc", "remote", "modify", "bucket", "endpointurl", address)
    call(directory, "dvc", "remote", "add", "disk", str(tmp_path_factory.mktemp("remote")))
    versions = {}
    for tag, seed in (("v1", 0), ("v2", 1)):
        config["seeds"] = [seed]
        (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        call(directory, "dvc", "repro")
        commit_all(directory)
        call(directory, "git", "tag", tag)
        versions[tag] = published(directory)
    call(directory, "dvc", "push", "--all-tags")
    call(directory, "git", "checkout", "--quiet", "-b", "runs")
    call(directory, "dvc", "add", "results/runs")
    commit_all(directory)
    call(directory, "dvc", "push", "--remote", "disk")
    return directory, versions


def published(directory: Path) -> dict[str, bytes]:
    planned = plan.build(load(yaml.safe_load((directory / "config.yaml").read_text())))
    return {str(path): (directory / path).read_bytes() for path in planned.published}


def edit(directory: Path, section: str, **values: object) -> None:
    path = directory / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config[section].update(values)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def jobs(directory: Path, *arguments: str) -> set[str]:
    """The rules that Snakemake would run."""
    lines = call(directory, "snakemake", "--dry-run", *arguments).stdout.splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))}


@pytest.fixture(scope="module")
def restored(project, tmp_path_factory):
    """A fresh clone of v2 after `make restore`, from S3."""
    directory = tmp_path_factory.mktemp("restored") / "weakseg"
    call(directory.parent, "git", "clone", "--quiet", "--branch", "v2", str(project[0]), str(directory))
    assert not (directory / "results" / "tables").exists()
    # The environment is there already.
    call(directory, "make", "restore", f"BIN={Path(sys.executable).parent}", "SETUP=")
    return directory


@pytest.fixture
def at_v2(restored):
    """The restored clone; what a test edits is undone."""
    yield restored
    call(restored, "git", "checkout", "--quiet", "--force", "v2")
    call(restored, "dvc", "checkout", "--force")


def test_a_restored_clone_has_everything_and_nothing_to_do(project, restored):
    assert published(restored) == project[1]["v2"]
    assert call(restored, "git", "status", "--porcelain").stdout == ""
    assert not (restored / "results" / "runs").exists()
    assert NOTHING in call(restored, "snakemake", "--dry-run").stdout
    assert "didn't change, skipping" in call(restored, "dvc", "repro").stdout


def test_restored_results_never_pass_for_those_of_other_parameters(at_v2):
    """The edit changes no file's name, and `--touch` calls everything new: both used to end in `Nothing to be done`."""
    call(at_v2, "snakemake", "--touch", "--forceall")
    edit(at_v2, "report", overlay_cases=2)
    assert jobs(at_v2) == EVERY_STAGE
    call(at_v2, "snakemake", "--touch")
    assert jobs(at_v2) == EVERY_STAGE
    assert "not there yet; run snakemake" in call(at_v2, "weakseg", "verify", check=False).stderr
    # The whole section, as config.yaml had none before.
    assert "modified:           report\n" in call(at_v2, "dvc", "status").stdout


def test_a_restored_file_that_changed_is_found(at_v2):
    table = at_v2 / "results" / "tables" / "leaderboard.csv"
    table.write_bytes(table.read_bytes() + b"x")
    failed = call(at_v2, "make", "restore", f"BIN={Path(sys.executable).parent}", "SETUP=", check=False)
    assert failed.returncode != 0
    assert "leaderboard.csv" in failed.stdout + failed.stderr
    assert "not what" in call(at_v2, "weakseg", "verify", check=False).stderr


def test_tables_of_an_earlier_version_come_back_byte_for_byte(project, at_v2):
    versions = project[1]
    assert versions["v1"]["results/tables/leaderboard.csv"] != versions["v2"]["results/tables/leaderboard.csv"]
    call(at_v2, "dvc", "fetch", "--all-tags")
    call(at_v2, "git", "checkout", "--quiet", "v1")
    call(at_v2, "dvc", "checkout")
    shutil.rmtree(at_v2 / "results" / "tables")
    call(at_v2, "snakemake", "--cores", "1", "tables")
    assert published(at_v2) == versions["v1"]
    assert call(at_v2, "dvc", "status").stdout.strip() == CLEAN
    assert "as planned" in call(at_v2, "weakseg", "verify").stdout
    assert NOTHING in call(at_v2, "snakemake", "--dry-run").stdout


def test_with_all_runs_exactly_what_an_edit_needs_runs_again(project, tmp_path):
    """From a remote on a disk; `dvc repro` then records the results of the edit, not the restored ones."""
    directory = tmp_path / "weakseg"
    call(tmp_path, "git", "clone", "--quiet", "--branch", "runs", str(project[0]), str(directory))
    call(directory, "dvc", "pull", "--remote", "disk")
    assert NOTHING in call(directory, "snakemake", "--dry-run").stdout
    edit(directory, "protocol", bootstrap=200)
    assert jobs(directory) == {"leaderboard", "faithfulness_table", "figures", "publish", "page", "all"}
    call(directory, "git", "checkout", "config.yaml")
    edit(directory, "report", overlay_cases=2)
    assert jobs(directory) == {"figures", "publish", "page", "all"}
    call(directory, "dvc", "repro", "benchmark")
    assert "as planned" in call(directory, "weakseg", "verify").stdout
    now, before = published(directory), project[1]["v2"]
    changed = {name for name in now if now[name] != before.get(name)}
    assert {name for name in changed if name.endswith(".png")} == {"results/figures/overlays-brats-slice.png"}
    assert not any(name.endswith(".csv") for name in changed)
    assert "overlay_cases: 2" in (directory / "dvc.lock").read_text()


def test_one_model_of_a_version_is_had_by_its_name(project, tmp_path):
    name = "results/models/brats-slice-resnet-s0-f0"
    call(tmp_path, "dvc", "get", str(project[0]), name, "--rev", "v1", "--out", "model")
    weights = (tmp_path / "model" / "weights.safetensors").read_bytes()
    assert weights == project[1]["v1"][f"{name}/weights.safetensors"]
