"""What a lesion must be like to be found: Dice against its volume and contrast, and where methods pass the nulls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from weakseg import catalogue
from weakseg.evaluation.protocol import RAW
from weakseg.evaluation.summary import GROUP, at_headline, lesion_bearing, weak

WINDOW = 5
"""Neighbouring cases of which a curve shows the mean."""
CAUSES = {"lesion_ml": "lesion's volume (ml)", "contrast": "lesion's contrast (standard deviations)"}
"""What Dice is shown against."""
PANEL = [*GROUP, "view", "classifier", "gate", "operating_point"]


def responding(scores: pd.DataFrame, contrast: pd.DataFrame) -> pd.DataFrame:
    """Dice of each tested case with a lesion, by maps as they are, at the headline, seeds averaged.

    Args:
        scores: the long table.
        contrast: by ``dataset`` and ``case``.

    Returns:
        PANEL, ``method``, ``case``, ``dice`` and CAUSES.
    """
    maps = weak(scores)
    tested = lesion_bearing(at_headline(maps[maps["refinement"] == RAW]), "test")
    dice = tested.groupby([*PANEL, "method", "case"])[["dice", "lesion_ml"]].mean().reset_index()
    return dice.merge(contrast, on=["dataset", "case"], how="left")


def running(cause: pd.Series, dice: pd.Series) -> tuple[NDArray, NDArray]:
    """Means of both over WINDOW neighbouring cases, ordered by the cause; of all if there are fewer."""
    order = np.argsort(cause.to_numpy(), kind="stable")
    window = min(WINDOW, len(order))
    ones = np.ones(window) / window
    means = (np.convolve(values.to_numpy(float)[order], ones, "valid") for values in (cause, dice))
    return next(means), next(means)


def best_null(rows: pd.DataFrame) -> str | None:
    """The null with the highest mean Dice in a panel."""
    nulls = rows[rows["method"].map(lambda name: catalogue.METHODS[name].null)]
    return None if nulls.empty else str(nulls.groupby("method")["dice"].mean().idxmax())


def responses(cases: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and cause: how Dice goes with it, and from where on the method is above the best null.

    ``spearman`` is over cases, in [-1, 1]. ``above_from`` is the cause from which on the running mean of Dice is above
    that of the best null up to the largest lesions, or strongest contrasts; empty if it is not there.

    Args:
        cases: of :func:`responding`.
    """
    return pd.DataFrame(
        [row for key, rows in cases.groupby(PANEL) for row in _rows(dict(zip(PANEL, key, strict=True)), rows)],
        columns=[*PANEL, "method", "against", "n_cases", "spearman", "null", "above_from"],
    )


def _rows(key: dict[str, Any], rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    null = best_null(rows)
    for cause in CAUSES:
        known = rows.dropna(subset=[cause])
        dice = known.pivot(index="case", columns="method", values="dice")
        values = known.drop_duplicates("case").set_index("case")[cause].reindex(dice.index)
        for method in dice:
            varied = len(dice) > 2 and values.nunique() > 1 and dice[method].nunique() > 1
            yield {
                **key,
                "method": method,
                "against": cause,
                "n_cases": len(dice),
                "spearman": float(spearmanr(values, dice[method]).statistic) if varied else float("nan"),
                "null": null,
                "above_from": None if null in (None, method) else _above_from(values, dice[method] - dice[null]),
            }


def _above_from(cause: pd.Series, difference: pd.Series) -> float | None:
    places, means = running(cause, difference)
    # Rounded, so that equal means are equal but for the order of a sum.
    below = np.flatnonzero(np.round(means, 12) <= 0)
    first = int(below[-1]) + 1 if len(below) else 0
    return float(places[first]) if first < len(places) else None
