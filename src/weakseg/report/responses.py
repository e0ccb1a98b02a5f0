"""The figure ``responses``: Dice against a lesion's volume and contrast."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from weakseg.evaluation.metrics import SCORES
from weakseg.report import style
from weakseg.studies.responses import CAUSES, WINDOW, best_null, running

SHOWN = 4
"""Methods that have a colour: the best ones of a panel."""
OTHER = "#c8c8c8"


def draw_responses(cases: pd.DataFrame, path: Path) -> None:
    """A line of panels per data set and view: volume, contrast; running means, the best null dotted.

    Args:
        cases: of :func:`weakseg.studies.responses.responding`.
        path: of the figure, without suffix.
    """
    panels = list(cases.groupby([*style.PANEL, "operating_point"]))
    figure, axes = plt.subplots(len(panels), len(CAUSES), figsize=(9.4, 2.9 * len(panels) + 0.7), squeeze=False)
    for line, (key, rows) in zip(axes, panels, strict=True):
        for axis, (cause, title) in zip(line, CAUSES.items(), strict=True):
            _draw_panel(axis, rows.dropna(subset=[cause]), cause)
            axis.set(ylim=(0, 1), xlabel=title)
        line[0].set_ylabel(f"{style.title_of_panel(*key[:-1])}\n{SCORES['dice'].heading} at {key[-1]}")
        line[0].set_xscale("log")
        line[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        line[0].xaxis.set_major_formatter("{x:g}")
        line[0].minorticks_off()
        line[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=6)
    figure.suptitle(f"Dice against what a lesion is like, of maps as they are; means of {WINDOW} neighbouring cases")
    style.save_figure(figure, path)


def _draw_panel(axis: Axes, rows: pd.DataFrame, cause: str) -> None:
    null = best_null(rows)
    ordered = rows.groupby("method")["dice"].mean().sort_values(ascending=False, kind="stable").index
    best = [name for name in ordered if not style.is_null(name)][:SHOWN]
    for method, of_method in rows.groupby("method"):
        if method not in (*best, null):
            axis.plot(*running(of_method[cause], of_method["dice"]), color=OTHER, lw=0.7, zorder=1)
    for method, colour in [*zip(best, style.REFINEMENT_COLOURS, strict=False), (null, "black")]:
        of_method = rows[rows["method"] == method]
        if len(of_method):
            look = style.line_of(method)
            axis.plot(*running(of_method[cause], of_method["dice"]), look, color=colour, lw=1.5, zorder=3)
            axis.plot(of_method[cause], of_method["dice"], ".", color=colour, ms=3, alpha=0.5, zorder=2)
            axis.plot([], [], look, color=colour, label=style.title_of(method))
    axis.add_line(Line2D([], [], color=OTHER, label="all others"))
