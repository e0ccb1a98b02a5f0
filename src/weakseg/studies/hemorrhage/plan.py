"""What the study of haemorrhage segmentation runs: the benchmark on head CT, with sequences of several lengths.

Pure and free of torch, as :mod:`weakseg.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weakseg import plan
from weakseg.config import Config
from weakseg.config_data import InstanceConfig, SequenceViewConfig
from weakseg.config_maps import CamConfig
from weakseg.config_studies import HemorrhageConfig
from weakseg.plan_views import View, sequence_view, views_of
from weakseg.runs import Plan

DATASET = "instance"
FOLD = 0
"""As in the other studies: methods are compared with each other on one fold's test set."""
METHOD, NULL = "gradcam", "intensity"
CHAINS = (
    "threshold",
    "components",
    "clusters",
    "clusters+components",
    "clusters+student",
    "clusters+student+components",
)
"""With :data:`METHOD`: CAM only, both, student. With :data:`NULL`: plain intensity, and pseudo-masks without a CAM."""


@dataclass(frozen=True)
class Arm:
    """A classifier with the maps and scores behind it.

    Attributes:
        view: what it sees; of sequences, how many slices.
        seed: repetition.
        share: of the training patients that are labelled.
        gate: as in ``maps.gate``.
        compared: whether it is one of those that are repeated and compared, not a variant.
    """

    view: View
    seed: int
    share: float = 1.0
    gate: str = "classifier"
    compared: bool = True

    @property
    def slices(self) -> int:
        return int(self.view.cutting["window"]["slices"]) if self.view.name == "sequence" else 1

    @property
    def facts(self) -> dict[str, Any]:
        """What the study's tables say of it."""
        own = {"slices": self.slices, "share": self.share, "seed": self.seed, "compared": self.compared}
        return {**self.view.row_facts(self.gate), **own}


def hemorrhage(config: Config) -> Plan:
    """Plan the study of Ramananda & Sundaresan 2023; empty if the configuration leaves it, its data or Grad-CAM out.

    Raises:
        WeaksegError: the data folder is missing, or a run that must not would read truth masks.
    """
    study, dataset = config.studies.hemorrhage, config.data.instance
    if study is None or dataset is None or config.maps.methods.gradcam is None:
        return Plan(config)
    planned = Plan(_as_benchmark(config, study))
    data = plan.plan_data(planned, DATASET, dataset)
    arms = _arms(planned.config, study)
    keys = [_plan_arm(planned, dataset, data, arm) for arm in arms]
    by_role = {role: [of_arm[role] for of_arm in keys] for role in ("classifier", "refinement", "scores")}
    first = next(place for place, arm in enumerate(arms) if arm.view.name == "sequence")
    settings = planned.config.refinements.parameters("clusters", dataset)
    timing = {
        "gate": "classifier",
        "methods": planned.runs[keys[first]["cam"]].params["methods"],
        "clusters": settings,
        "student": f"clusters+student-{METHOD}",
        "cases": study.timed_cases,
        "seed": arms[first].seed,
        "fold": FOLD,
        **arms[first].view.units,
    }
    asked = {"classifier": keys[first]["classifier"], "refinement": keys[first]["refinement"]}
    images = {role: data[role] for role in ("index", "preprocess")}
    costs = planned.add("hemorrhage_costs", DATASET, timing, **images, **asked)
    reading = {
        "arms": [arm.facts for arm in arms],
        "shown": first,
        "method": METHOD,
        "null": NULL,
        "margin": study.margin,
        "region": dataset.region,
        "channel": dataset.intensity.channel,
        "data_seed": config.data_seed,
        "bootstrap": config.protocol.bootstrap,
        "fold": FOLD,
    }
    planned.add(
        "hemorrhage_tables",
        DATASET,
        reading,
        **images,
        labels=data["labels"],
        truth=data["truth"],
        classifiers=by_role["classifier"],
        scores=by_role["scores"],
        maps=keys[first]["cam"],
        refinement=keys[first]["refinement"],
        costs=costs,
    )
    plan.check_truth_access(planned)
    return planned


def _as_benchmark(config: Config, study: HemorrhageConfig) -> Config:
    """The configuration for which the benchmark's plan has the study's maps and scores."""
    points = {"operating_points": ["label-free", "val-k", "oracle-set"], "val_k": [study.val_patients]}
    methods = {name: None for name, _ in config.maps.methods} | {METHOD: CamConfig(layer=study.layer)}
    student = config.refinements.student.model_copy(update={"methods": [METHOD]})
    chains = {"chains": list(CHAINS), "declared": None, "student": student}
    return config.model_copy(
        update={
            "seeds": study.seeds,
            "maps": config.maps.model_copy(update={"methods": config.maps.methods.model_copy(update=methods)}),
            "refinements": config.refinements.model_copy(update=chains),
            "protocol": config.protocol.model_copy(update=points),
        }
    )


def _arms(config: Config, study: HemorrhageConfig) -> list[Arm]:
    """ResNet and ResNet-LSTM with every seed; with the first, other lengths, fewer patients, and no gate."""
    slices = next(view for view in views_of(config, DATASET) if view.name == "slice")

    def sequences(length: int) -> View:
        return sequence_view(config, DATASET, SequenceViewConfig(slices=length, distance_mm=study.distance_mm))

    base, first = sequences(study.slices), study.seeds[0]
    return [
        *(Arm(view, seed) for view in (slices, base) for seed in study.seeds),
        *(Arm(sequences(length), first, compared=False) for length in study.lengths if length != study.slices),
        *(Arm(base, first, share=share, compared=False) for share in study.shares),
        Arm(base, first, gate="none", compared=False),
    ]


def _plan_arm(planned: Plan, dataset: InstanceConfig, data: dict[str, str], arm: Arm) -> dict[str, str]:
    """The runs of an arm by role: ``classifier``, ``cam``, ``refinement`` and ``scores``."""
    name, what = DATASET, ""
    if arm.share < 1:
        name = f"{DATASET}_{round(100 * arm.share)}"
        fewer = {"share": arm.share, "fold": FOLD, "data_seed": planned.config.data_seed}
        data = {
            **data,
            "labels": planned.add("hemorrhage_share", name, fewer, index=data["index"], labels=data["labels"]),
        }
        what = f"-share{round(100 * arm.share)}"
    if arm.view.name == "sequence":
        what += f"-k{arm.slices}"
    classifier = plan.plan_classifier(planned, name, data, arm.view, arm.seed, FOLD)
    families = plan.families_of(planned.config, DATASET, dataset, arm.view, arm.seed)
    chosen = {"cam": families["cam"]}
    if arm.compared:
        chosen["nulls"] = {NULL: families["nulls"][NULL]}
    place = (arm.view, arm.gate, arm.seed)
    maps = {
        family: plan.plan_maps(planned, name, dataset, data, classifier, family, methods, *place, FOLD)
        for family, methods in chosen.items()
    }
    scores = plan.plan_scores(planned, DATASET, dataset, data, [classifier], [list(maps.values())], *place, what)
    (refinement,) = planned.runs[scores].upstream["refinements"]
    return {"classifier": classifier, "cam": maps["cam"], "refinement": refinement, "scores": scores}
