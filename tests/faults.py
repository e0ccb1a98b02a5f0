"""Doing harm to a finished run: a copy of it, kills, damage."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from weakseg import runs
from weakseg.catalogue import NETWORK_STAGES
from weakseg.cli import main
from weakseg.integrity import RECORD, read_record
from weakseg.randomness import rng
from weakseg.runs import Run

FORKS = get_context("forkserver")
"""Processes of their own that need not import torch again: many can be killed in a minute."""
FORKS.set_forkserver_preload(["weakseg.cli", "weakseg.evaluation.scores", "weakseg.maps.fit", "weakseg.report.figures"])


def copy_of(finished: Path, folder: Path) -> None:
    """Copy a working directory by links: what is harmed has to be replaced, never written to."""
    for name in ("data", "results"):
        shutil.copytree(finished / name, folder / name, copy_function=os.link)


def command(run: Run) -> list[str]:
    """The command line of a run's job: as in the rules, what trains or asks networks has one thread."""
    threads = "1" if run.stage in NETWORK_STAGES else "2"
    return [run.stage, "--spec", str(runs.spec_file(run.key)), "--threads", threads]


def kill_once(run: Run, attempt: int = 0) -> bool:
    """Start a run and end it by SIGKILL at a moment drawn for it; was it still at work?"""
    seconds = read_record(run.folder)["seconds"] if run.record.exists() else 1.0
    shutil.rmtree(run.folder, ignore_errors=True)
    draw = rng(attempt, "kill", run.label)
    for tries in range(12):
        job = FORKS.Process(target=main, args=(command(run),))
        job.start()
        job.join(float(draw.uniform(0.1, 0.9)) * seconds / 2**tries)
        job.kill()
        job.join()
        if job.exitcode == -signal.SIGKILL:
            return True
        shutil.rmtree(run.folder)
    return False


def differing(one: Path, other: Path) -> list[str]:
    """Files that two folders of a run do not share byte for byte, without their records."""
    names = {str(path.relative_to(folder)) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    return [name for name in sorted(names - {RECORD}) if not _same(one / name, other / name)]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def damage(path: Path, how: Callable[[bytes], bytes], unseen: bool = False) -> None:
    """Replace a file by what is made of its bytes; ``unseen`` keeps its time, as a failing disk would."""
    status, content = path.stat(), how(path.read_bytes())
    path.unlink()
    path.write_bytes(content)
    if unseen:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


def garble(content: bytes) -> bytes:
    """As many bytes, those in the middle turned."""
    middle, wide = len(content) // 2, max(len(content) // 8, 1)
    turned = bytes(byte ^ 0xFF for byte in content[middle : middle + wide])
    return content[:middle] + turned + content[middle + wide :]
