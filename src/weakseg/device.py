"""Where networks run: the one place that chooses between CPU and GPU, and between GPUs.

Stages know ``cpu`` and ``cuda`` alone: the one GPU that CUDA_VISIBLE_DEVICES leaves them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weakseg.errors import WeaksegError

DEVICES = ("auto", "cpu", "cuda")
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_S = 1.0
"""Seconds between two looks for a free GPU."""


@contextmanager
def taken(asked: str) -> Iterator[str]:
    """The device for a job, ``cpu`` or ``cuda``; a GPU is this job's alone while inside.

    Where there are several GPUs, or nothing says which are ours, one of them is taken by a lock file, and a job waits
    while all are taken. A single GPU in CUDA_VISIBLE_DEVICES is what a scheduler gave to this very job: no lock.

    Args:
        asked: ``cpu``; ``cuda``, which fails where there is no GPU; ``auto``, a GPU if there is one.

    Raises:
        WeaksegError: ``cuda`` is asked for and torch can use none.
    """
    gpus = [] if asked == "cpu" else visible_gpus()
    if asked == "cuda":
        require_gpu()
    if not gpus:
        yield "cpu"
    elif len(gpus) == 1 and VISIBLE in os.environ:
        yield "cuda"
    else:
        before = os.environ.get(VISIBLE)
        with _locked(gpus) as gpu:
            # Before CUDA starts in this process, which reads it once.
            os.environ[VISIBLE] = gpu
            try:
                yield "cuda"
            finally:
                os.environ.pop(VISIBLE, None)
                os.environ.update({VISIBLE: before} if before is not None else {})


def visible_gpus() -> list[str]:
    """The GPUs that torch may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    # Asks the driver's library, and so does not start CUDA.
    count = torch.cuda.device_count()
    named = (
        [name.strip() for name in os.environ[VISIBLE].split(",")] if VISIBLE in os.environ else map(str, range(count))
    )
    return list(named)[:count]


def require_gpu() -> None:
    """Fail where torch can use no GPU.

    Raises:
        WeaksegError: saying why there is none.
    """
    import torch

    if visible_gpus():
        return
    if not torch.backends.cuda.is_built():
        why = f"torch {torch.__version__} is built for CPUs alone"
    elif VISIBLE in os.environ:
        why = f"no GPU that torch can use, with {VISIBLE}={os.environ[VISIBLE]!r}"
    else:
        why = "no GPU that torch can use on this machine"
    raise WeaksegError(f"device cuda: {why}; set device to cpu or auto in the profile")


def usage() -> dict[str, Any]:
    """What a record says of the GPU: its name, and the most memory that torch held on it, in MiB."""
    import torch

    return {
        "gpu": torch.cuda.get_device_name(),
        "peak_gpu_memory_mib": torch.cuda.max_memory_reserved() // 2**20,
    }


def lock_folder() -> Path:
    """Where this user's lock files lie: on this machine, for its GPUs are no other's."""
    return Path(tempfile.gettempdir()) / f"weakseg-gpus-{os.getuid()}"


@contextmanager
def _locked(gpus: Sequence[str]) -> Iterator[str]:
    """Wait for one of the GPUs and hold it; a lock goes with its process, however that ends."""
    from filelock import FileLock, Timeout

    folder = lock_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    said = False
    while True:
        for gpu in gpus:
            lock = FileLock(folder / f"{gpu}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield gpu
            finally:
                lock.release()
            return
        if not said:
            print(f"weakseg: waiting for a GPU: all {len(gpus)} are taken by other jobs", file=sys.stderr)
            said = True
        time.sleep(POLL_S)
