"""Tables of a benchmark of which something is missing: marked as such, and without a verdict."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.own import NOT_KNOWN
from weakseg.execution import Context
from weakseg.report.tables import write_table
from weakseg.studies.leaderboard import leaderboard

MISSING = ["dataset", "view", "seed", "method", "refinement", "stage", "label", "why"]
"""Columns of what is missing: the rows of the leaderboard, and the run behind each."""
SHOWN = [*ROW_KEY[:1], "source", "view", "method", "refinement", "operating_point", "dice", "n_cases", "n_seeds"]


def run(context: Context) -> None:
    """Write ``README.md``, ``tables/leaderboard.csv`` and ``tables/missing.csv``.

    Ranks and verdicts compare with all others, so there are none. ``missing`` in the leaderboard says why a row has no
    number; `README.md` has the headline's rows and all that is missing.
    """
    params = context.params
    missing = pd.DataFrame(params["missing"], columns=MISSING, dtype=object).fillna("")
    scores = pd.read_parquet(context.folder("collect") / "scores.parquet")
    board = leaderboard(scores, pd.DataFrame(), params["data_seed"], params["bootstrap"]).drop(columns=NOT_KNOWN)
    lost = missing[missing["method"].astype(str) != ""]
    lost = lost[["dataset", "view", "method", "why"]].drop_duplicates().rename(columns={"why": "missing"})
    tables = context.out / "tables"
    write_table(pd.concat([board, lost], ignore_index=True), tables, "leaderboard", ("csv",))
    write_table(missing, tables, "missing", ("csv",))
    _write_readme(context.out / "README.md", board, missing)


def _write_readme(path: Path, board: pd.DataFrame, missing: pd.DataFrame) -> None:
    headline = board.loc[board["headline"] == "yes", SHOWN]
    number = missing[["stage", "label"]].drop_duplicates().shape[0]
    counted = "1 run is missing" if number == 1 else f"{number} runs are missing"
    said = f"**Incomplete**: {counted}." if number else "Nothing is missing."
    parts = ["# Partial results", said]
    if number:
        parts.append(
            "Methods are neither ranked nor held against the nulls here. What failed is in "
            "`results/logs/<stage>/<label>-*.log`; `snakemake` tries it again."
        )
        parts.append(_markdown(missing))
    path.write_text("\n\n".join([*parts, "## What there is", _markdown(headline)]) + "\n")


def _markdown(table: pd.DataFrame) -> str:
    shown = table.map(lambda value: f"{value:.3f}" if isinstance(value, float) else _cell(str(value)))
    text: str = shown.to_markdown(index=False, disable_numparse=True)
    return text


def _cell(text: str) -> str:
    """Text that stays in its cell, and that no page takes for markup."""
    return text.replace("|", "\\|").replace("<", "&lt;")
