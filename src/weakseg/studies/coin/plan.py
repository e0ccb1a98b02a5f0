"""What the study of counterfactual inpainting runs, on kidney CT twice: with drawn anomalies, and with tumours.

Pure and free of torch, as :mod:`weakseg.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from weakseg import plan
from weakseg.config import Config
from weakseg.config_data import IntensityConfig, KitsConfig
from weakseg.config_studies import CoinStudyConfig
from weakseg.counterfactual.variants import TABLE_3
from weakseg.errors import WeaksegError
from weakseg.plan_counterfactuals import plan_counterfactuals
from weakseg.plan_views import View, evaluator_of, views_of
from weakseg.runs import Plan

DATASET = "kits"
FOLD = 0
"""As in the other studies: methods are compared with each other on one fold's test set."""
GATE = "classifier"
PEERS = ("scorecam", "layercam", "rise")
"""What the paper compares counterfactuals with; maps of the benchmark with its settings."""
LEARNT = ("coin", "singla")


@dataclass(frozen=True)
class Entry:
    """Maps that stand together in the study's tables.

    Attributes:
        table: ``peers``, ``table_3``, ``losses``, ``lengths`` or ``both``, which is COIN and Singla et al. together.
        row: its name there, or empty.
        maps: their runs.
        methods: parameters of those that were learnt; empty for ``peers``.
    """

    table: str
    row: str
    maps: list[str]
    methods: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One of the study's two data sets with the classifier that is explained, and the plan that its runs join.

    Attributes:
        name: ``anomalies`` or ``tumours``.
        label: of its runs; those on tumours are the benchmark's own.
    """

    planned: Plan
    name: str
    label: str
    dataset: KitsConfig
    data: dict[str, str]
    view: View
    seed: int

    @property
    def classifier(self) -> str:
        return plan.plan_classifier(self.planned, self.label, self.data, self.view, self.seed, FOLD)

    @property
    def families(self) -> dict[str, dict[str, Any]]:
        """Parameters of the methods by family, without the mean of masks: it explains no classifier."""
        families = plan.families_of(self.planned.config, DATASET, self.dataset, self.view, self.seed)
        return {family: methods for family, methods in families.items() if family != "mean_mask"}

    def explain(self, family: str, methods: dict[str, Any]) -> str:
        place = (self.view, GATE, self.seed, FOLD)
        return plan.plan_maps(
            self.planned, self.label, self.dataset, self.data, self.classifier, family, methods, *place
        )

    def peers(self) -> Entry:
        """All maps that nothing was learnt for."""
        families = {family: methods for family, methods in self.families.items() if family != "counterfactual"}
        return Entry("peers", "", [self.explain(family, methods) for family, methods in families.items()], {})

    def learnt(self, table: str, row: str, methods: dict[str, Any]) -> Entry:
        """Maps of generators, trained together."""
        return Entry(table, row, [self.explain("counterfactual", methods)], methods)

    def measure(self, entry: Entry) -> dict[str, str]:
        """Runs that say how good the maps of an entry are, by role."""
        what = "-".join(["", self.name, entry.table, *entry.row.split()]).lower()
        place = (self.view, GATE, self.seed)
        measured = {
            "scores": plan.plan_scores(
                self.planned, DATASET, self.dataset, self.data, [self.classifier], [entry.maps], *place, what
            )
        }
        if entry.methods:
            (fitted,) = self.planned.runs[entry.maps[0]].upstream["fitted"]
            judge = evaluator_of(self.planned.config, self.view, self.seed)
            evaluator = plan.plan_classifier(self.planned, self.label, self.data, *judge, FOLD)
            judging = (self.classifier, evaluator, fitted, entry.methods, self.view, self.seed, FOLD)
            measured["counterfactuals"] = plan_counterfactuals(self.planned, f"{DATASET}{what}", self.data, *judging)
            measured["fitted"] = fitted
        return measured


def coin(config: Config) -> Plan:
    """Plan the study of Shvetsov et al. 2024; empty if the configuration leaves it, its data or its methods out.

    Raises:
        WeaksegError: the data folder or organ masks are missing, or a run that must not would read truth masks.
    """
    study, dataset, methods = config.studies.coin, config.data.kits, config.maps.methods
    if study is None or dataset is None or methods.coin is None or methods.singla is None:
        return Plan(config)
    if dataset.foreground != "kidneys":
        raise WeaksegError(
            "config: studies.coin draws anomalies into organ masks; set data.kits.foreground to kidneys, or "
            "studies.coin to null"
        )
    planned = Plan(_as_benchmark(config, study))
    slices = next(view for view in views_of(planned.config, DATASET) if view.name == "slice")
    source = plan.plan_data(planned, DATASET, dataset)
    tumours = Part(planned, "tumours", DATASET, dataset, source, slices, study.seed)
    anomalies = Part(planned, "anomalies", "anomalies", *_plan_anomalies(planned, dataset, source), slices, study.seed)
    both = tumours.families["counterfactual"]
    entries = [
        (anomalies, anomalies.peers()),
        *((anomalies, anomalies.learnt(*row)) for row in _rows(study, both)),
        (tumours, tumours.peers()),
        (tumours, tumours.learnt("both", "", both)),
    ]
    measured: dict[str, list[str]] = {}
    for part, entry in entries:
        for role, key in part.measure(entry).items():
            measured.setdefault(role, []).append(key)
    reading = {
        "parts": [anomalies.name, tumours.name],
        "entries": [
            {
                "part": part.name,
                "table": entry.table,
                "row": entry.row,
                "methods": entry.methods,
                "maps": len(entry.maps),
            }
            for part, entry in entries
        ],
        "region": dataset.region,
        "data_seed": config.data_seed,
        "bootstrap": config.protocol.bootstrap,
        "fold": FOLD,
        **slices.units,
    }
    images = {
        role: [part.data[role] for part in (anomalies, tumours)] for role in ("index", "preprocess", "labels", "truth")
    }
    maps = [key for _, entry in entries for key in entry.maps]
    planned.add("coin_tables", DATASET, reading, **images, maps=maps, **measured)
    plan.check_truth_access(planned)
    return planned


def _as_benchmark(config: Config, study: CoinStudyConfig) -> Config:
    """The configuration for which the benchmark's plan has the study's maps and scores."""
    points = {"operating_points": ["label-free", "paper", "val-k", "oracle-set"], "val_k": [study.val_patients]}
    methods = {
        # Wherever else they run.
        name: settings.model_copy(update={"where": None}) if settings and name in (*PEERS, *LEARNT) else None
        for name, settings in config.maps.methods
    }
    return config.model_copy(
        update={
            "seeds": [study.seed],
            "maps": config.maps.model_copy(update={"methods": config.maps.methods.model_copy(update=methods)}),
            "refinements": config.refinements.model_copy(update={"chains": ["threshold"], "declared": None}),
            "protocol": config.protocol.model_copy(update=points),
        }
    )


def _plan_anomalies(planned: Plan, dataset: KitsConfig, source: dict[str, str]) -> tuple[KitsConfig, dict[str, str]]:
    """The data set with drawn anomalies: how it is read, and its runs by stage."""
    seed = planned.config.data_seed
    drawn_into = {role: source[role] for role in ("index", "anatomy", "truth")}
    drawn = planned.add("anomalies", "anomalies", {"data_seed": seed}, **drawn_into)
    # Every blob makes its slice a slice with a lesion; blobs are bright.
    bright = IntensityConfig(channel=dataset.intensity.channel)
    made = dataset.model_copy(update={"min_lesion_mm2": 0.0, "intensity": bright})
    params = {
        "dataset": DATASET,
        "modalities": made.files,
        "label_coding": made.label_coding,
        "split": {**made.split.model_dump(), "train_only": []},
        "data_seed": seed,
    }
    index = planned.add("index", "anomalies", params, phantom=drawn)
    return made, plan.plan_grids(planned, "anomalies", made, index)


def _rows(study: CoinStudyConfig, both: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Table, row and methods of each generator that is trained on anomalies.

    Rows A to G have the weights of Singla et al., ablations those of COIN, whatever the settings are; all have the
    study's length of training.
    """
    lasting = {"steps": study.steps, "checkpoint": study.steps // 4}
    both = {name: {**params, "training": {**params["training"], **lasting}} for name, params in both.items()}
    for row in study.rows:
        if row == "COIN":
            yield "table_3", row, {"coin": both["coin"]}
        else:
            variant = TABLE_3[row]
            own = {name: getattr(variant, name) for name in ("skips", "perturbation", "conditions", "carl")}
            yield "table_3", row, {"singla": {**both["singla"], **own}}
    for name in study.losses:
        yield "losses", f"without {name}", {"coin": {**both["coin"], name: 0.0}}
    for times in study.lengths:
        training = {**both["coin"]["training"], "steps": times * both["coin"]["training"]["steps"]}
        yield "lengths", f"{times}x", {"coin": {**both["coin"], "training": training}}
