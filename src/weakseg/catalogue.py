"""The facts of every stage, method and data set, free of torch so that the Snakefile can read them.

A version is raised by hand whenever the code behind it changes what it computes; it is part of every run key.
``tests/unit/test_versions.py`` fails when the code of a stage changed and its version did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Purpose = Literal["labels", "scores", "oracle-set", "val-k", "mean-mask", "sneak_attack", "anomalies", "references"]

FREE_PURPOSES: tuple[Purpose, ...] = ("labels", "scores", "anomalies")
"""Masks opened for these do not count towards a row's mask budget: labels have a budget of their own."""


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow.

    Attributes:
        version: raised by hand when the stage computes something else.
        entry: ``module:function`` that runs it, given a :class:`weakseg.execution.Context`.
        purposes: why it may open a lesion mask; empty for every stage that must not.
        plugins: modules that it imports by name while running; all others are found by their imports.
    """

    version: int
    entry: str
    purposes: tuple[Purpose, ...] = ()
    plugins: tuple[str, ...] = ()


PHANTOM_VERSIONS: dict[str, int] = {"brain_mri": 1, "head_ct": 1, "abdomen_ct": 1}
"""Raised whenever a phantom's bytes change; earlier results keep their key."""

MAP_FAMILIES = (
    "weakseg.maps.cam",
    "weakseg.maps.gradients",
    "weakseg.maps.nulls",
    "weakseg.maps.perturbation",
    "weakseg.maps.surrogate",
    "weakseg.maps.relevance",
    "weakseg.maps.optimal",
    "weakseg.maps.counterfactual",
)
"""The modules that explain; a new family joins them."""

MAP_REFINEMENTS = ("supervoxel", "clusters", "random_walker", "crf", "student")
"""Steps from map to map, each a module in ``weakseg.refinements``. The student learns from training cases first."""

REFINEMENTS = ("threshold", *MAP_REFINEMENTS, "components")
"""All steps that a chain may name."""

REFERENCE_FAMILIES = ("unet", "cmff")
"""Modules of ``weakseg.references`` that learn from masks."""

