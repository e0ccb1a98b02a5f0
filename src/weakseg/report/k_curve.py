"""The figure ``k_curve.png``: Dice against the number of masks, for maps and for U-Nets trained on masks alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.summary import CONTENDER, GROUP, supervised, weak
from weakseg.report import style
from weakseg.studies.k_curve import best_maps, k_curve, said, unet_by_k

UNET, BEST, OTHER = style.REFINEMENT_COLOURS[1], style.REFINEMENT_COLOURS[0], "#c8c8c8"
FULL = ("--", ":", "-.")
"""Lines of references that learn from all masks."""


def draw_k_curve(board: pd.DataFrame, path: Path) -> None:
    """Draw a panel for each data set: U-Nets of k masks at k, maps at `val-k`, all other references as lines.

    The best map at the headline has a colour, all others are grey; its title says where it breaks even with the U-Nets.

    Args:
        board: the leaderboard.
        path: of the figure, without suffix.
    """
    panels = list(board.groupby(GROUP))
    figure, axes = plt.subplots(1, len(panels), figsize=(max(8.2, 4.2 * len(panels)), 4.2), squeeze=False, sharey=True)
    best = best_maps(board)
    for axis, (group, rows) in zip(axes[0], panels, strict=True):
        of_best = best[(best[GROUP] == list(group)).all(axis=1)]
        for _, of_map in weak(rows).groupby(CONTENDER):
            _draw_map(axis, of_map, color=OTHER, lw=0.7, zorder=1)
        _draw_map(axis, of_best, color=BEST, lw=1.6, marker="o", ms=4, zorder=3)
        _draw_unets(axis, rows)
        _label(axis, group, rows, of_best)
    axes[0][0].set_ylabel(SCORES["dice"].heading)
    handles = [
        Line2D([], [], color=UNET, marker="s", label="U-Net trained on k masks, cut at 0.5 (a draw for each seed)"),
        Line2D(
            [], [], color=BEST, marker="o", label="best map at the headline, cut as k masks say (mean of all draws)"
        ),
        Line2D([], [], color=OTHER, label="all other maps and nulls"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.suptitle("Dice against the number of masks; bands: 95 % intervals over patients")
    style.save_figure(figure, path)


def _masks(rows: pd.DataFrame) -> pd.Series:
    """How many masks chose the threshold of each row: what made the map is not counted here."""
    return rows["operating_point"].replace({"label-free": "val-0"}).str.removeprefix("val-").astype(int)


def _draw_map(axis: Axes, rows: pd.DataFrame, **look: Any) -> None:
    """A line of a map: without masks (`label-free`) at 0, then at each `val-k`."""
    points = rows["operating_point"]
    curve = rows[points.str.startswith("val-") | (points == "label-free")]
    curve = curve.assign(k=_masks(curve)).sort_values("k")
    axis.plot(curve["k"], curve["dice"], **look)
    if "marker" in look:
        axis.fill_between(curve["k"], curve["dice_low"], curve["dice_high"], color=look["color"], alpha=0.15, lw=0)


def _draw_unets(axis: Axes, rows: pd.DataFrame) -> None:
    few = unet_by_k(rows)
    axis.fill_between(few.index, few["dice_low"], few["dice_high"], color=UNET, alpha=0.15, lw=0)
    axis.plot(few.index, few["dice"], color=UNET, marker="s", ms=4, lw=1.6, zorder=4)
    full = rows[supervised(rows) & ~rows.index.isin(rows.index[rows["method"].isin(few["method"])])]
    for row, line in zip(full.itertuples(), FULL, strict=False):
        axis.axhline(row.dice, color="k", ls=line, lw=1, zorder=2)
        said_ = f"{style.title_of(row.method)} ({row.mask_budget}): {row.dice:.2f}"
        axis.annotate(said_, (0.02, row.dice), (0, 2), ("axes fraction", "data"), "offset points", fontsize=7)


def _label(axis: Axes, group: tuple[str, ...], rows: pd.DataFrame, of_best: pd.DataFrame) -> None:
    dataset, source, _ = group
    ticks = sorted({0, *_masks(weak(rows).query("operating_point.str.startswith('val-')")), *unet_by_k(rows).index})
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set(xlim=(-0.15, 1.25 * max(1, *ticks)), ylim=(0, 1), xlabel="masks")
    title = style.title_of_data(dataset, source)
    if len(of_best):
        first = of_best.iloc[0]
        curve = k_curve(pd.concat([of_best, rows[supervised(rows)]]))
        title += f"\n{style.title_of(first['method'])}, {first['refinement']}:\n{said(curve)}"
    axis.set_title(title)
