"""Refinements turn maps into better maps, without masks; a chain runs from left to right.

``threshold`` is the identity and needs no run. ``components`` works on masks and is applied when maps are cut. Every
other step is a module of its name here, with ``refine(relevance, case, **settings)``: a map (X, Y, Z) in [0, 1] and a
:class:`weakseg.refinements.case.Case` to a map in [0, 1].
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground, resample
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context
from weakseg.refinements.case import Case, NotRefinedError
from weakseg.supervoxels import read_supervoxels


def run(context: Context) -> None:
    """Write ``<method>/<case>.nii.gz``, the refined map in [0, 1], for every map of the upstream runs.

    What could not be refined is counted in ``run.json``, as :func:`refine_map` names it.
    """
    work = partial(
        _refine,
        out=context.out,
        preprocessed=context.folder("preprocess"),
        supervoxels=context.folder("supervoxels") if "supervoxels" in context.upstream else None,
        steps=context.params["steps"],
        settings=context.params.get("settings", {}),
    )
    maps = [path for folder in context.upstream["maps"] for path in sorted(folder.glob("*/*.nii.gz"))]
    # Cases share the threads; the libraries behind a step must not each start as many again.
    with threadpool_limits(1):
        faults = Counter(fault for of_map in context.map_cases(work, maps, "refine") for fault in of_map)
    for fault, number in sorted(faults.items()):
        context.count(fault, number)


def _refine(
    path: Path,
    out: Path,
    preprocessed: Path,
    supervoxels: Path | None,
    steps: list[str],
    settings: dict[str, dict[str, Any]],
) -> list[str]:
    name = path.name.removesuffix(".nii.gz")
    foreground, affine = read_foreground(preprocessed, name)
    case = Case(
        nifti.open_channels(image_file(preprocessed, name)),
        foreground,
        nifti.spacing_of(affine),
        None if supervoxels is None else read_supervoxels(supervoxels, name),
    )
    raw, of_map = nifti.read(path)
    faults = []
    if raw.shape != foreground.shape or not np.allclose(of_map, affine, atol=1e-4):
        raw = resample(raw, of_map, foreground.shape, affine, "linear")
        faults.append("other_grid")
    refined, of_steps = refine_map(normalise(raw, foreground), case, steps, settings)
    nifti.write_map(out / path.parent.name / path.name, refined, affine)
    return faults + of_steps


def refine_map(
    relevance: NDArray, case: Case, steps: list[str], settings: dict[str, dict[str, Any]]
) -> tuple[NDArray, list[str]]:
    """Send a map through a chain.

    A step that cannot refine a map hands it on as it came. A map that says nothing ends the chain, as it is.

    Args:
        relevance: (X, Y, Z) in [0, 1], 0 outside the foreground.
        case: what steps may look at.
        steps: names of the modules here, in order.
        settings: of each step that has any.

    Returns:
        The refined map (X, Y, Z) float32 in [0, 1]; and a word for each fault, as ``run.json`` counts them:
        ``empty_foreground``, ``empty_map``, ``constant_map``, and ``<step>_<reason>`` of a step that was left out.
    """
    faults: list[str] = []
    for step in steps:
        nothing = _says_nothing(relevance, case.foreground)
        if nothing:
            return relevance, [*faults, nothing]
        try:
            relevance = import_module(f"{__name__}.{step}").refine(relevance, case, **settings.get(step, {}))
        except NotRefinedError as reason:
            faults.append(f"{step}_{reason}")
    return relevance, faults


def _says_nothing(relevance: NDArray, foreground: NDArray) -> str | None:
    if not foreground.any():
        return "empty_foreground"
    inside = relevance[foreground]
    if inside.max() <= 0:
        return "empty_map"
    return "constant_map" if inside.min() == inside.max() else None
