"""How well the maps of a fold explain its classifiers: the stage ``faithfulness``. It reads no mask.

Each seed has a classifier, which is asked about its own maps alone. All methods are asked about the same
few slices of each tested case, drawn among those that the gate lets through.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg import catalogue, nifti
from weakseg.data.index import read_cases
from weakseg.data.views import Units, read_units
from weakseg.evaluation.faithfulness import (
    CASCADE,
    baseline,
    deletion_insertion,
    most_relevant,
    randomised,
    spearman,
    ssim,
)
from weakseg.evaluation.protocol import normalise
from weakseg.evaluation.values import Value, rows_of, write_values
from weakseg.execution import Context, read_record
from weakseg.maps.base import Explained, Methods, explain_of, in_context, read_networks, supervoxels_of
from weakseg.maps.gated import Gate, Maps
from weakseg.networks import reproducible
from weakseg.randomness import rng


@dataclass(frozen=True)
class Drawn:
    """Slices of a case that stand for all: ``selected`` (M,) are their indices among the units."""

    units: Units
    selected: NDArray

    @property
    def image(self) -> NDArray:
        """(M, C, X, Y)."""
        return self.units.image[self.selected]

    @property
    def foreground(self) -> NDArray:
        """(M, X, Y) bool."""
        return self.units.foreground[self.selected]

    def read(self, path: Path) -> NDArray:
        """A map of the case at these slices, (M, X, Y)."""
        volume, _ = nifti.read(path)
        return self.units.cut(volume)[self.selected]


def run(context: Context) -> None:
    """Write ``values.parquet`` for the tested cases of a fold; shift cases are left out."""
    reproducible(context.threads, context.device)
    of_seeds = (_values(_of_classifier(context, folder)) for folder in context.upstream["classifier"])
    write_values(context.out, [row for values in of_seeds for row in values])


def _of_classifier(context: Context, classifier: Path) -> Context:
    """The same run with a single classifier, its seed and its maps; what is counted goes to the same counts."""
    record = read_record(classifier)
    maps = [
        folder
        for folder in context.upstream["maps"]
        if read_record(folder)["upstream"]["classifier"] == [record["key"]]
    ]
    params = {**context.params, "seed": record["params"]["seed"]}
    return replace(context, params=params, upstream={**context.upstream, "classifier": [classifier], "maps": maps})


def _values(context: Context) -> list[dict[str, Any]]:
    """Rows of the tested cases for one classifier."""
    params = context.params
    cases = read_cases(context.folder("index")).set_index("case")
    tested = cases.index[cases[f"role_f{params['fold']}"] == "test"]
    families = {folder: read_record(folder)["params"]["methods"] for folder in context.upstream["maps"]}
    trained, untrained = read_networks(context)
    random_again = {level: _randomised(trained, untrained, level) for level in CASCADE}
    scale = _logit_scale(context.folder("classifier"))
    gate = Gate(context) if params["gate"] == "classifier" else None
    values: list[dict[str, Any]] = []
    left = params["randomised_cases"]
    # In an order that all seeds share, so that their weights are randomised for the same cases where the gates agree.
    for case in rng(params["data_seed"], "faithfulness").permutation(tested):
        units = read_units(context.folder("preprocess"), case, params)
        passing = gate.passing(units) if gate else np.arange(len(units.positions))
        if not len(passing):
            continue
        chosen = rng(params["seed"], "faithfulness", case).choice(
            passing, min(params["slices"], len(passing)), replace=False
        )
        drawn = Drawn(units, np.sort(chosen))
        found = list(_deletion_insertion(context, trained, scale, families, drawn))
        if left:
            found += _randomisation(context, trained, random_again, untrained, families, drawn)
            left -= 1
        context.count("slices", len(drawn.selected))
        values += rows_of(context, params["dataset"], cases.loc[case], case, str(params["seed"]), found)
    return values


def _logit_scale(classifier: Path) -> float:
    """Standard deviation of a classifier's logits over its validation slices: the unit of drops and rises.

    One number for a whole fold: to divide by each slice's own range would blow up where a baseline has the same logit.
    """
    predictions = pd.read_csv(classifier / "predictions.csv")
    # A classifier that gives every slice the same logit has no drops to scale.
    return float(predictions.loc[predictions["role"] == "val", "logit"].std(ddof=0)) or 1.0


def _deletion_insertion(
    context: Context, network: nn.Module, scale: float, families: dict[Path, Methods], drawn: Drawn
) -> Iterator[Value]:
    params, case = context.params, drawn.units.case
    tops = {
        method: _tops(drawn, folder / method / f"{case}.nii.gz", params["steps"], rng(params["seed"], method, case))
        for folder, methods in families.items()
        for method in methods
    }
    x, y, _ = nifti.spacing_of(drawn.units.affine)
    sigma = (params["blur_mm"] / x, params["blur_mm"] / y)

    explained = _explained(context, network, network, drawn)
    networks = in_context(network, explained)
    context.count("forwards", explained.forwards)

    def counted(network: nn.Module, images: Tensor) -> Tensor:
        context.count("forwards", len(images))
        logits: Tensor = network(images)
        return logits

    for name in params["baselines"]:
        blank = baseline(name, drawn.image, drawn.foreground, sigma, rng(params["seed"], f"baseline-{name}", case))
        image, foreground, stacked = drawn.image, drawn.foreground, np.stack(list(tops.values()), axis=1)
        parts = [
            deletion_insertion(
                partial(counted, of_units), image[rows], blank[rows], foreground[rows], stacked[rows], context.device
            )
            for rows, of_units in networks
        ]
        areas = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
        for metric, of_units in zip(("deletion", "insertion"), areas, strict=True):
            for method, value in zip(tops, of_units.mean(axis=0) / scale, strict=True):
                yield metric, name, method, float(value)


def _tops(drawn: Drawn, path: Path, steps: int, generator: np.random.Generator) -> NDArray:
    pairs = zip(drawn.read(path), drawn.foreground, strict=True)
    return np.stack([most_relevant(relevance, inside, steps, generator) for relevance, inside in pairs])


def _randomised(trained: nn.Module, untrained: nn.Module, level: str) -> nn.Module:
    network = deepcopy(untrained)
    network.load_state_dict(randomised(trained.state_dict(), untrained.state_dict(), level))
    return network


def _randomisation(
    context: Context,
    trained: nn.Module,
    random_again: dict[str, nn.Module],
    untrained: nn.Module,
    families: dict[Path, Methods],
    drawn: Drawn,
) -> Iterator[Value]:
    """How alike maps of the classifier are to those of the same network with random weights, by level."""
    inside = drawn.foreground
    for methods in families.values():
        # What was fitted to the trained classifier does not explain another one.
        if any(catalogue.METHODS[name].fits for name in methods):
            continue
        # Not the maps on disk: those are rounded, and a map that ignores the network is to come out as exactly 1.
        before = _explain(context, trained, untrained, methods, drawn)
        for level, network in random_again.items():
            after = _explain(context, network, untrained, methods, drawn)
            for method in methods:
                one, two = before[method][:, 0], after[method][:, 0]
                yield "randomised_spearman", level, method, spearman(one[inside], two[inside])
                yield "randomised_ssim", level, method, ssim(normalise(one, inside), normalise(two, inside), inside)


def _explain(context: Context, network: nn.Module, untrained: nn.Module, methods: Methods, drawn: Drawn) -> Maps:
    explained = _explained(context, network, untrained, drawn)
    maps = explain_of(methods)(explained, methods)
    context.count("forwards", explained.forwards)
    return maps


def _explained(context: Context, network: nn.Module, untrained: nn.Module, drawn: Drawn) -> Explained:
    return Explained(
        drawn.units,
        drawn.selected,
        network,
        untrained,
        context.record("preprocess")["params"]["channels"],
        context.params["seed"],
        context.device,
        supervoxels=supervoxels_of(context, drawn.units),
    )
