"""The stage ``refinement``: maps of a fold through every chain that is planned for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground, resample
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context
from weakseg.maps.gated import Gate
from weakseg.networks import reproducible, save_weights
from weakseg.refinements.case import Case
from weakseg.refinements.chains import refine_map
from weakseg.refinements.lessons import read_lessons
from weakseg.refinements.student import Student, fit
from weakseg.supervoxels import read_supervoxels

STUDENT = "student"


@dataclass(frozen=True)
class Chain:
    """A chain as it is applied to maps of one method.

    Attributes:
        name: as in the configuration.
        steps: those that are run; what comes before a student is of no use once it has learnt.
        settings: of each step that has any.
    """

    name: str
    steps: list[str]
    settings: dict[str, dict[str, Any]]


def run(context: Context) -> None:
    """Write ``<chain>/<method>/<case>.nii.gz``, the refined map in [0, 1], for the maps that each chain is for.

    Of a chain with a student also ``students/<chain>-<method>.safetensors``. What could not be refined is counted in
    ``run.json``, as :func:`weakseg.refinements.chains.refine_map` names it.

    Raises:
        WeaksegError: there is nothing that a student could learn from.
    """
    params = context.params
    maps = [path for folder in context.upstream["maps"] for path in sorted(folder.glob("*/*.nii.gz"))]
    methods = list(dict.fromkeys(path.parent.name for path in maps))
    learnt = any(STUDENT in chain.split("+") for chain in params["chains"])
    if learnt:
        reproducible(context.threads, context.device)
    chains = {
        method: [
            _prepare(context, name, method)
            for name, chosen in params["chains"].items()
            if chosen is None or method in chosen
        ]
        for method in methods
    }
    work = partial(
        _refine,
        out=context.out,
        preprocessed=context.folder("preprocess"),
        supervoxels=context.folder("supervoxels") if "supervoxels" in context.upstream else None,
        called=Gate(context).called if learnt and params["gate"] == "classifier" else None,
    )
    tasks = [(path, chain) for path in maps for chain in chains[path.parent.name]]
    # Cases share the threads; the libraries behind a step must not each start as many again.
    with threadpool_limits(1):
        faults = Counter(fault for of_map in context.map_cases(work, tasks, "refine") for fault in of_map)
    for fault, number in sorted(faults.items()):
        context.count(fault, number)


def _prepare(context: Context, name: str, method: str) -> Chain:
    """A chain for a method; its student, if it has one, is trained now."""
    steps, settings = name.split("+"), dict(context.params.get("settings", {}))
    if STUDENT not in steps:
        return Chain(name, steps, settings)
    place, own = steps.index(STUDENT), settings[STUDENT]
    lessons, faults = read_lessons(
        context, method, steps[:place], settings, own["slices"], soft=own["pseudo_masks"] == "soft"
    )
    for fault, number in sorted(faults.items()):
        context.count(f"student_{fault}", number)
    context.count("student_slices", len(lessons.images))
    label = f"{name}-{method}"
    student: Student = fit(lessons, own, context.params["seed"], context.state / label, context.device)
    (context.out / "students").mkdir(exist_ok=True)
    save_weights(context.out / "students" / f"{label}.safetensors", student)
    return Chain(name, steps[place:], settings | {STUDENT: {"student": student, "device": context.device}})


def _refine(
    task: tuple[Path, Chain],
    out: Path,
    preprocessed: Path,
    supervoxels: Path | None,
    called: dict[str, set[int]] | None,
) -> list[str]:
    path, chain = task
    name = path.name.removesuffix(".nii.gz")
    foreground, affine = read_foreground(preprocessed, name)
    case = Case(
        nifti.open_channels(image_file(preprocessed, name)),
        foreground,
        nifti.spacing_of(affine),
        None if supervoxels is None else read_supervoxels(supervoxels, name),
        None if called is None else np.isin(np.arange(foreground.shape[2]), list(called.get(name, ()))),
    )
    raw, of_map = nifti.read(path)
    faults = []
    if raw.shape != foreground.shape or not np.allclose(of_map, affine, atol=1e-4):
        raw = resample(raw, of_map, foreground.shape, affine, "linear")
        faults.append("other_grid")
    refined, of_steps = refine_map(normalise(raw, foreground), case, chain.steps, chain.settings)
    nifti.write_map(out / chain.name / path.parent.name / path.name, refined, affine)
    return faults + of_steps
