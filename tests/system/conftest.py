import shutil

import pytest
from tests.runner import REPOSITORY, call, commit_all

from weakseg.workflow import read_config

SEEDS = [0, 1]
"""Two of the default's three, which leaves out nothing but time."""


@pytest.fixture(scope="session")
def config():
    return read_config().model_copy(update={"seeds": SEEDS})


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory):
    """A repository of its own, made from the files of this one, in which `dvc repro` ran the benchmark with SEEDS."""
    directory = tmp_path_factory.mktemp("benchmark")
    listed = call(REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for source in (REPOSITORY / name for name in listed.split("\0") if name):
        if source.is_file():
            target = directory / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    settings = directory / "config.yaml"
    settings.write_text(settings.read_text().replace("\nseeds: [0, 1, 2]\n", f"\nseeds: {SEEDS}\n"))
    call(directory, "git", "init", "--quiet")
    commit_all(directory)
    call(directory, "dvc", "repro", timeout=7200)
    return directory
