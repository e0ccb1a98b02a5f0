"""The plan: which runs a configuration asks for, with which parameters, under which key. Pure and free of torch.

Every run is one Snakemake job and one folder, ``results/runs/<stage>/<label>-<key>/``. What does not apply is decided
here, never while running.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weakseg import catalogue
from weakseg.config import AnyDatasetConfig, Config, KitsConfig
from weakseg.data.inventory import content_digest
from weakseg.errors import WeaksegError
from weakseg.keys import canonical, run_key

RESULTS = Path("results")
STATE = RESULTS / ".state"
PHANTOMS = Path("data/phantoms")

PUBLISHED = {
    "collect": ("scores.parquet", "tables/left_out.csv"),
    "leaderboard": (
        "metrics.json",
        "tables/leaderboard.csv",
        "tables/leaderboard.md",
        "tables/leaderboard.tex",
        "tables/comparisons.csv",
        "tables/statistics.csv",
        "tables/ranks.csv",
        "tables/variances.csv",
        "tables/small_families.csv",
        "tables/classifiers.csv",
        "tables/labels.csv",
    ),
    "faithfulness_table": ("faithfulness.parquet", "tables/faithfulness.csv", "tables/faithfulness.md"),
    "figures": ("figures/overlays.png", "figures/dice.png", "figures/masks.png", "figures/forwards.png"),
    "models": ("models/{classifier}/weights.safetensors", "models/{classifier}/README.md"),
    "sneak_tables": (
        "tables/sneak_attack.csv",
        "tables/sneak_attack.md",
        "tables/sneak_attack_verdicts.csv",
        "tables/sneak_attack_verdicts.md",
        "tables/sneak_attack_dice.csv",
        "tables/sneak_attack_dice.md",
        "figures/sneak_attack.png",
    ),
}
"""What people look for, by the stage that makes it; `{classifier}` stands for the label of each classifier's run."""


@dataclass(frozen=True)
class Run:
    """One job: a stage with its parameters and the keys of the runs it reads, by role."""

    stage: str
    label: str
    params: dict[str, Any]
    upstream: dict[str, list[str]]
    key: str

    @property
    def folder(self) -> Path:
        """Where its result lies, relative to the working directory."""
        parent = PHANTOMS if self.stage == "phantom" else RESULTS / "runs" / self.stage
        return parent / f"{self.label}-{self.key}"

    @property
    def record(self) -> Path:
        """The file that is written last, and so stands for the whole result."""
        return self.folder / "run.json"


@dataclass
class Plan:
    """All runs of a configuration by key, each after what it reads."""

    config: Config
    runs: dict[str, Run] = field(default_factory=dict)

    def add(self, stage: str, label: str, params: dict[str, Any], **upstream: str | Sequence[str]) -> str:
        """Add a run and return its key; an equal run is added once."""
        keys = {role: [value] if isinstance(value, str) else list(value) for role, value in upstream.items()}
        params = json.loads(canonical(params))
        key = run_key(stage, catalogue.STAGES[stage].version, params, keys)
        self.runs[key] = Run(stage, label, params, keys, key)
        return key

    def of_stage(self, stage: str) -> list[Run]:
        return [run for run in self.runs.values() if run.stage == stage]

    def upstream_runs(self, run: Run) -> list[Run]:
        return [self.runs[key] for keys in run.upstream.values() for key in keys]

    @property
    def destination(self) -> Path:
        """Where tables, figures and models are published."""
        return RESULTS if self.config.name == "default" else RESULTS / self.config.name

    @property
    def published_runs(self) -> list[Run]:
        """The runs whose files are published."""
        return [run for stage in PUBLISHED for run in self.of_stage(stage)]

    @property
    def published(self) -> list[Path]:
        """The files that this configuration ends in."""
        patterns = [name for stage, names in PUBLISHED.items() if self.of_stage(stage) for name in names]
        labels = [run.label for run in self.of_stage("classifier")]
        names = [pattern.format(classifier=label) for pattern in patterns for label in labels]
        return [self.destination / name for name in dict.fromkeys(names)]

    def spec(self, run: Run) -> dict[str, Any]:
        """What a stage needs to run: its parameters and the folders it reads."""
        folders = {role: [str(self.runs[key].folder) for key in keys] for role, keys in run.upstream.items()}
        return {**asdict(run), "folder": str(run.folder), "upstream_folders": folders}

    def write_specs(self) -> None:
        """Write the spec file of every run that has none yet; a spec never changes under its key."""
        STATE.joinpath("specs").mkdir(parents=True, exist_ok=True)
        for run in self.runs.values():
            path = spec_file(run.key)
            if not path.exists():
                temporary = path.with_suffix(f".{os.getpid()}")
                temporary.write_text(json.dumps(self.spec(run), indent=1))
                temporary.replace(path)


