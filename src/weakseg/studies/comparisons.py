"""Methods against each other in pairs, and whether one beats every null."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.protocol import RAW
from weakseg.evaluation.statistics import bootstrap, holm, paired_p, percentile_interval, rank_biserial
from weakseg.evaluation.summary import FAMILY, SETTING, UPPER_BOUND
from weakseg.randomness import rng


def compare_with_nulls(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """Each method against each null in the same setting: paired differences of Dice over patients.

    A null that a refinement was not run on is taken as it is, without any.

    Args:
        scores: of tested cases with a lesion.
        seed: data seed.
        resamples: of patients.

    Yields:
        Rows of :func:`compare` with the ``null``.
    """
    nulls_of = {setting: rows[_is_null(rows)] for setting, rows in scores.groupby(SETTING)}
    for setting, of_setting in scores.groupby(SETTING):
        raw = nulls_of.get(
            tuple(RAW if name == "refinement" else value for name, value in zip(SETTING, setting, strict=True))
        )
        missing = [] if raw is None else [raw[~raw["method"].isin(of_setting["method"])]]
        rows = pd.concat([of_setting, *missing], ignore_index=True)
        found = rows["method"].unique()
        methods = sorted(name for name in found if not catalogue.METHODS[name].null)
        nulls = sorted(name for name in found if catalogue.METHODS[name].null)
        for row in compare(rows, product(methods, nulls), "/".join(setting), seed, resamples):
            method, null = row.pop("method"), row.pop("other")
            yield {**dict(zip(SETTING, setting, strict=True)), "method": method, "null": null, **row}


PAIRED = [*SETTING, "method", "other", "n_patients", "median_difference", "low", "high", "p", "effect", "p_holm"]
"""Columns of ``pairs.csv``."""


def compare_in_pairs(
    scores: pd.DataFrame, methods: Collection[str], seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    """Some methods against every other one in the same setting: paired differences of Dice over patients.

    Seeds are averaged; a method with fewer seeds has fewer in its mean.

    Args:
        scores: of tested cases with a lesion.
        methods: names; those without a row are left out.
        seed: data seed.
        resamples: of patients.

    Yields:
        Rows of :func:`compare` with ``p_holm``, by Holm over the others of a method in its setting.
    """
    for setting, rows in scores.groupby(SETTING):
        found = sorted(rows["method"].unique())
        for method in (name for name in found if name in methods):
            pairs = [(method, other) for other in found if other != method]
            compared = list(_compare_together(rows, pairs, ("/".join(setting), "all"), seed, resamples))
            adjusted = holm([row["p"] for row in compared])
            for row, p_holm in zip(compared, adjusted, strict=True):
                yield {**dict(zip(SETTING, setting, strict=True)), **row, "p_holm": p_holm}


def _is_null(rows: pd.DataFrame) -> pd.Series:
    return rows["method"].map(lambda name: catalogue.METHODS[name].null)


def compare(
    rows: pd.DataFrame, pairs: Iterable[tuple[str, str]], name: str, seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    """Pairs of methods in one setting: paired differences of Dice over patients, the first less the second.

    Once with the seeds averaged (``seed`` is `all`) and once for each seed. The interval is that of the median;
    ``effect`` is the rank-biserial correlation in [-1, 1], 1 if the first method is better in every patient.

    Args:
        rows: of tested cases with a lesion, one for each method, case and seed.
        pairs: names of methods.
        name: of the setting, from which resamples are drawn.
        seed: data seed.
        resamples: of patients.
    """
    pairs = list(pairs)
    for repetition in ["all", *sorted(rows["seed"].unique())]:
        chosen = rows if repetition == "all" else rows[rows["seed"] == repetition]
        for row in _compare_together(chosen, pairs, (name, str(repetition)), seed, resamples):
            first = {"method": row.pop("method"), "other": row.pop("other"), "seed": str(repetition)}
            yield {**first, **row}


def _compare_together(
    rows: pd.DataFrame, pairs: Iterable[tuple[str, str]], names: tuple[str, str], seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    """Pairs of methods, with what seeds the rows have averaged; resamples are drawn from the two names."""
    by_case = rows.groupby(["patient", "case", "method"])["dice"].mean()
    dice = by_case.groupby(["patient", "method"]).mean().unstack()
    found = [pair for pair in pairs if set(pair) <= set(dice)]
    if not found:
        return
    firsts, others = (dice[[pair[side] for pair in found]].to_numpy() for side in (0, 1))
    # Rounded, so that patients whose scores are equal but for the order of a sum are equal.
    differences = np.round(firsts - others, 12)
    setting, repetition = names
    resampled = [
        bootstrap(of_pair, rng(seed, "comparison", "/".join([setting, *pair, repetition])), resamples, np.median)
        for pair, of_pair in zip(found, differences.T, strict=True)
    ]
    measures = {
        "median_difference": np.median(differences, axis=0),
        **dict(zip(("low", "high"), percentile_interval(np.stack(resampled)), strict=True)),
        "p": paired_p(differences),
        "effect": rank_biserial(differences),
    }
    for place, (method, other) in enumerate(found):
        of_pair = {measure: float(values[place]) for measure, values in measures.items()}
        yield {"method": method, "other": other, "n_patients": len(differences), **of_pair}


def verdicts(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Does a method beat every null? The largest p over the nulls, by Holm over the rows of its family.

    The upper bound is no contender and has no verdict.

    Returns:
        A row per row key of a method: ``effect`` against the null that it is least above, ``p_holm`` in [0, 1], and
        ``beats_null``, `yes`, `no`, or `not tested` where there are too few patients.
    """
    columns = [*ROW_KEY, "effect", "p_holm", "beats_null"]
    if comparisons.empty:
        return pd.DataFrame(columns=columns)
    pooled = comparisons[(comparisons["seed"] == "all") & (comparisons["operating_point"] != UPPER_BOUND)]
    judged = pooled.groupby(ROW_KEY).agg(
        p=("p", lambda p: p.max(skipna=False)), least=("median_difference", "min"), effect=("effect", "min")
    )
    judged = judged.reset_index()
    judged["p_holm"] = judged.groupby(FAMILY)["p"].transform(lambda p: holm(p.to_numpy()))
    beats = (judged["p_holm"] < 0.05) & (judged["least"] > 0)
    judged["beats_null"] = beats.map({True: "yes", False: "no"}).where(judged["p_holm"].notna(), "not tested")
    return judged[columns]
