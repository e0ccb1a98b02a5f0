"""Which refinements a configuration plans: a run for every chain from map to map and every fold."""

from __future__ import annotations

import itertools
from typing import Any

from weakseg import catalogue, keys
from weakseg.config_data import AnyDatasetConfig
from weakseg.runs import Plan


def map_chain(chain: str) -> str:
    """The part of a refinement chain that works on maps: `supervoxel+components` -> `supervoxel`."""
    steps = [step for step in chain.split("+") if step != "components"]
    return "+".join(steps) or "threshold"


def plan_refinements(
    plan: Plan, label: str, dataset: AnyDatasetConfig, data: dict[str, str], maps: list[list[str]]
) -> list[str]:
    """Send the maps of each fold through every chain of the configuration; the keys of these runs."""
    chains = dict.fromkeys(map_chain(chain) for chain in plan.config.refinements.chains)
    return [
        _plan_chain(plan, label, dataset, data, chain, of_fold)
        for chain in chains
        if chain != "threshold"
        for of_fold in maps
    ]


def _plan_chain(
    plan: Plan, label: str, dataset: AnyDatasetConfig, data: dict[str, str], chain: str, maps: list[str]
) -> str:
    """Settings, packages and supervoxels are named only where a step uses them, so that they change no other key."""
    steps = chain.split("+")
    params: dict[str, Any] = {"steps": steps}
    settings = {step: plan.config.refinements.parameters(step, dataset) for step in steps}
    if any(settings.values()):
        params["settings"] = {step: of_step for step, of_step in settings.items() if of_step}
    packages = keys.versions_of(itertools.chain(*(catalogue.STEP_PACKAGES.get(step, ()) for step in steps)))
    if packages:
        params["packages"] = packages
    upstream = {"maps": maps, "preprocess": [data["preprocess"]]}
    if "supervoxel" in steps:
        upstream["supervoxels"] = [data["supervoxels"]]
    fold = plan.runs[maps[0]].params["fold"]
    return plan.add("refinement", f"{label}-f{fold}-{chain.replace('+', '-')}", params, **upstream)
