import shutil

import pytest
import yaml
from snakemake.utils import update_config
from tests.runner import REPOSITORY, SLOW, call, commit_all

from weakseg.config_text import load

FEWER = {
    "seeds": [0],
    "views": {"volume": None},
    "maps": {"methods": dict.fromkeys(SLOW)},
    "refinements": {"declared": None},
    "references": {"methods": ["unet"]},
}
"""What the default leaves out here for the sake of time: two seeds, and what `make test` runs on a tiny phantom."""


@pytest.fixture(scope="session")
def raw():
    """The settings of the default with FEWER."""
    settings = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    update_config(settings, FEWER)
    return settings


@pytest.fixture(scope="session")
def config(raw):
    return load(raw)


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory, raw):
    """A repository of its own, made from the files of this one, in which `dvc repro` ran the benchmark with FEWER."""
    directory = tmp_path_factory.mktemp("benchmark")
    listed = call(REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for source in (REPOSITORY / name for name in listed.split("\0") if name):
        if source.is_file():
            target = directory / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (directory / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    call(directory, "git", "init", "--quiet")
    commit_all(directory)
    call(directory, "dvc", "repro", timeout=7200)
    return directory
