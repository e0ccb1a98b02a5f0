"""Tables and figures are made again from published scores alone."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.end_to_end.conftest import SMOKE
from tests.runner import snakemake

from weakseg import plan
from weakseg.errors import WeaksegError
from weakseg.report.rebuild import SOURCES, STAGES, rebuild
from weakseg.runs import spec_file
from weakseg.workflow import read_config

FROM_RUNS = ("overlays-", "failures-", "models/", "manifests/")


@pytest.fixture
def restored(smoke, tmp_path, monkeypatch):
    """The plan, in a folder that holds the published scores and nothing else."""
    monkeypatch.chdir(tmp_path)
    planned = plan.build(read_config([SMOKE]))
    planned.destination.mkdir(parents=True)
    for name in SOURCES:
        shutil.copyfile(smoke / planned.destination / name, planned.destination / name)
    return planned


def specs_of(planned):
    planned.write_specs()
    return [spec_file(run.key) for stage in STAGES for run in planned.of_stage(stage)]


def test_snakemake_makes_every_table_and_figure_again_byte_for_byte(smoke, restored, tmp_path):
    said = snakemake(tmp_path, "tables", "--configfile", str(SMOKE)).stdout
    wanted = [path for path in restored.published if not any(name in str(path) for name in FROM_RUNS)]
    assert f"{len(wanted) - len(SOURCES)} tables and figures made again" in said
    for path in wanted:
        assert path.read_bytes() == (smoke / path).read_bytes(), path
    found = {path for path in restored.destination.rglob("*") if path.is_file()}
    assert found == set(wanted)
    assert not Path("data").exists()
    assert not Path("results/runs").exists()


def test_scores_of_another_configuration_are_refused(restored):
    path = restored.destination / "scores.parquet"
    scores = pd.read_parquet(path)
    scores["run"] = scores["run"].replace(scores["run"].iloc[0], "00000000")
    scores.to_parquet(path)
    with pytest.raises(WeaksegError, match=r"scores.parquet: another configuration, .* run 00000000 is not planned"):
        rebuild(specs_of(restored), restored.destination)
    assert sorted(path.name for path in restored.destination.iterdir()) == sorted(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_not_restored_is_named(restored, name):
    (restored.destination / name).unlink()
    with pytest.raises(WeaksegError, match=f"{name}: not there; restore it"):
        rebuild(specs_of(restored), restored.destination)


def test_parameters_are_those_of_the_configuration(restored, smoke):
    """Other resamples of the same scores give other intervals, as a run would."""
    specs = specs_of(restored)
    board = specs[STAGES.index("leaderboard")]
    spec = json.loads(board.read_text())
    spec["params"]["bootstrap"] = 100
    board.write_text(json.dumps(spec))
    rebuild(specs, restored.destination)
    table = restored.destination / "tables" / "leaderboard.csv"
    one, other = pd.read_csv(table), pd.read_csv(smoke / table)
    assert one["dice"].equals(other["dice"])
    assert not one["dice_low"].equals(other["dice_low"])
