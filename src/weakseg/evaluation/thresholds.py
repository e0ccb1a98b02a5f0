"""Dice of a method's maps at every threshold, from the counts that the stage `scores` keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.evaluation.histogram import THRESHOLDS, load
from weakseg.evaluation.points import STEP
from weakseg.execution import read_record

SHOWN = THRESHOLDS[::STEP]
"""Thresholds of the curves: those that `val-k` chooses from."""
CURVE = ["dataset", "region", "view", "classifier", "gate", "method", "refinement"]


def threshold_curves(folders: Iterable[Path]) -> pd.DataFrame:
    """A row for each method and refinement: CURVE, and ``dice``, a list of the mean Dice at each of SHOWN.

    Means are over tested cases with a lesion, seeds averaged. Chains that end in `components` are cut before they are
    cleaned, so they share the curve of the chain without.

    Args:
        folders: finished runs of the stage ``scores``.
    """
    rows = [row for folder in folders for row in _of_run(folder)]
    table = pd.DataFrame(rows, columns=[*CURVE, "dice"])
    means = table.groupby(CURVE)["dice"].agg(lambda curves: np.mean(np.stack(list(curves)), axis=0).round(6).tolist())
    return means.reset_index()


def _of_run(folder: Path) -> Iterator[dict[str, Any]]:
    params = read_record(folder)["params"]
    keys, histograms = load(folder / "histograms.parquet")
    for (method, chain), rows in keys[keys["role"] == "test"].groupby(["method", "refinement"]):
        counts = [histograms[place] for place in rows.index if histograms[place].lesion]
        if counts:
            facts = {name: params[name] for name in ("dataset", "region", "view", "classifier", "gate")}
            curve = np.mean([of_map.dice[::STEP] for of_map in counts], axis=0)
            yield {**facts, "method": method, "refinement": chain, "dice": curve}
