"""What a plan is made of: runs with their keys and folders, their spec files, and what is published. Free of torch.

Every run is one Snakemake job and one folder, ``results/runs/<stage>/<label>-<key>/``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weakseg import catalogue
from weakseg.config import Config
from weakseg.keys import canonical, run_key

RESULTS = Path("results")
STATE = RESULTS / ".state"
PHANTOMS = Path("data/phantoms")

CROSS_MODALITY_TABLES = ("", "_differences", "_training", "_translation")
COIN_TABLES = ("coin", "coin_rows", "coin_differences", "coin_ranks")
HEMORRHAGE_TABLES = ("", "_differences", "_classifiers", "_variants", "_volumes", "_costs")

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
        "tables/k_curve.csv",
        "tables/k_curve.md",
    ),
    "faithfulness_table": ("faithfulness.parquet", "tables/faithfulness.csv", "tables/faithfulness.md"),
    "figures": (
        "figures/overlays-{panel}.png",
        "figures/dice.png",
        "figures/masks.png",
        "figures/k_curve.png",
        "figures/forwards.png",
    ),
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
    "coin_tables": (
        *(f"tables/{name}.{kind}" for name in COIN_TABLES for kind in ("csv", "md")),
        "figures/coin.png",
        "figures/coin_training.png",
    ),
    "hemorrhage_tables": (
        *(f"tables/hemorrhage{name}.{kind}" for name in HEMORRHAGE_TABLES for kind in ("csv", "md")),
        "figures/hemorrhage.png",
    ),
    "refinements_tables": ("tables/refinements.csv", "tables/refinements.md", "figures/refinements.png"),
    "relevance_tables": (
        "tables/relevance_maps.csv",
        "tables/relevance_maps.md",
        "tables/relevance_maps_differences.csv",
        "tables/relevance_maps_differences.md",
        "tables/relevance_maps_variants.csv",
        "tables/relevance_maps_variants.md",
        "tables/relevance_maps_classifiers.csv",
        "tables/relevance_maps_classifiers.md",
        "figures/relevance_maps.png",
    ),
    "cross_modality_tables": (
        *(f"tables/cross_modality{name}.{kind}" for name in CROSS_MODALITY_TABLES for kind in ("csv", "md")),
        "figures/cross_modality.png",
        "figures/cross_modality_curve.png",
    ),
}
"""What people look for, by the stage that makes it.

`{classifier}` stands for the label of each classifier's run, `{panel}` for each data set and view.
"""


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
        # Judges are classifiers too, but none of those that are published.
        labels = [self.runs[key].label for run in self.of_stage("models") for key in run.upstream["classifiers"]]
        panels = dict.fromkeys("-".join(label.split("-")[:2]) for label in labels)
        names = [
            pattern.format(classifier=label, panel=panel)
            for pattern in patterns
            for label in (labels if "{classifier}" in pattern else [""])
            for panel in (panels if "{panel}" in pattern else [""])
        ]
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
