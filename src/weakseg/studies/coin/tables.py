"""The study's tables: methods as in the paper's Table 1, rows as in its Table 3, differences, rank correlations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from weakseg import catalogue
from weakseg.counterfactual.variants import Variant
from weakseg.evaluation.protocol import PAPER
from weakseg.evaluation.statistics import resample_counts
from weakseg.evaluation.summary import lesion_bearing
from weakseg.execution import Context
from weakseg.randomness import rng
from weakseg.report.tables import write_table
from weakseg.studies.coin.figure import draw_counterfactuals, draw_training
from weakseg.studies.coin.paper import NOT_COMPARABLE, TABLE_1, TABLE_3, Reported
from weakseg.studies.coin.readout import read_out
from weakseg.studies.comparisons import compare

PLACE = ["part", "table", "row", "method"]
"""What tells the study's maps apart."""
OF_TABLE_1 = {"H": "singla", "COIN": "coin"}
"""The rows of Table 3 that stand in Table 1 as well."""
OTHERS = ("singla", "rise", "scorecam", "layercam", "intensity")
"""What COIN is compared with."""
MEASURED = [
    "validity_classifier",
    "validity_evaluator",
    "validity_evaluator_displaced",
    "validity_evaluator_blur",
    "validity_evaluator_normal",
    "share_inside",
    "share_displaced",
    "share_blur",
    "over_displaced_low",
    "over_blur_low",
    "size_inside",
    "size_outside",
    "normal_size",
    "fid_paper",
    "fid_normal",
    "kid_normal",
    "kid_floor",
]
"""Columns of the stage ``counterfactuals`` that the tables show."""


def run(context: Context) -> None:
    """Write the tables ``coin``, ``coin_rows``, ``coin_differences``, ``coin_ranks`` and two figures.

    What each holds: ``docs/explanation/studies.md``.
    """
    params = context.params
    scores, metrics = (_placed(context, role) for role in ("scores", "counterfactuals"))
    readouts = _readouts(context)
    tested = lesion_bearing(scores, "test")
    board = pd.DataFrame(_rows(readouts, tested, params["data_seed"], params["bootstrap"]))
    board = board.merge(metrics[[*PLACE, *MEASURED]], on=PLACE, how="left")
    source = "/".join(sorted(scores["source"].unique()))
    tables = {
        "coin": _table_1(board),
        "coin_rows": _table_3(board, params["entries"]),
        "coin_differences": pd.DataFrame(_differences(tested, params["data_seed"], params["bootstrap"])),
        "coin_ranks": pd.DataFrame(_ranks(readouts, tested, params["data_seed"], params["bootstrap"])),
    }
    for name, table in tables.items():
        write_table(table.assign(source=source), context.out / "tables", name)
    learnt = [entry for entry in params["entries"] if entry["methods"]]
    draw_training(learnt, context.upstream["fitted"], context.out / "figures" / "coin_training")
    draw_counterfactuals(context, readouts, source, context.out / "figures" / "coin")
    print(tables["coin"].to_string(index=False))


def _readouts(context: Context) -> pd.DataFrame:
    """The maps of all entries, cut as in the paper."""
    folders = iter(context.upstream["maps"])
    entries = [{**entry, "folders": list(islice(folders, entry["maps"]))} for entry in context.params["entries"]]
    parts = context.params["parts"]
    of_parts = [read_out(context, part, [entry for entry in entries if entry["part"] == part]) for part in parts]
    return pd.concat(of_parts, ignore_index=True)


def _placed(context: Context, role: str) -> pd.DataFrame:
    """The tables of all runs of a role, with the entry that each belongs to."""
    learnt = role == "counterfactuals"
    entries = [entry for entry in context.params["entries"] if entry["methods"] or not learnt]
    frames = []
    for entry, folder in zip(entries, context.upstream[role], strict=True):
        frame = pd.read_csv(folder / "metrics.csv") if learnt else pd.read_parquet(folder / "scores.parquet")
        frames.append(frame.assign(part=entry["part"], table=entry["table"], row=entry["row"]))
    return pd.concat(frames, ignore_index=True)


