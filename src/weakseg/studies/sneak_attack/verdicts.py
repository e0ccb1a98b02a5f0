"""What the study may conclude, by rules that were written down before any result was seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

MARGIN = 0.02
"""How much below the original's AUC that of the truth filter may lie."""


def verdicts(aucs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The verdicts on one architecture: ``claim``, ``method``, ``verdict`` (yes or no) and ``because``, the numbers.

    - Predictions depend mainly on the lesion, if AUC(truth) >= AUC(original) - :data:`MARGIN` and AUC(inverse truth) is
      below AUC(inverse area-matched random), their intervals apart.
    - Dark regions of a method's heat maps contribute, if AUC(inverse heat map) is above 0.5 (its interval too) and
      above the classifier that is shown the filter alone (so is the interval of the paired difference).

    The first rule does not ask what the truth filter adds to its shape alone; ``caution`` says so if that is nothing.

    Args:
        aucs: indexed by (filter, kept): ``auc``, ``low``, ``high`` of the image behind the filter; ``alone`` of the
            filter alone; ``added``, ``added_low``, ``added_high`` of the difference between the two.
    """
    original, truth = aucs.loc[("foreground", "hard")], aucs.loc[("truth", "hard")]
    without, control = aucs.loc[("truth", "inverse")], aucs.loc[("truth-area", "inverse")]
    depends = truth["auc"] >= original["auc"] - MARGIN and without["high"] < control["low"]
    yield {
        "claim": "predictions depend mainly on the lesion",
        "method": "",
        "verdict": _word(depends),
        "because": f"truth {truth['auc']:.3f}, original {original['auc']:.3f} (margin {MARGIN}); "
        f"inverse truth {_interval(without)}, inverse area-matched random {_interval(control)}",
        "caution": _caution(truth, "truth"),
    }
    # Heat maps alone have soft filters.
    for method in (name for name, kept in aucs.index if kept == "soft"):
        dark = aucs.loc[(method, "inverse")]
        contributes = dark["low"] > 0.5 and dark["added_low"] > 0
        yield {
            "claim": "dark regions of heat maps contribute",
            "method": method,
            "verdict": _word(contributes),
            "because": f"inverse heat map {_interval(dark)}, filter alone {dark['alone']:.3f}, "
            f"added {dark['added']:.3f} ({dark['added_low']:.3f} to {dark['added_high']:.3f})",
            "caution": "",
        }


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def _interval(row: pd.Series) -> str:
    return f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _caution(row: pd.Series, name: str) -> str:
    return "" if row["added_low"] > 0 else f"the {name} filter alone reaches {row['alone']:.3f}: it adds nothing"
