"""The leaderboard as people read it: the headline's rows, a few columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.protocol import HEADLINE
from weakseg.evaluation.summary import GROUP, UPPER_BOUND, supervised, weak
from weakseg.report.style import title_of, title_of_data
from weakseg.report.tables import write_table

METRICS = ["nsd", "hd95_mm", "lesion_f1", "false_positive_ml", "auprc"]
"""What is shown beside Dice; the CSV file has every metric."""
IDENTITY = ["method", "refinement"]
"""What tells rows apart, beside ``view``, ``classifier`` and ``gate`` where there are several."""


def write_board(board: pd.DataFrame, folder: Path) -> None:
    """Write ``leaderboard.md``, a section per data set and how to read it, and its rows as ``leaderboard.tex``."""
    headline = board[board["headline"] == "yes"]
    sections = [_section(board, rows) for _, rows in headline.groupby(GROUP)]
    (folder / "leaderboard.md").write_text("\n\n".join(["# Leaderboard", *sections, _legend()]) + "\n")
    plain = [
        *GROUP,
        "operating_point",
        "rank",
        *IDENTITY,
        "view",
        "gate",
        "dice",
        "dice_low",
        "dice_high",
        *METRICS,
        "prevalence",
    ]
    write_table(headline[[*plain, "mask_budget", "beats_null"]], folder, "leaderboard", ("tex",))


def _section(board: pd.DataFrame, rows: pd.DataFrame) -> str:
    rows, references = weak(rows), rows[supervised(rows)]
    first = rows.iloc[0]
    point = first["operating_point"]
    said = f"{first['region']}, {first['n_cases']} cases with a lesion, {first['n_lesion_free']} without. "
    said += f"Sorted by Dice at `{point}`"
    said += "." if point == HEADLINE else f", as this data set has no `{HEADLINE}` (`left_out.csv`, `protocol.val_k`)."
    if point == UPPER_BOUND:
        said += " That is an upper bound: nothing is ranked."
    table = _markdown(_readable(weak(board), rows))
    section = f"## {title_of_data(first['dataset'], first['source'])}\n\n{said}\n\n{table}"
    return section if references.empty else f"{section}\n\n{_beside(references)}"


def _beside(references: pd.DataFrame) -> str:
    """The supervised references of a data set: not ranked, and without the columns that only maps have."""
    table = _numbers(references[["method"]].assign(method=references["method"].map(title_of)), references)
    said = "Supervised references, which learn from masks (`masks`: how many), cut at 0.5. They are not ranked."
    return f"{said}\n\n{_markdown(table)}"


def _markdown(table: pd.DataFrame) -> str:
    """A table of text; what no row has is no column: lesion-free cases, points that the configuration leaves out."""
    shown = table.loc[:, (table != "").any()]
    text: str = shown.to_markdown(index=False, disable_numparse=True)
    return text


def _readable(board: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The headline's rows of a data set, (rows, columns) of text, with Dice at two other points beside."""
    identity = [*IDENTITY, *(name for name in ("view", "classifier", "gate") if board[name].nunique() > 1)]
    table = rows[["rank", *identity]].copy()
    table["rank"] = ["" if pd.isna(rank) else str(rank) for rank in rows["rank"]]
    table = _numbers(table, rows)
    table["prevalence"] = [_number(value) for value in rows["prevalence"]]
    same = [name for name in ROW_KEY if name != "operating_point"]
    for point, heading in (("label-free", "Dice, no mask"), (UPPER_BOUND, "Dice, upper bound")):
        dice = board[board["operating_point"] == point].set_index(same)["dice"]
        table[heading] = [_number(dice.get(tuple(row[same]))) for _, row in rows.iterrows()]
    table["effect"] = [_number(value) for value in rows["effect"]]
    table["beats nulls"] = rows["beats_null"].fillna("")
    return table


def _numbers(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A table with what maps and references have both: Dice, METRICS, and what was predicted in lesion-free cases."""
    table = table.copy()
    table[SCORES["dice"].heading + " [95 %]"] = [
        f"{row.dice:.3f} [{row.dice_low:.3f}, {row.dice_high:.3f}]" for row in rows.itertuples()
    ]
    for name in METRICS:
        table[SCORES[name].heading] = [_number(value) for value in rows[name]]
    table["predicted in lesion-free cases (ml) ↓"] = [_number(value) for value in rows["lesion_free_ml"]]
    table["masks"] = rows["mask_budget"].astype(str)
    return table


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _legend() -> str:
    return "\n".join(
        [
            "## How to read it",
            "",
            "All rows, operating points, metrics and intervals are in `leaderboard.csv`; tests in `comparisons.csv`,",
            "ranks by three schemes in `ranks.csv`, what each data set can tell in `statistics.csv`. Means are over",
            "patients with a lesion, intervals are bootstraps over patients. `masks` is `mask_budget`. `effect` is the",
            "rank-biserial correlation with the null that the row is least above: 1 if it is better in every patient,",
            "-1 if worse. `beats nulls`: see `docs/explanation/protocol.md`. AUPRC is read beside the prevalence,",
            "which a map without information has.",
            "",
            "| metric | range, unit | edge |",
            "|:--|:--|:--|",
            *(f"| {metric.heading} (`{name}`) | {metric.range} | {metric.edge} |" for name, metric in SCORES.items()),
        ]
    )