STAGES: dict[str, Stage] = {
    "phantom": Stage(
        3, "weakseg.data.phantoms:run", plugins=tuple(f"weakseg.data.phantoms.{name}" for name in PHANTOM_VERSIONS)
    ),
    "index": Stage(
        3,
        "weakseg.data.index:run",
        plugins=tuple(f"weakseg.data.layouts.{name}" for name in ("brats", "instance", "kits", "totalsegmentator")),
    ),
    # Organs come from the publisher's masks with the lesion filled in: no purpose is needed, but rows say `anatomy`.
    "anatomy": Stage(2, "weakseg.data.anatomy:run"),
    "preprocess": Stage(6, "weakseg.data.preprocess:run"),
    # Truth masks are copied to the case's grid here; nothing is learnt from them, so no purpose is needed.
    "truth": Stage(3, "weakseg.data.truth:run"),
    "labels": Stage(6, "weakseg.data.labels:run", ("labels",)),
    "supervoxels": Stage(3, "weakseg.supervoxels:run"),
    # A data set made of another one's healthy slices, which lesion masks tell from the rest.
    "anomalies": Stage(5, "weakseg.data.anomalies:run", ("anomalies",)),
    "classifier": Stage(21, "weakseg.classifiers.resnet:run"),
    "sequence_classifier": Stage(9, "weakseg.classifiers.resnet_lstm:run"),
    "volume_classifier": Stage(15, "weakseg.classifiers.resnet3d:run"),
    # What a family has to learn before it explains: from training cases, without a label or lesion mask.
    "map_fit": Stage(23, "weakseg.maps.fit:run", plugins=("weakseg.maps.optimal", "weakseg.maps.counterfactual")),
    "maps": Stage(33, "weakseg.maps.base:run", plugins=MAP_FAMILIES),
    # A null that is made of training masks: a stage of its own, so that `maps` never opens one.
    "mean_mask": Stage(20, "weakseg.maps.mean_mask:run", ("mean-mask",)),
    # A student learns from slice labels and maps of training cases, as these were explained: so it explains too.
    "refinement": Stage(
        30,
        "weakseg.refinements.stage:run",
        plugins=(*(f"weakseg.refinements.{name}" for name in MAP_REFINEMENTS), *MAP_FAMILIES),
    ),
    # Networks that learn from masks: each method's masks are opened, and counted, apart from those of the others.
    "references": Stage(
        17,
        "weakseg.references.base:run",
        ("references",),
        plugins=tuple(f"weakseg.references.{family}" for family in REFERENCE_FAMILIES),
    ),
    "scores": Stage(23, "weakseg.evaluation.scores:run", ("scores", "oracle-set", "val-k")),
    # These ask the classifier, not the masks, how good a map is.
    "faithfulness": Stage(30, "weakseg.evaluation.explanations:run", plugins=MAP_FAMILIES),
    "repeatability": Stage(10, "weakseg.evaluation.repeatability:run"),
    # These ask judges about counterfactual images; masks say where their changes lie.
    "counterfactuals": Stage(19, "weakseg.evaluation.counterfactuals:run", ("scores",)),
    # Masks say where a lesion lies, whose contrast it measures.
    "collect": Stage(6, "weakseg.evaluation.collect:run", ("scores",)),
    "leaderboard": Stage(21, "weakseg.studies.leaderboard:run"),
    "faithfulness_table": Stage(6, "weakseg.studies.faithfulness:run"),
    # What `snakemake partial` shows when something is missing.
    "partial_tables": Stage(11, "weakseg.report.partial:run"),
    "figures": Stage(30, "weakseg.report.figures:run", ("scores",)),
    "models": Stage(10, "weakseg.report.models:run"),
    # The volumes of the page: cases that were tested, with their truth.
    "viewer": Stage(4, "weakseg.report.viewer:run", ("scores",)),
    # Guan & Loew 2022: truth masks as filters of training images, so maps and re-training are stages of their own.
    "sneak_maps": Stage(34, "weakseg.studies.sneak_attack.maps:run", plugins=MAP_FAMILIES),
    "sneak_masks": Stage(18, "weakseg.studies.sneak_attack.masks:run", ("sneak_attack",)),
    "sneak_classifier": Stage(18, "weakseg.studies.sneak_attack.classifier:run"),
    "sneak_tables": Stage(26, "weakseg.studies.sneak_attack.tables:run"),
    # Shvetsov et al. 2024: the benchmark's stages on a made data set and on its source, cut as the paper cuts.
    "coin_tables": Stage(28, "weakseg.studies.coin.tables:run", ("scores",)),
    # Ramananda & Sundaresan 2023: the benchmark's stages on head CT, with fewer labels too, and what they cost in use.
    "hemorrhage_share": Stage(2, "weakseg.studies.hemorrhage.share:run"),
    "hemorrhage_costs": Stage(
        21,
        "weakseg.studies.hemorrhage.costs:run",
        plugins=(*(f"weakseg.refinements.{name}" for name in MAP_REFINEMENTS), *MAP_FAMILIES),
    ),
    "hemorrhage_tables": Stage(12, "weakseg.studies.hemorrhage.tables:run", ("scores",)),
    # Every map through every refinement.
    "refinements_tables": Stage(10, "weakseg.studies.refinements.tables:run"),
    # Rajapaksa & Khalvati 2022: the benchmark's stages on volumes, and tables of its own.
    "relevance_tables": Stage(29, "weakseg.studies.relevance_maps.tables:run", ("scores",)),
    # Zhang et al. 2021: CycleGANs that see images alone, and networks that learn a glioma's regions from masks.
    "cmft": Stage(12, "weakseg.studies.cross_modality.transition:run"),
    "cmff": Stage(14, "weakseg.studies.cross_modality.training:run", ("references",)),
    "cross_modality_tables": Stage(19, "weakseg.studies.cross_modality.tables:run", ("scores",)),
}
"""Every stage, in the order of the workflow."""

NETWORK_STAGES = (
    "classifier",
    "sequence_classifier",
    "volume_classifier",
    "map_fit",
    "maps",
    "refinement",
    "references",
    "faithfulness",
    "counterfactuals",
    "sneak_maps",
    "sneak_classifier",
    "coin_tables",
    "cmft",
    "cmff",
)
"""Stages that run networks, and so on a GPU if one is asked for; all others leave it to them."""

GRADES = {"LGG": 0, "HGG": 1}
"""Grades of gliomas; the logit of a volume classifier speaks for 1."""


