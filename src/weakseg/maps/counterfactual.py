r"""Counterfactual images: what has to change for the classifier to see no lesion.

A generator learns, for one frozen classifier, to make a slice :math:`x` into one without a lesion,
:math:`x_{cf}`, as like the first as it can; see :mod:`weakseg.counterfactual`. The map is the mean over channels of
:math:`|x - x_{cf}|`, each in units of the range of its channel: from the 0.5th to the 99.5th percentile of the
foreground of training slices. COIN (Shvetsov et al. 2024, arXiv 2404.12832) and Singla et al. (2020, arXiv 1911.00483),
as COIN's authors modify it, differ in parameters alone. ``coin_signed`` is COIN's change read with what the null
``intensity`` knows too: in one channel, what was brighter (or darker, by its sign) than it becomes.

In the manner of both: where the papers' classifiers call a lesion from a probability of 0.5 on, ours do from their own
threshold on, which logits are therefore taken from; and a slice is always made normal, also one that is called so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.catalogue import METHODS
from weakseg.counterfactual.choice import chosen
from weakseg.counterfactual.networks import Discriminator, Generator
from weakseg.counterfactual.slices import Slices
from weakseg.counterfactual.training import Adversaries, Settings, changes_of, reached, train
from weakseg.counterfactual.variants import variant_of
from weakseg.maps.base import Explained, Methods
from weakseg.maps.fit import Examples, Fitted
from weakseg.maps.gated import Maps
from weakseg.maps.judge import BATCH, Judge, margins_of
from weakseg.networks import freeze
from weakseg.randomness import rng


def fit(examples: Examples, methods: Methods) -> Fitted:
    """Train a generator for each method, one after another; see :class:`weakseg.maps.fit.Fit`.

    Another classifier, the selector, chooses the checkpoint by what it says of validation slices.
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
    kept = history[chosen(history, settings.least_flips, int(val_slices.called.sum()))]
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
    if explained.fitted is None:
        raise ValueError("counterfactuals are made by what `fit` has learnt")
    images = torch.from_numpy(explained.units.image[explained.selected])
    foreground = torch.from_numpy(explained.units.foreground[explained.selected, None])
    normal = torch.zeros(len(images), dtype=torch.int64)
    maps: Maps = {}
    made: dict[str, Tensor] = {}
    for name, params in methods.items():
        source = METHODS[name].fitted_as or name
        if source not in made:
            generator = read_generator(explained.fitted, source, params, explained.device)
            explained.forwards += len(images)
            made[source] = changes(generator, images, normal, foreground, explained.device)
        if "channel" in params:
            channel = explained.channels.index(params["channel"])
            maps[name] = (-params["sign"] * made[source][:, [channel]]).clamp(min=0).numpy()
        else:
            maps[name] = made[source].abs().mean(1, keepdim=True).numpy()
    return maps


def read_generator(learnt: Mapping[str, Tensor], name: str, params: dict[str, Any], device: str) -> Generator:
    """The frozen generator of a method, given the weights of all generators that :func:`fit` has trained."""
    prefix = f"{name}."
    weights = {key.removeprefix(prefix): value for key, value in learnt.items() if key.startswith(prefix)}
    channels, spatial_dims = len(weights["low"]), weights["encoder.stem.weight"].ndim - 2
    # The seed decides initial weights alone, and none of them stays.
    generator = Generator(channels, params["width"], variant_of(params), 0, spatial_dims)
    generator.load_state_dict(weights)
    freeze(generator, device)
    return generator


def changes(generator: Generator, images: Tensor, condition: Tensor, foreground: Tensor, device: str) -> Tensor:
    """What a generator changes, (N, C, *spatial) in units of the range, batch by batch, on the CPU.

    Args:
        generator: in evaluation mode, on the device.
        images: (N, C, *spatial).
        condition: (N,) int64: 0 for normal, 1 for lesion.
        foreground: (N, 1, *spatial) bool.
        device: where the generator is.
    """
    with torch.inference_mode():
        batches = zip(*(values.split(BATCH) for values in (images, condition, foreground)), strict=True)
        return torch.cat([generator(*(values.to(device) for values in batch)).cpu() for batch in batches])
