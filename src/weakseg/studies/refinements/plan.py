"""Every map through every refinement: the benchmark's maps of slices of one seed, with more chains.

Pure and free of torch, as :mod:`weakseg.plan`.
"""

from __future__ import annotations

from weakseg import plan
from weakseg.config import Config
from weakseg.config_studies import RefinementsStudyConfig
from weakseg.plan_views import views_of
from weakseg.runs import Plan

FOLD = 0
"""As in the other studies: methods are compared with each other on one fold's test set."""


def refinements(config: Config) -> Plan:
    """Plan the target ``refinements``; empty if the configuration leaves it out.

    Raises:
        WeaksegError: a data folder is missing, or a run that must not would read truth masks.
    """
    study = config.studies.refinements
    if study is None:
        return Plan(config)
    planned = Plan(_as_benchmark(config, study))
    gate = config.maps.gate[0]
    scores = []
    for name, dataset in config.datasets.items():
        data = plan.plan_data(planned, name, dataset)
        view = next(view for view in views_of(planned.config, name) if view.name == "slice")
        seed = planned.config.seeds[0]
        classifier = plan.plan_classifier(planned, name, data, view, seed, FOLD)
        families = plan.families_of(planned.config, name, dataset, view, seed)
        place = (view, gate, seed)
        maps = [
            plan.plan_maps(planned, name, dataset, data, classifier, family, methods, *place, FOLD)
            for family, methods in families.items()
        ]
        scores.append(plan.plan_scores(planned, name, dataset, data, [classifier], [maps], *place, "-refinements"))
    settings = {"data_seed": config.data_seed, "bootstrap": config.protocol.bootstrap}
    planned.add("refinements_tables", "all", settings, scores=scores)
    plan.check_truth_access(planned)
    return planned


def _as_benchmark(config: Config, study: RefinementsStudyConfig) -> Config:
    """The configuration for which the benchmark's plan has these maps and scores."""
    points = {"operating_points": ["label-free", "val-k"], "val_k": [study.val_patients]}
    chains = {"chains": ["threshold", *study.chains], "declared": None}
    return config.model_copy(
        update={
            # The first, with which every method runs.
            "seeds": config.seeds[:1],
            "refinements": config.refinements.model_copy(update=chains),
            "protocol": config.protocol.model_copy(update=points),
        }
    )