@dataclass(frozen=True)
class Method:
    """A way to get a relevance map.

    Attributes:
        name: the row key in every table.
        family: methods of one family share their forwards and run in one job. It is named after its module in
            ``weakseg.maps``.
        title: how figures and pages call it.
        citation: its source.
        fidelity: ``faithful`` to the source, or ``in the manner of`` where we had to choose.
        null: it explains nothing and is there to be beaten.
        asks_network: it needs forwards; those of its family, even if it were run alone.
        needs_supervoxels: it is given the supervoxels of what it explains.
        fits: it learns from the fold's training cases first, in the stage ``map_fit``.
        judged: another classifier, the selector, chooses between the checkpoints of what it learns.
        fitted_as: the method whose network it reads, in another way; it learns none, and runs where that runs.
        views: those that it can explain.
        published_cut: where its paper cuts its maps, as they are stored, by
            :func:`weakseg.evaluation.published.cut_change`; None for methods without a cut of their own.
    """

    name: str
    family: str
    title: str
    citation: str
    fidelity: Literal["faithful", "in the manner of"] = "faithful"
    null: bool = False
    asks_network: bool = True
    needs_supervoxels: bool = False
    fits: bool = False
    judged: bool = False
    fitted_as: str | None = None
    views: tuple[str, ...] = ("slice", "sequence", "volume")
    published_cut: float | None = None


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("cam", "cam", "CAM", "Zhou et al. 2016, arXiv 1512.04150"),
        Method("gradcam", "cam", "Grad-CAM", "Selvaraju et al. 2017, arXiv 1610.02391"),
        Method("gradcampp", "cam", "Grad-CAM++", "Chattopadhay et al. 2018, arXiv 1710.11063"),
        Method("xgradcam", "cam", "XGrad-CAM", "Fu et al. 2020, arXiv 2008.02312"),
        Method("hirescam", "cam", "HiResCAM", "Draelos & Carin 2020, arXiv 2011.08891"),
        Method("layercam", "cam", "LayerCAM", "Jiang et al. 2021, 10.1109/TIP.2021.3089943"),
        Method(
            "integrated_gradients", "gradients", "Integrated Gradients", "Sundararajan et al. 2017, arXiv 1703.01365"
        ),
        Method("smoothgrad", "gradients", "SmoothGrad", "Smilkov et al. 2017, arXiv 1706.03825"),
        Method("occlusion", "perturbation", "occlusion", "Zeiler & Fergus 2014, arXiv 1311.2901"),
        Method("rise", "perturbation", "RISE", "Petsiuk et al. 2018, arXiv 1806.07421"),
        Method("scorecam", "perturbation", "Score-CAM", "Wang et al. 2020, arXiv 1910.01279"),
        Method("ablation", "surrogate", "supervoxel ablation", "weakseg", needs_supervoxels=True),
        Method("lime", "surrogate", "LIME", "Ribeiro et al. 2016, arXiv 1602.04938", needs_supervoxels=True),
        Method(
            "kernelshap",
            "surrogate",
            "KernelSHAP",
            "Lundberg & Lee 2017, arXiv 1705.07874",
            needs_supervoxels=True,
        ),
        Method(
            "relevance_map",
            "relevance",
            "relevance map",
            "Rajapaksa & Khalvati 2022, 10.3389/fradi.2022.1061402",
            "in the manner of",
            needs_supervoxels=True,
        ),
        Method(
            "optimal_perturbation",
            "optimal",
            "optimal perturbation",
            "Rajapaksa & Khalvati 2022, 10.3389/fradi.2022.1061402",
            "in the manner of",
            needs_supervoxels=True,
            fits=True,
        ),
        Method(
            "coin",
            "counterfactual",
            "COIN",
            "Shvetsov et al. 2024, arXiv 2404.12832",
            "in the manner of",
            fits=True,
            judged=True,
            views=("slice", "sequence"),
            published_cut=0.25,
        ),
        Method(
            "coin_signed",
            "counterfactual",
            "COIN, signed",
            "Shvetsov et al. 2024, arXiv 2404.12832",
            "in the manner of",
            fits=True,
            judged=True,
            fitted_as="coin",
            views=("slice", "sequence"),
        ),
        Method(
            "singla",
            "counterfactual",
            "Singla et al., modified",
            "Singla et al. 2020, arXiv 1911.00483; Shvetsov et al. 2024, arXiv 2404.12832",
            "in the manner of",
            fits=True,
            judged=True,
            views=("slice", "sequence"),
            published_cut=0.25,
        ),
        Method("random", "nulls", "random noise", "weakseg", null=True, asks_network=False),
        Method("centre", "nulls", "centre of the foreground", "weakseg", null=True, asks_network=False),
        Method("intensity", "nulls", "plain intensity", "weakseg", null=True, asks_network=False),
        Method("untrained", "nulls", "CAM of an untrained network", "Adebayo et al. 2018, arXiv 1810.03292", null=True),
        Method("mean_mask", "mean_mask", "mean of the training masks", "weakseg", null=True, asks_network=False),
    )
}


