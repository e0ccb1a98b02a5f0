"""The figure ``failures``: in which way each method fails, and how often."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from weakseg.report import style
from weakseg.studies.failures import KINDS

COLOURS = dict(zip(KINDS, ("#000000", "#d55e00", "#e69f00", "#56b4e9", "#bdbdbd", "#009e73"), strict=True))


def draw_failures(shares: pd.DataFrame, path: Path) -> None:
    """Bars of tested cases by reason, a panel per data set and view, the method with the best Dice first.

    Args:
        shares: of :func:`weakseg.studies.failures.shares`.
        path: of the figure, without suffix.
    """
    panels = list(shares.groupby([*style.PANEL, "operating_point"]))
    heights = [len(rows) for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(8.2, 0.15 * sum(heights) + 0.75 * len(panels) + 1.2),
        height_ratios=heights,
        squeeze=False,
    )
    for axis, (key, rows) in zip(axes[:, 0], panels, strict=True):
        _draw_panel(axis, rows.sort_values("dice", ascending=False, kind="stable"))
        axis.set_title(f"{style.title_of_panel(*key[:-1])}, at {key[-1]}".replace("\n", ", "))
    axes[-1][0].set_xlabel("share of tested cases with a lesion")
    handles = [Patch(color=COLOURS[kind], label=f"{kind}: {meaning}") for kind, meaning in KINDS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.suptitle("How methods fail: maps as they are, and supervised references")
    style.save_figure(figure, path)


def _draw_panel(axis: Axes, rows: pd.DataFrame) -> None:
    names = [style.title_of(name) for name in rows["method"]]
    left = pd.Series(0.0, rows.index)
    for kind, colour in COLOURS.items():
        share = rows[kind] / rows["n_cases"]
        axis.barh(range(len(rows)), share, left=left, color=colour, height=0.75)
        left += share
    axis.set_yticks(range(len(rows)), names, fontsize=6)
    axis.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
