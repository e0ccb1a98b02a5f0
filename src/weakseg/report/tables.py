"""Tables as CSV (full precision), Markdown and LaTeX (three digits)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def write_table(table: pd.DataFrame, folder: Path, name: str, formats: Sequence[str]) -> None:
    """Write ``<folder>/<name>.<format>`` for each of `csv`, `md` and `tex`."""
    folder.mkdir(parents=True, exist_ok=True)
    if "csv" in formats:
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6f")
    readable = table.map(_readable)
    if "md" in formats:
        (folder / f"{name}.md").write_text(readable.to_markdown(index=False, disable_numparse=True) + "\n")
    if "tex" in formats:
        styler = readable.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
        (folder / f"{name}.tex").write_text(styler.to_latex(hrules=True))


def _readable(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
