"""The contract of map methods, and the stage that runs a family of them over the cases of a fold.

A family is a module of this package with one function, ``explain``. It is given a frozen classifier and the units of
one case, its slices or its whole volume, and returns a raw relevance map per unit: larger means more evidence for the
explained class, in units that need no scale. Masks are out of its reach.

In the slice and sequence views the explained class is "lesion". In a sequence the logit of a slice is explained by what
is in that slice, with its neighbours as they are: so a family sees a network of single slices, one for each slice, and
its maps have the form of slice maps. In the volume view it is the predicted grade: where the classifier calls a case
LGG, it is given with its logit negated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from weakseg import catalogue
from weakseg.data.views import Units, Windowed
from weakseg.execution import Context
from weakseg.maps.gated import Maps, write_maps
from weakseg.networks import classifier_network, freeze, load_weights, negated, reproducible
from weakseg.randomness import seed_of
from weakseg.sequences import InContext, ResNetLSTM, window_features
from weakseg.supervoxels import read_supervoxels

Methods = dict[str, dict[str, Any]]


@dataclass
class Explained:
    """What a family is to explain, and what it may know.

    Attributes:
        units: all units of the case.
        selected: (M,) indices of the units to explain, those that the gate lets through.
        network: the frozen classifier, one logit.
        untrained: the same architecture, never trained.
        channels: names of the channels.
        seed: repetition.
        device: where networks are.
        supervoxels: (N, *spatial) int32 of all units, 0 outside the foreground; None if no method of the family needs
            them.
        fitted: weights that the family learnt in the stage ``map_fit``; None if it has nothing to learn.
        forwards: units passed through a network so far; families add theirs.
    """

    units: Units
    selected: NDArray
    network: nn.Module
    untrained: nn.Module
    channels: list[str]
    seed: int
    device: str
    supervoxels: NDArray | None = None
    fitted: dict[str, Tensor] | None = None
    forwards: int = 0


class Explain(Protocol):
    """``explain(explained, methods)``: for each method by name its raw maps, (M, 1, *spatial) float32."""

    def __call__(self, explained: Explained, methods: Methods) -> Maps: ...


def run(context: Context) -> None:
    """Write ``<method>/<case>.nii.gz``, the raw map (X, Y, Z) on the case's grid, for the cases of the fold."""
    params = context.params
    reproducible(context.threads, context.device)
    trained, untrained = read_networks(context)
    channels = context.record("preprocess")["params"]["channels"]
    explain = explain_of(params["methods"])
    called_low = cases_called_low(context.folder("classifier")) if params["view"] == "volume" else set()
    for_low = negated(trained)
    fitted = load_file(context.folder("fitted") / "weights.safetensors") if "fitted" in context.upstream else None

    def explain_units(units: Units, selected: NDArray) -> Maps:
        network = for_low if units.case in called_low else trained
        explained = Explained(
            units,
            selected,
            network,
            untrained,
            channels,
            params["seed"],
            context.device,
            supervoxels_of(context, units),
            fitted,
        )
        maps = explain(explained, params["methods"])
        context.count("forwards", explained.forwards)
        return maps

    context.count("forwards", 0)
    write_maps(context, explain_units)


def explain_of(methods: Methods) -> Explain:
    """The function that explains some methods of one family, in any view."""
    (family,) = {catalogue.METHODS[name].family for name in methods}
    explain: Explain = import_module(f"weakseg.maps.{family}").explain
    # What was fitted is asked instead of the classifier, and knows no neighbours.
    fits = any(catalogue.METHODS[name].fits for name in methods)
    return explain if fits else partial(explain_in_context, explain)


def explain_in_context(explain: Explain, explained: Explained, methods: Methods) -> Maps:
    """Maps of a case's selected units: of all at once, but slices of a sequence one by one, each in its window.

    The features of the slices in these windows are computed once, and not for methods that ask no network.
    """
    if not isinstance(explained.units, Windowed):
        return explain(explained, methods)
    asking = {name: params for name, params in methods.items() if catalogue.METHODS[name].asks_network}
    others = {name: params for name, params in methods.items() if name not in asking}
    maps = explain(explained, others) if others else {}
    # One null asks the other network, and no other method does.
    asked = {"untrained" if name == "untrained" else "network" for name in asking}
    networks = {role: in_context(getattr(explained, role), explained) for role in asked}
    parts = []
    for place in range(len(explained.selected) if asking else 0):
        here: dict[str, Any] = {role: of_places[place][1] for role, of_places in networks.items()}
        one = replace(explained, selected=explained.selected[[place]], forwards=0, **here)
        parts.append(explain(one, asking))
        explained.forwards += one.forwards
    return maps | {name: np.concatenate([part[name] for part in parts]) for name in asking}


def in_context(network: nn.Module, explained: Explained) -> list[tuple[NDArray, nn.Module]]:
    """The networks of a case's selected units (N, C, *spatial): one for all, but for the slices of a sequence one each.

    Each comes with the places of its units among those selected. Forwards are counted.
    """
    units, selected = explained.units, explained.selected
    if not (isinstance(network, ResNetLSTM) and isinstance(units, Windowed)):
        return [(np.arange(len(selected)), network)]
    windows = units.windows[selected]
    features = window_features(network, units.image, windows, explained.device)
    explained.forwards += len(np.unique(windows))
    own = torch.from_numpy(windows == selected[:, None]).to(explained.device)
    return [(np.array([place]), InContext(network, features[place], own[place])) for place in range(len(selected))]


def read_networks(context: Context) -> tuple[nn.Module, nn.Module]:
    """The classifier that a stage reads, and the same architecture with other weights, never trained; frozen."""
    record = context.record("classifier")
    channels = len(context.record("preprocess")["params"]["channels"])
    trained = classifier_network(channels, record["params"], context.params["seed"])
    load_weights(context.folder("classifier") / "weights.safetensors", trained)
    untrained = classifier_network(channels, record["params"], seed_of(context.params["seed"], "untrained"))
    return freeze(trained, context.device), freeze(untrained, context.device)


def supervoxels_of(context: Context, units: Units) -> NDArray | None:
    """The case's supervoxels at its units, if the stage reads any."""
    if "supervoxels" not in context.upstream:
        return None
    return units.cut(read_supervoxels(context.folder("supervoxels"), units.case))


def cases_called_low(classifier: Path) -> set[str]:
    """Cases that a volume classifier calls LGG, by Youden's J on validation grades; training cases have no call."""
    predictions = pd.read_csv(classifier / "predictions.csv", dtype={"case": str})
    threshold = json.loads((classifier / "metrics.json").read_text())["threshold"]
    return set(predictions.loc[predictions["logit"] < threshold, "case"])
