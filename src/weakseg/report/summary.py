"""What the terminal says when the workflow ends: where to look, what is best, what failed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping

from weakseg import catalogue
from weakseg.report.page_spec import is_there
from weakseg.runs import RESULTS, Plan


def succeeded(plans: Mapping[str, Plan]) -> str:
    """The best method of each data set and the paths to look at."""
    plan = plans["all"]
    done = [target for target, of_target in plans.items() if target != "all" and is_there(of_target)]
    lines = ["", *_best(plan)]
    tables = plan.destination / "tables"
    paths = [("page", plan.page), ("leaderboard", tables / "leaderboard.md"), ("figures", plan.destination / "figures")]
    lines += [f"{what:<12} {path}" for what, path in paths if path.exists()]
    lines += [f"{'studies':<12} {', '.join(done)}"] if done else []
    return "\n".join([*lines, ""])


def _best(plan: Plan) -> Iterator[str]:
    """A line for each data set, in the words of the leaderboard."""
    path = plan.destination / "tables" / "leaderboard.csv"
    if not path.exists():
        return
    seen = set()
    with path.open(newline="") as file:
        # The table has the headline's rows best first.
        for row in csv.DictReader(file):
            group = row["dataset"], row["source"], row["region"]
            facts = catalogue.METHODS.get(row["method"])
            if row["headline"] != "yes" or facts is None or facts.null or group in seen:
                continue
            seen.add(group)
            refined = "" if row["refinement"] == "threshold" else f" + {row['refinement']}"
            yield (
                f"{row['dataset']} ({row['source']}): best is {facts.title}{refined}, Dice {float(row['dice']):.3f} "
                f"at {row['operating_point']}, with {row['mask_budget']} masks"
            )


def failed(plans: Mapping[str, Plan]) -> str:
    """Each failed run of the configuration in a line, and how to go on."""
    runs = {key: run for plan in plans.values() for key, run in plan.runs.items()}
    lines = [""]
    for path in sorted((RESULTS / "failures").glob("*.json")):
        if path.stem in runs:
            run, error = runs[path.stem], " ".join(json.loads(path.read_text())["error"].split())
            lines += [f"failed       {run.stage}/{run.label}: {error}"]
            lines += [f"  log        {RESULTS}/logs/{run.stage}/{run.label}-{run.key}.log"]
    lines += ["what is done stays; call snakemake again to go on", "`weakseg page` writes the page of what is there"]
    return "\n".join([*lines, ""])
