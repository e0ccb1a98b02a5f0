"""How far a difference on the leaderboard can be trusted: all at the headline, on Dice, one family per data set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.ranking import SCHEMES, agreement, rankings
from weakseg.evaluation.statistics import (
    FEWEST_PATIENTS,
    friedman_p,
    minimum_detectable_difference,
    variance_components,
)
from weakseg.evaluation.summary import CONTENDER, FAMILY, at_headline, lesion_bearing, patient_means
from weakseg.randomness import rng

SEPARATOR = "/"


def dice_by_family(scores: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Each family at its headline, and Dice by patient (rows) and contender (columns, its names joined)."""
    means = patient_means(at_headline(scores), "test", ["dice"])
    means["row"] = means[CONTENDER].agg(SEPARATOR.join, axis=1)
    for family, rows in means.groupby(FAMILY):
        yield family, rows.pivot(index="patient", columns="row", values="dice")


def ranks(scores: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """A row per family, scheme and contender: ``rank`` with its interval over patients; best first.

    The test-based scheme is NaN with fewer than ten patients.
    """
    tables = []
    for family, dice in dice_by_family(scores):
        table = rankings(dice, rng(seed, "ranks", SEPARATOR.join(family)), resamples)
        names = table.pop("method").str.split(SEPARATOR, expand=True).set_axis(CONTENDER, axis=1)
        keys = pd.DataFrame([family] * len(table), columns=FAMILY)
        tables.append(pd.concat([keys, names, table], axis=1))
    together = pd.concat(tables, ignore_index=True)
    order = together["scheme"].map({scheme: place for place, scheme in enumerate(SCHEMES)})
    by = [*FAMILY, "order", "rank", *CONTENDER]
    return together.assign(order=order).sort_values(by, ignore_index=True).drop(columns="order")


def family_statistics(scores: pd.DataFrame, ranked: pd.DataFrame) -> pd.DataFrame:
    """A row per family: is there any difference, do ranking schemes agree, and what could be found at all?

    ``friedman_p`` (NaN under ten patients); Kendall's W of the schemes and tau of each two of them;
    ``detectable_median`` and ``detectable_largest``, the minimum detectable difference of Dice of a paired test
    (alpha 0.05 before any adjustment, power 0.8) for the standard deviations of all pairs of contenders.

    Args:
        scores: the long table.
        ranked: of :func:`ranks`.
    """
    of_family = dict(list(ranked.groupby(FAMILY)))
    return pd.DataFrame(_statistics(family, dice, of_family[family]) for family, dice in dice_by_family(scores))


def _statistics(family: tuple[str, ...], dice: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, Any]:
    schemes = ranked.pivot(index=CONTENDER, columns="scheme", values="rank")[list(SCHEMES)]
    tau, w = agreement(schemes.dropna(axis=1))
    record: dict[str, Any] = dict(zip(FAMILY, family, strict=True))
    record |= {"n_patients": len(dice), "n_rows": dice.shape[1], "tested": "yes" if _enough(dice) else "no"}
    record |= {"friedman_p": friedman_p(dice.round(12)) if dice.shape[1] > 2 else float("nan"), "kendall_w": w}
    pairs = list(combinations(SCHEMES, 2))
    known = tau.reindex(index=SCHEMES, columns=SCHEMES)
    record |= {f"tau_{first}_{second}": known.loc[first, second] for first, second in pairs}
    spreads = [(dice[first] - dice[second]).std() for first, second in combinations(dice, 2)]
    for name, spread in (("median", np.median(spreads)), ("largest", np.max(spreads))):
        detectable = minimum_detectable_difference(float(spread), len(dice)) if _enough(dice) else float("nan")
        record[f"detectable_{name}"] = detectable
    return record


def _enough(dice: pd.DataFrame) -> bool:
    return len(dice) >= FEWEST_PATIENTS


def variances(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per row key at the headline: the variance of Dice by case, seed and draw of masks, and what is left.

    It is that of a single case, seed and draw; NaN for what there is only one of.
    """
    tested = lesion_bearing(at_headline(scores), "test")
    records = []
    for key, rows in tested.groupby(ROW_KEY):
        drawn = rows.set_index(["case", "seed"])["dice_by_draw"].map(enumerate).map(list).explode()
        draws, dice = zip(*drawn, strict=True)
        values = pd.Series(dice, drawn.index, dtype=float).to_frame("dice").assign(draw=draws)
        parts = variance_components(values.set_index("draw", append=True)["dice"])
        counts = {f"n_{name}s": values.reset_index()[name].nunique() for name in ("case", "seed", "draw")}
        named = {f"variance_{name}": value for name, value in parts.items()}
        records.append({**dict(zip(ROW_KEY, key, strict=True)), **counts, **named})
    return pd.DataFrame(records)


def cases_of_small_families(scores: pd.DataFrame) -> pd.DataFrame:
    """Dice of each case, seeds averaged, in families with too few patients for a test; no rows if there are none."""
    tested = lesion_bearing(at_headline(scores), "test")
    patients = tested.groupby(FAMILY)["patient"].transform("nunique")
    columns = [*ROW_KEY, "patient", "case", "lesion_ml"]
    return tested[patients < FEWEST_PATIENTS].groupby(columns)["dice"].mean().reset_index()
