"""The table of faithfulness: do maps tell what the classifier used, what it learnt, and the same with every seed?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.faithfulness import METRICS
from weakseg.evaluation.metrics import ARROWS
from weakseg.evaluation.statistics import bootstrap_interval
from weakseg.execution import Context
from weakseg.randomness import rng
from weakseg.report.tables import write_table

VALUES = "faithfulness.parquet"
SETTING = ["dataset", "source", "view", "classifier", "gate", "metric", "variant"]
"""Rows with these in common differ in their method alone."""

REFERENCE = "random"
"""The null whose order of pixels knows nothing of the classifier."""


def run(context: Context) -> None:
    """Write ``faithfulness.parquet`` (every case's values) and the table ``faithfulness``."""
    folders = [folder for role in ("faithfulness", "repeatability") for folder in context.upstream[role]]
    values = pd.concat([pd.read_parquet(folder / "values.parquet") for folder in folders], ignore_index=True)
    values.to_parquet(context.out / VALUES, index=False)
    write(values, context.params, context.out)


def write(values: pd.DataFrame, params: dict[str, Any], out: Path) -> None:
    """Write the table ``faithfulness`` to a folder, given every case's values."""
    table = summarise(values, params["data_seed"], params["bootstrap"])
    write_table(table, out / "tables", "faithfulness", ("csv",))
    write_table(_readable(table), out / "tables", "faithfulness", ("md", "tex"))


def summarise(values: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """One row per setting and method: the mean over patients, and that of the difference to `random`.

    Seeds are averaged per case first, then visits per patient. Intervals are bootstraps over patients. ``better`` says
    which direction is.
    """
    by_case = values.groupby([*SETTING, "method", "patient", "case"])["value"].mean()
    by_patient = by_case.groupby([*SETTING, "method", "patient"]).mean().unstack("method")
    records = [
        record
        for setting, rows in by_patient.groupby(SETTING)
        for record in _rows(setting, rows.dropna(axis=1, how="all"), seed, resamples)
    ]
    return pd.DataFrame(records)


def _rows(setting: tuple[str, ...], rows: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    for method in (name for name in catalogue.METHODS if name in rows):
        found, above = rows[method], rows[method] - rows[REFERENCE]
        name = "/".join([*setting, method])
        low, high = bootstrap_interval(found, rng(seed, "faithfulness", name), resamples)
        above_low, above_high = bootstrap_interval(above, rng(seed, "faithfulness-above", name), resamples)
        yield {
            **dict(zip(SETTING, setting, strict=True)),
            "better": METRICS[setting[SETTING.index("metric")]].direction,
            "method": method,
            "mean": found.mean(),
            "low": low,
            "high": high,
            "minus_random": above.mean(),
            "minus_random_low": above_low,
            "minus_random_high": above_high,
            "n_patients": len(found),
        }


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """A row per data set and method, a column per metric: mean [interval], with * where it is better than `random`."""
    keys = ["dataset", "source", "view", "classifier", "gate", "method"]
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in table.to_dict("records"):
        heading = f"{METRICS[row['metric']].title}, {row['variant']} {ARROWS[row['better']]}"
        better = row["minus_random_low"] > 0 if row["better"] == "higher" else row["minus_random_high"] < 0
        text = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]{'*' if better else ''}"
        cells.setdefault(tuple(row[name] for name in keys), {})[heading] = text
    return pd.DataFrame([{**dict(zip(keys, key, strict=True)), **texts} for key, texts in cells.items()])
