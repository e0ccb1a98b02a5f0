# Functions only: the plans of this configuration, and what rules look up in it by the key in their paths.
import os
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# This checkout's own code, also where the environment has that of another one installed.
sys.path.insert(0, f"{workflow.basedir}/src")

from weakseg import runs
from weakseg.config_text import load
from weakseg.errors import WeaksegError
from weakseg.plan_partial import plan_partial
from weakseg.report import summary
from weakseg.report.page_spec import is_made_of, is_there, write_page_spec
from weakseg.studies.plans import build_all

try:
    PLANS = build_all(load(config, workflow.overwrite_configfiles or []))
except WeaksegError as error:
    raise WorkflowError(str(error)) from None
for plan in PLANS.values():
    plan.write_specs()
PAGE = str(PLANS["all"].page)
PAGE_SPEC = str(write_page_spec(PLANS))


class Runs(dict):
    """Runs by key. A job of its own, on a cluster, finds those of `partial` by their spec files."""

    def __missing__(self, key):
        return runs.read_run(key)


RUNS = Runs((key, run) for plan in PLANS.values() for key, run in plan.runs.items())

# Jobs run this checkout in the Python that runs Snakemake, or in the one that `--sdm conda` puts in front of it.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=f"{workflow.basedir}/src",
)


# What a job asks of a cluster, by label: MB of memory, doubled with its second attempt, and minutes. Profiles say which
# rules get a GPU, and change what does not fit a site (`set-resources`).
SIZES = {
    "small": (4_000, 60),
    "medium": (16_000, 8 * 60),
    "large": (32_000, 24 * 60),
}

# Processes of a stage that takes one case in each. Snakemake gives less where there are fewer cores.
CASES_AT_ONCE = 8

# Priorities. Jobs on data that take several cores come first: these are never free together once trainings run. Then
# come trainings, and labels for them: what is long should not be last, and alone. Snakemake adds up the priorities of the
# jobs that it could start, so one of the first outweighs any number of others.
FIRST, SOON = 100, 1


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
    """The records of all runs that a run reads; their keys say what they are, so their time stamps mean nothing."""
    keys = [key for keys in RUNS[wildcards.key].upstream.values() for key in keys]
    return [ancient(str(RUNS[key].record)) for key in keys]


def spec(wildcards):
    """The spec file of a run; its key stands for every parameter."""
    return str(runs.spec_file(wildcards.key))


def needs(size):
    """What a job of this size asks for. It gets no more time with an attempt, as it goes on where it was stopped."""
    memory, minutes = SIZES[size]
    return {
        "mem_mb": lambda wildcards, attempt: attempt * memory,
        "runtime": minutes,
        "device": "cpu",
    }


def command(stage):
    """The one command of every rule."""
    return (
        f"python -m weakseg {stage} --spec {{params.spec}} --threads {{threads}}"
        " --device {resources.device} > {log} 2>&1"
    )


def published(target):
    """The files that a target ends in."""
    return [str(path) for path in PLANS[target].published]


def reported(target):
    """The same, with the figures marked for `snakemake --report`."""
    # A line that begins with `report` would be Snakemake's keyword.
    return [
        path if not path.endswith(".png") else report(path, category=target)
        for path in published(target)
    ]


def publishing(target):
    """The records of the runs that a target publishes from."""
    return [ancient(str(run.record)) for run in PLANS[target].published_runs]


def publish_command(target):
    """The command that publishes a target; what the others publish stays."""
    plan = PLANS[target]
    kept = [name for other in PLANS if other != target for name in published(other)]
    folders = [str(run.folder) for run in plan.published_runs]
    return " ".join(
        ["python -m weakseg publish --destination", str(plan.destination), *folders]
        + (["--keep", *kept] if kept else [])
    )


@cache
def partial_plan():
    """What can be shown now, once a call asks for it; what is missing is told."""
    plan = plan_partial(PLANS["all"])
    if not plan.published_runs:
        raise WorkflowError(
            "partial: nothing is scored, and nothing that could be; run snakemake first"
        )
    for row in plan.missing:
        what = "/".join(
            str(row[name])
            for name in ("dataset", "view", "seed", "method", "refinement")
            if name in row
        )
        logger.warning(
            f"partial: {row['stage']}/{row['label']} is missing ({row['why']}) {what}"
        )
    plan.write_specs()
    RUNS.update(plan.runs)
    return plan


def partial_records(wildcards):
    """The record of the tables of a part."""
    return [str(run.record) for run in partial_plan().published_runs]


def publish_partial(wildcards):
    """The command that publishes the tables of a part."""
    folders = [str(run.folder) for run in partial_plan().published_runs]
    return " ".join(
        [
            "python -m weakseg publish --destination",
            str(partial_plan().destination),
            *folders,
        ]
    )


def shown():
    """The targets that the page tells of: those asked for, and those whose results are there."""
    settings = workflow.dag_settings
    asked = set(settings.targets) if settings else set()
    # A job on a cluster is a call with target jobs of its own.
    if not asked and not (settings and settings.target_jobs):
        asked = {"all"}
    if "studies" in asked:
        asked |= {*PLANS} - {"all"}
    return [
        target for target, plan in PLANS.items() if target in asked or is_there(plan)
    ]


def page(wildcards):
    """The page, unless it tells of these very runs.

    Then neither times of files count, which in a restored clone are those of the restore, nor what Snakemake noted of
    an earlier page, of other runs.
    """
    return [] if is_made_of(Path(PAGE), [PLANS[target] for target in shown()]) else PAGE


def page_input(wildcards):
    """What the page is made of: the records behind each target, and the benchmark's published tables."""
    plans = [PLANS[target] for target in shown()]
    made_of = [str(run.record) for plan in plans for run in plan.published_runs]
    if PLANS["all"] in plans:
        made_of += [str(run.record) for run in PLANS["all"].of_stage("viewer")]
        made_of += published("all")
    return made_of


def tables_command():
    """The command that makes tables and figures again from what is published of the scores."""
    plan = PLANS["all"]
    stages = ("collect", "leaderboard", "faithfulness_table", "figures")
    specs = [
        str(runs.spec_file(run.key)) for stage in stages for run in plan.of_stage(stage)
    ]
    return " ".join(
        ["python -m weakseg tables --destination", str(plan.destination), *specs]
    )
