"""Readers of publishers' layouts: which files belong to which case. They open no image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        grade: HGG, LGG or healthy (known to have no lesion, so without a mask), None where the publisher gives none.
        images: file of each modality found, at least one, in the order asked for.
        mask: file of the lesion mask, None if there is none.
        organs: files of organ masks; their union is the organ. The lesion mask is one if it has the organ as a label.
    """

    case: str
    patient: str
    grade: str | None
    images: dict[str, Path]
    mask: Path | None
    organs: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its images lie."""
        return next(iter(self.images.values())).parent

    @property
    def place(self) -> Path:
        """What to show in messages: its folder, or its first image where cases share a folder."""
        return self.folder if self.folder.name == self.case else next(iter(self.images.values()))


_SIGNS = (
    ("brats", "BraTS", ("*/*_flair.nii*",)),
    ("brats", "BraTS", ("[HL]GG/*/*_flair.nii*",)),
    ("instance", "INSTANCE", ("data/*.nii*", "label/*.nii*")),
    ("instance", "INSTANCE", ("train/data/*.nii*", "train/label/*.nii*")),
    ("kits", "KiTS", ("case_?????/*.nii*",)),
    ("kits", "KiTS", ("data*/case_?????/*.nii*",)),
    ("totalsegmentator", "TotalSegmentator", ("s????/ct.nii*",)),
)
"""Files that give a layout away: its name, its title, and patterns that all match in the root or one folder below."""


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
    for other, title, patterns in _SIGNS:
        seen = [next(iter(_matches(root, pattern)), None) for pattern in patterns]
        if other != layout and all(seen):
            return [], [f"{root}: looks like {title} ({seen[0]}), not {layout}; set the path to a {layout} folder"]
    reader = import_module(f"{__name__}.{layout}")
    cases, faults = reader.find_cases(root, modalities)
    return sorted(cases, key=lambda case: case.case), faults


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones and the leftovers of macOS archives."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def find_top(
    root: Path, holds_cases: Callable[[Path], bool], title: str, expected: str
) -> tuple[Path | None, list[str]]:
    """The folder that holds the cases: the root, or the only such folder up to two levels below it.

    Args:
        root: folder the user gave.
        holds_cases: whether a folder is the one.
        title: of the layout, for the fault.
        expected: what such a folder holds, for the fault.

    Returns:
        The folder and no fault, or None and the fault why there is none.
    """
    level = [root]
    for _ in range(3):
        tops = [folder for folder in level if holds_cases(folder)]
        if len(tops) > 1:
            names = ", ".join(str(top.relative_to(root)) for top in tops)
            return None, [f"{root}: holds several data sets ({names}); set the path to one of them"]
        if tops:
            leaks = escape(tops[0], root)
            return (None if leaks else tops[0]), leaks
        level = [below for folder in level for below in subfolders(folder)]
    return None, [f"{root}: no {title} case; set the path to the folder that holds {expected}"]


def inside(folders: list[Path], root: Path, faults: list[str]) -> list[Path]:
    """The folders that lie inside the root; the others are added to the faults."""
    leaks = [escape(folder, root) for folder in folders]
    faults += [fault for leak in leaks for fault in leak]
    return [folder for folder, leak in zip(folders, leaks, strict=True) if not leak]


def pick(folder: Path, stems: Sequence[str], root: Path) -> tuple[Path | None, list[str]]:
    """The one NIfTI file of these names, None if there is none; with a fault if there are two or it lies outside."""
    names = [stem + suffix for stem in stems for suffix in (".nii.gz", ".nii")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        return None, [f"{folder}: {' and '.join(path.name for path in found)} are the same volume twice; keep one"]
    faults = escape(found[0], root) if found else []
    return (found[0] if found and not faults else None), faults


def only_ct(modalities: Sequence[str], title: str) -> list[str]:
    """A fault if other channels are asked of a CT data set, else nothing."""
    others = [modality for modality in modalities if modality != "ct"]
    return [f"modalities: {title} has no {', '.join(others)}; write [ct]"] if others else []


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
