"""How well the volume classifier tells HGG from LGG on the brain-MRI phantom, and plain statistics do.

    python benchmarks/grade_classifier.py [--folds 5] [--seeds 0 1 2] [--folder DIR]

With one fold (the default's split) AUC by role for each seed. With several, AUC of each fold's test cases, and of all
cases out of fold: logits are pooled over folds as they are. The best plain statistic is among the channels' percentiles
and the brain's volume, in its better direction, on the same cases. What is in DIR already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pandas as pd

from weakseg import config_text, plan
from weakseg.catalogue import GRADES
from weakseg.data.index import read_cases
from weakseg.evaluation.classification import auc
from weakseg.execution import execute, read_record
from weakseg.runs import Plan, Run

STAGES = ("phantom", "index", "preprocess", "volume_classifier")


def run_missing(planned: Plan) -> list[Run]:
    """Run what the volume classifiers need, and them; their runs."""
    for stage in STAGES:
        for run in planned.of_stage(stage):
            if not run.record.exists():
                execute(planned.spec(run))
    return planned.of_stage("volume_classifier")


def roles_of(run: Run) -> dict[str, dict[str, Any]]:
    roles: dict[str, dict[str, Any]] = json.loads((run.folder / "metrics.json").read_text())["roles"]
    return roles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    brats = {"split": {"folds": options.folds}, "phantom": {"shift_cases": 16}}
    data = {"brats": brats, "instance": None, "kits": None}
    planned = plan.build(config_text.load({"name": "grades", "seeds": options.seeds, "data": data}))
    folder = options.folder or Path(mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    pooled: dict[int, list[pd.DataFrame]] = {}
    for run in run_missing(planned):
        seconds = read_record(run.folder)["seconds"]
        for role, values in roles_of(run).items():
            plain = values["plain_auc"]
            best = max(plain, key=plain.get)
            print(
                f"{run.label} {role:5} n {values['units']:3} AUC {values['auc']:.3f}, {seconds:.0f} s; "
                f"T1ce p99.8 {plain['t1ce_p99.8']:.3f}, best plain {best} {plain[best]:.3f}"
            )
        predicted = pd.read_csv(run.folder / "predictions.csv")
        pooled.setdefault(run.params["seed"], []).append(predicted[predicted["role"] == "test"])
    (index,) = planned.of_stage("index")
    grade = read_cases(index.folder).set_index("case")["grade"].map(GRADES)
    for seed, tables in pooled.items():
        together = pd.concat(tables)
        out_of_fold = auc(together["logit"], together["case"].map(grade))
        print(f"seed {seed}: out of fold, {len(together)} cases: AUC {out_of_fold:.3f}")


if __name__ == "__main__":
    main()
