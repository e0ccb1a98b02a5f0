"""Where the time of finished runs went: by stage, in starting Python, and in Snakemake itself."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from weakseg import catalogue
from weakseg.errors import WeaksegError
from weakseg.estimate.rates import cpu_seconds
from weakseg.runs import PHANTOMS, RESULTS, Run

LOGS = Path(".snakemake/log")
_ELAPSED = re.compile(r"^Elapsed time: (?:(\d+) days?, )?(\d+):(\d+):(\d+)", re.MULTILINE)
_CORES = re.compile(r"^Provided cores: (\d+)", re.MULTILINE)
_RECORD = re.compile(r"^ +output: (\S+/run\.json)$", re.MULTILINE)


def spent(runs: Mapping[str, Run]) -> pd.DataFrame:
    """A row for each stage of the finished ones among some runs, in the order of the workflow.

    Columns: ``stage``, ``runs``, ``cpu`` (processor minutes), ``wall`` (minutes as Snakemake saw them) and ``start``
    (minutes of these before the stage began: Python and its imports).

    Raises:
        WeaksegError: none of them is finished.
    """
    rows = []
    for run in runs.values():
        if run.record.exists():
            inside = float(json.loads(run.record.read_text())["seconds"])
            wall = _seconds(run.stage, run.folder.name) or inside
            rows.append({"stage": run.stage, "cpu": cpu_seconds(run), "wall": wall, "start": max(wall - inside, 0)})
    if not rows:
        raise WeaksegError("profile: no run of this configuration is finished; run snakemake first")
    table = (
        pd.DataFrame(rows)
        .groupby("stage")
        .agg(runs=("cpu", "size"), cpu=("cpu", "sum"), wall=("wall", "sum"), start=("start", "sum"))
    )
    table[["cpu", "wall", "start"]] /= 60
    return table.loc[[stage for stage in catalogue.STAGES if stage in table.index]].reset_index()


def _seconds(stage: str, name: str) -> float | None:
    """Seconds that a job took as Snakemake saw it, if it wrote them down."""
    path = RESULTS / "benchmarks" / stage / f"{name}.tsv"
    if not path.exists():
        return None
    with path.open() as stream:
        return float(next(csv.DictReader(stream, delimiter="\t"))["s"])


def _stage(folder: Path) -> str:
    """The stage of a run's folder."""
    return "phantom" if folder.parent == PHANTOMS else folder.parent.name


@dataclass(frozen=True)
class Idle:
    """Core minutes of Snakemake runs that came to their end: all that they had, and those without a job."""

    had: float
    without_job: float


def idle() -> Idle:
    """What the logs of Snakemake in this folder tell; of jobs whose results are still there."""
    had, busy = 0.0, 0.0
    for path in LOGS.glob("*.log"):
        text = path.read_text(errors="replace")
        elapsed, cores, records = _ELAPSED.search(text), _CORES.search(text), _RECORD.findall(text)
        if not (elapsed and cores and records):
            continue
        folders = [Path(record).parent for record in records]
        jobs = [(folder, _seconds(_stage(folder), folder.name)) for folder in folders]
        if any(seconds is None or not (folder / "run.json").exists() for folder, seconds in jobs):
            continue
        days, hours, minutes, seconds = (int(part or 0) for part in elapsed.groups())
        had += int(cores[1]) * (days * 24 * 60 + hours * 60 + minutes + seconds / 60)
        for folder, of_job in jobs:
            busy += json.loads((folder / "run.json").read_text())["threads"] * (of_job or 0) / 60
    return Idle(had, max(had - busy, 0))


def as_text(table: pd.DataFrame, waiting: Idle) -> str:
    """The table with its sums, and the share of the cores' time in which Snakemake ran no job."""
    total = table[["runs", "cpu", "wall", "start"]].sum().to_frame().T.assign(stage="all")
    every = pd.concat([table, total]).astype({"runs": int})
    every["share"] = every["cpu"] / total["cpu"].iloc[0]
    lines = [every.to_string(index=False, formatters={"share": "{:.1%}".format}, float_format="%.1f")]
    lines.append("minutes: cpu of the processor, wall as Snakemake saw it, start the part before a stage began")
    if waiting.had:
        share = waiting.without_job / waiting.had
        lines.append(
            f"cores without a job, Snakemake's own work among it: {share:.1%} of {waiting.had:.0f} core minutes"
        )
    return "\n".join(lines)
