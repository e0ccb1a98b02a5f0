"""The plan of each study, beside that of the benchmark. Pure and free of torch, as :mod:`weakseg.plan`."""

from __future__ import annotations

import itertools
from typing import Any

from weakseg import catalogue, plan
from weakseg.config import Config, SneakAttackConfig
from weakseg.plan import Plan

FOLD = 0
"""The sneak attack needs no cross-validation: its classifiers are compared with each other on one fold's test set."""

FILTERS = [
    ("foreground", "hard"),
    ("truth", "hard"),
    ("truth", "inverse"),
    ("truth-area", "hard"),
    ("truth-area", "inverse"),
    ("area", "hard"),
    ("area", "inverse"),
]
"""Filters that need no heat map; see :mod:`weakseg.studies.sneak_attack.filters`."""


def build_all(config: Config) -> dict[str, Plan]:
    """The plan behind each target of the workflow: ``all`` is the benchmark, and a study has its own name.

    Raises:
        WeaksegError: as :func:`weakseg.plan.build`.
    """
    return {"all": plan.build(config), "sneak_attack": sneak_attack(config)}


def sneak_attack(config: Config) -> Plan:
    """Plan the study of Guan & Loew 2022 on one data set; empty if the configuration leaves it out.

    Raises:
        WeaksegError: the data folder is missing, or a run that must not would read truth masks.
    """
    planned = Plan(config)
    study = config.studies.sneak_attack
    if study is None:
        return planned
    name: str = study.dataset or next(iter(config.datasets))
    dataset = config.datasets[name]
    data = plan.plan_data(planned, name, dataset)
    images = {role: data[role] for role in ("index", "preprocess", "labels")}
    masks = planned.add(
        "sneak_masks",
        name,
        {"region": dataset.region, "data_seed": config.data_seed, "fold": FOLD},
        **images,
        truth=data["truth"],
    )
    filters = [*FILTERS, *itertools.product(study.methods, ("hard", "soft", "inverse"))]
    classifiers, maps, retrained = [], [], []
    for architecture in study.architectures:
        network = _network(config, study, architecture)
        for seed in study.seeds:
            label = f"{name}-slice-{architecture}-s{seed}"
            original = plan.plan_classifier(planned, name, data, network, seed, FOLD)
            settings = {"seed": seed, "fold": FOLD}
            explaining = {
                **settings,
                "methods": _methods(config, study, architecture),
                "min_foreground_mm2": config.views.slice.min_foreground_mm2,
            }
            heat = planned.add("sneak_maps", label, explaining, **images, classifier=original)
            classifiers.append(original)
            maps.append(heat)
            for filtered_by, kept in filters:
                upstream = {"maps": heat} if filtered_by in study.methods else {}
                if filtered_by in ("truth", "truth-area"):
                    upstream = {"masks": masks}
                filtering = {"filter": filtered_by, "kept": kept, "keep": study.keep}
                for shown in ("image", "filter"):
                    # The image with its whole foreground is the original, whose classifier is there already.
                    if (filtered_by, shown) != ("foreground", "image"):
                        params = {**network, **settings, **filtering, "shown": shown}
                        place = f"{label}-{filtered_by}-{kept}-{shown}"
                        retrained.append(planned.add("sneak_classifier", place, params, **images, **upstream))
    reading = {
        "data_seed": config.data_seed,
        "bootstrap": config.protocol.bootstrap,
        "methods": study.methods,
        "keep": study.keep,
        "thresholds": study.thresholds,
        "val_patients": study.val_patients,
        "draws": study.draws,
        "fold": FOLD,
    }
    planned.add(
        "sneak_tables", name, reading, **images, masks=masks, maps=maps, classifiers=classifiers, retrained=retrained
    )
    plan.check_truth_access(planned)
    return planned


def _network(config: Config, study: SneakAttackConfig, architecture: str) -> dict[str, Any]:
    """Parameters of a classifier; the study trains each in the same way."""
    sections = {
        "resnet": config.classifiers.resnet,
        "densenet": study.densenet,
        "efficientnet": study.efficientnet,
    }
    return {
        **sections[architecture].model_dump(),
        "architecture": architecture,
        "training": study.training.model_dump(),
    }


def _methods(config: Config, study: SneakAttackConfig, architecture: str) -> dict[str, dict[str, Any]]:
    """Parameters of the methods; the layer of a ResNet becomes the one of the same size in another architecture."""
    layers = catalogue.ARCHITECTURES[architecture].layers
    configured = config.maps.methods.model_dump()
    return {name: {"layer": layers[configured[name]["layer"]]} if name in configured else {} for name in study.methods}
