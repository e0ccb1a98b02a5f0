"""What a student learns from: the map of a method on training cases, refined and cut without any mask.

Training cases have slice labels, as the classifier had. So slices that are labelled lesion are explained, whatever the
classifier calls them, those labelled normal have an empty pseudo-mask, and those without a label are left out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from weakseg import catalogue, nifti
from weakseg.data.index import read_cases
from weakseg.data.labels import LESION, NORMAL, read_labels
from weakseg.data.views import Units, read_units
from weakseg.errors import WeaksegError
from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context
from weakseg.maps.base import Explained, Methods, explain_of, read_networks, supervoxels_of
from weakseg.refinements.case import Case
from weakseg.refinements.chains import refine_map
from weakseg.refinements.student import Lessons, chosen_slices


def read_lessons(
    context: Context, method: str, steps: list[str], settings: dict[str, dict[str, Any]], most: int, soft: bool
) -> tuple[Lessons, Counter[str]]:
    """The lessons of the fold's training cases.

    Args:
        context: of a refinement with a classifier, labels and the parameters of maps.
        method: whose maps these are.
        steps: refinements before the student.
        settings: of these.
        most: slices of a case that are kept.
        soft: masks are the refined maps; else these are cut by Otsu's threshold in each case.

    Returns:
        Lessons; and how often :func:`weakseg.refinements.chains.refine_map` named a fault.

    Raises:
        WeaksegError: no training slice is labelled lesion, or all pseudo-masks are empty.
    """
    params, preprocessed = context.params, context.folder("preprocess")
    cases = read_cases(context.folder("index"))
    training = set(cases.loc[cases[f"role_f{params['fold']}"] == "train", "case"])
    labels = read_labels(context.folder("labels"))
    labels = labels[labels["case"].isin(training) & labels["label"].isin([LESION, NORMAL])]
    if not (labels["label"] == LESION).any():
        raise WeaksegError(f"refinement: no training slice of fold {params['fold']} is labelled lesion; add cases")
    explain = Teacher(context, {method: params["methods"][method]})
    parts: list[tuple[NDArray, ...]] = []
    faults: Counter[str] = Counter()
    for name, of_case in labels.groupby("case"):
        units = read_units(preprocessed, str(name), params)
        lesion = np.isin(units.positions, of_case.loc[of_case["label"] == LESION, "position"])
        masks = np.zeros(units.shape, dtype=np.float32)
        if lesion.any():
            masks, of_steps = _pseudo_mask(explain, units, np.flatnonzero(lesion), steps, settings, soft)
            faults.update(of_steps)
        kept = np.isin(units.positions, chosen_slices(of_case, most, params["seed"])["position"])
        cut = units.cut(masks) * lesion[:, None, None]
        parts.append((units.image[kept], units.foreground[kept], cut[kept], lesion[kept]))
    images, foreground, found, lesions = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not found.any():
        raise WeaksegError(
            f"refinement: all pseudo-masks of {method} are empty, so its student has nothing to learn; take another "
            "map or other steps before `student`"
        )
    return Lessons(images, foreground, found, lesions), faults


class Teacher:
    """Explains slices of training cases as the stage ``maps`` explains others, with the same frozen classifier."""

    def __init__(self, context: Context, methods: Methods) -> None:
        self.context, self.methods = context, methods
        self.trained, self.untrained = read_networks(context)
        self.channels = context.record("preprocess")["params"]["channels"]
        (facts,) = (catalogue.METHODS[name] for name in methods)
        role = f"fitted_{facts.family}"
        self.needs_supervoxels = facts.needs_supervoxels
        self.fitted = load_file(context.folder(role) / "weights.safetensors") if facts.fits else None

    def __call__(self, units: Units, selected: NDArray) -> NDArray:
        """The raw map (X, Y, Z) of a case: of the selected units, 0 elsewhere."""
        context = self.context
        explained = Explained(
            units,
            selected,
            self.trained,
            self.untrained,
            self.channels,
            context.params["seed"],
            context.device,
            supervoxels_of(context, units) if self.needs_supervoxels else None,
            self.fitted,
        )
        ((_, maps),) = explain_of(self.methods)(explained, self.methods).items()
        context.count("student_forwards", explained.forwards)
        volume = np.zeros(units.foreground.shape, dtype=np.float32)
        volume[selected] = maps[:, 0]
        return units.stack(volume)


def _pseudo_mask(
    explain: Teacher,
    units: Units,
    selected: NDArray,
    steps: list[str],
    settings: dict[str, dict[str, Any]],
    soft: bool,
) -> tuple[NDArray, list[str]]:
    """A case's pseudo-mask (X, Y, Z) float32 in [0, 1], and the faults of its refinement."""
    foreground = units.stack(units.foreground) > 0
    image = np.stack([units.stack(channel) for channel in np.moveaxis(units.image, 1, 0)])
    labels = supervoxels_of(explain.context, units) if "supervoxel" in steps else None
    supervoxels = None if labels is None else np.rint(units.stack(labels)).astype(np.int32)
    case = Case(image, foreground, nifti.spacing_of(units.affine), supervoxels)
    refined, faults = refine_map(normalise(explain(units, selected), foreground), case, steps, settings)
    if soft:
        return refined, faults
    cut = otsu(histogram(refined, np.zeros_like(foreground), foreground, 1.0))
    return (refined > cut).astype(np.float32), faults
