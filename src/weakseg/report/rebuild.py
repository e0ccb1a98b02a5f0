"""Tables and figures again, from what is published of the scores: no run, image, GPU or DVC is needed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import manifest
from weakseg.errors import WeaksegError
from weakseg.evaluation import collect
from weakseg.evaluation.records import FILE
from weakseg.report import figures
from weakseg.studies import faithfulness, leaderboard
from weakseg.workflow import copy_over

SOURCES = ("scores.parquet", FILE, faithfulness.VALUES)
"""What is published of the scores; all else here is made of it."""
STAGES = ("collect", "leaderboard", "faithfulness_table", "figures")
"""Whose specs say with which scores and parameters."""


def rebuild(specs: Sequence[Path], destination: Path, threads: int = 1) -> list[Path]:
    """Make the tables and figures of published scores again; figures of images stay as they are.

    Args:
        specs: spec files of STAGES.
        destination: folder with the published SOURCES; tables and figures are written there.
        threads: figures that are drawn at the same time.

    Returns:
        The files that were written.

    Raises:
        WeaksegError: a source is missing, or the scores are those of other runs than the specs ask for.
    """
    of_stage = {spec["stage"]: spec for spec in map(_read, specs)}
    params = {stage: spec["params"] for stage, spec in of_stage.items()}
    for name in SOURCES:
        if not (destination / name).is_file():
            raise WeaksegError(f"{destination / name}: not there; restore it from where results are published")
    _check(destination, of_stage["collect"])
    with tempfile.TemporaryDirectory(dir=destination, prefix=".tables-") as folder:
        out = Path(folder)
        leaderboard.write(destination, params["leaderboard"], out)
        faithfulness.write(pd.read_parquet(destination / faithfulness.VALUES), params["faithfulness_table"], out)
        figures.write(destination, out, params["figures"], out, threads)
        made = sorted(path for path in out.rglob("*") if path.is_file())
        written = [copy_over(path, destination / path.relative_to(out)) for path in made]
    manifest.withdraw_untrue(destination, written)
    return written


def _read(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(path.read_text())
    return spec


def _check(destination: Path, spec: dict[str, Any]) -> None:
    """Tables of other scores would pass for those of this configuration."""
    path = destination / "scores.parquet"
    scores = pd.read_parquet(path, columns=[*collect.ROW_KEY, "role", "case", "seed", "run"])
    try:
        collect.verify(scores, spec["upstream"]["scores"])
    except WeaksegError as error:
        raise WeaksegError(
            f"{path}: another configuration, code or other versions of packages made it; "
            f"check out what did, or run snakemake ({error})"
        ) from error
