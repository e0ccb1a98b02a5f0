"""The leaderboard over everything: one row per method, refinement, gate and operating point."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.protocol import in_order
from weakseg.evaluation.statistics import bootstrap_interval, holm, paired_p
from weakseg.execution import Context, read_record, write_json
from weakseg.randomness import rng
from weakseg.report.tables import write_table

METRICS = ["dice", "iou", "sensitivity", "precision", "hd95_mm"]
SETTING = [name for name in ROW_KEY if name != "method"]
"""Rows with these in common differ in their method alone, so they are compared in pairs."""
FAMILY = ["dataset", "source", "region", "operating_point"]
"""Tests that are adjusted for each other, and rows that are ranked together."""


def run(context: Context) -> None:
    """Write the tables ``leaderboard``, ``comparisons``, ``classifiers`` and ``labels``, and ``metrics.json``."""
    scores = pd.read_parquet(context.folder("collect") / "scores.parquet")
    seed, resamples = context.params["data_seed"], context.params["bootstrap"]
    headline = scores[(scores["role"] == "test") & (scores["lesion_ml"] > 0)]
    comparisons = pd.DataFrame(compare_with_nulls(headline, seed, resamples))
    board = leaderboard(scores, comparisons, seed, resamples)
    classifiers = pd.DataFrame(_classifier_rows(context))
    tables = context.out / "tables"
    write_table(board, tables, "leaderboard", ("csv", "md", "tex"))
    write_table(comparisons, tables, "comparisons", ("csv",))
    write_table(classifiers, tables, "classifiers", ("csv",))
    write_table(pd.DataFrame(_label_rows(context)), tables, "labels", ("csv",))
    write_json(context.out / "metrics.json", _metrics(board, classifiers))
    shown = ["dataset", "seed", "fold", "role", "auc", "sensitivity", "specificity", "best_plain", "best_plain_auc"]
    print(classifiers[shown].to_string(index=False, float_format="%.3f"))


def patient_means(scores: pd.DataFrame, role: str) -> pd.DataFrame:
    """Mean of each metric by row key and patient over lesion-bearing cases: over seeds first, then over visits."""
    chosen = scores[(scores["role"] == role) & (scores["lesion_ml"] > 0)]
    by_case = chosen.groupby([*ROW_KEY, "patient", "case"])[METRICS].mean()
    return by_case.groupby([*ROW_KEY, "patient"]).mean().reset_index()


def leaderboard(scores: pd.DataFrame, comparisons: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """One row per row key over the lesion-bearing cases of the test set, best Dice first at each operating point.

    Means and intervals are over patients. ``n_cases`` counts the cases behind them, ``n_empty`` those with an empty
    prediction in any seed; ``mask_budget`` is the number of masks that the row needed, ``label_budget`` the largest
    number of slice labels that one of its classifiers used, ``anatomy`` the organ masks. Rows of `oracle-set` are upper
    bounds and have no rank. ``dice_shift`` is the Dice on the shift fold; ``false_positive_ml`` is the mean volume
    predicted in lesion-free test cases.
    """
    means = patient_means(scores, "test")
    tested = dict(list(scores[scores["role"] == "test"].groupby(ROW_KEY)))
    shifted = patient_means(scores, "shift").groupby(ROW_KEY)["dice"].agg(["mean", "size"])
    records: list[dict[str, Any]] = []
    for key, rows in means.groupby(ROW_KEY):
        low, high = bootstrap_interval(rows["dice"], rng(seed, "bootstrap", "/".join(key)), resamples)
        detail = tested[key]
        lesion = detail[detail["lesion_ml"] > 0]
        free = detail[detail["lesion_ml"] == 0]
        record = dict(zip(ROW_KEY, key, strict=True))
        record |= {"dice": rows["dice"].mean(), "dice_low": low, "dice_high": high}
        record |= rows[METRICS[1:]].mean().to_dict()
        record |= {
            "n_cases": lesion["case"].nunique(),
            "n_empty": lesion.loc[lesion["predicted_ml"] == 0, "case"].nunique(),
            "n_seeds": detail["seed"].nunique(),
            "mask_budget": detail["mask_budget"].max(),
            "label_budget": detail["label_budget"].max(),
            "anatomy": detail["anatomy"].iloc[0],
            "n_lesion_free": free["case"].nunique(),
            "false_positive_ml": free["predicted_ml"].mean(),
        }
        if key in shifted.index:
            record |= {"dice_shift": shifted.loc[key, "mean"], "n_shift": shifted.loc[key, "size"]}
        records.append(record)
    board = pd.DataFrame(records)
    ranked = board["operating_point"] != "oracle-set"
    rank = board[ranked].groupby(FAMILY)["dice"].rank(ascending=False, method="min")
    board.insert(board.columns.get_loc("label_budget") + 1, "rank", rank.astype("Int64"))
    board = board.merge(_verdicts(comparisons), on=ROW_KEY, how="left")
    order = {point: place for place, point in enumerate(in_order(board["operating_point"]))}
    board["_order"] = board["operating_point"].map(order)
    board = board.sort_values([*FAMILY[:3], "_order", "dice"], ascending=[True] * 4 + [False], kind="stable")
    return board.drop(columns="_order").reset_index(drop=True)


def compare_with_nulls(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """Each method against each null in the same setting: paired differences of Dice over patients.

    Once with the seeds averaged (``seed`` is `all`) and once for each seed. The interval is that of the median.
    """
    for setting, rows in scores.groupby(SETTING):
        for repetition in ["all", *sorted(rows["seed"].unique())]:
            chosen = rows if repetition == "all" else rows[rows["seed"] == repetition]
            dice = chosen.groupby(["patient", "method"])["dice"].mean().unstack()
            for method in (name for name in dice if not catalogue.METHODS[name].null):
                for null in (name for name in dice if catalogue.METHODS[name].null):
                    differences = (dice[method] - dice[null]).to_numpy()
                    name = "/".join([*setting, method, null, str(repetition)])
                    generator = rng(seed, "comparison", name)
                    low, high = bootstrap_interval(differences, generator, resamples, np.median)
                    yield {
                        **dict(zip(SETTING, setting, strict=True)),
                        "method": method,
                        "null": null,
                        "seed": str(repetition),
                        "n_patients": len(differences),
                        "median_difference": float(np.median(differences)),
                        "low": low,
                        "high": high,
                        "p": paired_p(differences),
                    }


def _verdicts(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Does a method beat every null? The largest p over the nulls, by Holm over the rows of its family."""
    if comparisons.empty:
        return pd.DataFrame(columns=[*ROW_KEY, "p_holm", "beats_null"])
    pooled = comparisons[comparisons["seed"] == "all"]
    verdicts = pooled.groupby(ROW_KEY).agg(p=("p", lambda p: p.max(skipna=False)), least=("median_difference", "min"))
    verdicts = verdicts.reset_index()
    verdicts["p_holm"] = verdicts.groupby(FAMILY)["p"].transform(lambda p: holm(p.to_numpy()))
    beats = (verdicts["p_holm"] < 0.05) & (verdicts["least"] > 0)
    verdicts["beats_null"] = beats.map({True: "yes", False: "no"}).where(verdicts["p_holm"].notna(), "not tested")
    return verdicts[[*ROW_KEY, "p_holm", "beats_null"]]


def _classifier_rows(context: Context) -> Iterator[dict[str, Any]]:
    for folder in context.upstream["classifiers"]:
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


def _label_rows(context: Context) -> Iterator[dict[str, Any]]:
    for folder in context.upstream["labels"]:
        yield {"dataset": read_record(folder)["label"], **json.loads((folder / "summary.json").read_text())}


def _metrics(board: pd.DataFrame, classifiers: pd.DataFrame) -> dict[str, Any]:
    """Headline numbers for DVC: Dice by row, AUC by data set, both on the test set."""
    dice = {"/".join(row[name] for name in ROW_KEY): round(float(row["dice"]), 6) for _, row in board.iterrows()}
    tested = classifiers[classifiers["role"] == "test"]
    return {"dice": dice, "slice_auc": tested.groupby("dataset")["auc"].mean().round(6).to_dict()}
