"""What all phantoms share in writing a data set: cases side by side, and the marker that says it is made and whole."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from weakseg.catalogue import PHANTOM_VERSIONS

Fact = TypeVar("Fact")
MARKER = "PHANTOM.json"


def write_cases(
    root: Path, roster: Mapping[str, Fact], write_case: Callable[[tuple[str, Fact]], None], workers: int
) -> None:
    """Write every case of a roster (name -> what it is drawn with); ``workers`` change nothing in the files."""
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).unlink(missing_ok=True)  # the marker stands for a complete data set
    if workers == 1:
        for item in roster.items():
            write_case(item)
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
            list(pool.map(write_case, roster.items()))


def mark(root: Path, phantom: str, *, data_seed: int, cases: int, shape: tuple[int, int, int], shifted: bool) -> None:
    """Write ``PHANTOM.json``, last of all: made data are never taken for real, wherever they are copied to."""
    marker = {
        "phantom": phantom,
        "version": PHANTOM_VERSIONS[phantom],
        "data_seed": data_seed,
        "cases": cases,
        "shape": list(shape),
        "shifted": shifted,
    }
    (root / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
