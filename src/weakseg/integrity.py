"""Are the files of a run those that it wrote? Its record holds their sizes and SHA-256."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weakseg.errors import WeaksegError

RECORD = "run.json"

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL_BELOW = 2**20  # bytes; libraries that write for us do not all say why they failed


def read_record(folder: Path) -> dict[str, Any]:
    """The ``run.json`` of a finished run.

    Raises:
        WeaksegError: it is not there, or damaged.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeaksegError(f"{path}: not there; run snakemake, which makes it") from error
    except ValueError as error:
        raise WeaksegError(f"{path}: damaged; {_mend(folder)}") from error
    if not isinstance(record, dict):
        raise WeaksegError(f"{path}: damaged; {_mend(folder)}")
    return record


def fingerprints(folder: Path) -> dict[str, str]:
    """``<bytes> <SHA-256>`` of every file of a run by its name, without the record."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)
    return {str(path.relative_to(folder)): f"{path.stat().st_size} {_digest(path)}" for path in files}


def check(folder: Path, thorough: bool = False) -> None:
    """Compare the files of a finished run with its record.

    Sizes are compared always; contents where a file was written after the record, or ``thorough``.

    Raises:
        WeaksegError: naming the first file that is not as it was written, and what to do.
    """
    written = (folder / RECORD).stat().st_mtime_ns if (folder / RECORD).is_file() else 0
    for name, wanted in read_record(folder).get("files", {}).items():
        path, (size, digest) = folder / name, wanted.split()
        if not path.is_file():
            raise WeaksegError(f"{path}: not there any more; {_mend(folder)}")
        status = path.stat()
        if status.st_size != int(size):
            raise WeaksegError(f"{path}: damaged, {status.st_size} bytes of {size}; {_mend(folder)}")
        if (thorough or status.st_mtime_ns > written) and _digest(path) != digest:
            raise WeaksegError(f"{path}: damaged, not the bytes that were written; {_mend(folder)}")


def explain(error: BaseException, place: Path) -> str | None:
    """One line on why writing to a folder failed, for a full disk and for missing rights; None for all else."""
    for cause in _chain(error):
        number = getattr(cause, "errno", None)
        text = " ".join(str(cause).split())
        if number in _FULL or "No space left on device" in text:
            return f"{place}: no space left on the disk; make room and run again"
        if isinstance(cause, OSError) and number in _LOCKED:
            where = cause.filename or place
            return f"{where}: cannot be written ({cause.strerror}); change its rights, or use another folder"
    if isinstance(error, OSError | RuntimeError) and _free(place) < _FULL_BELOW:
        return f"{place}: no space left on the disk; make room and run again"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _free(place: Path) -> float:
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _mend(folder: Path) -> str:
    return f"remove {folder} and run snakemake, which makes it again"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
