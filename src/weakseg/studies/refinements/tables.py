"""What each refinement adds to each map: a table, and a heat map of the gain in Dice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from weakseg.evaluation.protocol import RAW, in_order
from weakseg.evaluation.summary import GROUP, headline_point, lesion_bearing
from weakseg.execution import Context
from weakseg.report import style
from weakseg.report.tables import write_table
from weakseg.studies.comparisons import compare

LARGEST = 0.4
"""The gain of Dice from which on colours are alike."""


def run(context: Context) -> None:
    """Write the table ``refinements`` and the figure of the same name."""
    folders = context.upstream["scores"]
    scores = lesion_bearing(pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in folders]), "test")
    table = pd.DataFrame(_gains(scores, context.params["data_seed"], context.params["bootstrap"]))
    write_table(table, context.out / "tables", "refinements")
    draw(table, context.out / "figures" / "refinements")


def _gains(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """A row for each map, refinement and operating point: Dice, that of the map as it is, and the gain.

    ``gain`` is the mean over patients of the paired difference; the median has the 95 % interval, p is not adjusted.
    """
    keys = [*GROUP, "operating_point", "method"]
    for key, rows in scores.groupby(keys):
        dice = rows.groupby(["refinement", "patient"])["dice"].mean().unstack(0)
        chains = [chain for chain in dice if chain != RAW]
        pairs = [(chain, RAW) for chain in chains]
        for row in compare(rows.assign(method=rows["refinement"]), pairs, "/".join(key), seed, resamples):
            if row["seed"] != "all":
                continue
            chain = row["method"]
            yield {
                **dict(zip(keys, key, strict=True)),
                "refinement": chain,
                "dice": dice[chain].mean(),
                "dice_raw": dice[RAW].mean(),
                "gain": (dice[chain] - dice[RAW]).mean(),
                **{name: row[name] for name in ("median_difference", "low", "high", "p", "n_patients")},
            }


def draw(table: pd.DataFrame, path: Path) -> None:
    """The gain of every map (rows) by every refinement (columns), a line of panels a data set.

    Args:
        table: of :func:`_gains`.
        path: of the figure, without suffix.
    """
    points = in_order(set(table["operating_point"]))
    groups = list(table.groupby(["dataset", "source"]))
    heights = [of_group["method"].nunique() for _, of_group in groups]
    chains = list(dict.fromkeys(table["refinement"]))
    figure, axes = plt.subplots(
        len(groups),
        len(points),
        figsize=(len(points) * (0.75 * len(chains) + 1.8), 0.24 * sum(heights) + 0.9 * len(groups) + 0.6),
        height_ratios=heights,
        squeeze=False,
    )
    for line, ((dataset, source), of_group) in zip(axes, groups, strict=True):
        headline = headline_point(set(of_group["operating_point"]))
        raw = of_group[of_group["operating_point"] == headline].drop_duplicates("method").set_index("method")
        methods = raw["dice_raw"].sort_values(ascending=False).index.tolist()
        for axis, point in zip(line, points, strict=True):
            of_point = of_group[of_group["operating_point"] == point]
            image = _draw_panel(axis, of_point, methods, chains, named=axis is line[0])
            axis.set_title(f"{style.title_of_data(dataset, source)}\n{point}")
    figure.colorbar(image, ax=axes, label="gain of Dice", shrink=0.5)
    figure.suptitle("What refinements add to the Dice of maps as they are (in brackets), mean over tested patients")
    style.save_figure(figure, path)


def _draw_panel(axis: Axes, rows: pd.DataFrame, methods: list[str], chains: list[str], named: bool) -> Any:
    gains = rows.pivot(index="method", columns="refinement", values="gain").reindex(index=methods, columns=chains)
    image = axis.imshow(gains, cmap="RdBu", vmin=-LARGEST, vmax=LARGEST, aspect="auto")
    axis.grid(visible=False)
    for (place, column), gain in np.ndenumerate(gains.to_numpy()):
        if np.isfinite(gain):
            ink = "white" if abs(gain) > 0.7 * LARGEST else "black"
            axis.text(column, place, f"{gain:+.2f}", ha="center", va="center", fontsize=6, color=ink)
    raw = rows.drop_duplicates("method").set_index("method")["dice_raw"].reindex(methods)
    axis.set_xticks(range(len(chains)), chains, rotation=30, ha="right")
    titles = [f"{style.title_of(method)} " if named else "" for method in methods]
    axis.set_yticks(range(len(methods)), [f"{title}({dice:.2f})" for title, dice in zip(titles, raw, strict=True)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return image
