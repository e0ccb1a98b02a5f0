"""Running a plan inside the test's process: no start-up cost, and the same code as the jobs."""

import os
import subprocess
import sys
from pathlib import Path

from weakseg.execution import execute
from weakseg.plan import Plan, Run

REPOSITORY = Path(__file__).parents[1]


def run_stages(plan: Plan, *stages: str) -> list[Run]:
    """Run what is missing of some stages, in the order of the plan; returns their runs."""
    runs = [run for run in plan.runs.values() if run.stage in stages]
    for run in runs:
        if not run.record.exists():
            execute(plan.spec(run))
    return runs


def snakemake(directory: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Call Snakemake on the repository's workflow in another working directory."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", directory]
    result = subprocess.run(
        [*map(str, command), "--cores", "2", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=900,
        check=False,
    )
    if check:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return result
