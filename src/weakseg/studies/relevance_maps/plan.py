"""What the study of relevance maps runs: the benchmark on volumes, with methods and operating points of its own.

Pure and free of torch, as :mod:`weakseg.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from weakseg import catalogue, plan
from weakseg.config import Config
from weakseg.config_data import BratsConfig
from weakseg.config_studies import RelevanceMapsConfig
from weakseg.plan_views import views_of
from weakseg.runs import Plan

DATASET = "brats"
FOLD = 0
"""As in the sneak attack: methods are compared with each other on one fold's test set."""
SNAPPED = "supervoxel"
"""The refinement after which methods are compared."""


class Variant(NamedTuple):
    """One change of one method: its changed parameters, and the supervoxels that it is given."""

    method: str
    change: str
    value: str
    params: dict[str, Any]
    supervoxels: str


def relevance_maps(config: Config) -> Plan:
    """Plan the study of Rajapaksa & Khalvati 2022; empty if the configuration leaves it or its data set out.

    Raises:
        WeaksegError: the data folder is missing, or a run that must not would read truth masks.
    """
    study, dataset = config.studies.relevance_maps, config.data.brats
    if study is None or dataset is None:
        return Plan(config)
    planned = Plan(_as_benchmark(config, study))
    data = plan.plan_data(planned, DATASET, dataset)
    volumes = next(view for view in views_of(planned.config, DATASET) if view.name == "volume")
    view = replace(volumes, roles=("test", "val"))
    regions = [dataset.model_copy(update={"region": region}) for region in study.regions]
    first = study.seeds[0]
    classifiers: list[str] = []
    maps: list[str] = []
    scores: list[str] = []
    variants: list[str] = []
    tried: list[dict[str, str]] = []
    for seed in study.seeds:
        network = plan.plan_classifier(planned, DATASET, data, view, seed, FOLD)
        families = plan.families_of(planned.config, DATASET, dataset, view, seed)
        # A mean of masks is of no use where the question is what a classifier's evidence shows.
        del families["mean_mask"]
        place = (view, "none", seed)
        explained = [
            plan.plan_maps(planned, DATASET, dataset, data, network, family, methods, *place, FOLD)
            for family, methods in families.items()
        ]
        scores += [
            plan.plan_scores(planned, DATASET, region, data, [network], [explained], *place, f"-{region.region}")
            for region in regions
        ]
        classifiers.append(network)
        maps += explained
        for variant in _variants(planned, study, dataset, data, families) if seed == first else ():
            method, change, value, params, supervoxels = variant
            given = {**data, "supervoxels": supervoxels}
            family = catalogue.METHODS[method].family
            of_variant = plan.plan_maps(
                planned, DATASET, dataset, given, network, family, {method: params}, *place, FOLD
            )
            label = f"-{change}-{value}".replace(".", "_")
            variants.append(
                plan.plan_scores(planned, DATASET, regions[0], data, [network], [[of_variant]], *place, label)
            )
            tried.append({"method": method, "change": change, "value": value})
    reading = {
        "region": study.regions[0],
        "refinement": SNAPPED,
        "seeds": study.seeds,
        "tried": tried,
        "stem_stride": view.network["stem_stride"],
        "data_seed": config.data_seed,
        "bootstrap": config.protocol.bootstrap,
        "fold": FOLD,
        **view.units,
    }
    images = {role: data[role] for role in ("index", "preprocess", "truth", "supervoxels")}
    results = {"classifiers": classifiers, "maps": maps, "scores": scores, "variants": variants}
    planned.add("relevance_tables", DATASET, reading, **images, **results)
    plan.check_truth_access(planned)
    return planned


def _as_benchmark(config: Config, study: RelevanceMapsConfig) -> Config:
    """The configuration for which the benchmark's plan has the study's maps and scores."""
    points = {"operating_points": ["label-free", "val-k"], "val_k": [study.val_patients]}
    return config.model_copy(
        update={
            "seeds": study.seeds,
            "views": config.views.model_copy(update={"volume": study.volume}),
            "maps": config.maps.model_copy(update={"methods": study.methods.alone}),
            "refinements": config.refinements.model_copy(update={"chains": ["threshold", SNAPPED], "declared": None}),
            "protocol": config.protocol.model_copy(update=points),
        }
    )


def _variants(
    planned: Plan,
    study: RelevanceMapsConfig,
    dataset: BratsConfig,
    data: dict[str, str],
    families: dict[str, dict[str, Any]],
) -> Iterator[Variant]:
    relevance = families["relevance"]["relevance_map"]
    optimal = families["optimal"]["optimal_perturbation"]
    for segments in study.variants.segments:
        cutting = {**dataset.supervoxels.model_dump(), "segments": segments}
        supervoxels = planned.add("supervoxels", DATASET, cutting, preprocess=data["preprocess"])
        yield Variant("relevance_map", "segments", str(segments), relevance, supervoxels)
    for fill in study.variants.fills:
        yield Variant("relevance_map", "fill", fill, {**relevance, "fills": [fill]}, data["supervoxels"])
    for area in study.variants.areas:
        changed = {**optimal, "area": area}
        yield Variant("optimal_perturbation", "area", f"{area:g}", changed, data["supervoxels"])
