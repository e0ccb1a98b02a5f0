"""What all phantoms share in making a data set: who is in it, cases side by side, and the marker of a whole one."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from weakseg.catalogue import PHANTOM_VERSIONS
from weakseg.errors import WeaksegError
from weakseg.randomness import rng

Fact = TypeVar("Fact")
MARKER = "PHANTOM.json"

_SHIFTED_FROM = 501
"""Number of the first case of another scanner and population; lower ones are of the first."""


def shuffle_cases(data_seed: int, purpose: str, name: str, cases: int, *, first: int, shifted: bool) -> dict[str, int]:
    """Names of the cases of a data set, each with its place, 0 to ``cases - 1``, in a shuffled order.

    What holds for the first so many places, such as a grade, then has an exact share.

    Args:
        data_seed: seed of the data set.
        purpose: of the order, for :func:`weakseg.randomness.rng`.
        name: format of the names, given the number of the case.
        cases: how many.
        first: number of the first case unless ``shifted``.
        shifted: from another scanner and population.

    Raises:
        WeaksegError: ``cases`` is below 1 or above what the numbering holds.
    """
    most = _SHIFTED_FROM - first
    if not 1 <= cases <= most:
        raise WeaksegError(f"cases is {cases}; choose 1 to {most}")
    start = _SHIFTED_FROM if shifted else first
    order = rng(data_seed, purpose, "shifted" if shifted else "").permutation(cases)
    return {name.format(start + k): int(place) for k, place in enumerate(order)}


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
