"""What tables say beside scores: a few small tables in one file, published with the scores.

With them, tables and figures can be made again where no run is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from weakseg.execution import write_json

FILE = "records.json"


def write_records(path: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write tables by name; a number that is missing is null, and all others are read as they were."""
    content = {
        name: table.astype(object).where(table.notna(), None).to_dict("split", index=False)
        for name, table in tables.items()
    }
    write_json(path, content)


def read_records(path: Path) -> dict[str, pd.DataFrame]:
    """Read what :func:`write_records` wrote."""
    return {name: pd.DataFrame(**table) for name, table in json.loads(path.read_text()).items()}