def _rows(readouts: pd.DataFrame, tested: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """Per place: IoU at the paper's readout, of all pixels together with its interval and per case, and our Dice."""
    for place, rows in readouts.groupby(PLACE, sort=False):
        patients = _pixels(rows)
        counts = resample_counts(len(patients), rng(seed, "bootstrap", "coin"), resamples)
        low, high = np.percentile(iou(counts @ patients), [2.5, 97.5])
        by_case = rows.groupby("case")[["both", "predicted", "lesion"]].sum().to_numpy()
        record = dict(zip(PLACE, place, strict=True))
        record |= {"iou_micro": float(iou(patients.sum(axis=0))), "iou_micro_low": low, "iou_micro_high": high}
        record |= {"iou_case": float(np.mean(iou(by_case))), "n_patients": len(patients)}
        of_place = tested[(tested[PLACE] == list(place)).all(axis=1)]
        for point, at_point in of_place.groupby("operating_point", sort=False):
            record[f"dice_{point}"] = at_point.groupby("patient")["dice"].mean().mean()
        yield record


def _pixels(rows: pd.DataFrame) -> NDArray:
    """Pixels of each patient, (patients, 3): in both, in the mask, in the lesion."""
    return rows.groupby("patient")[["both", "predicted", "lesion"]].sum().sort_index().to_numpy(float)


def iou(pixels: NDArray) -> NDArray:
    """IoU of counts (..., 3) of pixels in both, in the mask, in the lesion; 0 where there are none."""
    both, predicted, lesion = np.moveaxis(np.asarray(pixels, float), -1, 0)
    union = predicted + lesion - both
    return np.divide(both, union, out=np.zeros_like(union), where=union > 0)


def _reported(reported: Reported | None) -> dict[str, float | None]:
    fid, validity, overlap = reported or (None, None, None)
    return {"published_fid": fid, "published_validity": validity, "published_iou": overlap}


def _table_1(board: pd.DataFrame) -> pd.DataFrame:
    """Methods of both parts, best first, with the published figures beside."""
    known = board["table"].isin(["peers", "both"]) | ((board["table"] == "table_3") & board["row"].isin(OF_TABLE_1))
    table = board[known].sort_values(["part", "iou_micro"], ascending=[True, False])
    keys = list(zip(table["part"], table["method"], strict=True))
    reported = pd.DataFrame([_reported(TABLE_1.get(key)) for key in keys], index=table.index)
    table = table.drop(columns=["table", "row"]).join(reported)
    table["comparable"] = ["" if key not in TABLE_1 else f"no: {NOT_COMPARABLE[key[0]]}" for key in keys]
    table["origin"] = [
        "null" if catalogue.METHODS[method].null else catalogue.METHODS[method].fidelity for method in table["method"]
    ]
    return table


def _table_3(board: pd.DataFrame, entries: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Generators trained on anomalies in the order of the plan: what they are, what they reach, what was published."""
    rows = board[board["table"].isin(["table_3", "losses", "lengths"])].reset_index(drop=True)
    by_row = {(entry["table"], entry["row"]): entry for entry in entries}
    described = []
    for table, row, method in zip(rows["table"], rows["row"], rows["method"], strict=True):
        params = by_row[table, row]["methods"][method]
        facts = {name: params[name] for name in [*Variant.__dataclass_fields__]}
        facts |= {"steps": params["training"]["steps"], "uses_masks": "organ" if params["carl"] else ""}
        reported = TABLE_3.get(row) if table == "table_3" else None
        comparable = f"no: {NOT_COMPARABLE['anomalies']}" if reported else "not published"
        described.append({**facts, **_reported(reported), "comparable": comparable})
    return rows[["table", "row", "method"]].join(pd.DataFrame(described)).join(rows.drop(columns=PLACE))


def _differences(tested: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """COIN less the others, per part and operating point, over patients."""
    in_table_1 = tested["table"].isin(["peers", "both"]) | tested["row"].isin(OF_TABLE_1)
    pairs = [("coin", other) for other in OTHERS]
    for (part, point), rows in tested[in_table_1].groupby(["part", "operating_point"]):
        if point == PAPER:
            continue  # most others have no such cut
        for row in compare(rows, pairs, f"coin/{part}/{point}", seed, resamples):
            if row["seed"] == "all":
                row.pop("seed")
                yield {"part": part, "operating_point": point, **row}


def _ranks(readouts: pd.DataFrame, tested: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """Spearman's correlation of our rows of Table 3 with the published IoU; intervals by a bootstrap over patients."""
    readouts, tested = (table[table["table"] == "table_3"] for table in (readouts, tested))
    names = [name for name in TABLE_3 if name in set(readouts["row"])]
    published = [TABLE_3[name].iou for name in names]
    pixels = np.stack([_pixels(readouts[readouts["row"] == name]) for name in names])
    counts = resample_counts(pixels.shape[1], rng(seed, "bootstrap", "coin-ranks"), resamples)
    found = {"iou_micro": (iou(pixels.sum(axis=1)), iou(np.einsum("bp,rpk->brk", counts, pixels)))}
    for point, rows in tested.groupby("operating_point"):
        dice = rows.pivot_table(index="patient", columns="row", values="dice")[names].to_numpy()
        counts = resample_counts(len(dice), rng(seed, "bootstrap", f"coin-ranks/{point}"), resamples)
        found[f"dice_{point}"] = (dice.mean(axis=0), counts @ dice / len(dice))
    for score, (ours, resampled) in found.items():
        drawn = [spearmanr(row, published).statistic for row in resampled]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        correlation = spearmanr(ours, published).statistic
        yield {"score": score, "rows": len(names), "spearman": correlation, "low": low, "high": high}
