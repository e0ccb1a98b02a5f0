"""What a plan is made of: runs with their keys and folders, their spec files, and what is published. Free of torch.

Every run is one Snakemake job and one folder, ``results/runs/<stage>/<label>-<key>/``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weakseg import catalogue
from weakseg.config import Config
from weakseg.keys import canonical, digest_of, run_key

RESULTS = Path("results")
STATE = RESULTS / ".state"
PHANTOMS = Path("data/phantoms")
MANIFESTS = Path("manifests")
"""Beside what is published: which runs gave it, and the checksum of each file."""

CROSS_MODALITY_TABLES = ("", "_differences", "_training", "_translation")
COIN_TABLES = ("coin", "coin_rows", "coin_differences", "coin_ranks")
RELEVANCE_TABLES = ("", "_differences", "_variants", "_classifiers")
HEMORRHAGE_TABLES = ("", "_differences", "_classifiers", "_variants", "_volumes", "_costs")

TABLE_FORMATS = ("csv", "md", "tex")
FIGURE_FORMATS = ("png", "svg", "pdf")


def _tables(*names: str) -> tuple[str, ...]:
    return tuple(f"tables/{name}.{kind}" for name in names for kind in TABLE_FORMATS)


def _figures(*names: str) -> tuple[str, ...]:
    return tuple(f"figures/{name}.{kind}" for name in names for kind in FIGURE_FORMATS)


PUBLISHED: dict[str, tuple[str, ...]] = {
    "collect": ("scores.parquet", "records.json"),
    "leaderboard": (
        "metrics.json",
        *_tables("leaderboard", "k_curve", "statistics", "classifiers", "labels", "left_out"),
        *_tables("failures", "failures_worst", "responses"),
        # Too long to be read.
        *(f"tables/{name}.csv" for name in ("comparisons", "pairs", "ranks", "variances", "small_families")),
    ),
    "faithfulness_table": ("faithfulness.parquet", *_tables("faithfulness")),
    "figures": (
        *_figures("overlays-{panel}", "failures-{panel}"),
        *_figures("dice", "ranks", "masks", "k_curve", "forwards", "thresholds", "responses", "failures"),
    ),
    "models": ("models/{classifier}/weights.safetensors", "models/{classifier}/README.md"),
    "sneak_tables": (
        *_tables("sneak_attack", "sneak_attack_verdicts", "sneak_attack_dice"),
        *_figures("sneak_attack"),
    ),
    "coin_tables": (*_tables(*COIN_TABLES), *_figures("coin", "coin_training")),
    "hemorrhage_tables": (*_tables(*(f"hemorrhage{name}" for name in HEMORRHAGE_TABLES)), *_figures("hemorrhage")),
    "refinements_tables": (*_tables("refinements"), *_figures("refinements")),
    "relevance_tables": (
        *_tables(*(f"relevance_maps{name}" for name in RELEVANCE_TABLES)),
        *_figures("relevance_maps"),
    ),
    "cross_modality_tables": (
        *_tables(*(f"cross_modality{name}" for name in CROSS_MODALITY_TABLES)),
        *_figures("cross_modality", "cross_modality_curve"),
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
    def page(self) -> Path:
        """The page that tells of everything there; beside what is published, as it names times and failures too."""
        return self.destination / "report.html"

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
        return [*(self.destination / name for name in dict.fromkeys(names)), *([self.manifest] if names else [])]

    @property
    def manifest(self) -> Path:
        """The file that says, once all others are published, what they are."""
        return self.destination / manifest_of(run.key for run in self.published_runs)

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


def manifest_of(keys: Iterable[str]) -> str:
    """Where the manifest of what was published from some runs lies, below what is published.

    Its name comes from their keys: all other published files have the same name whatever the configuration, the
    manifest has not. So what another configuration published never passes for what this one asks for.
    """
    return str(MANIFESTS / f"{digest_of(sorted(keys))}.json")


def spec_file(key: str) -> Path:
    """The spec file of a run."""
    return STATE / "specs" / f"{key}.json"


def read_run(key: str) -> Run:
    """The run that a spec file was written of."""
    spec = json.loads(spec_file(key).read_text())
    return Run(**{name: spec[name] for name in Run.__dataclass_fields__})
