"""The manifest beside published files: which runs they came from, and the checksum of each.

It travels with them. So a clone that has the tables and none of the runs can still tell whether the tables are those of
its configuration, and whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from weakseg.errors import WeaksegError
from weakseg.runs import MANIFESTS, manifest_of

REMEDY = "run `dvc checkout` if it was restored; else remove the manifest and run snakemake"


def write(destination: Path, folders: Sequence[Path], files: Iterable[Path]) -> Path:
    """Write the manifest of the files that were published from run folders, in one rename; returns its place."""
    manifest = destination / manifest_of(folder.name.rsplit("-", 1)[-1] for folder in folders)
    content = {
        "runs": sorted(f"{folder.parent.name}/{folder.name}" for folder in folders),
        "files": {str(path.relative_to(destination)): _sha256(path) for path in files},
    }
    manifest.parent.mkdir(parents=True, exist_ok=True)
    temporary = manifest.with_name(f".{manifest.name}.partial")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    temporary.replace(manifest)
    return manifest


def withdraw(destination: Path, keep: Iterable[Path] = ()) -> None:
    """Remove manifests before what they stand for is written over, but for those to keep."""
    kept = set(keep)
    for path in (destination / MANIFESTS).glob("*"):
        if path not in kept:
            path.unlink()


def withdraw_untrue(destination: Path, files: Iterable[Path]) -> None:
    """Remove manifests that say something else of files that were written anew."""
    digests = {path: _sha256(path) for path in files}
    for manifest in (destination / MANIFESTS).glob("*"):
        listed = _files(manifest)
        if any(listed.get(path, digest) != digest for path, digest in digests.items()):
            manifest.unlink()


def check(manifest: Path) -> list[Path]:
    """Compare published files with their manifest; returns them, and the manifest itself.

    Raises:
        WeaksegError: the manifest is no such file, or a file is missing or not what was published.
    """
    files = _files(manifest)
    for path, digest in files.items():
        if not path.is_file():
            raise WeaksegError(f"{path}: missing, though {manifest} names it; {REMEDY}")
        if _sha256(path) != digest:
            raise WeaksegError(f"{path}: not what {manifest} says was published; {REMEDY}")
    return [*files, manifest]


def _files(manifest: Path) -> dict[Path, str]:
    """The files that a manifest names, with their checksums."""
    destination = manifest.parent.parent
    try:
        return {destination / name: digest for name, digest in json.loads(manifest.read_text())["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeaksegError(f"{manifest}: no manifest as publishing writes it; {REMEDY}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
