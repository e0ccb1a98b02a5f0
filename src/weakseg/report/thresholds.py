"""The figure ``thresholds``: Dice of maps wherever they are cut."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.protocol import FIXED, RAW
from weakseg.evaluation.thresholds import SHOWN
from weakseg.report import style

COLUMNS = 3
"""Panels side by side."""


def draw_thresholds(curves: pd.DataFrame, board: pd.DataFrame, path: Path) -> None:
    """Mean Dice over the threshold, a line per method, of maps as they are.

    Args:
        curves: of :func:`weakseg.evaluation.thresholds.threshold_curves`.
        board: the rows of maps on the leaderboard.
        path: of the figure, without suffix.
    """
    raw = curves[curves["refinement"] == RAW]
    sources = board.drop_duplicates("dataset").set_index("dataset")["source"]
    raw = raw[raw["method"].isin(set(board["method"]))].assign(source=raw["dataset"].map(sources))
    panels = list(raw.groupby(style.PANEL))
    wide = min(COLUMNS, len(panels))
    high = -(-len(panels) // wide)
    figure, axes = plt.subplots(high, wide, figsize=(max(8.2, 3.4 * wide), 3 * high + 1.7), squeeze=False, sharey=True)
    looks = style.looks_of(raw["method"])
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (key, rows) in zip(axes.flat, panels, strict=False):
        for row in rows.itertuples():
            colour, marker = looks[row.method]
            axis.plot(SHOWN, row.dice, style.line_of(row.method), color=colour, marker=marker, markevery=10, ms=3, lw=1)
        axis.axvline(FIXED, color=style.BOUND, lw=0.7, zorder=0)
        axis.set(xlim=(0, 1), ylim=(0, None), xlabel="threshold on the map, scaled per case")
        axis.set_title(style.title_of_panel(*key))
    for line in axes:
        line[0].set_ylabel(SCORES["dice"].heading)
    handles = [style.handle_of(method, looks) for method in looks]
    handles.append(Line2D([], [], color=style.BOUND, lw=0.7, label="fixed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle("Mean Dice of tested cases wherever their maps are cut: the higher and the broader, the safer")
    style.save_figure(figure, path)
