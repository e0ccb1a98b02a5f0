"""The plan of `snakemake partial`: tables of what there is, when something failed or was stopped. Pure but for looking.

Classifiers, maps and references are taken as they are. What they are refined and scored into is planned anew without
what is missing, so under keys of its own: no table of a part can pass for the whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.plan_refinements import plan_refinements
from weakseg.runs import RESULTS, Plan, Run

TABLES = "partial_tables"
NOT_RUN = "not run"


@dataclass
class PartialPlan(Plan):
    """What can be shown of a plan.

    Attributes:
        missing: what is not there and why: a dictionary per run, and per row of the leaderboard that it would give.
    """

    missing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def destination(self) -> Path:
        """Where its tables are published."""
        folder = RESULTS / "partial"
        return folder if self.config.name == "default" else folder / self.config.name

    @property
    def published_runs(self) -> list[Run]:
        """The run whose files are published; none if nothing is scored yet."""
        return self.of_stage(TABLES)


def plan_partial(plan: Plan) -> PartialPlan:
    """Plan tables of those runs of a benchmark that are there."""
    partial = PartialPlan(plan.config)
    scores = [key for run in plan.of_stage("scores") if (key := _plan_scores(plan, partial, run)) is not None]
    # What waits for a run that is missing is no fault of its own, nor what is made now.
    open_ = [run for run in plan.runs.values() if not _is_there(run) and run.key not in partial.runs]
    first = [run for run in open_ if all(map(_is_there, plan.upstream_runs(run)))]
    told = {(row["stage"], row["label"]) for row in partial.missing}
    partial.missing += [_row(run) for run in first if (run.stage, run.label) not in told]
    if scores:
        settings = {"data_seed": plan.config.data_seed, "bootstrap": plan.config.protocol.bootstrap}
        (whole,) = plan.of_stage("collect")
        there = {role: [key for key in keys if key in partial.runs] for role, keys in whole.upstream.items()}
        collect = partial.add("collect", "all", whole.params, **there | {"scores": scores})
        partial.add(TABLES, "all", {**settings, "missing": partial.missing}, collect=collect)
    return partial


def _plan_scores(plan: Plan, partial: PartialPlan, scores: Run) -> str | None:
    """Score what there is of a view and seed, or of references; None if there is nothing."""
    upstream = {role: [plan.runs[key] for key in keys] for role, keys in scores.upstream.items()}
    needed = [run for role, runs in upstream.items() if role not in ("maps", "refinements") for run in runs]
    for run in upstream["maps"]:
        behind = next((lacking for source in [*needed, run] for lacking in _lacking(plan, source)), None)
        if behind is not None:
            rows = [_row(behind) | _place(scores) | {"method": method} for method in run.params["methods"]]
            partial.missing += [row for row in rows if row not in partial.missing]
    if _failure(scores):
        partial.missing.append(_row(scores) | _place(scores))
    # Patients of one fold alone would be another test set: a method counts if it is whole.
    lacking = {method for run in upstream["maps"] if not _is_there(run) for method in run.params["methods"]}
    whole = [run for run in upstream["maps"] if not lacking & run.params["methods"].keys()]
    if not whole or not all(map(_is_there, needed)) or _failure(scores):
        return None
    for run in [*needed, *whole]:
        _take(plan, partial, run)
    keys = {role: [run.key for run in runs] for role, runs in upstream.items()}
    keys["maps"] = [run.key for run in whole]
    keys["refinements"] = _plan_refinements(plan, partial, scores, whole) if keys["refinements"] else []
    return partial.add("scores", scores.label, scores.params, **keys)


def _plan_refinements(plan: Plan, partial: PartialPlan, scores: Run, maps: list[Run]) -> list[str]:
    """Refine what there is; nothing if that failed before, or lacks supervoxels."""
    name = scores.params["dataset"]
    (supervoxels,) = (run for run in plan.of_stage("supervoxels") if run.label == name)
    data = {role: scores.upstream[role][0] for role in ("index", "preprocess", "labels")}
    data["supervoxels"] = supervoxels.key
    folds = itertools.groupby(maps, lambda run: run.params["fold"])
    of_folds = [[run.key for run in of_fold] for _, of_fold in folds]
    refined = plan_refinements(partial, scores.label, partial.config.datasets[name], data, of_folds)
    tried = [partial.runs[key] for key in refined] + [plan.runs[key] for key in scores.upstream["refinements"]]
    broken = [run for run in tried if _failure(run)] or [run for run in [supervoxels] if not _is_there(run)]
    if not broken:
        _take(plan, partial, supervoxels)
        return refined
    partial.missing += [
        _row(broken[0]) | _place(scores) | {"refinement": chain} for chain in tried[-1].params["chains"]
    ]
    for key in refined:
        del partial.runs[key]
    return []


def _take(plan: Plan, partial: Plan, run: Run) -> None:
    """Add a run as it is, and all that it was made from."""
    if run.key not in partial.runs:
        for source in plan.upstream_runs(run):
            _take(plan, partial, source)
        partial.runs[run.key] = run


def _lacking(plan: Plan, run: Run) -> Iterator[Run]:
    """The runs that are missing on the way to one, the first of them first."""
    for source in plan.upstream_runs(run):
        yield from _lacking(plan, source)
    if not _is_there(run):
        yield run


def _place(scores: Run) -> dict[str, Any]:
    return {name: scores.params[name] for name in ("dataset", "view", "seed")}


def _row(run: Run) -> dict[str, Any]:
    return {"stage": run.stage, "label": run.label, "why": _failure(run) or NOT_RUN}


def _failure(run: Run) -> str | None:
    """The first line of what made a run fail, if its last try did."""
    path = RESULTS / "failures" / f"{run.key}.json"
    if run.record.exists() or not path.exists():
        return None
    record = json.loads(path.read_text())
    text = record["error"].strip() or record["traceback"].strip().splitlines()[-1]
    return f"failed: {text.splitlines()[0]}"


def _is_there(run: Run) -> bool:
    return run.record.exists()
