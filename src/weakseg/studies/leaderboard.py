"""The leaderboard over everything: one row per method, refinement, gate and operating point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.protocol import in_order
from weakseg.evaluation.records import FILE, read_records
from weakseg.evaluation.statistics import mean_intervals
from weakseg.evaluation.summary import (
    FAMILY,
    GROUP,
    REFERENCE_POINT,
    UPPER_BOUND,
    headline_point,
    lesion_bearing,
    patient_means,
    supervised,
    weak,
)
from weakseg.execution import Context, write_json
from weakseg.randomness import rng
from weakseg.report.board import write_board
from weakseg.report.tables import write_table
from weakseg.runs import TABLE_FORMATS
from weakseg.studies.comparisons import PAIRED, compare_in_pairs, compare_with_nulls, verdicts
from weakseg.studies.failures import shares, told, worst
from weakseg.studies.k_curve import k_curve
from weakseg.studies.responses import responding, responses
from weakseg.studies.spread import cases_of_small_families, family_statistics, ranks, variances


def run(context: Context) -> None:
    """Write the tables of the benchmark and ``metrics.json``."""
    write(context.folder("collect"), context.params, context.out)


def write(collected: Path, params: dict[str, Any], out: Path) -> None:
    """Write the same to a folder, given the one with ``scores.parquet`` and ``records.json``."""
    scores, records = pd.read_parquet(collected / "scores.parquet"), read_records(collected / FILE)
    seed, resamples = params["data_seed"], params["bootstrap"]
    maps = weak(scores)
    tested = lesion_bearing(maps, "test")
    comparisons = pd.DataFrame(compare_with_nulls(tested, seed, resamples))
    board = leaderboard(scores, comparisons, seed, resamples)
    ranked = ranks(maps, seed, resamples)
    classifiers = records["classifiers"]
    failed = told(scores)
    read = {
        "failures": shares(failed),
        "failures_worst": worst(failed),
        "responses": responses(responding(scores, records["contrast"])),
        "statistics": family_statistics(maps, ranked),
        "classifiers": classifiers,
        "labels": records["labels"],
        "left_out": records["left_out"],
        "k_curve": k_curve(board),
    }
    long = {
        "leaderboard": board,
        "comparisons": comparisons,
        "pairs": pd.DataFrame(compare_in_pairs(tested, params["pairs"], seed, resamples), columns=PAIRED),
        "ranks": ranked,
        "variances": variances(maps),
        "small_families": cases_of_small_families(maps),
    }
    for tables, formats in ((read, TABLE_FORMATS), (long, ("csv",))):
        for name, table in tables.items():
            write_table(table, out / "tables", name, formats)
    write_board(board, out / "tables")
    write_json(out / "metrics.json", _metrics(board, classifiers))
    shown = [
        "dataset",
        "view",
        "seed",
        "fold",
        "role",
        "auc",
        "sensitivity",
        "specificity",
        "best_plain",
        "best_plain_auc",
    ]
    print(classifiers[shown].to_string(index=False, float_format="%.3f"))


def leaderboard(scores: pd.DataFrame, comparisons: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """One row per row key over the test set: the headline of its data set first, best Dice first at each point.

    ``headline`` is `yes` at that point. Means and intervals (``_low``, ``_high``) of all metrics are over the patients
    with a lesion; ``recall_<band>_ml`` is the share of all lesions of a volume that are found. ``n_cases`` counts the
    cases behind them, ``n_empty`` those with an empty prediction in any seed. ``mask_budget`` is the number of masks
    that the row needed, ``label_budget`` the largest number of labels (of slices, or grades) that one of its
    classifiers used, ``anatomy`` the organ masks. Rows of `oracle-set` are upper bounds and have no rank. Supervised
    references have none either, and no verdict; their headline is `fixed`, and they come last.
    ``dice_shift`` is the Dice on the shift fold. ``lesion_free_ml`` and ``lesion_free_touched`` are the mean volume
    predicted in lesion-free cases, and the share of their slices with any.
    """
    board = pd.DataFrame(_row(key, rows) for key, rows in scores[scores["role"] == "test"].groupby(ROW_KEY))
    board = board.merge(_means(patient_means(scores, "test", [*SCORES, "prevalence"]), seed, resamples), on=ROW_KEY)
    shifted = patient_means(scores, "shift", ["dice"])
    if len(shifted):
        of_shift = shifted.groupby(ROW_KEY)["dice"].agg(dice_shift="mean", n_shift="size")
        board = board.merge(of_shift.reset_index(), on=ROW_KEY, how="left")
    reference, maps = supervised(board), weak(board)
    headline = maps.groupby(GROUP)["operating_point"].transform(headline_point) == maps["operating_point"]
    headline = headline.reindex(board.index, fill_value=False) | (
        reference & (board["operating_point"] == REFERENCE_POINT)
    )
    board.insert(len(ROW_KEY), "headline", headline.map({True: "yes", False: "no"}))
    rank = maps[maps["operating_point"] != UPPER_BOUND].groupby(FAMILY)["dice"].rank(ascending=False, method="min")
    board.insert(len(ROW_KEY) + 1, "rank", rank.astype("Int64"))
    board = board.merge(verdicts(comparisons), on=ROW_KEY, how="left")
    # References stand together, behind all maps.
    place = {point: number for number, point in enumerate(in_order(board["operating_point"]))}
    # Merging keeps the order, not the index.
    headline, reference = board["headline"] == "yes", supervised(board)
    board["_place"] = board["operating_point"].map(place).where(~headline, -1).where(~reference, len(place))
    board = board.sort_values([*GROUP, "_place", "dice"], ascending=[True] * 4 + [False], kind="stable")
    return board.drop(columns="_place").reset_index(drop=True)


def _row(key: tuple[str, ...], rows: pd.DataFrame) -> dict[str, Any]:
    """Counts and budgets of a row key, and what was predicted in its lesion-free cases."""
    lesion, free = rows[rows["lesion_ml"] > 0], rows[rows["lesion_ml"] == 0]
    bands = [name.removeprefix("lesions_") for name in rows if name.startswith("lesions_")]
    # No lesions of a volume: no recall.
    number = {band: lesion[f"lesions_{band}"].sum() or float("nan") for band in bands}
    return {
        **dict(zip(ROW_KEY, key, strict=True)),
        "n_cases": lesion["case"].nunique(),
        "n_empty": lesion.loc[lesion["predicted_ml"] == 0, "case"].nunique(),
        "n_seeds": rows["seed"].nunique(),
        "mask_budget": rows["mask_budget"].max(),
        "label_budget": rows["label_budget"].max(),
        "anatomy": rows["anatomy"].iloc[0],
        **{f"recall_{band}": lesion[f"found_{band}"].sum() / number[band] for band in bands},
        "n_lesion_free": free["case"].nunique(),
        "lesion_free_ml": free["predicted_ml"].mean(),
        "lesion_free_touched": free["share_touched"].mean(),
    }


def _means(patients: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """Mean of each metric by row key with its interval; of a data set, all rows share their resamples."""
    tables = []
    for group, of_group in patients.groupby(GROUP):
        columns = []
        for metric in [*SCORES, "prevalence"]:
            # A gap comes from the patient's truth (no lesion-free slice, no lesion in the foreground): in all rows.
            by_row = of_group.pivot(index="patient", columns=ROW_KEY, values=metric).dropna()
            if by_row.empty:
                continue
            found = mean_intervals(by_row, rng(seed, "bootstrap", "/".join([*group, metric])), resamples)
            columns.append(found.set_axis([metric, f"{metric}_low", f"{metric}_high"], axis=1))
        tables.append(pd.concat(columns, axis=1).reset_index())
    return pd.concat(tables, ignore_index=True).drop(columns=["prevalence_low", "prevalence_high"])


def _metrics(board: pd.DataFrame, classifiers: pd.DataFrame) -> dict[str, Any]:
    """Headline numbers for DVC: Dice by row, AUC by view and data set, both on the test set."""
    dice = {"/".join(row[name] for name in ROW_KEY): round(float(row["dice"]), 6) for _, row in board.iterrows()}
    tested = classifiers[classifiers["role"] == "test"]
    by_view = {
        f"{view}_auc": rows.groupby("dataset")["auc"].mean().round(6).to_dict() for view, rows in tested.groupby("view")
    }
    return {"dice": dice, **by_view}
