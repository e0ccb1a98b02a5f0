"""What Dice costs: in masks and annotator's minutes, and in forwards of a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from weakseg.evaluation.forwards import COUNTED
from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.protocol import PAPER
from weakseg.report import style

LEAST_WIDTH = 8.2
"""Inches that legends and titles need."""
LEGEND_WIDTH = 2.6
"""Inches of a legend's column."""
DODGE_PT = 2.5
"""How far rows with as many forwards stand apart."""


@dataclass(frozen=True)
class Minutes:
    """What an annotator's work takes, in minutes."""

    per_mask: float
    per_slice_label: float
    per_grade: float

    def per_label(self, view: str) -> float:
        """Of a label behind the classifier of a view."""
        return self.per_grade if view == "volume" else self.per_slice_label


def draw_budgets(board: pd.DataFrame, minutes: Minutes, path: Path) -> None:
    """Dice against the masks that a row needed (from 0, for `fixed` and `label-free`), a line per method.

    A row of panels per data set, view and gate, a column per refinement. The upper axis has the minutes of these masks
    and of the labels behind the classifier.

    Args:
        board: the leaderboard.
        minutes: costs.
        path: of the figure, without suffix.
    """
    # The leaderboard has over a hundred columns, which would be copied with every selection.
    drawn = ["method", "refinement", "operating_point", "mask_budget", "label_budget", "dice", "dice_low", "dice_high"]
    board = board.loc[board["operating_point"] != "oracle-set", [*style.PANEL, *drawn]]
    panels = list(board.groupby(style.PANEL))
    chains = style.in_order(board["refinement"])
    size = (max(LEAST_WIDTH, 3.4 * len(chains) + 1.6), 3.1 * len(panels) + 0.8)
    figure, axes = plt.subplots(len(panels), len(chains), figsize=size, squeeze=False, sharey=True)
    looks = style.looks_of(board["method"])
    for line, (key, rows) in zip(axes, panels, strict=True):
        for axis, chain in zip(line, chains, strict=True):
            _draw_budget(axis, rows[rows["refinement"] == chain], looks)
            _label_budget(axis, rows, minutes)
            axis.set_title(f"refinement: {chain}")
        line[0].set_ylabel(f"{style.title_of_panel(*key)}\n{SCORES['dice'].heading}")
    handles = [style.handle_of(method, looks) for method in looks]
    fixed = style.point_marker("fixed")
    handles.append(Line2D([], [], color="k", marker=fixed, mfc="none", ls="", label="the same, cut at 0.5 (fixed)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle("Dice against masks: Otsu's threshold at 0, then the best of k validation patients; 95 % intervals")
    style.save_figure(figure, path)


def _draw_budget(axis: Axes, rows: pd.DataFrame, looks: style.Looks) -> None:
    for method, of_method in rows.sort_values("mask_budget", kind="stable").groupby("method"):
        colour, marker = looks[str(method)]
        fixed = of_method[of_method["operating_point"] == "fixed"]
        axis.plot(fixed["mask_budget"], fixed["dice"], style.point_marker("fixed"), mfc="none", color=colour, ms=5)
        curve = of_method[~of_method["operating_point"].isin(["fixed", PAPER])]
        axis.fill_between(curve["mask_budget"], curve["dice_low"], curve["dice_high"], color=colour, alpha=0.1, lw=0)
        dashes = style.line_of(str(method))
        axis.plot(curve["mask_budget"], curve["dice"], marker=marker, color=colour, ls=dashes, ms=4, lw=1.2)


def _label_budget(axis: Axes, rows: pd.DataFrame, minutes: Minutes) -> None:
    """Masks below, minutes above; the same ticks for all refinements."""
    budgets = sorted({0, *rows["mask_budget"]})
    # Labels of neighbours would run into each other.
    ticks = [b for place, b in enumerate(budgets) if b == 0 or np.log1p(b) - np.log1p(budgets[place - 1]) > 0.25]
    labels = int(rows["label_budget"].max())
    axis.set_xscale("symlog", linthresh=1)
    axis.set(xlim=(-0.15, 1.25 * max(1, *budgets)), ylim=(0, 1), xlabel="masks")
    axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axis.minorticks_off()
    above = axis.twiny()
    above.set_xscale("symlog", linthresh=1)
    above.set_xlim(axis.get_xlim())
    view = rows["view"].iloc[0]
    per_label = minutes.per_label(view)
    spent = [labels * per_label + tick * minutes.per_mask for tick in ticks]
    above.set_xticks(ticks, [f"{value:.0f}" for value in spent])
    above.minorticks_off()
    above.spines["top"].set_visible(True)
    what = "grades" if view == "volume" else "slice labels"
    above.set_xlabel(f"minutes: {labels} {what} at {per_label:g}, masks at {minutes.per_mask:g}", fontsize=7)


def draw_forwards(board: pd.DataFrame, forwards: pd.DataFrame, path: Path) -> None:
    """Dice at the headline against forwards per case, and the front: the best Dice for as many forwards or fewer.

    Args:
        board: the leaderboard.
        forwards: of :func:`weakseg.evaluation.forwards.forwards_per_case`; methods that it does not name have none.
        path: of the figure, without suffix.
    """
    rows = board[board["headline"] == "yes"].merge(forwards, on=COUNTED, how="left")
    rows["forwards"] = rows["forwards"].fillna(0)
    panels = list(rows.groupby(style.PANEL))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(max(LEAST_WIDTH, 3.6 * len(panels) + 0.6), 4.6), squeeze=False, sharey=True
    )
    looks = style.looks_of(rows["method"])
    colours = style.colours_of(style.in_order(rows["refinement"]))
    most = rows["forwards"].max()
    for axis, (key, of_panel) in zip(axes[0], panels, strict=True):
        _draw_front(axis, of_panel)
        of_panel = of_panel.sort_values(["method", "refinement"])
        beside = of_panel.groupby("forwards")["dice"]
        offsets = DODGE_PT * (beside.cumcount() - (beside.transform("size") - 1) / 2)
        for shift, row in zip(offsets, of_panel.itertuples(), strict=True):
            place = axis.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
            colour = colours[row.refinement]
            axis.plot([row.forwards] * 2, [row.dice_low, row.dice_high], color=colour, lw=0.8, transform=place)
            marker = looks[row.method][1]
            axis.plot(row.forwards, row.dice, marker=marker, ls="", color=colour, ms=4.5, transform=place)
        axis.set_xscale("symlog", linthresh=1)
        axis.set(xlim=(-0.6, 3 * max(1, most)), ylim=(0, 1), xlabel="forwards per case (0: no network)")
        axis.minorticks_off()
        axis.set_title(f"{style.title_of_panel(*key)}\nat {of_panel['operating_point'].iloc[0]}")
    axes[0][0].set_ylabel(SCORES["dice"].heading)
    handles = [Line2D([], [], marker=looks[name][1], ls="", color="k", label=style.title_of(name)) for name in looks]
    handles += [Line2D([], [], color=colour, label=f"refinement: {chain}") for chain, colour in colours.items()]
    handles += [Line2D([], [], color=style.BOUND, ls="--", label="best for as many forwards or fewer")]
    figure.legend(handles=handles, loc="outside lower center", ncols=int(figure.get_figwidth() // LEGEND_WIDTH))
    figure.suptitle("Dice against forwards per case: a family's are each of its methods'; backward passes not counted")
    style.save_figure(figure, path)


def _draw_front(axis: Axes, rows: pd.DataFrame) -> None:
    best = rows.groupby("forwards")["dice"].max().cummax()
    end = max(10.0, 2 * best.index.max())
    axis.step([*best.index, end], [*best, best.iloc[-1]], where="post", color=style.BOUND, ls="--", lw=1)
