"""The figures beside the leaderboard."""

from __future__ import annotations

import itertools
import operator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.evaluation.records import FILE, read_records
from weakseg.evaluation.summary import patient_means, weak
from weakseg.execution import Context, side_by_side
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
    write(context.folder("collect"), board, context.params, context.out, context.threads)
    worst = pd.read_csv(board / "tables" / "failures_worst.csv", dtype={"case": str}, keep_default_na=False)
    for index in context.upstream["index"]:
        draw_atlas(context, index, worst, context.out / "figures")
        pictures = sorted(pictures_of(context, index), key=lambda picture: picture.view)
        for view, of_view in itertools.groupby(pictures, key=lambda picture: picture.view):
            shown = list(of_view)
            draw_overlays(shown, context.out / "figures" / f"overlays-{shown[0].dataset}-{view}")


def write(collected: Path, board: Path, params: dict[str, Any], out: Path, threads: int) -> None:
    """Write the figures that need no image to ``figures``.

    Args:
        collected: folder with ``scores.parquet`` and ``records.json``.
        board: folder with the leaderboard's tables.
        params: of the stage.
        out: folder to write to.
        threads: figures that are drawn at the same time.
    """
    scores, records = pd.read_parquet(collected / "scores.parquet"), read_records(collected / FILE)
    table = pd.read_csv(board / "tables" / "leaderboard.csv", keep_default_na=False)
    figures, maps = out / "figures", weak(table)
    minutes = Minutes(*(params[f"minutes_per_{what}"] for what in ("mask", "slice_label", "grade")))
    ranks = pd.read_csv(board / "tables" / "ranks.csv")
    failures = pd.read_csv(board / "tables" / "failures.csv", keep_default_na=False)
    # What takes longest is begun first.
    drawings = [
        partial(draw_budgets, maps, minutes, figures / "masks"),
        partial(draw_dice, table, patient_means(scores, "test", ["dice"]), figures / "dice"),
        partial(draw_ranks, ranks, figures / "ranks"),
        partial(draw_responses, responding(scores, records["contrast"]), figures / "responses"),
        partial(draw_forwards, maps, records["forwards"], figures / "forwards"),
        partial(draw_thresholds, records["thresholds"], maps, figures / "thresholds"),
        partial(draw_k_curve, table, figures / "k_curve"),
        partial(draw_failures, failures, figures / "failures"),
    ]
    side_by_side(operator.call, drawings, threads, "figures")
