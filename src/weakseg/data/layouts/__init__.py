"""Readers of publishers' layouts: which files belong to which case. They open no image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class RawCase:
    """The files of one case as its publisher laid them out.

    Attributes:
        case: name of the case, unique in a data set.
        patient: name of the patient; cases of one patient are visits.
        grade: HGG or LGG, None where the publisher gives none.
        images: file of each modality found, at least one, in the order asked for.
        mask: file of the lesion mask, None if there is none.
    """

    case: str
    patient: str
    grade: str | None
    images: dict[str, Path]
    mask: Path | None

    @property
    def folder(self) -> Path:
        """Where its images lie."""
        return next(iter(self.images.values())).parent


_SIGNS = {
    "instance": ("INSTANCE", ("data/*.nii*", "label/*.nii*")),
    "kits": ("KiTS", ("case_?????/*.nii*",)),
    "totalsegmentator": ("TotalSegmentator", ("s????/ct.nii*",)),
}
"""Files that give a layout away: its title, and patterns that all match in the root or one folder below it."""


def find_cases(layout: str, root: Path, modalities: Sequence[str]) -> tuple[list[RawCase], list[str]]:
    """Find the cases of a data folder, sorted by name, and everything that is wrong with its layout.

    A case that lacks a file is returned with what it has, so that the rest of it can still be checked. Files outside
    the root are reported and never returned.

    Args:
        layout: name of a module of this package.
        root: folder the user gave.
        modalities: images each case must have.

    Returns:
        The cases, and one line per fault that names a file or folder and what to do.
    """
    if not root.is_dir():
        return [], [f"{root}: no such folder; set the path of the data set to the folder of the raw data"]
    for other, (title, patterns) in _SIGNS.items():
        seen = [next(iter(_matches(root, pattern)), None) for pattern in patterns]
        if other != layout and all(seen):
            return [], [f"{root}: looks like {title} ({seen[0]}), not {layout}; set the path to a {layout} folder"]
    reader = import_module(f"{__name__}.{layout}")
    cases, faults = reader.find_cases(root, modalities)
    return sorted(cases, key=lambda case: case.case), faults


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones and the leftovers of macOS archives."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def escape(path: Path, root: Path) -> list[str]:
    """A fault if links lead from a path out of the data root, unless into a DVC cache; else nothing."""
    target = path.resolve()
    cached = (".dvc", "cache") in pairwise(target.parts)
    if cached or target.is_relative_to(root.resolve()):
        return []
    return [f"{path}: leads out of the data folder to {target}; put the data itself there instead of a link"]


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    for prefix in ("", "*/"):
        yield from (path.relative_to(root) for path in root.glob(prefix + pattern))
