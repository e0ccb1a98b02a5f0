"""How methods fail: every tested case is told by a rule, and the worst ones are listed with the reason."""

from __future__ import annotations

import pandas as pd

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.protocol import RAW
from weakseg.evaluation.summary import REFERENCE_POINT, at_headline, lesion_bearing, supervised, weak

FOUND = 0.5
"""Sensitivity and precision from which on a lesion counts as found, and as the greater part of what is predicted."""
BESIDE = 0.1
"""Sensitivity under which a prediction passes the lesion by."""
LITTLE = 0.5
"""Share of the lesion's volume under which such a prediction is none, rather than one elsewhere."""
WORST = 3
"""Cases of each method that are listed."""

KINDS = {
    "missed": "hardly anything predicted",
    "wrong place": "predicted beside the lesion",
    "over-segmented": "lesion found, but most of the mask lies outside",
    "under-segmented": "mask inside, but most of the lesion is left out",
    "partly off": "overlaps, but most of both lies outside of the other",
    "found": "most of the lesion, and most of the mask in it",
}
"""By name, worst first."""

METHOD = [name for name in ROW_KEY if name != "refinement"]
MEANS = ["dice", "sensitivity", "precision", "lesion_ml", "predicted_ml", "threshold"]
COLUMNS = [*ROW_KEY, "place", "case", "reason", *MEANS]


def reason(sensitivity: float, precision: float, lesion_ml: float, predicted_ml: float) -> str:
    """One of KINDS for a prediction of a case with a lesion.

    Args:
        sensitivity, precision: in [0, 1], 0 for an empty prediction.
        lesion_ml, predicted_ml: volumes.
    """
    if sensitivity < BESIDE:
        return "missed" if predicted_ml < LITTLE * lesion_ml else "wrong place"
    if sensitivity >= FOUND:
        return "found" if precision >= FOUND else "over-segmented"
    return "under-segmented" if precision >= FOUND else "partly off"


def told(scores: pd.DataFrame) -> pd.DataFrame:
    """Every tested case with a lesion at the headline, of maps as they are and of references: MEANS and ``reason``.

    Means are over seeds, and at `val-k` over draws.

    Args:
        scores: the long table.
    """
    maps, references = weak(scores), scores[supervised(scores)]
    shown = [
        at_headline(maps[maps["refinement"] == RAW]) if len(maps) else maps,
        references[references["operating_point"] == REFERENCE_POINT],
    ]
    tested = lesion_bearing(pd.concat(shown), "test")
    cases = tested.groupby([*ROW_KEY, "case"])[MEANS].mean().reset_index()
    given = cases[["sensitivity", "precision", "lesion_ml", "predicted_ml"]].itertuples(index=False, name=None)
    return cases.assign(reason=[reason(*values) for values in given])


def worst(cases: pd.DataFrame) -> pd.DataFrame:
    """The WORST cases of each method, the worst first, as ``place`` says.

    Args:
        cases: of :func:`told`.
    """
    ordered = cases.sort_values([*ROW_KEY, "dice", "case"], ignore_index=True)
    place = ordered.groupby(ROW_KEY).cumcount() + 1
    return ordered.assign(place=place)[place <= WORST][COLUMNS].reset_index(drop=True)


def shares(cases: pd.DataFrame) -> pd.DataFrame:
    """How many cases of each method fail in which way: a row per method, ``n_cases`` and a column for each of KINDS.

    Args:
        cases: of :func:`told`.
    """
    counts = cases.groupby([*METHOD, "reason"]).size().unstack(fill_value=0).reindex(columns=list(KINDS), fill_value=0)
    dice = cases.groupby(METHOD)["dice"].mean()
    table = pd.concat([dice, counts.sum(axis=1).rename("n_cases"), counts], axis=1).reset_index()
    return table.rename_axis(columns=None)
