"""What the sneak attack runs. Pure and free of torch, as :mod:`weakseg.plan`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from weakseg import catalogue, plan
from weakseg.config import Config
from weakseg.config_studies import SneakAttackConfig
from weakseg.plan_views import layer_of, views_of
from weakseg.runs import Plan

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
OF_MASKS = ("truth", "truth-area")
"""Those that are made from masks."""


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
    region = config.datasets[name].region
    data = plan.plan_data(planned, name, config.datasets[name])
    images = {role: data[role] for role in ("index", "preprocess", "labels")}
    drawing = {"region": region, "data_seed": config.data_seed, "fold": FOLD}
    slices = next(view for view in views_of(config, name) if view.name == "slice")
    masks = planned.add("sneak_masks", name, drawing, **images, truth=data["truth"])
    originals: list[str] = []
    maps: list[str] = []
    retrained: list[str] = []
    for architecture, seed in itertools.product(study.architectures, study.seeds):
        network = _network(slices.network, study, architecture)
        original = plan.plan_classifier(planned, name, data, replace(slices, network=network), seed, FOLD)
        methods = _methods(config, study, network)
        explaining = {
            "methods": methods,
            "min_foreground_mm2": config.views.slice.min_foreground_mm2,
            "seed": seed,
            "fold": FOLD,
        }
        label = f"{name}-slice-{architecture}-s{seed}"
        heat = planned.add("sneak_maps", label, explaining, **images, classifier=original)
        training = {**network, "seed": seed, "fold": FOLD, "keep": study.keep}
        retrained += _plan_retraining(planned, label, training, images, list(methods), heat, masks)
        originals.append(original)
        maps.append(heat)
    reading = {
        **study.model_dump(include={"thresholds", "val_patients", "draws"}),
        "data_seed": config.data_seed,
        "bootstrap": config.protocol.bootstrap,
        "fold": FOLD,
    }
    results = {"classifiers": originals, "maps": maps, "retrained": retrained}
    planned.add("sneak_tables", name, reading, **images, masks=masks, **results)
    plan.check_truth_access(planned)
    return planned


def _plan_retraining(
    planned: Plan,
    label: str,
    training: dict[str, Any],
    images: dict[str, str],
    methods: Sequence[str],
    maps: str,
    masks: str,
) -> Iterator[str]:
    """A classifier for each filter on the image, and one that is shown the filter alone; each reads what it needs."""
    for chosen, kept in [*FILTERS, *itertools.product(methods, ("hard", "soft", "inverse"))]:
        source = {"maps": maps} if chosen in methods else {"masks": masks} if chosen in OF_MASKS else {}
        for shown in ("image", "filter"):
            # The image with its whole foreground is the original, whose classifier is there already.
            if (chosen, shown) != ("foreground", "image"):
                params = {**training, "filter": chosen, "kept": kept, "shown": shown}
                yield planned.add("sneak_classifier", f"{label}-{chosen}-{kept}-{shown}", params, **images, **source)


def _network(resnet: dict[str, Any], study: SneakAttackConfig, architecture: str) -> dict[str, Any]:
    """Parameters of a classifier; the study trains each in the same way."""
    networks = {
        "resnet": resnet,
        "densenet": study.densenet.model_dump(),
        "efficientnet": study.efficientnet.model_dump(),
    }
    return {**networks[architecture], "architecture": architecture, "training": study.training.model_dump()}


def _methods(config: Config, study: SneakAttackConfig, network: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters of the methods; the layer of a ResNet becomes the one of the same size in another network."""
    methods: dict[str, dict[str, Any]] = {}
    for name in study.methods:
        configured = getattr(config.maps.methods, name, None)
        if configured is not None:
            methods[name] = {"layer": layer_of(network, configured.layer)}
        elif catalogue.METHODS[name].null:
            methods[name] = {}
    return methods
