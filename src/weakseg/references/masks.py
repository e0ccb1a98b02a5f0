"""Whose masks a reference may see: decided from the index and the labels, before any mask is opened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.evaluation.points import draw_validation
from weakseg.evaluation.protocol import val_point

OPENED = "opened.json"
"""The file of a run that names the cases whose masks each method opened."""


@dataclass(frozen=True)
class Allowed:
    """Cases whose masks a reference may open: to learn from, and to choose its checkpoint."""

    train: list[str]
    val: list[str]


def allowed(
    method: dict[str, Any], cases: pd.DataFrame, labels: pd.DataFrame, fold: int, draw: int, data_seed: int
) -> Allowed | str:
    """Whose masks a reference may open in a fold.

    With ``k``, those of the k validation patients that a draw takes for the operating point `val-k` too: all of them
    are learnt from, and none is left to choose by. Without it, training masks to learn from and validation masks to
    choose by, unless it says that it does not (``validates``).

    Args:
        method: parameters of the reference.
        cases: of the index, by case.
        labels: slice labels, which say who has a lesion.
        fold: number of the fold.
        draw: number of the draw.
        data_seed: of the data set.

    Returns:
        The cases; or why the data set is too small, in any of its folds.
    """
    roles = cases[f"role_f{fold}"]
    k = method.get("k")
    if k is None:
        train, val = (sorted(cases.index[roles == role]) for role in ("train", "val"))
        return Allowed(train, val if method.get("validates", True) else [])
    folds = range(sum(column.startswith("role_f") for column in cases))
    draws, too_large = draw_validation(cases, labels, folds, [k], draw + 1, data_seed)
    if too_large:
        return too_large[val_point(k)]
    return Allowed(sorted(draws[fold][val_point(k)][draw]), [])


def masks_by_method(folder: Path) -> dict[str, list[str]]:
    """The cases whose masks each method of a finished run opened; methods that were left out are not there."""
    found: dict[str, list[str]] = json.loads((folder / OPENED).read_text())
    return found
