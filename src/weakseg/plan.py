"""The plan of the benchmark: which runs a configuration asks for, with which parameters, under which key.

Pure and free of torch. What does not apply is decided here, never while running.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weakseg import catalogue
from weakseg.config import Config
from weakseg.config_data import AnyDatasetConfig, KitsConfig
from weakseg.data.inventory import content_digest
from weakseg.errors import WeaksegError
from weakseg.plan_references import plan_references
from weakseg.plan_refinements import chains_of, map_chain, plan_refinements
from weakseg.plan_views import View, layer_of, selector_of, views_of
from weakseg.runs import STATE, Plan

BLIND = ("classifier", "sequence_classifier", "volume_classifier", "map_fit", "maps", "refinement")
"""Stages that no result of a score may reach."""


def build(config: Config) -> Plan:
    """Plan every run of a configuration.

    Raises:
        WeaksegError: a data folder is missing, or a run that must not would read truth masks.
    """
    plan = Plan(config)
    every: list[dict[str, str]] = []
    scores: list[str] = []
    classifiers: list[str] = []
    explained: dict[str, list[str]] = {}
    repeated: dict[str, list[str]] = {}
    facts: dict[str, dict[str, str]] = {}
    faithful: dict[str, list[str]] = {"faithfulness": [], "repeatability": []}
    overlaid: list[str] = []
    for name, dataset in config.datasets.items():
        data = plan_data(plan, name, dataset)
        every.append(data)
        folds = range(dataset.split.folds)
        repetitions = [(view, seed) for view in views_of(config, name) for seed in view.seeds]
        asked: dict[tuple[str, str, int], list[tuple[str, list[str]]]] = {}
        for view, seed in repetitions:
            networks = [plan_classifier(plan, name, data, view, seed, fold) for fold in folds]
            classifiers += networks
            families = families_of(config, name, dataset, view, seed)
            for gate in view.gates:
                place = (view, gate, seed)
                maps = [
                    {
                        family: plan_maps(plan, name, dataset, data, networks[fold], family, methods, *place, fold)
                        for family, methods in families.items()
                    }
                    for fold in folds
                ]
                by_fold = [list(of_fold.values()) for of_fold in maps]
                scores.append(plan_scores(plan, name, dataset, data, networks, by_fold, *place))
                if seed == view.seeds[0] and gate == view.gates[0]:
                    overlaid += itertools.chain(*by_fold)
                kind = f"{view.name}{view.suffix(gate)}"
                facts[kind] = view.row_facts(gate)
                blind = [[key for family, key in of_fold.items() if family != "mean_mask"] for of_fold in maps]
                explained.setdefault(kind, []).extend(itertools.chain(*blind))
                if len(view.seeds) > 1:
                    repeated.setdefault(kind, []).extend(itertools.chain(*blind))
                for fold in folds:
                    asked.setdefault((view.name, gate, fold), []).append((networks[fold], blind[fold]))
        # Parts of slices are deleted and inserted, not of volumes.
        faithful["faithfulness"] += [
            _plan_faithfulness(plan, name, data, asked[view.name, gate, fold], view, gate, fold)
            for view in views_of(config, name)
            if view.name != "volume"
            for gate in view.gates
            for fold in folds
        ]
        scores += plan_references(plan, name, dataset, data)
    data_of = {role: [data[role] for data in every] for role in ("index", "preprocess", "truth", "labels")}
    counted = [key for of_kind in explained.values() for key in of_kind]
    regions = {"regions": {name: data.region for name, data in config.datasets.items()}}
    told = {role: data_of[role] for role in ("preprocess", "truth", "labels")}
    collect = plan.add("collect", "all", regions, scores=scores, classifiers=classifiers, maps=counted, **told)
    statistics = {"data_seed": config.data_seed, "bootstrap": config.protocol.bootstrap}
    board = plan.add("leaderboard", "all", {**statistics, "pairs": config.protocol.pairs}, collect=collect)
    described = {role: data_of[role] for role in ("index", "preprocess", "labels")}
    plan.add("models", "all", {}, classifiers=classifiers, **described)
    grids = {role: data_of[role] for role in ("index", "preprocess")}
    faithful["repeatability"] = [
        plan.add("repeatability", f"all-{kind}", facts[kind], **grids, maps=of_kind)
        for kind, of_kind in repeated.items()
    ]
    plan.add("faithfulness_table", "all", statistics, **faithful)
    shown = {
        "cases": config.report.overlay_cases,
        **regions,
        "minutes_per_mask": config.report.minutes_per_mask,
        "minutes_per_slice_label": config.report.minutes_per_slice_label,
        "minutes_per_grade": config.report.minutes_per_grade,
    }
    pictured = {role: data_of[role] for role in ("index", "preprocess", "truth")}
    plan.add("figures", "all", shown, collect=collect, leaderboard=board, maps=overlaid, **pictured)
    viewed = {"seed": config.seeds[0], "most_mb": config.report.viewer_mb}
    masked = [run.key for run in plan.of_stage("references")]
    volumes = {role: data_of[role] for role in ("preprocess", "truth")}
    plan.add("viewer", "all", viewed, collect=collect, maps=[*overlaid, *masked], **volumes)
    check_truth_access(plan)
    return plan


def check_truth_access(plan: Plan) -> None:
    """Refuse a plan in which a stage reads truth masks without being on the allow-list of the catalogue.

    Raises:
        WeaksegError: naming the run and what it would read.
    """
    allowed = {name for name, stage in catalogue.STAGES.items() if stage.purposes}
    for run in plan.runs.values():
        for source in plan.upstream_runs(run):
            if source.stage == "truth" and run.stage not in allowed:
                raise WeaksegError(f"{run.stage}/{run.label}: would read truth masks; only {sorted(allowed)} may")
            # A threshold that tested masks chose would make a student's pseudo-masks, or a map, out of them.
            if run.stage in BLIND and "oracle-set" in catalogue.STAGES[source.stage].purposes:
                raise WeaksegError(f"{run.stage}/{run.label}: would read {source.stage}, which tested masks decide")


def plan_data(plan: Plan, name: str, dataset: AnyDatasetConfig) -> dict[str, str]:
    """Index, preprocess, truth, labels and supervoxels of a data set; keys by stage."""
    config = plan.config
    facts = catalogue.DATASETS[name]
    params: dict[str, Any] = {
        "dataset": name,
        "modalities": dataset.files,
        "label_coding": dataset.label_coding,
        "split": dataset.split.model_dump(),
        "data_seed": config.data_seed,
    }
    upstream: dict[str, list[str]] = {"phantom": []}
    if dataset.is_phantom:
        for shifted, cases in ((False, dataset.phantom.cases), (True, dataset.phantom.shift_cases)):
            if cases:
                phantom = {
                    "phantom": facts.phantom,
                    "phantom_version": catalogue.PHANTOM_VERSIONS[facts.phantom],
                    "data_seed": config.data_seed,
                    "cases": cases,
                    "shape": dataset.phantom.shape,
                    "shifted": shifted,
                }
                label = f"{facts.phantom}-shift" if shifted else facts.phantom
                upstream["phantom"].append(plan.add("phantom", label, phantom))
    else:
        roots = [_expand(path) for path in (dataset.path, dataset.shift_path) if path is not None]
        params["roots"] = [str(root) for root in roots]
        params["digests"] = [content_digest(root, STATE / "inventory.json") for root in roots]
        if isinstance(dataset, KitsConfig) and dataset.healthy_path is not None:
            healthy = _expand(dataset.healthy_path)
            params["healthy_root"] = str(healthy)
            params["healthy_digest"] = content_digest(healthy, STATE / "inventory.json")
    return plan_grids(plan, name, dataset, plan.add("index", name, params, **upstream))


def plan_grids(plan: Plan, name: str, dataset: AnyDatasetConfig, index: str) -> dict[str, str]:
    """What :func:`plan_data` plans of the cases of an index."""
    organs = (
        {"anatomy": plan.add("anatomy", name, {"organ": "kidneys"}, index=index)}
        if dataset.foreground == "kidneys"
        else {}
    )
    grid = {
        "spacing": dataset.spacing,
        "size": dataset.size,
        "channels": dataset.channels,
        "windows": getattr(dataset, "windows", None),
        "foreground": dataset.foreground,
    }
    preprocess = plan.add("preprocess", name, grid, index=index, **organs)
    truth = plan.add("truth", name, {}, index=index, preprocess=preprocess)
    labelling = {
        "region": dataset.region,
        "min_lesion_mm2": dataset.min_lesion_mm2,
        "max_dropped": dataset.max_dropped,
        "min_foreground_mm2": plan.config.views.slice.min_foreground_mm2,
    }
    labels = plan.add("labels", name, labelling, preprocess=preprocess, truth=truth)
    supervoxels = plan.add("supervoxels", name, dataset.supervoxels.model_dump(), preprocess=preprocess)
    results = {"index": index, "preprocess": preprocess, "truth": truth, "labels": labels, "supervoxels": supervoxels}
    return results | organs


def _expand(path: str) -> Path:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise WeaksegError(f"config: data path {path}: the environment variable is not set; export it")
    return Path(expanded).expanduser().absolute()


def plan_classifier(plan: Plan, name: str, data: dict[str, str], view: View, seed: int, fold: int) -> str:
    """The classifier of a view."""
    upstream = {role: data[role] for role in ("preprocess", *view.labels)}
    label = f"{name}-{view.name}-{view.network['architecture']}-s{seed}-f{fold}"
    return plan.add(view.stage, label, {**view.network, "seed": seed, "fold": fold}, **upstream)


def families_of(
    config: Config, name: str, dataset: AnyDatasetConfig, view: View, seed: int
) -> dict[str, dict[str, Any]]:
    """The methods of each family with their parameters, of those that explain a view of a data set with a seed."""
    repetition = config.seeds.index(seed)
    parameters: dict[str, Any] = {
        method: settings.parameters
        for method, settings in config.maps.methods
        if settings is not None
        and settings.runs_on(f"{name}-{view.name}", repetition)
        and view.name in catalogue.METHODS[method].views
    }
    parameters |= {
        "random": {},
        "centre": {},
        "intensity": dataset.intensity.model_dump(),
        "untrained": config.maps.nulls.untrained.model_dump(),
        "mean_mask": {},
    }
    for method in list(parameters):
        source = catalogue.METHODS[method].fitted_as
        if source in parameters:
            parameters[method] = parameters[source] | dataset.intensity.model_dump(include={"channel", "sign"})
        elif source:
            del parameters[method]
    families: dict[str, dict[str, Any]] = {}
    linear_logit = catalogue.ARCHITECTURES[view.network["architecture"]].linear_logit
    if "cam" in parameters and linear_logit:
        parameters["cam"]["logit"] = linear_logit
    for method, of_method in parameters.items():
        if "layer" in of_method:
            of_method["layer"] = layer_of(view.network, of_method["layer"])
        families.setdefault(catalogue.METHODS[method].family, {})[method] = of_method
    return families


def plan_maps(
    plan: Plan,
    name: str,
    dataset: AnyDatasetConfig,
    data: dict[str, str],
    classifier: str,
    family: str,
    methods: dict[str, Any],
    view: View,
    gate: str,
    seed: int,
    fold: int,
) -> str:
    stage = "mean_mask" if family == "mean_mask" else "maps"
    params = {"methods": methods, "gate": gate, "fold": fold, "roles": view.roles, **view.units}
    upstream = {role: data[role] for role in ("index", "preprocess")}
    repetition = f"-s{seed}"
    if stage == "mean_mask":
        params["region"] = dataset.region
        upstream["truth"] = data["truth"]
    if any(catalogue.METHODS[method].needs_supervoxels for method in methods):
        upstream["supervoxels"] = data["supervoxels"]
    if stage == "mean_mask" and gate == "none":
        repetition = ""  # no classifier has a say, so it is the same for all seeds
    else:
        params["seed"] = seed
        upstream["classifier"] = classifier
    if any(catalogue.METHODS[method].fits for method in methods):
        # What is learnt is the same behind any gate, whatever is explained.
        learning = {key: value for key, value in params.items() if key not in ("gate", "roles")}
        learning["methods"] = {name: of for name, of in methods.items() if not catalogue.METHODS[name].fitted_as}
        label = f"{name}-{view.name}-{family}{repetition}-f{fold}"
        more = _plan_teachers(plan, name, data, methods, view, seed, fold)
        upstream["fitted"] = plan.add("map_fit", label, learning, **upstream, **more)
    label = f"{name}-{view.name}-{family}{view.suffix(gate)}{repetition}-f{fold}"
    return plan.add(stage, label, params, **upstream)


def _plan_teachers(
    plan: Plan, name: str, data: dict[str, str], methods: dict[str, Any], view: View, seed: int, fold: int
) -> dict[str, str]:
    """What methods read while they learn, beside what they read to explain: a judge, and organ masks."""
    upstream = {}
    if any(catalogue.METHODS[method].judged for method in methods):
        upstream["selector"] = plan_classifier(plan, name, data, *selector_of(view, seed), fold)
    if any(params.get("carl") for params in methods.values()):
        if "anatomy" not in data:
            raise WeaksegError(f"config: carl needs organ masks, which data.{name} has not; set carl to false")
        upstream["anatomy"] = data["anatomy"]
    return upstream


def plan_scores(
    plan: Plan,
    name: str,
    dataset: AnyDatasetConfig,
    data: dict[str, str],
    classifiers: list[str],
    maps: list[list[str]],
    view: View,
    gate: str,
    seed: int,
    what: str = "",
) -> str:
    """Refine the maps of each fold and score all together, so that the oracle's set is the whole test set."""
    config = plan.config
    repetition = f"{view.suffix(gate)}-s{seed}"
    refined = plan_refinements(plan, f"{name}-{view.name}{repetition}", dataset, data, maps)
    params = {
        "dataset": name,
        **view.row_facts(gate),
        "region": dataset.region,
        "anatomy": dataset.foreground if dataset.foreground == "kidneys" else "none",
        "seed": seed,
        "roles": view.roles,
        "chains": {chain: map_chain(chain) for chain in chains_of(config, seed)},
        "components": config.refinements.components.model_dump(),
        "operating_points": config.protocol.operating_points,
        "val_k": config.protocol.val_k,
        "draws": config.protocol.draws,
        "data_seed": config.data_seed,
    }
    upstream = {role: data[role] for role in ("index", "preprocess", "truth", "labels")}
    label = f"{name}-{view.name}{what}{repetition}"
    every = list(itertools.chain(*maps))
    return plan.add("scores", label, params, **upstream, classifiers=classifiers, maps=every, refinements=refined)


def _plan_faithfulness(
    plan: Plan,
    name: str,
    data: dict[str, str],
    asked: Sequence[tuple[str, Sequence[str]]],
    view: View,
    gate: str,
    fold: int,
) -> str:
    """Ask a fold's classifiers, one for each seed, about the maps of all families.

    A classifier's slices and baselines are the same for all of its maps.
    """
    config = plan.config
    params = {
        "dataset": name,
        **view.row_facts(gate),
        **config.protocol.faithfulness.model_dump(),
        **view.cutting,
        "data_seed": config.data_seed,
        "fold": fold,
    }
    classifiers, maps = [classifier for classifier, _ in asked], [key for _, of_one in asked for key in of_one]
    upstream = {role: data[role] for role in ("index", "preprocess")}
    if any("supervoxels" in plan.runs[key].upstream for key in maps):
        upstream["supervoxels"] = data["supervoxels"]
    label = f"{name}-{view.name}{view.suffix(gate)}-f{fold}"
    return plan.add("faithfulness", label, params, **upstream, classifier=classifiers, maps=maps)