@dataclass(frozen=True)
class Reference:
    """A network that learns to segment from masks: what weak methods are held against, never ranked among them.

    Attributes:
        name: the row key in every table.
        family: its module in ``weakseg.references``; methods of one family are trained in one job.
        title: how figures and pages call it.
        citation: its source.
        k: the number of validation patients whose masks it is trained on, and on no other; None for the training
            masks, with validation masks to choose the checkpoint.
        datasets: those that it is made for.
        modalities: channels that it needs.
        regions: nested regions that it learns to tell apart, beside the one that is scored.
        fidelity: as that of a :class:`Method`.
    """

    name: str
    family: str
    title: str
    citation: str
    k: int | None = None
    datasets: tuple[str, ...] = ("brats", "instance", "kits")
    modalities: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    fidelity: Literal["faithful", "in the manner of"] = "faithful"


_UNET = "Ronneberger et al. 2015, arXiv 1505.04597; residual: Kerfoot et al. 2018, 10.1007/978-3-030-12029-0_40"

REFERENCES: dict[str, Reference] = {
    reference.name: reference
    for reference in (
        Reference("unet", "unet", "U-Net, all masks", _UNET),
        *(
            Reference(f"unet_k{k}", "unet", f"U-Net, {k} mask{'s' if k > 1 else ''}", _UNET, k=k)
            for k in (1, 5, 10, 20)
        ),
        Reference(
            "cmff",
            "cmff",
            "CMFT and CMFF, training masks",
            "Zhang et al. 2021, arXiv 2201.02356",
            datasets=("brats",),
            modalities=("t1", "t1ce", "t2", "flair"),
            regions=("whole_tumour", "tumour_core", "enhancing_tumour"),
            fidelity="in the manner of",
        ),
    )
}


@dataclass(frozen=True)
class Architecture:
    """A network of classifiers.

    Attributes:
        title: how figures and pages call it.
        citation: its source.
        layers: its modules after 4, 8, 16 and 32-fold reduction, by the names that they have in a ResNet.
        spatial_dims: 2 for slices, 3 for volumes.
        linear_logit: which of its logits is that of a linear head on the mean of the last activations, which CAM
            explains; all other methods explain the first.
    """

    title: str
    citation: str
    layers: dict[str, str]
    spatial_dims: int = 2
    linear_logit: int = 0


_RESNET_LAYERS = {f"layer{stage}": f"layer{stage}" for stage in range(1, 5)}

ARCHITECTURES: dict[str, Architecture] = {
    "resnet": Architecture("ResNet", "He et al. 2016, arXiv 1512.03385", _RESNET_LAYERS),
    "resnet3d": Architecture("3D ResNet", "He et al. 2016, arXiv 1512.03385", _RESNET_LAYERS, spatial_dims=3),
    "resnet_lstm": Architecture(
        "ResNet-LSTM",
        "Ramananda & Sundaresan 2023, arXiv 2309.16627",
        {name: f"resnet.{module}" for name, module in _RESNET_LAYERS.items()},
        linear_logit=1,
    ),
    "densenet": Architecture(
        "DenseNet",
        "Huang et al. 2017, arXiv 1608.06993",
        {f"layer{stage}": f"features.denseblock{stage}" for stage in range(1, 5)},
    ),
    # Its seven stages end in the same four sizes.
    "efficientnet": Architecture(
        "EfficientNet",
        "Tan & Le 2019, arXiv 1905.11946",
        {"layer1": "_blocks.1", "layer2": "_blocks.2", "layer3": "_blocks.4", "layer4": "_blocks.6"},
    ),
}


@dataclass(frozen=True)
class DatasetFacts:
    """A data set: its publisher's layout, the phantom that stands in for it, and whether its cases have grades."""

    layout: str
    phantom: str
    grades: bool = False


DATASETS: dict[str, DatasetFacts] = {
    "brats": DatasetFacts("brats", "brain_mri", grades=True),
    "instance": DatasetFacts("instance", "head_ct"),
    "kits": DatasetFacts("kits", "abdomen_ct"),
}

KEYED_PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-image", "nibabel", "nilearn")
"""The packages whose version is part of every run key."""

STEP_PACKAGES = {"clusters": ("scikit-learn",)}
"""Packages whose version is part of the key of a chain with a step, beside :data:`KEYED_PACKAGES`."""
