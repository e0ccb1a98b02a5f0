"""The figure ``dice``: every row of the leaderboard with its patients."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from weakseg import catalogue
from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.protocol import in_order
from weakseg.evaluation.summary import supervised
from weakseg.report import style

LINES = ("-", "--", "-.", ":")
"""Of references in the panels of maps."""


def draw_dice(board: pd.DataFrame, patients: pd.DataFrame, path: Path) -> None:
    """Dice of every row of the leaderboard: the mean with its 95 % interval, and each patient as a dot.

    Supervised references have a panel of their own, and their means are lines in the panels of their data set.

    Args:
        board: the leaderboard.
        patients: Dice by row key and patient.
        path: of the figure, without suffix.
    """
    points = in_order(board["operating_point"])
    chains = style.in_order(board["refinement"])
    colours = style.colours_of(chains)
    references = board[supervised(board)]
    names = [name for name in catalogue.REFERENCES if name in set(references["method"])]
    lines = dict(zip(names, itertools.cycle(LINES), strict=False))
    panels = list(board.groupby(style.PANEL))
    # A line for each refinement of a method, and one between methods.
    sizes = [len(rows.groupby(["method", "refinement"])) + rows["method"].nunique() for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        len(points),
        figsize=(3.2 * len(points) + 1, 0.1 * sum(sizes) + 0.8 * len(panels) + 1),
        height_ratios=sizes,
        squeeze=False,
    )
    for line, (key, rows) in zip(axes, panels, strict=True):
        shown = dict(zip(points, line, strict=True))
        if supervised(rows).all():
            # They are cut at one point alone, and stand in its column.
            for point in set(points) - set(rows["operating_point"]):
                shown.pop(point).set_visible(False)
        else:
            beside = references[(references[style.PANEL[:2]] == list(key[:2])).all(axis=1)]
            for axis, row in itertools.product(line, beside.itertuples()):
                axis.axvline(row.dice, color="k", ls=lines[row.method], lw=0.7, zorder=0)
        _draw_panel(shown, key, rows, patients, colours)
    handles = [
        Line2D([], [], marker="o", ls="", color=colour, label=f"refinement: {chain}")
        for chain, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color="k", ls=line, lw=0.7, label=f"mean of the reference {style.title_of(name)}")
        for name, line in lines.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(3, len(chains)))
    figure.suptitle("Dice of each tested patient, mean and 95 % interval")
    style.save_figure(figure, path)


def _draw_panel(
    line: dict[str, Axes], key: tuple[str, ...], rows: pd.DataFrame, patients: pd.DataFrame, colours: dict[str, str]
) -> None:
    """Rows of one data set, view and gate, at each operating point that has an axis."""
    places = places_of(rows, list(colours))
    for point, axis in line.items():
        _draw_point(axis, rows[rows["operating_point"] == point].copy(), patients, places, colours)
        _label_point(axis, point)
        # Alike in all panels: a point may have rows of few methods.
        axis.set_ylim(max(places.values()) + 1, -1)
    first = next(iter(line.values()))
    middles = pd.Series(places).groupby(level=0, sort=False).mean()
    first.set_yticks(middles, [style.title_of(str(name)) for name in middles.index])
    first.set_ylabel(style.title_of_panel(*key))


def places_of(rows: pd.DataFrame, chains: list[str]) -> dict[tuple[str, str], int]:
    """The line of each method and refinement in a panel, counted from the top.

    Args:
        rows: of the panel, of all operating points.
        chains: refinements in the order in which those of a method stand.

    Returns:
        By method, the best one first, and refinement; a line is left free between methods.
    """
    best = rows.groupby("method")["dice"].max().sort_values(ascending=False)
    held = {name: set(of_method["refinement"]) for name, of_method in rows.groupby("method")}
    lines = [
        line for name in best.index for line in [*((name, chain) for chain in chains if chain in held[name]), None]
    ]
    return {line: number for number, line in enumerate(lines) if line is not None}


def _draw_point(
    axis: Axes,
    rows: pd.DataFrame,
    patients: pd.DataFrame,
    places: dict[tuple[str, str], int],
    colours: dict[str, str],
) -> None:
    """One line of dots, and one of means with their intervals, for each refinement."""
    marker = style.point_marker(str(rows["operating_point"].iloc[0])) if len(rows) else ""
    dots = rows[ROW_KEY].merge(patients, on=ROW_KEY)
    for table in (dots, rows):
        table["at"] = [places[line] for line in zip(table["method"], table["refinement"], strict=True)]
    for chain, colour in colours.items():
        of_chain, its_dots = (table[table["refinement"] == chain] for table in (rows, dots))
        axis.plot(its_dots["dice"], its_dots["at"], ".", color=colour, alpha=0.25, ms=2.5)
        axis.hlines(of_chain["at"], of_chain["dice_low"], of_chain["dice_high"], color=colour, lw=1.5)
        axis.plot(of_chain["dice"], of_chain["at"], marker=marker, ls="", color=colour, ms=4)


def _label_point(axis: Axes, point: str) -> None:
    bound = point == "oracle-set"
    if bound:
        masks = "upper bound: cut on the test masks"
    elif point.startswith("val-"):
        masks = "cut on validation patients' masks"
    else:
        masks = "cut without masks"
    axis.set_title(f"{point}\n({masks})")
    if bound:
        axis.set_facecolor("#f2f2f2")
        axis.title.set_color(style.BOUND)
    axis.set_xlim(-0.02, 1)
    axis.set_yticks([])
    axis.set_xlabel("Dice")
