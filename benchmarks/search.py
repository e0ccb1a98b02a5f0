"""Is COIN still ahead if it and its peers are searched alike? Four settings of each, the best by validation masks.

    python benchmarks/search.py [--dataset brats|instance|kits] [--folder DIR]

The first setting of each method is the benchmark's. The best has the highest mean Dice over all validation patients at
one threshold, with seed 0 and no refinement; it is then tested at val-10 and paired with COIN's. What is in DIR
already, such as the classifiers of a benchmark that ran there, is not run again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
from snakemake.utils import update_config

from weakseg import config_text, plan
from weakseg.config import Config
from weakseg.evaluation.histogram import load
from weakseg.evaluation.summary import lesion_bearing
from weakseg.execution import execute
from weakseg.runs import Plan, Run
from weakseg.studies.comparisons import compare

METHODS: dict[str, list[dict[str, Any]]] = {
    "coin": [{}, {"training": {"learning_rate": 0.001}}, {"variation": 0.03}, {"consistency": 2}],
    "singla": [{}, {"training": {"learning_rate": 0.001}}, {"variation": 0.003}, {"consistency": 5}],
    "rise": [{}, {"cell_mm": 20}, {"cell_mm": 45}, {"keep": 0.3}],
    "scorecam": [{}, {"layer": "layer4"}, {"layer": "layer2"}, {"layer": "layer1"}],
    "layercam": [{}, {"layer": "layer2"}, {"layer": "layer3"}, {"layer": ["layer1", "layer2"]}],
}
INTENSITY: dict[str, list[dict[str, Any]]] = {
    "brats": [{}, {"channel": "t2"}, {"channel": "t1ce"}, {"channel": "t1", "sign": -1}],
    "instance": [{}, {"channel": "subdural"}, {"channel": "bone"}, {"floor": 0}],
    "kits": [{}, {"sign": 1}, {"floor": None}, {"floor": -0.6}],
}
"""Of the null, by data set."""
BUDGET = 4
POINT = "val-10"


def settings_of(dataset: str) -> dict[str, list[dict[str, Any]]]:
    return {**METHODS, "intensity": INTENSITY[dataset]}


def configuration(dataset: str, number: int) -> Config:
    """The benchmark with the number-th setting of each method, and nothing else."""
    raw = Config().model_dump()
    update_config(raw["data"][dataset]["intensity"], INTENSITY[dataset][number])
    methods = {name: raw["maps"]["methods"][name] for name in METHODS}
    for name, settings in METHODS.items():
        update_config(methods[name], settings[number])
    return config_text.load(
        {
            "name": f"search-{number}",
            "data": {**dict.fromkeys(raw["data"]), dataset: raw["data"][dataset]},
            "maps": {"methods": dict.fromkeys(raw["maps"]["methods"]) | methods},
            "refinements": {"chains": ["threshold"], "declared": None},
            "studies": dict.fromkeys(raw["studies"]),
        }
    )


def run_missing(planned: Plan, dataset: str) -> Run:
    """Run what the scores of slices with seed 0 need, and them."""
    (scores,) = (run for run in planned.of_stage("scores") if run.label == f"{dataset}-slice-s0")
    needed = {scores.key}
    for run in reversed(planned.runs.values()):
        if run.key in needed:
            needed |= {other.key for other in planned.upstream_runs(run)}
    for run in planned.runs.values():
        if run.key in needed and not run.record.exists():
            execute(planned.spec(run))
    return scores


def validation_dice(run: Run) -> dict[str, float]:
    """Of each method, the mean Dice over validation patients at the best threshold."""
    keys, histograms = load(run.folder / "histograms.parquet")
    curves = pd.Series([counts.dice for counts in histograms])
    chosen = keys[(keys["role"] == "val") & (keys["refinement"] == "threshold")]
    return {
        str(method): float(np.mean(np.stack(curves[rows.index].to_list()), axis=0).max())
        for method, rows in chosen.groupby("method")
    }


def tested_dice(run: Run) -> pd.DataFrame:
    """Rows of tested cases with a lesion, at POINT and without a refinement."""
    tested = lesion_bearing(pd.read_parquet(run.folder / "scores.parquet"), "test")
    return tested[(tested["operating_point"] == POINT) & (tested["refinement"] == "threshold")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(INTENSITY), default="brats")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    runs = [run_missing(plan.build(configuration(options.dataset, n)), options.dataset) for n in range(BUDGET)]
    validated, tested = [validation_dice(run) for run in runs], [tested_dice(run) for run in runs]
    best = {}
    for method, settings in settings_of(options.dataset).items():
        reached = [of_setting[method] for of_setting in validated]
        best[method] = int(np.argmax(reached))
        print(f"{options.dataset} {method}: validation {', '.join(f'{dice:.3f}' for dice in reached)};", end=" ")
        print(f"best {settings[best[method]] or 'as it is'}")
    for which, numbers in (("benchmark", dict.fromkeys(best, 0)), ("best", best)):
        rows = pd.concat([tested[number][tested[number]["method"] == name] for name, number in numbers.items()])
        means = rows.groupby(["method", "patient"])["dice"].mean().groupby("method").mean()
        print(f"{which}: coin {means['coin']:.3f}")
        pairs = [("coin", other) for other in numbers if other != "coin"]
        for row in compare(rows, pairs, f"search/{options.dataset}", Config().data_seed, Config().protocol.bootstrap):
            if row["seed"] == "all":
                difference = f"{row['median_difference']:+.3f} [{row['low']:.3f}, {row['high']:.3f}], p {row['p']:.3f}"
                print(f"  {row['other']} {means[row['other']]:.3f}; coin less it {difference}")


if __name__ == "__main__":
    main()
