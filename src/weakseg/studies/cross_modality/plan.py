"""What the study of cross-modality learning runs: CycleGANs without labels, then networks that segment regions.

Pure and free of torch, as :mod:`weakseg.plan`.
"""

from __future__ import annotations

from typing import Any

from weakseg import plan
from weakseg.config import Config
from weakseg.config_studies import CrossModalityConfig
from weakseg.runs import Plan
from weakseg.studies.cross_modality.rows import ROWS, Row

DATASET = "brats"
FOLD = 0
"""As in the other studies: rows are compared with each other on one fold's test set."""
TRANSITIONS = {"cmft": "cross", "self": "self"}
"""Into what generators translate, by the initial weights that they give."""
MODALITIES = {"t1", "t1ce", "t2", "flair"}


def cross_modality(config: Config) -> Plan:
    """Plan the study of Zhang et al. 2021; empty if the configuration leaves it, its data set or a modality out.

    Raises:
        WeaksegError: the data folder is missing, or a run that must not would read truth masks.
    """
    study, dataset = config.studies.cross_modality, config.data.brats
    if study is None or dataset is None or not set(dataset.channels) >= MODALITIES:
        return Plan(config)
    planned = Plan(config)
    data = plan.plan_data(planned, DATASET, dataset)
    rows = [ROWS[name] for name in study.rows]
    transitions: list[str] = []
    trained: list[str] = []
    for seed in study.seeds:
        made = {
            initial: _plan_transition(planned, study, data, transition, seed)
            for initial, transition in TRANSITIONS.items()
            if any(row.initial == initial for row in rows)
        }
        transitions += made.values()
        for row in rows:
            for labelled in [*(study.labelled if row.curve else []), None]:
                trained.append(_plan_row(planned, study, data, row, labelled, made.get(row.initial), seed))
    reading = {"fold": FOLD, "data_seed": config.data_seed, "bootstrap": config.protocol.bootstrap}
    images = {role: data[role] for role in ("index", "preprocess", "truth")}
    planned.add("cross_modality_tables", DATASET, reading, **images, transitions=transitions, trained=trained)
    plan.check_truth_access(planned)
    return planned


def _shared(study: CrossModalityConfig, seed: int) -> dict[str, Any]:
    network = study.network
    names = ("width", "patch", "checkpoint")
    return {**{name: getattr(network, name) for name in names}, "seed": seed, "fold": FOLD}


def _plan_transition(
    planned: Plan, study: CrossModalityConfig, data: dict[str, str], transition: str, seed: int
) -> str:
    """A CycleGAN, which reads images alone."""
    params = {
        **_shared(study, seed),
        **study.network.transition.model_dump(),
        "transition": transition,
        "translated": study.translated,
    }
    images = {role: data[role] for role in ("index", "preprocess")}
    return planned.add("cmft", f"{DATASET}-{transition}-s{seed}", params, **images)


def _plan_row(
    planned: Plan,
    study: CrossModalityConfig,
    data: dict[str, str],
    row: Row,
    labelled: int | None,
    transition: str | None,
    seed: int,
) -> str:
    """A network of a row, of all labelled training patients or so many of them."""
    network = study.network
    params = {
        **_shared(study, seed),
        **{name: getattr(network, name) for name in ("steps", "batch_size", "learning_rate", "decay", "weight_decay")},
        "row": row.name,
        "network": row.network,
        "guidance": row.guidance,
        "initial": row.initial,
        "labelled": labelled,
        "scored": study.scored,
        "data_seed": planned.config.data_seed,
    }
    upstream = {role: data[role] for role in ("index", "preprocess", "truth")}
    given = {"transition": transition} if transition else {}
    name = row.name.replace("_", "-")
    return planned.add("cmff", f"{DATASET}-{name}-n{labelled or 'all'}-s{seed}", params, **upstream, **given)