def spec_file(key: str) -> Path:
    """The spec file of a run."""
    return STATE / "specs" / f"{key}.json"


def build(config: Config) -> Plan:
    """Plan every run of a configuration.

    Raises:
        WeaksegError: a data folder is missing, or a run that must not would read truth masks.
    """
    plan = Plan(config)
    every: list[dict[str, str]] = []
    scores: list[str] = []
    classifiers: list[str] = []
    explained: dict[str, list[str]] = {gate: [] for gate in config.maps.gate}
    faithful: dict[str, list[str]] = {"faithfulness": [], "repeatability": []}
    overlaid: list[str] = []
    for name, dataset in config.datasets.items():
        data = plan_data(plan, name, dataset)
        every.append(data)
        for seed in config.seeds:
            folds = range(dataset.split.folds)
            network = {"architecture": "resnet", **config.classifiers.resnet.model_dump()}
            networks = [plan_classifier(plan, name, data, network, seed, fold) for fold in folds]
            classifiers += networks
            for gate in config.maps.gate:
                maps: dict[str, list[str]] = {}
                blind: list[list[str]] = []
                for family, methods in _families(config, dataset).items():
                    keys = [
                        _plan_maps(plan, name, dataset, data, networks[fold], family, methods, gate, seed, fold)
                        for fold in folds
                    ]
                    # All nulls are scored in one job, though the mask of means is made in a stage of its own.
                    maps.setdefault("nulls" if family == "mean_mask" else family, []).extend(keys)
                    if family != "mean_mask":
                        blind.append(keys)
                for group, keys in maps.items():
                    scores.append(_plan_scores(plan, name, dataset, data, networks, keys, group, gate, seed))
                    if seed == config.seeds[0] and gate == config.maps.gate[0]:
                        overlaid += keys
                explained[gate] += [key for keys in blind for key in keys]
                for fold, of_fold in enumerate(zip(*blind, strict=True)):
                    faithful["faithfulness"].append(
                        _plan_faithfulness(plan, name, data, networks[fold], of_fold, gate, seed, fold)
                    )
    data_of = {role: [data[role] for data in every] for role in ("index", "preprocess", "truth", "labels")}
    collect = plan.add("collect", "all", {}, scores=scores)
    statistics = {"data_seed": config.data_seed, "bootstrap": config.protocol.bootstrap}
    board = plan.add(
        "leaderboard", "all", statistics, collect=collect, classifiers=classifiers, labels=data_of["labels"]
    )
    described = {role: data_of[role] for role in ("index", "preprocess", "labels")}
    plan.add("models", "all", {}, classifiers=classifiers, **described)
    if len(config.seeds) > 1:
        grids = {role: data_of[role] for role in ("index", "preprocess")}
        faithful["repeatability"] = [
            plan.add("repeatability", f"all{_gate_suffix(gate)}", _row_facts(gate), **grids, maps=maps_of_gate)
            for gate, maps_of_gate in explained.items()
        ]
    plan.add("faithfulness_table", "all", statistics, **faithful)
    shown = {
        "cases": config.report.overlay_cases,
        "regions": {name: data.region for name, data in config.datasets.items()},
        "minutes_per_mask": config.report.minutes_per_mask,
        "minutes_per_slice_label": config.report.minutes_per_slice_label,
    }
    pictured = {role: data_of[role] for role in ("index", "preprocess", "truth")}
    counted = [key for of_gate in explained.values() for key in of_gate]
    plan.add("figures", "all", shown, collect=collect, leaderboard=board, maps=overlaid, counted=counted, **pictured)
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
    index = plan.add("index", name, params, **upstream)
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
        "min_foreground_mm2": config.views.slice.min_foreground_mm2,
    }
    labels = plan.add("labels", name, labelling, preprocess=preprocess, truth=truth)
    supervoxels = plan.add("supervoxels", name, dataset.supervoxels.model_dump(), preprocess=preprocess)
    return {"index": index, "preprocess": preprocess, "truth": truth, "labels": labels, "supervoxels": supervoxels}


def _expand(path: str) -> Path:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise WeaksegError(f"config: data path {path}: the environment variable is not set; export it")
    return Path(expanded).expanduser().absolute()


def plan_classifier(plan: Plan, name: str, data: dict[str, str], network: dict[str, Any], seed: int, fold: int) -> str:
    """A slice classifier; ``network`` holds its architecture and training."""
    upstream = {role: data[role] for role in ("index", "preprocess", "labels")}
    label = f"{name}-slice-{network['architecture']}-s{seed}-f{fold}"
    return plan.add("classifier", label, {**network, "seed": seed, "fold": fold}, **upstream)


