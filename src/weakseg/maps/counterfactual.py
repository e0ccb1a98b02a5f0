r"""Counterfactual images: what has to change for the classifier to see no lesion.

A generator learns, for one frozen classifier, to make a slice :math:`x` into one without a lesion,
:math:`x_{cf}`, as like the first as it can; see :mod:`weakseg.counterfactual`. The map is the mean over channels of
:math:`|x - x_{cf}|`, each in units of the range of its channel: from the 0.5th to the 99.5th percentile of the
foreground of training slices. COIN (Shvetsov et al. 2024, arXiv 2404.12832) and Singla et al. (2020, arXiv 1911.00483),
as COIN's authors modify it, differ in parameters alone.

In the manner of both: where the papers' classifiers call a lesion from a probability of 0.5 on, ours do from their own
threshold on, which logits are therefore taken from; and a slice is always made normal, also one that is called so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.counterfactual.choice import chosen
from weakseg.counterfactual.networks import Discriminator, Generator
from weakseg.counterfactual.slices import Slices
from weakseg.counterfactual.training import Adversaries, Settings, changes_of, reached, train
from weakseg.counterfactual.variants import variant_of
from weakseg.maps.base import Explained, Maps, Methods
from weakseg.maps.fit import Examples, Fitted
from weakseg.maps.judge import BATCH, Judge, margins_of
from weakseg.networks import freeze
from weakseg.randomness import rng


def fit(examples: Examples, methods: Methods) -> Fitted:
    """Train a generator for each method, one after another; see :class:`weakseg.maps.fit.Fit`.

    Two other classifiers judge on validation slices: a selector chooses the checkpoint, an evaluator only reports.
    """
    generators = nn.ModuleDict()
    history: list[dict[str, float | str]] = []
    metrics: dict[str, float] = {}
    for name, params in methods.items():
        generators[name], of_method, reports = _fit_one(examples, name, params)
        history += [{"method": name, **record} for record in of_method]
        metrics |= {f"{name}.{metric}": value for metric, value in reports.items()}
    return Fitted(generators, history, metrics)


def _fit_one(
    examples: Examples, name: str, params: dict[str, Any]
) -> tuple[Generator, list[dict[str, float]], dict[str, float]]:
    settings = Settings(**{field: params["training"][field] for field in Settings.__dataclass_fields__})
    variant, most = variant_of(params), params["training"]["slices"]
    train_slices, val_slices = (_slices(examples, examples.every[role], most) for role in ("train", "val"))
    shape, width = train_slices.images.shape, params["width"]
    generator = Generator(shape[1], width, variant, examples.seed, len(shape) - 2)
    generator.low, generator.high = train_slices.ranges()
    discriminator = Discriminator(shape[1], width, examples.seed, len(shape) - 2)
    judges, device = examples.judges, examples.device
    opponents = Adversaries(generator, discriminator, judges["classifier"], variant, settings.learning_rate, device)
    state = examples.state / name
    history = train(opponents, train_slices, val_slices, judges["selector"], settings, examples.seed, state)
    kept = history[chosen(history, settings.least_flips)]
    return generator, history, {"step": kept["step"], **_report(generator, val_slices, judges, device)}


def _slices(examples: Examples, cases: Sequence[str], most: int) -> Slices:
    """At most so many slices of each case, half of them called lesion as far as there are both."""
    images, foreground, organs = [], [], []
    for case in sorted(cases):
        explained = examples.open(case)
        units, draws = explained.units, rng(examples.seed, "counterfactual-slices", case)
        others = np.setdiff1d(np.arange(len(units.positions)), explained.selected)
        lesion, normal = draws.permutation(explained.selected), draws.permutation(others)
        room = max(most // 2, most - len(normal)), max(most // 2, most - len(lesion))
        drawn = np.sort(np.concatenate([lesion[: room[0]], normal[: room[1]]])).astype(int)
        images.append(units.image[drawn])
        foreground.append(units.foreground[drawn, None])
        if examples.organ is not None:
            organs.append(examples.organ(units)[drawn, None])
    together = torch.from_numpy(np.concatenate(images))
    return Slices(
        together,
        torch.from_numpy(np.concatenate(foreground)),
        margins_of(examples.judges["classifier"], together, examples.device).sigmoid(),
        torch.from_numpy(np.concatenate(organs)) if organs else None,
    )


def _report(generator: Generator, slices: Slices, judges: dict[str, Judge], device: str) -> dict[str, float]:
    """What the kept checkpoint reaches on validation slices: mean changes, and flips by each judge."""
    margins, size = changes_of(generator, slices, device, list(judges.values()))
    report: dict[str, float] = {}
    for (role, judge), after in zip(judges.items(), margins, strict=True):
        found = reached(slices, size, margins_of(judge, slices.images, device), after)
        report |= {"positive": found["positive"], "negative": found["negative"], f"flips_{role}": found["flips"]}
    return report


def explain(explained: Explained, methods: Methods) -> Maps:
    """Changes of the case's selected units, in [0, 1] and a little more; see :class:`weakseg.maps.base.Explain`.

    The generators alone are asked, not the classifier that they were fitted to. Maps are 0 outside the foreground.
    """
    images = torch.from_numpy(explained.units.image[explained.selected])
    foreground = torch.from_numpy(explained.units.foreground[explained.selected, None])
    maps = {}
    for name, params in methods.items():
        generator = _generator_of(explained, name, params, images)
        explained.forwards += len(images)
        with torch.inference_mode():
            batches = zip(images.split(BATCH), foreground.split(BATCH), strict=True)
            parts = [_change(generator, *batch, explained.device) for batch in batches]
        maps[name] = torch.cat(parts).numpy()
    return maps


def _change(generator: Generator, images: Tensor, foreground: Tensor, device: str) -> Tensor:
    normal = torch.zeros(len(images), dtype=torch.int64, device=device)
    change: Tensor = generator(images.to(device), normal, foreground.to(device))
    return change.abs().mean(1, keepdim=True).cpu()


def _generator_of(explained: Explained, name: str, params: dict[str, Any], images: Tensor) -> Generator:
    if explained.fitted is None:
        raise ValueError("counterfactuals are made by what `fit` has learnt")
    generator = Generator(images.shape[1], params["width"], variant_of(params), explained.seed, images.ndim - 2)
    learnt = {key: value for key, value in explained.fitted.items() if key.startswith(f"{name}.")}
    generator.load_state_dict({key.removeprefix(f"{name}."): value for key, value in learnt.items()})
    freeze(generator, explained.device)
    return generator
