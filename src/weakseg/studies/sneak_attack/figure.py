"""The study's figure: AUC behind every filter, and Dice of the heat maps over the threshold."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from weakseg import catalogue
from weakseg.report import style

IMAGE, ALONE = style.REFINEMENT_COLOURS[0], style.REFINEMENT_COLOURS[1]
NAMES = {
    "foreground": "original",
    "truth": "truth",
    "truth-area": "random place, area of the truth",
    "area": "random place, area of the maps",
}
SUFFIX = {"hard": "", "soft": ", soft", "inverse": ", inverse"}


def draw(aucs: pd.DataFrame, dice: pd.DataFrame, origin: dict[str, str], path: Path) -> None:
    """Draw a line of two panels for each architecture.

    Args:
        aucs: the table `sneak_attack`.
        dice: the table `sneak_attack_dice`.
        origin: ``dataset`` and ``source`` of all rows.
        path: of the figure, without suffix.
    """
    architectures = list(dict.fromkeys(aucs["architecture"]))
    figure, axes = plt.subplots(len(architectures), 2, figsize=(10, 4.2 * len(architectures)), squeeze=False)
    for line, architecture in zip(axes, architectures, strict=True):
        _draw_aucs(line[0], aucs[aucs["architecture"] == architecture])
        _draw_dice(line[1], dice[dice["architecture"] == architecture])
        line[0].set_title(f"{catalogue.ARCHITECTURES[architecture].title} re-trained behind each filter")
    figure.suptitle(f"Sneak attack: {style.title_of_data(**origin)}, mean over seeds, 95 % intervals over patients")
    style.save_figure(figure, path)


def _draw_aucs(axis: Axes, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        for name, prefix, colour, shift in (("auc", "", IMAGE, 0.12), ("alone", "alone_", ALONE, -0.12)):
            axis.plot([row[f"{prefix}low"], row[f"{prefix}high"]], [place - shift] * 2, color=colour, lw=1.5)
            axis.plot(row[name], place - shift, "o", color=colour, ms=4)
    names = [
        (NAMES.get(name) or style.title_of(name)) + SUFFIX[kept]
        for name, kept in zip(rows["filter"], rows["kept"], strict=True)
    ]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.axvline(0.5, color=style.BOUND, lw=0.8)
    axis.set_xlabel("slice AUC on test images behind the same filter")
    handles = [
        Line2D([], [], marker="o", color=IMAGE, label="image behind the filter"),
        Line2D([], [], marker="o", color=ALONE, label="filter alone"),
    ]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _draw_dice(axis: Axes, rows: pd.DataFrame) -> None:
    for (method, of_method), colour in zip(
        rows.groupby("method", sort=False), itertools.cycle(style.REFINEMENT_COLOURS), strict=False
    ):
        fixed = of_method[pd.to_numeric(of_method["operating_point"], errors="coerce").notna()]
        axis.errorbar(
            fixed["threshold"],
            fixed["dice"],
            [fixed["dice"] - fixed["low"], fixed["high"] - fixed["dice"]],
            color=colour,
            lw=1.2,
            label=style.title_of(str(method)),
        )
        for row in of_method.drop(fixed.index).to_dict("records"):
            bound = row["operating_point"] == "oracle-set"
            axis.plot(
                row["threshold"],
                row["dice"],
                style.point_marker(row["operating_point"]),
                color=style.BOUND if bound else colour,
                ms=5,
            )
    points = [point for point in dict.fromkeys(rows["operating_point"]) if not point[0].isdigit()]
    titles = {"oracle-set": "oracle-set (upper bound)", "label-free": "Otsu (label-free)"}
    handles = axis.get_legend_handles_labels()[0] + [
        Line2D([], [], marker=style.point_marker(point), ls="", color="black", label=titles.get(point, point))
        for point in points
    ]
    axis.legend(handles=handles)
    axis.set(xlabel="threshold on the map of a slice", ylabel="Dice, mean over lesion slices", xlim=(0, 1), ylim=(0, 1))
    axis.set_title("heat maps as segmentations")
