"""The facts of every stage, method and data set, free of torch so that the Snakefile can read them.

A version is raised by hand whenever the code behind it changes what it computes; it is part of every run key.
``tests/unit/test_versions.py`` fails when the code of a stage changed and its version did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Purpose = Literal["labels", "scores", "oracle-set"]

FREE_PURPOSES: tuple[Purpose, ...] = ("labels", "scores")
"""Masks opened for these do not count towards a row's mask budget: labels have a budget of their own."""


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow.

    Attributes:
        version: raised by hand when the stage computes something else.
        entry: ``module:function`` that runs it, given a :class:`weakseg.execution.Context`.
        modules: the modules whose code decides its result.
        purposes: why it may open a lesion mask; empty for every stage that must not.
    """

    version: int
    entry: str
    modules: tuple[str, ...]
    purposes: tuple[Purpose, ...] = ()


STAGES: dict[str, Stage] = {
    "phantom": Stage(
        1, "weakseg.data.phantoms:run", ("data.phantoms", "data.phantoms.anatomy", "data.phantoms.brain_mri")
    ),
    "index": Stage(
        1,
        "weakseg.data.index:run",
        ("data.index", "data.checks", "data.splits", "data.layouts", "data.layouts.brats", "nifti"),
    ),
    "preprocess": Stage(1, "weakseg.data.preprocess:run", ("data.preprocess", "data.grid", "nifti")),
    # Truth masks are copied to the case's grid here; nothing is learnt from them, so no purpose is needed.
    "truth": Stage(1, "weakseg.data.truth:run", ("data.truth", "data.grid", "nifti")),
    "labels": Stage(1, "weakseg.data.labels:run", ("data.labels", "data.views"), ("labels",)),
    "supervoxels": Stage(1, "weakseg.supervoxels:run", ("supervoxels",)),
    "classifier": Stage(
        1, "weakseg.classifiers.resnet:run", ("classifiers.resnet", "networks", "training", "data.views")
    ),
    "maps": Stage(1, "weakseg.maps.base:run", ("maps.base", "maps.cam", "maps.nulls", "data.views", "networks")),
    "refinement": Stage(1, "weakseg.refinements:run", ("refinements", "refinements.supervoxel")),
    "scores": Stage(
        1,
        "weakseg.evaluation.scores:run",
        ("evaluation.scores", "evaluation.protocol", "evaluation.segmentation", "refinements.components", "data.grid"),
        ("scores", "oracle-set"),
    ),
    "collect": Stage(1, "weakseg.evaluation.collect:run", ("evaluation.collect",)),
    "leaderboard": Stage(
        1,
        "weakseg.studies.leaderboard:run",
        ("studies.leaderboard", "evaluation.statistics", "report.tables"),
    ),
    "figures": Stage(
        1, "weakseg.report.figures:run", ("report.figures", "report.style", "evaluation.protocol"), ("scores",)
    ),
}
"""Every stage, in the order of the workflow."""

READS_MASK_FILES = ("truth",)
"""The stages that may read the publisher's mask files."""


@dataclass(frozen=True)
class Method:
    """A way to get a relevance map.

    Attributes:
        name: the row key in every table.
        family: methods of one family share their forwards and run in one job.
        title: how figures and pages call it.
        citation: its source.
        fidelity: ``faithful`` to the source, or ``in the manner of`` where we had to choose.
        null: it explains nothing and is there to be beaten.
    """

    name: str
    family: str
    title: str
    citation: str
    fidelity: Literal["faithful", "in the manner of"] = "faithful"
    null: bool = False


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("gradcam", "cam", "Grad-CAM", "Selvaraju et al. 2017, arXiv 1610.02391"),
        Method("layercam", "cam", "LayerCAM", "Jiang et al. 2021, 10.1109/TIP.2021.3089943"),
        Method("random", "nulls", "random noise", "weakseg", null=True),
        Method("centre", "nulls", "centre of the foreground", "weakseg", null=True),
        Method("intensity", "nulls", "bright voxels", "weakseg", null=True),
        Method("untrained", "nulls", "CAM of an untrained network", "Adebayo et al. 2018, arXiv 1810.03292", null=True),
    )
}


@dataclass(frozen=True)
class DatasetFacts:
    """A data set: its publisher's layout and the phantom that stands in for it."""

    layout: str
    phantom: str
    regions: tuple[str, ...]


DATASETS: dict[str, DatasetFacts] = {
    "brats": DatasetFacts("brats", "brain_mri", ("whole_tumour", "tumour_core", "enhancing_tumour")),
}

PHANTOM_VERSIONS: dict[str, int] = {"brain_mri": 1}
"""Raised whenever a phantom's bytes change; earlier results keep their key."""

REFINEMENTS = ("threshold", "supervoxel", "components")
OPERATING_POINTS = ("fixed", "label-free", "oracle-set")
KEYED_PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-image", "nibabel")
"""The packages whose version is part of every run key."""
