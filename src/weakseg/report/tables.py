"""Tables as CSV (full precision), Markdown and LaTeX (three digits)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from weakseg.runs import TABLE_FORMATS

SYMBOLS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "≥": r"$\geq$", "±": r"$\pm$", "–": "--"}
"""What LaTeX has no letter for."""

PAGE = 50
"""Rows of a page: longer tables are broken, by the package longtable."""


def write_table(table: pd.DataFrame, folder: Path, name: str, formats: Sequence[str] = TABLE_FORMATS) -> None:
    """Write ``<folder>/<name>.<format>`` for each of `csv`, `md` and `tex`; LaTeX needs booktabs."""
    folder.mkdir(parents=True, exist_ok=True)
    if "csv" in formats:
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6f")
    readable = table.map(_readable)
    if "md" in formats:
        (folder / f"{name}.md").write_text(readable.to_markdown(index=False, disable_numparse=True) + "\n")
    if "tex" in formats:
        (folder / f"{name}.tex").write_text(_latex(readable))


def _readable(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _latex(table: pd.DataFrame) -> str:
    styler = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    environment = "longtable" if len(table) > PAGE else None
    text: str = styler.to_latex(hrules=True, environment=environment)
    for symbol, command in SYMBOLS.items():
        text = text.replace(symbol, command)
    return text
