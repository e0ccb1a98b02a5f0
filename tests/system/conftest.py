import pytest
import yaml
from snakemake.utils import update_config
from tests.runner import REPOSITORY, SLOW, call, commit_all, make_repository

from weakseg.config_text import load

FEWER = {
    "seeds": [0],
    "views": {"volume": None},
    "maps": {"methods": dict.fromkeys(SLOW)},
    "refinements": {"declared": None},
    "references": {"methods": ["unet"]},
}
"""What the default leaves out here for the sake of time: a seed, and what `make test` runs on a tiny phantom."""


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
    make_repository(directory, raw)
    commit_all(directory)
    call(directory, "dvc", "repro", timeout=7200)
    return directory
