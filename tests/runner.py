"""Running a plan inside the test's process: no start-up cost, and the same code as the jobs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from weakseg import catalogue
from weakseg.config import Config
from weakseg.execution import execute
from weakseg.runs import Plan, Run

REPOSITORY = Path(__file__).parents[1]
SLOW = [name for name, method in catalogue.METHODS.items() if not method.null and method.family != "cam"]
"""Methods that cost more than a forward and a backward."""


def methods_of(config: Config) -> set[str]:
    """The methods that a configuration asks for, and all nulls."""
    nulls = {name for name, method in catalogue.METHODS.items() if method.null}
    return nulls | set(config.maps.methods.model_dump(exclude_none=True))


def run_stages(plan: Plan, *stages: str) -> list[Run]:
    """Run what is missing of some stages, in the order of the plan; returns their runs."""
    runs = [run for run in plan.runs.values() if run.stage in stages]
    for run in runs:
        if not run.record.exists():
            execute(plan.spec(run))
    return runs


def snakemake(directory: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Call Snakemake on the repository's workflow in another working directory."""
    place = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(directory)]
    return call(directory, "snakemake", *place, "--cores", "2", *arguments, check=check)


def call(directory: Path, *command: str, check: bool = True, timeout: int = 900) -> subprocess.CompletedProcess[str]:
    """Call a command of this environment in a folder; where the folder is a checkout, on the code that lies in it."""
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    modules = [str(directory / "src"), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join(programs),
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        },
        timeout=timeout,
        check=False,
    )
    if check:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return result


def make_repository(directory: Path, config: dict[str, Any]) -> None:
    """A git repository with the files of this one, as they lie here, and another ``config.yaml``."""
    listed = call(REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for source in (REPOSITORY / name for name in listed.split("\0") if name):
        if source.is_file():
            target = directory / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    call(directory, "git", "init", "--quiet")


def commit_all(directory: Path) -> None:
    """Commit everything that git does not ignore."""
    call(directory, "git", "add", "--all")
    author = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    call(directory, "git", *author, "commit", "--quiet", "--message", "all")