def _families(config: Config, dataset: AnyDatasetConfig) -> dict[str, dict[str, Any]]:
    """The methods of each family with their parameters."""
    parameters: dict[str, Any] = {
        name: method for name, method in config.maps.methods.model_dump().items() if method is not None
    }
    parameters |= {
        "random": {},
        "centre": {},
        "intensity": dataset.intensity.model_dump(),
        "untrained": config.maps.nulls.untrained.model_dump(),
        "mean_mask": {},
    }
    families: dict[str, dict[str, Any]] = {}
    for name, method in parameters.items():
        families.setdefault(catalogue.METHODS[name].family, {})[name] = method
    return families


def _plan_maps(
    plan: Plan,
    name: str,
    dataset: AnyDatasetConfig,
    data: dict[str, str],
    classifier: str,
    family: str,
    methods: dict[str, Any],
    gate: str,
    seed: int,
    fold: int,
) -> str:
    stage = "mean_mask" if family == "mean_mask" else "maps"
    params = {"methods": methods, "gate": gate, "seed": seed, "fold": fold}
    params["min_foreground_mm2"] = plan.config.views.slice.min_foreground_mm2
    upstream = {role: data[role] for role in ("index", "preprocess")}
    if stage == "mean_mask":
        params["region"] = dataset.region
        upstream["truth"] = data["truth"]
    label = f"{name}-slice-{family}{_gate_suffix(gate)}-s{seed}-f{fold}"
    return plan.add(stage, label, params, **upstream, classifier=classifier)


def _plan_scores(
    plan: Plan,
    name: str,
    dataset: AnyDatasetConfig,
    data: dict[str, str],
    classifiers: list[str],
    maps: list[str],
    family: str,
    gate: str,
    seed: int,
) -> str:
    """Refine the maps of all folds and score them together, so that the oracle's set is the whole test set."""
    config = plan.config
    map_chains = dict.fromkeys(_map_chain(chain) for chain in config.refinements.chains)
    refined = [
        plan.add(
            "refinement",
            f"{plan.runs[key].label}-{chain.replace('+', '-')}",
            {"steps": chain.split("+")},
            maps=key,
            preprocess=data["preprocess"],
            supervoxels=data["supervoxels"],
        )
        for chain in map_chains
        if chain != "threshold"
        for key in maps
    ]
    params = {
        "dataset": name,
        **_row_facts(gate),
        "region": dataset.region,
        "anatomy": dataset.foreground if dataset.foreground == "kidneys" else "none",
        "seed": seed,
        "chains": {chain: _map_chain(chain) for chain in config.refinements.chains},
        "components": config.refinements.components.model_dump(),
        "operating_points": config.protocol.operating_points,
        "val_k": config.protocol.val_k,
        "draws": config.protocol.draws,
        "data_seed": config.data_seed,
    }
    upstream = {role: data[role] for role in ("index", "preprocess", "truth", "labels")}
    label = f"{name}-slice-{family}{_gate_suffix(gate)}-s{seed}"
    return plan.add("scores", label, params, **upstream, classifiers=classifiers, maps=maps, refinements=refined)


def _plan_faithfulness(
    plan: Plan, name: str, data: dict[str, str], classifier: str, maps: Sequence[str], gate: str, seed: int, fold: int
) -> str:
    """Ask a fold's classifier about the maps of all families: its slices and baselines are the same for all."""
    config = plan.config
    params = {
        "dataset": name,
        **_row_facts(gate),
        **config.protocol.faithfulness.model_dump(),
        "min_foreground_mm2": config.views.slice.min_foreground_mm2,
        "data_seed": config.data_seed,
        "seed": seed,
        "fold": fold,
    }
    upstream = {role: data[role] for role in ("index", "preprocess")}
    label = f"{name}-slice{_gate_suffix(gate)}-s{seed}-f{fold}"
    return plan.add("faithfulness", label, params, **upstream, classifier=classifier, maps=maps)


def _row_facts(gate: str) -> dict[str, str]:
    """What rows of every table say of the maps behind them, of any data set."""
    return {"view": "slice", "classifier": "resnet", "gate": gate}


def _gate_suffix(gate: str) -> str:
    return "" if gate == "classifier" else "-ungated"


def _map_chain(chain: str) -> str:
    """The part of a refinement chain that works on maps: `supervoxel+components` -> `supervoxel`."""
    steps = [step for step in chain.split("+") if step != "components"]
    return "+".join(steps) or "threshold"
