"""Which supervised references a configuration plans: a training run for each family and fold. Free of torch."""

from __future__ import annotations

from typing import Any

from weakseg import catalogue
from weakseg.config_data import AnyDatasetConfig
from weakseg.runs import Plan

SUPERVISED = {"view": "supervised", "classifier": "none", "gate": "none"}
"""What rows say of references: there is no classifier behind them, and no gate before them."""
ROLES = ("test", "shift")


def plan_references(plan: Plan, name: str, dataset: AnyDatasetConfig, data: dict[str, str]) -> list[str]:
    """Train the references of a data set and score all of a seed together; the keys of the ``scores`` runs."""
    config = plan.config
    families: dict[str, dict[str, Any]] = {}
    for method in config.references.methods:
        facts = catalogue.REFERENCES[method]
        if name in facts.datasets and set(facts.modalities) <= set(dataset.channels):
            params = config.references.parameters(method, name)
            if facts.regions:
                # Every region is learnt; the last weights are kept, so no validation mask is opened.
                of_regions = {"regions": facts.regions, "region": dataset.region, "channels": dataset.channels}
                params |= {**of_regions, "validates": False}
            families.setdefault(facts.family, {})[method] = params
    if not families:
        return []
    seeds = config.seeds[: config.references.seeds]
    return [_plan_seed(plan, name, dataset, data, families, seed, draw) for draw, seed in enumerate(seeds)]


def _plan_seed(
    plan: Plan,
    name: str,
    dataset: AnyDatasetConfig,
    data: dict[str, str],
    families: dict[str, dict[str, Any]],
    seed: int,
    draw: int,
) -> str:
    """Each repetition has a draw of masks of its own: that of the same number behind `val-k`."""
    config = plan.config
    upstream = {role: data[role] for role in ("index", "preprocess", "truth", "labels")}
    shared = {"dataset": name, "region": dataset.region, "roles": ROLES, "seed": seed}
    trained = [
        plan.add(
            "references",
            f"{name}-{family}-s{seed}-f{fold}",
            {**shared, "methods": methods, "fold": fold, "draw": draw, "data_seed": config.data_seed},
            **upstream,
        )
        for fold in range(dataset.split.folds)
        for family, methods in families.items()
    ]
    params = {
        **shared,
        **SUPERVISED,
        "anatomy": dataset.foreground if dataset.foreground == "kidneys" else "none",
        "chains": {"threshold": "threshold"},
        "components": config.refinements.components.model_dump(),
        "operating_points": ["fixed"],
        "val_k": [],
        "draws": config.protocol.draws,
        "data_seed": config.data_seed,
    }
    label = f"{name}-supervised-s{seed}"
    return plan.add("scores", label, params, **upstream, classifiers=[], maps=trained, refinements=[])
