"""The figures beside the leaderboard."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.evaluation.records import FILE, read_records
from weakseg.evaluation.summary import patient_means, weak
from weakseg.execution import Context
from weakseg.report.atlas import draw_atlas
from weakseg.report.curves import Minutes, draw_budgets, draw_forwards
from weakseg.report.dice import draw_dice
from weakseg.report.failures import draw_failures
from weakseg.report.k_curve import draw_k_curve
from weakseg.report.overlays import draw_overlays, pictures_of
from weakseg.report.ranks import draw_ranks
from weakseg.report.responses import draw_responses
from weakseg.report.thresholds import draw_thresholds
from weakseg.studies.responses import responding


def run(context: Context) -> None:
    """Write all of :func:`write`, and of images ``overlays-`` and ``failures-<data set>-<view>``."""
    board = context.folder("leaderboard")
    write(context.folder("collect"), board, context.params, context.out)
    worst = pd.read_csv(board / "tables" / "failures_worst.csv", dtype={"case": str}, keep_default_na=False)
    for index in context.upstream["index"]:
        draw_atlas(context, index, worst, context.out / "figures")
        pictures = sorted(pictures_of(context, index), key=lambda picture: picture.view)
        for view, of_view in itertools.groupby(pictures, key=lambda picture: picture.view):
            shown = list(of_view)
            draw_overlays(shown, context.out / "figures" / f"overlays-{shown[0].dataset}-{view}")


def write(collected: Path, board: Path, params: dict[str, Any], out: Path) -> None:
    """Write the figures that need no image to ``figures``.

    Args:
        collected: folder with ``scores.parquet`` and ``records.json``.
        board: folder with the leaderboard's tables.
        params: of the stage.
        out: folder to write to.
    """
    scores, records = pd.read_parquet(collected / "scores.parquet"), read_records(collected / FILE)
    table = pd.read_csv(board / "tables" / "leaderboard.csv", keep_default_na=False)
    figures, maps = out / "figures", weak(table)
    draw_dice(table, patient_means(scores, "test", ["dice"]), figures / "dice")
    minutes = Minutes(*(params[f"minutes_per_{what}"] for what in ("mask", "slice_label", "grade")))
    draw_budgets(maps, minutes, figures / "masks")
    draw_k_curve(table, figures / "k_curve")
    draw_forwards(maps, records["forwards"], figures / "forwards")
    draw_ranks(pd.read_csv(board / "tables" / "ranks.csv"), figures / "ranks")
    draw_thresholds(records["thresholds"], maps, figures / "thresholds")
    draw_responses(responding(scores, records["contrast"]), figures / "responses")
    draw_failures(pd.read_csv(board / "tables" / "failures.csv", keep_default_na=False), figures / "failures")
