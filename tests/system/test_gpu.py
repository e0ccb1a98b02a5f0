"""Where there is a GPU: the smoke configuration on it, and full size."""

import json
import sys

import pytest
import torch
from tests.runner import REPOSITORY, call, snakemake

from weakseg import catalogue

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use on this machine"),
]


def test_smoke_runs_its_networks_on_the_gpu(tmp_path):
    overlay, profile = REPOSITORY / "config" / "smoke.yaml", REPOSITORY / "profiles" / "gpu"
    snakemake(tmp_path, "--configfile", str(overlay), "--profile", str(profile))
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/*/*/run.json")]
    devices = {record["stage"]: record["device"] for record in records}
    assert devices == {stage: "cuda" if stage in catalogue.NETWORK_STAGES else "cpu" for stage in devices}
    assert devices["classifier"] == "cuda"
    assert all(record["peak_gpu_memory_mib"] > 0 for record in records if record["device"] == "cuda")
    assert (tmp_path / "results/smoke/tables/leaderboard.csv").stat().st_size > 0


def test_full_size_fits_and_is_timed():
    printed = call(REPOSITORY, sys.executable, "benchmarks/gpu.py", timeout=3600).stdout
    print(printed)
    lines = [line for line in printed.splitlines() if line.endswith(" GiB")]
    assert [line.split(",")[0] for line in lines] == ["step", "RISE", "RISE"] * 2
    assert all(float(line.split()[-4]) > 0 for line in lines)
