"""The plan of each study, beside that of the benchmark."""

from __future__ import annotations

from weakseg import plan
from weakseg.config import Config
from weakseg.runs import Plan
from weakseg.studies.relevance_maps.plan import relevance_maps
from weakseg.studies.sneak_attack.plan import sneak_attack


def build_all(config: Config) -> dict[str, Plan]:
    """The plan behind each target of the workflow: ``all`` is the benchmark, and a study has its own name.

    Raises:
        WeaksegError: as :func:`weakseg.plan.build`.
    """
    return {"all": plan.build(config), "sneak_attack": sneak_attack(config), "relevance_maps": relevance_maps(config)}
