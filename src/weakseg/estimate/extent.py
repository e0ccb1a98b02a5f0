"""How large the data are that runs work on: read from finished runs, or told from configuration and file headers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from weakseg import catalogue
from weakseg.config import Config
from weakseg.config_data import AnyDatasetConfig
from weakseg.data.layouts import find_cases
from weakseg.errors import WeaksegError
from weakseg.runs import Run

LOOKED_AT = 5
"""Files whose headers stand for those of a data set."""


UNREADABLE = (OSError, EOFError, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError)
"""What nibabel raises where there is no header of a volume."""


_SOURCES = ("index", "preprocess")


@dataclass(frozen=True)
class Usual:
    """What a data set's phantom is like; it stands for what nobody has counted yet.

    Attributes:
        field_of_view: of a phantom, in mm.
        shown: share of a grid's slices with enough foreground to be a unit.
        lesion: share of these that show a lesion.
        cut: size of a grid made for the foreground, as a share of the raw one.
    """

    field_of_view: tuple[float, float, float]
    shown: float
    lesion: float
    cut: tuple[float, float, float] = (1, 1, 1)


USUAL = {
    "brats": Usual((192, 192, 144), 0.94, 0.5),
    "instance": Usual((217.6, 217.6, 150), 0.67, 0.3, (0.83, 1, 1.33)),
    "kits": Usual((360, 288, 200), 0.56, 0.3, (0.8, 0.5, 1.2)),
}


@dataclass(frozen=True)
class Extent:
    """The size of a data set on its grid.

    Attributes:
        roles: number of cases by role, of one fold.
        channels: C.
        grid: voxels along X, Y, Z.
        spacing: mm.
        slices: units a case in the slice view.
        lesion: share of them that show a lesion, and so, about, that a classifier calls so.
    """

    roles: Mapping[str, float]
    channels: int
    grid: tuple[int, ...]
    spacing: tuple[float, ...]
    slices: float
    lesion: float

    @property
    def cases(self) -> float:
        """All cases."""
        return sum(self.roles.values())

    @property
    def megavoxels(self) -> float:
        """Of one case."""
        return math.prod(self.grid) / 1e6

    def of_roles(self, roles: Sequence[str], fold: int = 0) -> float:
        """Number of cases with one of these roles; shift cases are the first fold's."""
        return sum(self.roles.get(role, 0) for role in roles if role != "shift" or fold == 0)


def above(run: Run, stage: str, runs: Mapping[str, Run]) -> Run | None:
    """The first run of a stage among those that a run was made from, or the run itself."""
    if run.stage == stage:
        return run
    # What is read last is the likest: data stand first.
    for key in (key for keys in run.upstream.values() for key in keys):
        found = above(runs[key], stage, runs) if key in runs else None
        if found is not None:
            return found
    return None


def extents_of(runs: Mapping[str, Run], config: Config | None) -> dict[str, Extent | None]:
    """The extent of each run's data by the run's key, as :func:`extent_of` tells it; data are looked at once."""
    known: dict[tuple[str | None, ...], Extent | None] = {}
    found = {}
    for key, run in runs.items():
        sources = tuple(source.key if source else None for source in (above(run, stage, runs) for stage in _SOURCES))
        if sources not in known:
            known[sources] = extent_of(run, runs, config)
        found[key] = known[sources]
    return found


def extent_of(run: Run, runs: Mapping[str, Run], config: Config | None) -> Extent | None:
    """The extent of the data that a run works on; None if it works on none, or nothing is known of them.

    Args:
        run: planned or finished.
        runs: it and what it was made from, by key.
        config: that planned it; None for finished runs alone.

    Raises:
        WeaksegError: a data folder holds no file that tells its size.
    """
    preprocess = above(run, "preprocess", runs)
    index = above(run, "index", runs)
    if index is None:
        return None
    if preprocess is not None and preprocess.record.exists() and index.record.exists():
        return _of_finished(index, preprocess, runs)
    if config is None:
        return None
    return _of_config(index.params["dataset"], config)


def _of_finished(index: Run, preprocess: Run, runs: Mapping[str, Run]) -> Extent:
    with (index.folder / "cases.csv").open() as stream:
        names = next(stream).rstrip().split(",")
        of_cases = [line.rstrip().split(",")[names.index("role_f0")] for line in stream]
    image = nib.Nifti1Image.from_filename(next((preprocess.folder / "images").iterdir()))
    shape, usual = [*image.shape, 1][:4], USUAL[index.params["dataset"]]
    summaries = (
        json.loads((run.folder / "summary.json").read_text())
        for run in runs.values()
        if run.stage == "labels" and run.upstream["preprocess"] == [preprocess.key] and run.record.exists()
    )
    counted = next(summaries, None)
    slices, lesion = shape[2] * usual.shown, usual.lesion
    if counted:
        slices = counted["slices"] / len(of_cases)
        lesion = (counted["lesion"] + counted["too_small"]) / counted["slices"]
    return Extent(
        {role: of_cases.count(role) for role in sorted(set(of_cases))},
        shape[3],
        tuple(shape[:3]),
        tuple(map(float, image.header.get_zooms()[:3])),
        slices,
        lesion,
    )


def _of_config(name: str, config: Config) -> Extent:
    dataset, usual = config.datasets[name], USUAL[name]
    if dataset.is_phantom:
        shape: tuple[int, ...] = tuple(dataset.phantom.shape)
        spacing = tuple(extent / size for extent, size in zip(usual.field_of_view, shape, strict=True))
        cases, shift = dataset.phantom.cases, dataset.phantom.shift_cases
    else:
        shape, spacing, cases = _looked_at(name, dataset)
        shift = 0
    if dataset.spacing is not None:
        shape = tuple(math.ceil(n * old / new) for n, old, new in zip(shape, spacing, dataset.spacing, strict=True))
        spacing = tuple(dataset.spacing)
    if dataset.size == "foreground":
        shape = tuple(math.ceil(size * share) for size, share in zip(shape, usual.cut, strict=True))
    elif dataset.size is not None:
        shape = tuple(dataset.size)
    split = dataset.split
    test = 1 / split.folds if split.folds > 1 else split.test
    val = split.val * (1 - test if split.folds > 1 else 1)
    roles = {"train": cases * (1 - test - val), "val": cases * val, "test": cases * test, "shift": float(shift)}
    return Extent(roles, len(dataset.channels), shape, spacing, shape[2] * usual.shown, usual.lesion)


def _looked_at(name: str, dataset: AnyDatasetConfig) -> tuple[tuple[int, ...], tuple[float, ...], int]:
    """Median shape and spacing of some volumes of a data folder along X, Y, Z, and the number of its cases."""
    root = Path(os.path.expandvars(dataset.path)).expanduser()
    cases, faults = find_cases(catalogue.DATASETS[name].layout, root, dataset.files)
    if not cases:
        raise WeaksegError(faults[0])
    shapes, spacings = [], []
    for case in cases[:: math.ceil(len(cases) / LOOKED_AT)]:
        path = next(iter(case.images.values()))
        try:
            image = nib.Nifti1Image.from_filename(path)
        except UNREADABLE as error:
            raise WeaksegError(f"{path}: no NIfTI header can be read; get the file again") from error
        # Where each axis of the world is stored.
        axes = np.argsort(nib.io_orientation(image.affine)[:, 0])
        shapes.append(np.array(image.shape[:3])[axes])
        spacings.append(np.array(image.header.get_zooms()[:3])[axes])
    shape, spacing = np.median(shapes, axis=0), np.median(spacings, axis=0)
    return tuple(map(int, shape)), tuple(map(float, spacing)), len(cases)
