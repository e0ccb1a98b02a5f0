"""The plan of each study, beside that of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weakseg import plan
from weakseg.config import Config
from weakseg.data.inventory import looked_at_once
from weakseg.errors import WeaksegError, nearest
from weakseg.runs import Plan, Run
from weakseg.studies.coin.plan import coin
from weakseg.studies.cross_modality.plan import cross_modality
from weakseg.studies.hemorrhage.plan import hemorrhage
from weakseg.studies.refinements.plan import refinements
from weakseg.studies.relevance_maps.plan import relevance_maps
from weakseg.studies.sneak_attack.plan import sneak_attack


def build_all(config: Config) -> dict[str, Plan]:
    """The plan behind each target of the workflow: ``all`` is the benchmark, and a study has its own name.

    Raises:
        WeaksegError: as :func:`weakseg.plan.build`.
    """
    studies = {
        "sneak_attack": sneak_attack,
        "coin": coin,
        "hemorrhage": hemorrhage,
        "refinements": refinements,
        "relevance_maps": relevance_maps,
        "cross_modality": cross_modality,
    }
    with looked_at_once():
        return {"all": plan.build(config), **{name: plan_of(config) for name, plan_of in studies.items()}}


def runs_of(plans: Mapping[str, Plan], targets: Iterable[str]) -> dict[str, Run]:
    """The runs behind some targets by key; ``studies`` stands for all but the benchmark.

    Raises:
        WeaksegError: there is no such target.
    """
    runs: dict[str, Run] = {}
    for target in targets:
        names = [name for name in plans if name != "all"] if target == "studies" else [target]
        for name in names:
            if name not in plans:
                raise WeaksegError(f"{name}: no such target{nearest(name, [*plans, 'studies'])}")
            runs |= plans[name].runs
    return runs
