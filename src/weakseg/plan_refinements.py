"""Which refinements a configuration plans: a run for every fold, with all its chains from map to map."""

from __future__ import annotations

import itertools
from typing import Any

from weakseg import catalogue, keys
from weakseg.config import Config
from weakseg.config_data import AnyDatasetConfig
from weakseg.runs import Plan, Run

STUDENT = "student"


def map_chain(chain: str) -> str:
    """The part of a refinement chain that works on maps: `supervoxel+components` -> `supervoxel`."""
    steps = [step for step in chain.split("+") if step != "components"]
    return "+".join(steps) or "threshold"


def chains_of(config: Config, seed: int) -> list[str]:
    """The chains of a repetition, those for every map first."""
    settings = config.refinements
    declared = settings.declared
    runs = declared is not None and seed in config.seeds[: declared.seeds]
    return [*settings.chains, *(declared.chains if declared is not None and runs else [])]


def plan_refinements(
    plan: Plan, label: str, dataset: AnyDatasetConfig, data: dict[str, str], maps: list[list[str]]
) -> list[str]:
    """Send the maps of each fold through the chains of the configuration; the keys of these runs."""
    keys_of_runs = []
    for of_fold in maps:
        runs = [plan.runs[key] for key in of_fold]
        chains = dict(_chains(plan.config, runs))
        if chains:
            keys_of_runs.append(_plan_fold(plan, label, dataset, data, chains, runs))
    return keys_of_runs


def _chains(config: Config, runs: list[Run]) -> list[tuple[str, list[str] | None]]:
    """Chains from map to map, and the methods that each is for; None is all.

    What does not apply is left out: students learn from slice labels, and the declared map is one of slices.
    """
    settings, declared = config.refinements, config.refinements.declared
    explained = [method for run in runs for method in run.params["methods"]]
    slices = runs[0].params["view"] != "volume"
    taught = [method for method in settings.student.methods if method in explained and slices]
    planned: dict[str, list[str] | None] = {}
    for chain in map(map_chain, settings.chains):
        planned[chain] = taught if STUDENT in chain.split("+") else None
    seeds = {run.params["seed"] for run in runs if "seed" in run.params}
    if (
        declared is not None
        and declared.method in explained
        and slices
        and seeds <= set(config.seeds[: declared.seeds])
    ):
        for chain in map(map_chain, declared.chains):
            planned.setdefault(chain, [declared.method])
    return [(chain, of_chain) for chain, of_chain in planned.items() if chain != "threshold" and of_chain != []]


def _plan_fold(
    plan: Plan,
    label: str,
    dataset: AnyDatasetConfig,
    data: dict[str, str],
    chains: dict[str, list[str] | None],
    runs: list[Run],
) -> str:
    """Settings, packages and supervoxels are named only where a step uses them, so that they change no other key."""
    steps = list(dict.fromkeys(itertools.chain(*(chain.split("+") for chain in chains))))
    params: dict[str, Any] = {"chains": chains}
    settings = {step: plan.config.refinements.parameters(step, dataset) for step in steps}
    if any(settings.values()):
        params["settings"] = {step: of_step for step, of_step in settings.items() if of_step}
    packages = keys.versions_of(itertools.chain(*(catalogue.STEP_PACKAGES.get(step, ()) for step in steps)))
    if packages:
        params["packages"] = packages
    upstream: dict[str, Any] = {"maps": [run.key for run in runs], "preprocess": data["preprocess"]}
    if "supervoxel" in steps:
        upstream["supervoxels"] = data["supervoxels"]
    if STUDENT in steps:
        taught = {
            method for chain, of_chain in chains.items() if STUDENT in chain.split("+") for method in of_chain or ()
        }
        teaching, read = _teaching(runs, taught, data)
        params |= teaching
        upstream |= read
    return plan.add("refinement", f"{label}-f{runs[0].params['fold']}", params, **upstream)


def _teaching(runs: list[Run], taught: set[str], data: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What explains training cases as some methods explained others: parameters, and runs by role."""
    explaining = [run for run in runs if taught & set(run.params["methods"])]
    params = {name: value for name, value in explaining[0].params.items() if name not in ("methods", "roles")}
    params["methods"] = {
        name: value for run in explaining for name, value in run.params["methods"].items() if name in taught
    }
    upstream = {"index": data["index"], "labels": data["labels"]}
    for run in explaining:
        upstream |= {role: run.upstream[role][0] for role in ("classifier", "supervoxels") if role in run.upstream}
        if "fitted" in run.upstream:
            (family,) = {catalogue.METHODS[name].family for name in run.params["methods"]}
            upstream[f"fitted_{family}"] = run.upstream["fitted"][0]
    return params, upstream
