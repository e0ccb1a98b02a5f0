import pytest
from tests.runner import REPOSITORY, snakemake

SMOKE = REPOSITORY / "config" / "smoke.yaml"


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The working directory of the one smoke run through Snakemake that all tests share."""
    directory = tmp_path_factory.mktemp("smoke")
    snakemake(directory, "--configfile", str(SMOKE))
    return directory
