import shutil

import pytest
from tests.runner import REPOSITORY, call, commit_all


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory):
    """A repository of its own, made from the files of this one, in which `dvc repro` ran the default benchmark."""
    directory = tmp_path_factory.mktemp("benchmark")
    listed = call(REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for source in (REPOSITORY / name for name in listed.split("\0") if name):
        if source.is_file():
            target = directory / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    call(directory, "git", "init", "--quiet")
    commit_all(directory)
    call(directory, "dvc", "repro", timeout=7200)
    return directory
