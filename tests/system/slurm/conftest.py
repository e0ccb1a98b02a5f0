"""One Slurm for all tests, and one run of the workflow on it that has everything happen to it."""

import pytest
from tests.system.slurm.cluster import CannotRunError, Cluster
from tests.system.slurm.story import Story


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
    except CannotRunError as reason:
        pytest.skip(f"no Slurm for tests: {reason}")
    else:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def story(cluster, tmp_path_factory):
    story = Story(cluster, tmp_path_factory.mktemp("slurm"))
    story.tell()
    return story
