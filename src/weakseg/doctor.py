"""Is this machine fit for a configuration? One line for each check, with what to do where something is wrong.

A fault would stop a run; a warning is something to know before one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

import yaml

from weakseg import catalogue
from weakseg.config import Config
from weakseg.data.layouts import find_cases
from weakseg.device import visible_gpus
from weakseg.errors import WeaksegError
from weakseg.runs import PHANTOMS, RESULTS
from weakseg.studies.plans import build_all

State = Literal["ok", "warning", "fault"]
ROOT = Path(__file__).parents[2]
PYTHON = (3, 11)
LOCK = ROOT / "envs" / "requirements.lock"
TERMS = {
    "brats": "https://www.med.upenn.edu/cbica/brats2020/registration.html",
    "instance": "https://instance.grand-challenge.org",
    "kits": "https://kits-challenge.org/kits23",
}
"""Where the publishers of the data sets say who may use them."""
LEAST_MEMORY_GB = 4
"""What two jobs of the default take; one step of a large network takes more (`weakseg estimate` counts no memory)."""


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what to do about it."""

    name: str
    state: State
    text: str


def examine(read: Callable[[], Config], profiles: Sequence[Path] = ()) -> Iterator[Check]:
    """All checks, one after another.

    Args:
        read: gives the configuration, or raises what is wrong with it.
        profiles: folders with a ``profile.yaml``, beside ``profiles/default``.
    """
    yield python()
    yield from packages()
    yield graphics()
    settings = [_settings(folder) for folder in (ROOT / "profiles" / "default", *profiles)]
    yield from profile_devices(settings)
    yield slurm(settings)
    try:
        config = read()
    except WeaksegError as error:
        yield Check("configuration", "fault", str(error).replace("\n", "; "))
        return
    yield Check("configuration", "ok", config.name)
    data = list(data_folders(config))
    yield from data
    yield memory()
    if all(check.state != "fault" for check in data):
        yield disk(config)


def python() -> Check:
    """The interpreter's version, against that of the lock file."""
    said = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != PYTHON:
        return Check("python", "warning", f"{said}; the lock file is one of 3.11: `make PYTHON=python3.11 benchmark`")
    return Check("python", "ok", f"{said}, {sys.executable}")


def packages() -> Iterator[Check]:
    """Installed versions against the lock file: what is keyed would give results of another key."""
    needed = {_plain(line.split(";")[0]) for line in requires("weakseg") or [] if "extra ==" not in line}
    lines = LOCK.read_text().splitlines() if LOCK.is_file() else []
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    if not pins:
        yield Check("packages", "warning", f"{LOCK}: no lock file; run from a checkout of the repository")
        return
    missing, others = [], []
    for name, pin in pins.items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            if _plain(name) in needed:
                missing.append(name)
            continue
        if found != pin:
            others.append(f"{name} {found} (lock: {pin})")
    mend = "run `.venv/bin/pip install --requirement envs/requirements.lock`"
    if missing:
        yield Check("packages", "fault", f"not installed: {', '.join(missing)}; {mend}")
    keyed = [text for text in others if text.split()[0] in catalogue.KEYED_PACKAGES]
    if keyed:
        yield Check("packages", "warning", f"{', '.join(keyed)}: results get other keys than elsewhere; {mend}")
    if others and not keyed:
        yield Check("packages", "warning", f"{', '.join(others)}; {mend}")
    if not missing and not others:
        yield Check("packages", "ok", "as in envs/requirements.lock")


def _plain(requirement: str) -> str:
    """The name in a requirement, as package registries compare names."""
    name = requirement.strip()
    for mark in "<>=![ ":
        name = name.split(mark)[0]
    return name.lower().replace("_", "-")


