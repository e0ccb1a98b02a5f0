"""What the Snakefile and the command line share: reading the configuration, publishing, verifying, pruning."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from weakseg import integrity, manifest
from weakseg.config import Config
from weakseg.config_text import load
from weakseg.errors import WeaksegError
from weakseg.runs import PHANTOMS, PUBLISHED, RESULTS, STATE
from weakseg.studies.plans import build_all

DEFAULT = Path(__file__).parents[2] / "config.yaml"


def read_config(overlays: Sequence[Path | None] = ()) -> Config:
    """Read ``config.yaml`` and lay files over it, as ``snakemake --configfile`` does."""
    raw: dict[str, Any] = {}
    for path in (DEFAULT, *overlays):
        if path is not None:
            update_config(raw, _read_yaml(path))
    return load(raw, [path for path in overlays if path is not None])


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


def publish(destination: Path, folders: Sequence[Path], keep: Sequence[Path] = ()) -> None:
    """Copy the files of runs to where people look for them, each by one rename; their manifest is written last.

    What an earlier plan left there goes, but for the files to keep: those of other targets. Its manifest goes first, so
    that it never stands for a mixture.
    """
    files = _published(destination, folders)
    manifest.withdraw(destination, keep)
    for target, source in files.items():
        copy_over(source, target)
    written = manifest.write(destination, folders, files)
    for path in _left_over(destination, {written, *files, *keep}):
        path.unlink()


def copy_over(source: Path, target: Path) -> Path:
    """Copy a file to its place by one rename; the place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
    return target


def _published(destination: Path, folders: Iterable[Path]) -> dict[Path, Path]:
    """Where the files of runs are published, and where each comes from."""
    return {
        destination / source.relative_to(folder): source
        for folder in folders
        for source in sorted(folder.rglob("*"))
        if source.is_file() and source.name != "run.json"
    }


def _left_over(destination: Path, files: Iterable[Path]) -> list[Path]:
    """Other files in the folders that are published: DVC records these folders whole."""
    wanted = set(files)
    folders = {path.relative_to(destination).parts[0] for path in wanted if path.parent != destination}
    found = (path for folder in folders for path in (destination / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and path not in wanted)


def verify_published(config: Config) -> str:
    """Compare what is published with what the configuration asks for; say so if they agree.

    Manifests tell which runs the published files came from, and their checksums; where these runs are, as they are not
    in a restored clone, files are also compared with them byte by byte. A study counts if any of its files is there.

    Raises:
        WeaksegError: something is not run or not published yet, or belongs to another configuration.
    """
    plans = build_all(config)
    plan = plans["all"]
    wanted = [plan for name, plan in plans.items() if name == "all" or any(map(Path.exists, plan.published))]
    runs = [run for plan in wanted for run in plan.published_runs]
    manifests = [plan.manifest for plan in wanted]
    missing = [path for path in manifests if not path.exists()]
    if missing:
        open_runs = [run.folder for run in runs if not run.record.exists()]
        raise WeaksegError(f"{[*open_runs, *missing][0]}: not there yet; run snakemake")
    made = [run for run in runs if run.record.exists()]
    for run in made:
        try:
            integrity.check(run.folder, thorough=True)
        except WeaksegError as error:
            # Snakemake makes again what something waits for.
            raise WeaksegError(f"{error}; remove {plan.destination}/tables too, so that it is needed") from error
    files = _published(plan.destination, [run.folder for run in made])
    for target, source in files.items():
        if not target.exists() or target.read_bytes() != source.read_bytes():
            raise WeaksegError(f"{target}: not what this configuration gives; remove it and run snakemake again")
    listed = [file for path in manifests for file in manifest.check(path)]
    for path in _left_over(plan.destination, listed):
        raise WeaksegError(f"{path}: this configuration gives no such file; remove it")
    return f"{plan.destination}: {len(set(listed))} files, as planned"


def prune(configs: Iterable[Config], delete: bool) -> list[Path]:
    """Folders that no configuration asks for and nothing published was made of; removed if ``delete``."""
    plans = [plan for config in configs for plan in build_all(config).values()]
    needed = {key for plan in plans for key in plan.runs} | _behind_published()
    found = [*(RESULTS / "runs").glob("*/*"), *PHANTOMS.glob("*"), *STATE.glob("*")]
    folders = sorted(path for path in found if path.is_dir() and path != STATE / "specs")
    # Names end in the key; what a kill left behind ends in `.partial` and goes too.
    unused = [path for path in folders if path.name.rsplit("-", 1)[-1] not in needed]
    for folder in unused if delete else ():
        shutil.rmtree(folder)
    return unused


def _behind_published() -> set[str]:
    """Keys of the runs whose files are published, by any configuration, and of everything those were made from."""
    records = {path.parent.name.rsplit("-", 1)[-1]: path for path in RESULTS.glob("runs/*/*/run.json")}
    destinations = [RESULTS, *(path for path in RESULTS.iterdir() if path.is_dir())]
    waiting = {
        key
        for key, path in records.items()
        if path.parents[1].name in PUBLISHED and any(_is_published(path.parent, place) for place in destinations)
    }
    needed: set[str] = set()
    while waiting:
        key = waiting.pop()
        needed.add(key)
        if key in records:
            upstream = json.loads(records[key].read_text())["upstream"].values()
            waiting |= {above for keys in upstream for above in keys} - needed
    # The page holds the volumes of a viewer, which is published as no file of its own.
    viewers = {key: path for key, path in records.items() if path.parents[1].name == "viewer"}
    shown = {
        key for key, path in viewers.items() if needed.issuperset(json.loads(path.read_text())["upstream"]["collect"])
    }
    return needed | shown


def _is_published(folder: Path, destination: Path) -> bool:
    files = _published(destination, [folder]).items()
    return bool(files) and all(target.exists() and filecmp.cmp(target, source, False) for target, source in files)
