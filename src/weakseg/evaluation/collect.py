"""One long table of all scores, the check that it is exactly what was planned, and what else tables are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.errors import WeaksegError
from weakseg.evaluation.contrast import contrast_rows
from weakseg.evaluation.forwards import forwards_per_case
from weakseg.evaluation.records import FILE, write_records
from weakseg.evaluation.thresholds import threshold_curves
from weakseg.execution import Context, read_record
from weakseg.studies.classifiers import classifier_rows

ROW_KEY = [
    "dataset",
    "source",
    "region",
    "view",
    "classifier",
    "method",
    "refinement",
    "gate",
    "operating_point",
]
"""What makes a row of the leaderboard."""


def run(context: Context) -> None:
    """Write ``scores.parquet`` from the score tables of all planned runs, and ``records.json``.

    Records: ``left_out`` (operating points and references), ``classifiers``, ``labels``, ``forwards``, ``thresholds``
    (curves), ``contrast`` (of lesions).
    """
    folders = context.upstream["scores"]
    scores = pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in folders], ignore_index=True)
    verify(scores, (folder.name.rsplit("-", 1)[1] for folder in folders))
    scores = scores.sort_values([*ROW_KEY, "role", "case", "seed"], ignore_index=True)
    scores.to_parquet(context.out / "scores.parquet", index=False)
    left_out = pd.concat([pd.read_csv(folder / "left_out.csv") for folder in folders], ignore_index=True)
    records = {
        "left_out": left_out.drop_duplicates(ignore_index=True),
        "classifiers": pd.DataFrame(classifier_rows(context.upstream["classifiers"])),
        "labels": pd.DataFrame(_label_rows(context.upstream["labels"])),
        "forwards": forwards_per_case(context.upstream["maps"]),
        "thresholds": threshold_curves(folders),
        "contrast": pd.DataFrame(contrast_rows(context, scores), columns=["dataset", "case", "contrast"]),
    }
    write_records(context.out / FILE, records)


def _label_rows(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        yield {"dataset": read_record(folder)["label"], **json.loads((folder / "summary.json").read_text())}


def verify(scores: pd.DataFrame, planned: Iterable[str]) -> None:
    """Compare the runs behind a table of scores with the plan.

    Raises:
        WeaksegError: a run is missing, was not planned, or a row stands twice.
    """
    have, want = set(scores["run"]), set(planned)
    faults = [f"run {key} is planned but missing" for key in sorted(want - have)]
    faults += [f"run {key} is not planned" for key in sorted(have - want)]
    duplicates = int(scores.duplicated([*ROW_KEY, "role", "case", "seed"]).sum())
    if duplicates:
        faults.append(f"{duplicates} rows stand twice")
    if faults:
        raise WeaksegError("scores.parquet does not match the plan: " + "; ".join(faults) + "; run snakemake again")