def graphics() -> Check:
    """GPUs, their driver, and whether torch can use them."""
    import torch

    build = f"torch {torch.__version__}"
    cards = _said("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    gpus = visible_gpus()
    if gpus:
        return Check("gpu", "ok", f"{build}, {len(gpus)} GPU: {'; '.join(cards) or 'no nvidia-smi to name them'}")
    if not cards:
        return Check("gpu", "ok", f"{build}, no GPU: networks run on the CPU")
    if torch.backends.cuda.is_built():
        why = "torch cannot use it: driver too old for its CUDA, or hidden by CUDA_VISIBLE_DEVICES"
    else:
        why = "this torch is built for CPUs alone: unset PIP_EXTRA_INDEX_URL, remove .venv and run make again"
    return Check("gpu", "warning", f"{build}, {'; '.join(cards)}: {why}")


def _said(*command: str) -> list[str]:
    """Lines that a program prints; none if there is no such program, or it fails."""
    if shutil.which(command[0]) is None:
        return []
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return []
    return result.stdout.splitlines() if result.returncode == 0 else []


def _settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A profile's file and what stands in it; a missing one is empty here and a fault in its own check."""
    path = folder / "profile.yaml"
    content = yaml.safe_load(path.read_text()) if path.is_file() else None
    return path, content if isinstance(content, dict) else {}


def _named(settings: Any, key: str) -> Iterator[str]:
    """Values of a key anywhere in a profile."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            if name == key:
                yield str(value)
            yield from _named(value, key)


def profile_devices(settings: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[Check]:
    """Profiles are there, and ask for no GPU where there is none: on a cluster its nodes may have them."""
    for path, content in settings:
        if not content:
            yield Check("profile", "fault", f"{path}: no such profile, or nothing in it; name a folder in profiles/")
        elif "cuda" in _named(content, "device") and "executor" not in content and not visible_gpus():
            yield Check("profile", "fault", f"{path}: device cuda, but no GPU here; set device to cpu or auto")
        else:
            yield Check("profile", "ok", f"{path.parent.name}, {len(os.sched_getaffinity(0))} cores here")


def slurm(settings: Sequence[tuple[Path, dict[str, Any]]]) -> Check:
    """The cluster has the partitions that profiles name; of a key in several profiles the last one counts."""
    together = {key: value for _, content in settings for key, value in content.items()}
    wanted = set(_named(together, "slurm_partition"))
    there = {line.rstrip("*") for line in _said("sinfo", "--noheader", "--format=%P")}
    if not there:
        needed = together.get("executor") == "slurm"
        text = "no sinfo here" if not needed else "no sinfo here, or no answer; run on a login node of the cluster"
        return Check("slurm", "fault" if needed else "ok", text)
    if wanted - there:
        lacking = ", ".join(sorted(wanted - there))
        return Check(
            "slurm", "fault", f"no partition {lacking}; there are {', '.join(sorted(there))}: edit the profile"
        )
    return Check("slurm", "ok", f"partitions {', '.join(sorted(there))}")


def data_folders(config: Config) -> Iterator[Check]:
    """Data folders have their layout, a statement of their terms, and are out of git's sight."""
    for name, dataset in config.datasets.items():
        if dataset.is_phantom:
            yield Check(f"data {name}", "ok", f"phantom, {dataset.phantom.cases} cases")
            continue
        root = Path(os.path.expandvars(dataset.path)).expanduser()
        if not root.is_dir():
            yield Check(
                f"data {name}", "fault", f"{root}: no such folder; set data.{name}.path, or null to leave it out"
            )
            continue
        cases, faults = find_cases(catalogue.DATASETS[name].layout, root, dataset.files)
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            yield Check(f"data {name}", "fault", f"{faults[0]}{more}")
            continue
        terms = sorted(path.name for path in root.iterdir() if path.stem.lower() in ("license", "licence", "terms"))
        said = f"terms in {terms[0]}" if terms else f"no licence file in it; the publisher's terms: {TERMS[name]}"
        if _in_git(root):
            yield Check(
                f"data {name}", "fault", f"{root}: git would take it; put it outside the repository or in data/"
            )
        else:
            yield Check(f"data {name}", "ok" if terms else "warning", f"{len(cases)} cases; {said}")


def _in_git(folder: Path) -> bool:
    """Whether git would add files of a folder, or has."""
    listed = _said(
        "git", "-C", str(folder), "ls-files", "--cached", "--others", "--exclude-standard", "--directory", "."
    )
    return bool(listed)


def memory() -> Check:
    """Memory for the jobs that run side by side: what finished runs took at most, or what the default takes."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    peaks = [json.loads(path.read_text())["peak_memory_mib"] for path in RESULTS.glob("runs/*/*/run.json")]
    cores = len(os.sched_getaffinity(0))
    need = max(peaks) * 2**20 * cores / 1e9 if peaks else LEAST_MEMORY_GB
    what = f"{cores} jobs like the largest so far" if peaks else "two jobs of the default"
    if pages < need:
        return Check("memory", "warning", f"{pages:.0f} GB, {what} take {need:.1f} GB; run with fewer --cores")
    return Check("memory", "ok", f"{pages:.0f} GB; {what} take {need:.1f} GB")


def disk(config: Config) -> Check:
    """Room for what the benchmark has yet to write."""
    from weakseg.estimate.forecast import what_is_asked
    from weakseg.estimate.rates import shipped

    runs, rates = build_all(config)["all"].runs, shipped()
    asked = what_is_asked(runs, config)
    left = [key for key, run in runs.items() if not run.record.exists()]
    need = sum(rates.size(asked[key]) for key in left) / 1e9
    folder = next(path for path in (RESULTS, PHANTOMS, Path()) if path.exists())
    free = shutil.disk_usage(folder).free / 1e9
    text = f"{free:.0f} GB free at {folder.resolve()}; {len(left)} runs will write about {need:.1f} GB"
    if free < need:
        return Check("disk", "fault", f"{text}; make room, or run where there is some")
    return Check("disk", "warning" if free < 2 * need else "ok", text)
