"""The stage ``map_fit``: map methods that have something to learn do so for each classifier, on its training cases.

Such a family has a second function, ``fit``, beside ``explain``. It sees units and the frozen classifier, no labels and
no lesion masks; what it has learnt comes back to ``explain`` as :attr:`weakseg.maps.base.Explained.fitted`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from weakseg import catalogue, nifti
from weakseg.data.anatomy import organ_file
from weakseg.data.grid import resample
from weakseg.data.index import read_cases
from weakseg.data.views import Units, Windowed, read_units
from weakseg.errors import WeaksegError
from weakseg.execution import Context, write_json
from weakseg.maps.base import Explained, Methods, read_networks, supervoxels_of
from weakseg.maps.judge import BATCH, Judge, read_judge
from weakseg.networks import reproducible, save_weights
from weakseg.sequences import ResNetLSTM, alone, middle_logits


@dataclass(frozen=True)
class Examples:
    """What a family is fitted to.

    Attributes:
        train, val: cases with units that show what is explained.
        every: all cases of these two roles, by role.
        open: reads a case; ``selected`` are those units.
        network: the frozen classifier; one of sequences as one of single slices, each its own neighbour.
        scale: standard deviation of its logits over all validation units.
        threshold: units whose logit is below it explain the other class; None where all explain the same one.
        seed: repetition.
        state: folder that survives a kill.
        device: where networks are.
        judges: the ``classifier`` itself at its own threshold; for methods that are judged a ``selector`` as
            well, another classifier, which chooses between checkpoints.
        organ: the organ at a case's units, (N, *spatial) bool; None if no method of the family needs it.
    """

    train: list[str]
    val: list[str]
    every: dict[str, list[str]]
    open: Callable[[str], Explained]
    network: nn.Module
    scale: float
    threshold: float | None
    seed: int
    state: Path
    device: str
    judges: dict[str, Judge] = field(default_factory=dict)
    organ: Callable[[Units], NDArray] | None = None


@dataclass(frozen=True)
class Fitted:
    """What a family has learnt: a network, how it got there, and what it reached on the validation cases.

    Attributes:
        network: whose weights ``explain`` is given.
        history: a record for each epoch or checkpoint.
        metrics: what was reached, by name.
    """

    network: nn.Module
    history: Sequence[Mapping[str, float | str]]
    metrics: dict[str, float]


class Fit(Protocol):
    """``fit(examples, methods)``: what ``explain`` needs to have learnt, a function of the examples and seed alone."""

    def __call__(self, examples: Examples, methods: Methods) -> Fitted: ...


def run(context: Context) -> None:
    """Fit a family of maps to a classifier.

    Writes ``weights.safetensors``, ``history.csv`` and ``metrics.json``. Slices count if the classifier calls them
    lesion, whatever their label and whether the maps themselves pass the gate; volumes all count.

    Raises:
        WeaksegError: the classifier calls no slice of the training or validation cases lesion.
    """
    params = context.params
    reproducible(context.threads, context.device)
    trained, untrained = read_networks(context)
    channels = context.record("preprocess")["params"]["channels"]
    threshold = json.loads((context.folder("classifier") / "metrics.json").read_text())["threshold"]
    slices = params["view"] != "volume"
    selected: dict[str, NDArray] = {}

    def open_case(case: str) -> Explained:
        units = read_units(context.folder("preprocess"), case, params)
        chosen = selected.get(case, np.arange(len(units.positions)))
        regions = supervoxels_of(context, units)
        return Explained(units, chosen, trained, untrained, channels, params["seed"], context.device, regions)

    cases = read_cases(context.folder("index"))
    roles = {role: list(rows["case"]) for role, rows in cases.groupby(f"role_f{params['fold']}")}
    logits = {case: _logits(open_case(case)) for role in ("train", "val") for case in roles[role]}
    context.count("classifier_forwards", sum(map(len, logits.values())))
    if slices:
        selected.update({case: np.flatnonzero(of_units >= threshold) for case, of_units in logits.items()})
    else:
        selected.update({case: np.arange(len(of_units)) for case, of_units in logits.items()})
    shown = {role: [case for case in roles[role] if len(selected[case])] for role in ("train", "val")}
    for role, names in shown.items():
        if not names:
            raise WeaksegError(
                f"map_fit: the classifier calls no slice of the {role} cases lesion; see its metrics.json"
            )
    context.count("training_units", sum(len(selected[case]) for case in shown["train"]))
    # A classifier that gives every slice the same logit has no drops to scale.
    scale = float(np.std(np.concatenate([logits[case] for case in roles["val"]]))) or 1.0
    (family,) = {catalogue.METHODS[name].family for name in params["methods"]}
    fit: Fit = import_module(f"weakseg.maps.{family}").fit
    judges = {role: read_judge(context, role) for role in ("selector",) if role in context.upstream}
    fitted = fit(
        Examples(
            **shown,
            every={role: roles[role] for role in shown},
            open=open_case,
            network=alone(trained),
            scale=scale,
            threshold=None if slices else threshold,
            seed=params["seed"],
            state=context.state,
            device=context.device,
            judges={"classifier": Judge(alone(trained), threshold), **judges},
            organ=partial(_organ_of, context) if "anatomy" in context.upstream else None,
        ),
        params["methods"],
    )
    save_weights(context.out / "weights.safetensors", fitted.network)
    pd.DataFrame(fitted.history).to_csv(context.out / "history.csv", index=False)
    write_json(context.out / "metrics.json", fitted.metrics)


def _organ_of(context: Context, units: Units) -> NDArray:
    """The organ of a case at its units, (N, *spatial) bool."""
    organ, affine = nifti.read(organ_file(context.folder("anatomy"), units.case), np.uint8)
    inside: NDArray = units.cut(resample(organ, affine, units.shape, units.affine, "nearest") > 0)
    return inside


def _logits(explained: Explained) -> NDArray:
    """Logits (N,) of all units of a case, in a sequence each beside its neighbours."""
    if isinstance(explained.units, Windowed) and isinstance(explained.network, ResNetLSTM):
        return middle_logits(explained.network, explained.units.image, explained.units.windows, explained.device)
    images = torch.from_numpy(explained.units.image)
    with torch.inference_mode():
        parts = [explained.network(batch.to(explained.device))[:, 0].float().cpu() for batch in images.split(BATCH)]
    return torch.cat(parts).numpy()
