"""What the Snakefile and the command line share: reading the configuration, publishing, verifying, pruning."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from snakemake.utils import update_config

from weakseg.config import Config, load
from weakseg.errors import WeaksegError
from weakseg.evaluation.collect import verify
from weakseg.plan import RESULTS, STATE, build

DEFAULT = Path(__file__).parents[2] / "config.yaml"


def read_config(overlays: Sequence[Path | None] = ()) -> Config:
    """Read ``config.yaml`` and lay files over it, as ``snakemake --configfile`` does."""
    raw: dict[str, Any] = {}
    for path in (DEFAULT, *overlays):
        if path is not None:
            update_config(raw, _read_yaml(path))
    return load(raw)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise WeaksegError(f"{path}: {error.strerror}; name a configuration file") from error
    except yaml.YAMLError as error:
        raise WeaksegError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise WeaksegError(f"{path}: holds no keys; see config/README.md")
    return content


def publish(destination: Path, folders: Iterable[Path]) -> None:
    """Copy the files of runs to where people look for them, each by one rename."""
    for folder in folders:
        for source in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"):
            target = destination / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.partial")
            shutil.copyfile(source, temporary)
            temporary.replace(target)


def verify_published(config: Config) -> str:
    """Compare the published scores with what the configuration asks for; say so if they agree.

    Raises:
        WeaksegError: nothing is published, or it belongs to another configuration.
    """
    plan = build(config)
    path = plan.destination / "scores.parquet"
    if not path.exists():
        raise WeaksegError(f"{path}: not there yet; run snakemake")
    planned = [run.key for run in plan.of_stage("scores")]
    verify(pd.read_parquet(path), planned)
    return f"{path}: {len(planned)} runs, as planned"


def prune(configs: Iterable[Config], delete: bool) -> list[Path]:
    """Run folders, phantoms and resume states that none of the configurations uses; removed if ``delete``."""
    plans = [build(config) for config in configs]
    used = {run.folder for plan in plans for run in plan.runs.values()}
    keys = {key for plan in plans for key in plan.runs}
    found = sorted([*(RESULTS / "runs").glob("*/*"), *Path("data/phantoms").glob("*")])
    unused = [folder for folder in found if folder not in used]
    states = [path for path in STATE.glob("*") if path.is_dir() and path.name != "specs" and path.name not in keys]
    unused += sorted(states)
    for folder in unused if delete else ():
        shutil.rmtree(folder)
    return unused
