"""Content digests of raw data, so that a result knows exactly which files it came from."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import yaml

from weakseg.errors import WeaksegError

_SEEN: ContextVar[dict[Path, str] | None] = ContextVar("_SEEN", default=None)
"""Digests of folders that were looked at while they are looked at once; None looks again each time."""


@contextmanager
def looked_at_once() -> Iterator[None]:
    """While inside, each data folder is walked once: plans of several studies name the same ones."""
    token = _SEEN.set({})
    try:
        yield
    finally:
        _SEEN.reset(token)


def content_digest(root: Path, cache: Path) -> str:
    """Digest of a data folder: the md5 in its ``.dvc`` pointer if it has one, else SHA-256 over all its files.

    Hashes are cached in the file ``cache`` by (path, size, modification time), so that only the first call reads data.

    Raises:
        WeaksegError: ``root`` is no folder, or not the one that its pointer stands for.
    """
    seen = _SEEN.get()
    if seen is None:
        return _content_digest(root, cache)
    if root not in seen:
        seen[root] = _content_digest(root, cache)
    return seen[root]


def _content_digest(root: Path, cache: Path) -> str:
    pointer = root.with_name(root.name + ".dvc")
    if not root.is_dir():
        keys = "data.<data set>.path, shift_path or healthy_path"
        remedy = f"run `dvc pull {pointer}`" if pointer.is_file() else f"set {keys}"
        raise WeaksegError(f"{root}: no such folder; {remedy}")
    if pointer.is_file():
        return _recorded_digest(pointer, root)
    known: dict[str, str] = json.loads(cache.read_text()) if cache.is_file() else {}
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    stamps = {path: _stamp(path) for path in files}
    missing = [path for path in files if stamps[path] not in known]
    if missing:
        print(f"weakseg: reading {len(missing)} new files of {root} once", file=sys.stderr)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            known.update(zip((stamps[path] for path in missing), pool.map(_sha256, missing), strict=True))
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(known, indent=0, sort_keys=True))
        temporary.replace(cache)
    listing = "\n".join(f"{path.relative_to(root)} {known[stamps[path]]}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _recorded_digest(pointer: Path, root: Path) -> str:
    """The md5 that ``dvc add`` recorded, if the number of files and their total size are still as recorded.

    A file that was changed and kept its size is not seen here; ``dvc status`` sees it.
    """
    try:
        (recorded,) = yaml.safe_load(pointer.read_text())["outs"]
        digest, number, size = recorded["md5"], recorded["nfiles"], recorded["size"]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise WeaksegError(f"{pointer}: no pointer to a folder as `dvc add` writes it; run it again") from error
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    if (len(sizes), sum(sizes)) != (number, size):
        raise WeaksegError(
            f"{root}: {len(sizes)} files of {sum(sizes)} bytes, but {pointer.name} says {number} of {size}; "
            f"run `dvc add {root}` to record the change, or `dvc checkout --force {pointer}` to undo it"
        )
    return str(digest)


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
