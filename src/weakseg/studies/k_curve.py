"""What the same few masks are worth: to choose a map's threshold, or to train a U-Net on them and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.summary import CONTENDER, GROUP, supervised, weak

COLUMNS = [*GROUP, *CONTENDER, "k", "dice", "dice_unet", "break_even", "below_until"]


def k_curve(board: pd.DataFrame) -> pd.DataFrame:
    """A row for each map and each number of masks that both it and a U-Net of k masks have.

    ``dice`` is the map's at `val-k`, the mean over all draws; ``dice_unet`` is that of the U-Net trained on the masks
    of the first draws. ``break_even`` is the least k from which on the U-Net is at least as good at every k; empty if
    it is not at the largest. ``below_until`` is the largest k at which it is worse: the break-even lies between.

    Args:
        board: the leaderboard.
    """
    rows = [
        {**dict(zip([*GROUP, *CONTENDER], [*group, *contender], strict=True)), **row}
        for group, of_group in board.groupby(GROUP)
        for contender, of_map in weak(of_group).groupby(CONTENDER)
        for row in _rows(_by_k(of_map), unet_by_k(of_group))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def unet_by_k(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of U-Nets of k masks among those of a data set, by k."""
    sizes = rows.loc[supervised(rows), "method"].map(lambda name: catalogue.REFERENCES[name].k).dropna()
    return rows.loc[sizes.index].set_index(sizes.astype(int)).sort_index()


def _by_k(rows: pd.DataFrame) -> pd.Series:
    """Dice of a map at `val-k`, by k."""
    chosen = rows[rows["operating_point"].str.startswith("val-")]
    return chosen.set_index(chosen["operating_point"].str.removeprefix("val-").astype(int))["dice"].sort_index()


def _rows(of_map: pd.Series, unets: pd.DataFrame) -> Iterator[dict[str, Any]]:
    shared = of_map.index.intersection(unets.index)
    worse = [k for k in shared if unets.loc[k, "dice"] < of_map[k]]
    better = [k for k in shared if k > max(worse, default=0)]
    reached = {"break_even": min(better, default=None), "below_until": max(worse, default=None)}
    for k in shared:
        yield {"k": k, "dice": of_map[k], "dice_unet": unets.loc[k, "dice"], **reached}


def best_maps(board: pd.DataFrame) -> pd.DataFrame:
    """The map of each data set that is best at its headline, with its rows at every operating point; no null is one."""
    nulls = [name for name, method in catalogue.METHODS.items() if method.null]
    maps = weak(board[~board["method"].isin(nulls)])
    headline = maps[maps["headline"] == "yes"]
    best = headline.loc[headline.groupby(GROUP)["dice"].idxmax(), [*GROUP, *CONTENDER]]
    return maps.merge(best, on=[*GROUP, *CONTENDER])


def said(curve: pd.DataFrame) -> str:
    """Where the break-even of one map lies, in words."""
    if curve.empty:
        return "no k that both have"
    row = curve.iloc[0]
    if pd.isna(row["break_even"]):
        return f"break-even above {curve['k'].max()} masks"
    if pd.isna(row["below_until"]):
        return f"break-even at {int(row['break_even'])} mask{'s' if row['break_even'] > 1 else ''} or fewer"
    return f"break-even between {int(row['below_until'])} and {int(row['break_even'])} masks"
