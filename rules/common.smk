# Functions only: the plans of this configuration, and what rules look up in it by the key in their paths.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from weakseg import runs
from weakseg.config_text import load
from weakseg.errors import WeaksegError
from weakseg.studies.plans import build_all

try:
    PLANS = build_all(load(config, workflow.overwrite_configfiles or []))
except WeaksegError as error:
    raise WorkflowError(str(error)) from None
for plan in PLANS.values():
    plan.write_specs()
RUNS = {key: run for plan in PLANS.values() for key, run in plan.runs.items()}

# Jobs run this checkout in the Python that runs Snakemake, or in the one that `--sdm conda` puts in front of it.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=f"{workflow.basedir}/src",
)


wildcard_constraints:
    key="[0-9a-f]{8}",
    label="[a-z0-9_-]+",


def record(stage):
    """The file that a run of a stage writes last."""
    parent = runs.PHANTOMS if stage == "phantom" else runs.RESULTS / "runs" / stage
    return f"{parent}/{{label}}-{{key}}/run.json"


def log_of(stage):
    return f"{runs.RESULTS}/logs/{stage}/{{label}}-{{key}}.log"


def benchmark_of(stage):
    return f"{runs.RESULTS}/benchmarks/{stage}/{{label}}-{{key}}.tsv"


def upstream(wildcards):
    """The records of all runs that a run reads."""
    keys = [key for keys in RUNS[wildcards.key].upstream.values() for key in keys]
    return [str(RUNS[key].record) for key in keys]


def spec(wildcards):
    """The spec file of a run; its key stands for every parameter."""
    return str(runs.spec_file(wildcards.key))


def command(stage):
    """The one command of every rule."""
    return (
        f"python -m weakseg {stage} --spec {{params.spec}} --threads {{threads}}"
        " --device {resources.device} > {log} 2>&1"
    )


def published(target):
    """The files that a target ends in."""
    return [str(path) for path in PLANS[target].published]


def publishing(target):
    """The records of the runs that a target publishes from."""
    return [str(run.record) for run in PLANS[target].published_runs]


def publish_command(target):
    """The command that publishes a target; what the others publish stays."""
    plan = PLANS[target]
    kept = [name for other in PLANS if other != target for name in published(other)]
    folders = [str(run.folder) for run in plan.published_runs]
    return " ".join(
        ["python -m weakseg publish --destination", str(plan.destination), *folders]
        + (["--keep", *kept] if kept else [])
    )
