"""One long table of all scores, and the check that it is exactly what was planned."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from weakseg.errors import WeaksegError
from weakseg.execution import Context

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
    """Write ``scores.parquet`` from the score tables of all planned runs, and ``tables/left_out.csv``."""
    folders = context.upstream["scores"]
    scores = pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in folders], ignore_index=True)
    verify(scores, (folder.name.rsplit("-", 1)[1] for folder in folders))
    scores = scores.sort_values([*ROW_KEY, "role", "case", "seed"], ignore_index=True)
    scores.to_parquet(context.out / "scores.parquet", index=False)
    left_out = pd.concat([pd.read_csv(folder / "left_out.csv") for folder in folders], ignore_index=True)
    (context.out / "tables").mkdir()
    left_out.drop_duplicates(ignore_index=True).to_csv(context.out / "tables" / "left_out.csv", index=False)


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
