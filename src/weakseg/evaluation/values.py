"""The long table of what is found about maps without any mask: one row per case, seed, method, metric and variant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.execution import Context

COLUMNS = [
    "run",
    "dataset",
    "source",
    "view",
    "classifier",
    "gate",
    "seed",
    "patient",
    "case",
    "method",
    "metric",
    "variant",
    "value",
]
"""``seed`` is text: `all` where seeds are compared with each other."""

Value = tuple[str, str, str, float]
"""Metric, variant (a baseline, a level of randomisation, or `seeds`), method, value."""


def rows_of(
    context: Context, dataset: str, facts: pd.Series, case: str, seed: str, values: list[Value]
) -> Iterator[dict[str, Any]]:
    """Rows of a case with all COLUMNS; ``facts`` is its row in the index."""
    shared = {name: context.params[name] for name in ("view", "classifier", "gate")}
    for metric, variant, method, value in values:
        yield {
            "run": context.key,
            "dataset": dataset,
            **shared,
            "source": facts["source"],
            "seed": seed,
            "patient": facts["patient"],
            "case": case,
            "method": method,
            "metric": metric,
            "variant": variant,
            "value": value,
        }


def write_values(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``values.parquet``, sorted; without rows, an empty table with all COLUMNS."""
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
    table.sort_values(COLUMNS[:-1], ignore_index=True).to_parquet(folder / "values.parquet", index=False)
