"""The figure ``ranks``: how sure the order of the leaderboard is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from weakseg import catalogue
from weakseg.evaluation.summary import CONTENDER, FAMILY
from weakseg.report import style

SCHEME = "mean_then_rank"
"""That of the leaderboard."""


def draw_ranks(ranked: pd.DataFrame, path: Path) -> None:
    """Rank of every map and refinement at its data set's headline, with its 95 % interval over patients.

    Args:
        ranked: the table ``ranks``.
        path: of the figure, without suffix.
    """
    panels = list(ranked[ranked["scheme"] == SCHEME].groupby(FAMILY))
    most = max(len(rows) for _, rows in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels) + 0.2, 0.125 * most + 1.5), squeeze=False)
    chains = style.in_order(ranked["refinement"])
    colours = style.colours_of(chains)
    for axis, (family, rows) in zip(axes[0], panels, strict=True):
        facts = dict(zip(FAMILY, family, strict=True))
        _draw_panel(axis, rows.sort_values(["rank", *CONTENDER]), colours)
        axis.set_title(f"{style.title_of_data(facts['dataset'], facts['source'])}\nat {facts['operating_point']}")
        axis.set_ylim(most - 0.3, -0.7)
    handles = [Line2D([], [], marker="o", color=colours[chain], label=f"refinement: {chain}") for chain in chains]
    handles.append(Line2D([], [], marker="o", mfc="white", color="k", label="null"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle("Rank by mean Dice, 95 % interval over resampled patients: where they overlap, order may be chance")
    style.save_figure(figure, path)


def _draw_panel(axis: Axes, rows: pd.DataFrame, colours: dict[str, str]) -> None:
    several = [name for name in ("view", "classifier", "gate") if rows[name].nunique() > 1]
    for place, row in enumerate(rows.to_dict("records")):
        colour = colours[row["refinement"]]
        filling = "white" if catalogue.METHODS[row["method"]].null else colour
        axis.plot([row["low"], row["high"]], [place, place], color=colour, lw=1.5)
        axis.plot(row["rank"], place, "o", color=colour, mfc=filling, ms=4)
    names = [
        ", ".join([style.title_of(row["method"]), *(row[name] for name in several)]) for row in rows.to_dict("records")
    ]
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.set_xlim(0, len(rows) + 1)
    axis.set_xlabel("rank")
