"""Running one stage: a temporary folder, the record last, one rename. A crash leaves no result behind."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from weakseg import catalogue, integrity, resuming
from weakseg.device import usage as gpu_usage
from weakseg.errors import WeaksegError
from weakseg.integrity import read_record
from weakseg.keys import package_versions
from weakseg.runs import RESULTS, STATE

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


@dataclass
class Context:
    """What a stage is given: its parameters, where to read, where to write, and what to count.

    Attributes:
        stage, key, params: as planned.
        upstream: folders to read, by role.
        out: temporary folder to write to; it becomes the result.
        state: folder that survives a kill, for resuming; removed after success.
        threads, device: how to run; they never decide a result.
        counts: numbers for ``run.json``, such as ``forwards``.
        truth_opened: case ids of the masks opened, by purpose; filled by :mod:`weakseg.data.truth`.
    """

    stage: str
    key: str
    params: dict[str, Any]
    upstream: dict[str, list[Path]]
    out: Path
    state: Path
    threads: int = 1
    device: str = "cpu"
    counts: dict[str, int] = field(default_factory=dict)
    truth_opened: dict[str, set[str]] = field(default_factory=dict)

    def folder(self, role: str) -> Path:
        """The only upstream folder of a role."""
        (folder,) = self.upstream[role]
        return folder

    def record(self, role: str) -> dict[str, Any]:
        """The ``run.json`` of the only upstream run of a role."""
        return read_record(self.folder(role))

    def count(self, name: str, number: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def map_cases(self, function: Callable[[Item], Result], items: Iterable[Item], what: str) -> list[Result]:
        """Apply a picklable function to every item on all threads, in order, with a progress bar."""
        return side_by_side(function, items, self.threads, what)

    def map_cases_resumably(
        self, function: Callable[[Context, Item], Result], items: Iterable[Item], what: str
    ) -> list[Result]:
        """As :meth:`map_cases`, but what was done before a kill is not done again.

        Each result lies in the state folder until the stage is through, with the masks that were opened for it: so the
        log is whole whatever process, or earlier run, opened them. The function is given a context to log into.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        numbered = [(self.state / f"{what}-{number}.safetensors", item) for number, item in enumerate(items)]
        results = []
        for path in self.map_cases(partial(_do_once, self, function), numbered, what):
            result, truth_opened = resuming.load(path)
            for purpose, cases in truth_opened.items():
                self.truth_opened.setdefault(purpose, set()).update(cases)
            results.append(result)
        return results


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], threads: int, what: str) -> list[Result]:
    """Apply a picklable function to every item in so many processes, in order, with a progress bar."""
    items = list(items)
    bar = tqdm(total=len(items), desc=what, unit="case", mininterval=1, disable=None)
    if threads == 1 or len(items) < 2:
        results = [_step(bar, function(item)) for item in items]
    else:
        workers, fork = min(threads, len(items)), get_context("fork")
        with ProcessPoolExecutor(workers, mp_context=fork, initializer=_die_with_parent) as pool:
            results = [_step(bar, result) for result in pool.map(function, items)]
    bar.close()
    return results


def _do_once(context: Context, function: Callable[[Context, Item], Result], numbered: tuple[Path, Item]) -> Path:
    """Keep a result and its log in a file, unless they are there; the file's name."""
    path, item = numbered
    # What cannot be read was cut off when the machine went down.
    with suppress(FileNotFoundError, ValueError):
        resuming.load(path)
        return path
    alone = replace(context, truth_opened={}, counts={})
    resuming.save(path, (function(alone, item), alone.truth_opened))
    return path


