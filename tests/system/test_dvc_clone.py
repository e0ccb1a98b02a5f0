"""Results travel through a DVC remote: `dvc repro`, `dvc push`, a fresh clone, `dvc pull`."""

import pytest
import yaml
from tests.runner import call, commit_all

from weakseg import plan

pytestmark = pytest.mark.system

CLEAN = "Data and pipelines are up to date."


@pytest.fixture(scope="module")
def clone(benchmark, tmp_path_factory):
    """A fresh clone with what was pushed to a remote in a folder."""
    remote, directory = tmp_path_factory.mktemp("remote"), tmp_path_factory.mktemp("clone") / "weakseg"
    call(benchmark, "dvc", "remote", "add", "--force", "--default", "disk", str(remote))
    commit_all(benchmark)
    call(benchmark, "dvc", "push")
    call(remote, "git", "clone", "--quiet", str(benchmark), str(directory))
    assert not (directory / "results" / "tables").exists()
    call(directory, "dvc", "pull")
    return directory


def test_nothing_is_left_to_do(benchmark):
    assert call(benchmark, "dvc", "status").stdout.strip() == CLEAN
    assert "Nothing to be done" in call(benchmark, "snakemake", "--dry-run").stdout
    assert "as planned" in call(benchmark, "weakseg", "verify").stdout


def test_clone_has_every_published_file_byte_for_byte(benchmark, clone, config):
    planned = plan.build(config)
    for path in (*planned.published, planned.page):
        assert (clone / path).read_bytes() == (benchmark / path).read_bytes(), path


def test_clone_is_clean(clone):
    assert call(clone, "dvc", "status").stdout.strip() == CLEAN
    assert call(clone, "git", "status", "--porcelain").stdout == ""
    assert "didn't change, skipping" in call(clone, "dvc", "repro").stdout


def test_touched_clone_with_another_configuration_is_not_up_to_date(clone):
    """What was pulled must never pass for the result of other parameters."""
    call(clone, "snakemake", "--touch")
    path = clone / "config.yaml"
    original = path.read_text()
    config = yaml.safe_load(original)
    path.write_text(yaml.safe_dump({**config, "seeds": [7]}))
    assert "modified:           seeds" in call(clone, "dvc", "status").stdout
    assert "-s7-f0" in call(clone, "snakemake", "--dry-run").stdout
    assert "not there yet" in call(clone, "weakseg", "verify", check=False).stderr
    path.write_text(original)
