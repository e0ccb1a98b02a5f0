"""How good classifiers are, as tables say it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from weakseg.execution import read_record


def classifier_rows(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """A row for each classifier and role: AUC, sensitivity, specificity, and the best plain statistic.

    Args:
        folders: finished runs of classifiers.
    """
    for folder in folders:
        record = read_record(folder)
        metrics = json.loads((folder / "metrics.json").read_text())
        dataset, view, classifier = record["label"].split("-")[:3]
        for role, values in metrics["roles"].items():
            plain = values.pop("plain_auc")
            best = max(plain, key=plain.get)
            yield {
                "dataset": dataset,
                "view": view,
                "classifier": classifier,
                "seed": record["params"]["seed"],
                "fold": record["params"]["fold"],
                "role": role,
                **values,
                "threshold": metrics["threshold"],
                "best_plain": best,
                "best_plain_auc": plain[best],
                **{f"plain_{name}": value for name, value in plain.items()},
            }