def _die_with_parent() -> None:
    """End a worker whose parent was killed: on Linux the kernel does, elsewhere nobody."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _step(bar: Any, result: Result) -> Result:
    bar.update()
    return result


def execute(spec: dict[str, Any], threads: int = 1, device: str = "cpu") -> Path:
    """Run the stage that a spec describes and return its result's folder.

    Raises:
        WeaksegError: bad input, a damaged file of an earlier run, or no room or right to write. What made a stage fail
            is kept in ``results/failures/<key>.json``.
    """
    folder, key = Path(spec["folder"]), spec["key"]
    # Beside its place, so that the rename stays on one file system; what a kill left there is written anew.
    out = folder.with_name(f".{folder.name}.partial")
    context = Context(
        stage=spec["stage"],
        key=key,
        params=spec["params"],
        upstream={role: [Path(path) for path in paths] for role, paths in spec["upstream_folders"].items()},
        out=out,
        state=STATE / key,
        threads=threads,
        device=device,
    )
    failure = RESULTS / "failures" / f"{key}.json"
    try:
        with _alone(key, folder):
            try:
                _run(spec, context, folder)
            finally:
                shutil.rmtree(out, ignore_errors=True)
    except Exception as error:
        told = _explain(error, context)
        with suppress(OSError):
            failure.parent.mkdir(parents=True, exist_ok=True)
            write_json(failure, {**spec, "error": str(told or error), "traceback": traceback.format_exc()})
        if told is None:
            raise
        raise told from error
    failure.unlink(missing_ok=True)
    return folder


def _run(spec: dict[str, Any], context: Context, folder: Path) -> None:
    """Run a stage into its temporary folder and put that in its place."""
    for upstream in _upstream_folders(context):
        integrity.check(upstream)
    resuming.drop_damaged(context.state)
    shutil.rmtree(context.out, ignore_errors=True)
    context.out.mkdir(parents=True)
    started, cpu_before = time.monotonic(), _cpu_seconds()
    module, function = catalogue.STAGES[spec["stage"]].entry.split(":")
    getattr(import_module(module), function)(context)
    write_json(
        context.out / "run.json", _record(spec, context, time.monotonic() - started, _cpu_seconds() - cpu_before)
    )
    _publish(context.out, folder)
    shutil.rmtree(context.state, ignore_errors=True)


@contextmanager
def _alone(key: str, folder: Path) -> Iterator[None]:
    """Nobody else makes this run meanwhile; a kill lets go of it.

    Raises:
        WeaksegError: another process is at it.
    """
    path = STATE / f"{key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            # Unlike `flock`, it is not handed on to workers, which may outlive a kill.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WeaksegError(f"{folder}: another process is making it; wait for it, or end it") from error
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _upstream_folders(context: Context) -> list[Path]:
    return [folder for folders in context.upstream.values() for folder in folders]


def _explain(error: Exception, context: Context) -> WeaksegError | None:
    """What lies behind the failure of a stage, if it is none of the stage: a full disk, rights, damaged input."""
    reason = integrity.explain(error, context.out.parent)
    if reason is not None:
        return WeaksegError(reason)
    try:
        for folder in _upstream_folders(context):
            integrity.check(folder, thorough=True)
    except WeaksegError as damaged:
        return damaged
    return None


def _publish(out: Path, folder: Path) -> None:
    """Put a finished folder in its place by one rename; Snakemake may have made the place, empty, before."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        # The record goes first: a kill in between must not leave half a folder that looks whole.
        (folder / integrity.RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)
    out.rename(folder)


def _cpu_seconds() -> float:
    """Processor seconds of this process and of those that it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _record(spec: dict[str, Any], context: Context, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    usage = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        **{name: spec[name] for name in ("stage", "label", "key", "params", "upstream")},
        "stage_version": catalogue.STAGES[spec["stage"]].version,
        "packages": package_versions(),
        "python": sys.version.split()[0],
        "threads": context.threads,
        "device": context.device,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_memory_mib": usage // 1024,
        **(gpu_usage() if context.device == "cuda" else {}),
        "counts": context.counts,
        "truth_opened": {purpose: sorted(cases) for purpose, cases in sorted(context.truth_opened.items())},
        "masks_used": sorted(_masks_used(context)),
        "files": integrity.fingerprints(context.out),
    }


def _masks_used(context: Context) -> set[str]:
    """Cases whose masks this run or any before it opened, apart from the purposes that are free."""
    used = {case for folder in _upstream_folders(context) for case in read_record(folder)["masks_used"]}
    own = (cases for purpose, cases in context.truth_opened.items() if purpose not in catalogue.FREE_PURPOSES)
    return used.union(*own)


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def require(condition: bool, message: str) -> None:
    """Raise a :class:`WeaksegError` with a message for people unless a condition holds."""
    if not condition:
        raise WeaksegError(message)
