"""Refinements turn maps into better maps, without masks; a chain runs from left to right.

``threshold`` is the identity and needs no run. ``components`` works on masks and is applied when maps are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import read_foreground
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context
from weakseg.refinements.supervoxel import supervoxel_mean
from weakseg.supervoxels import read_supervoxels

STEPS: dict[str, Callable[[NDArray, NDArray], NDArray]] = {"supervoxel": supervoxel_mean}
"""Step: (map in [0, 1], supervoxel labels), both (X, Y, Z) -> map in [0, 1]."""


def run(context: Context) -> None:
    """Write ``<method>/<case>.nii.gz``, the refined map in [0, 1], for every map of the upstream runs."""
    work = partial(
        _refine,
        out=context.out,
        preprocessed=context.folder("preprocess"),
        supervoxels=context.folder("supervoxels"),
        steps=context.params["steps"],
    )
    maps = [path for folder in context.upstream["maps"] for path in sorted(folder.glob("*/*.nii.gz"))]
    context.map_cases(work, maps, "refine")


def _refine(path: Path, out: Path, preprocessed: Path, supervoxels: Path, steps: list[str]) -> None:
    case = path.name.removesuffix(".nii.gz")
    raw, affine = nifti.read(path)
    foreground, _ = read_foreground(preprocessed, case)
    labels = read_supervoxels(supervoxels, case)
    refined = normalise(raw, foreground)
    for step in steps:
        refined = STEPS[step](refined, labels)
    nifti.write_map(out / path.parent.name / path.name, refined, affine)
