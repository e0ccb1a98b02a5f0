"""Seconds that an image takes through each network on this machine, measured on random images of the size in use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.counterfactual import networks as counterfactual
from weakseg.counterfactual.slices import Slices
from weakseg.counterfactual.training import Adversaries
from weakseg.counterfactual.variants import COIN
from weakseg.estimate.asks import Passes
from weakseg.keys import canonical
from weakseg.maps.judge import Judge
from weakseg.maps.optimal import FieldNetwork
from weakseg.networks import classifier_network, reproducible
from weakseg.references import cmff
from weakseg.references.branches import CLASSES
from weakseg.references.cmft import Cycle
from weakseg.references.unet import unet
from weakseg.refinements.student import Student

VALUES = {"cpu": 2**18, "cuda": 2**27}
"""Most values of the images that are measured: larger ones are cut, and taken to need time in proportion."""
BATCHES = 4
"""As many times these values a batch may have."""
LEAST_EDGE = 32
SECONDS = 0.2
"""How long a network is measured, after its first pass."""


@dataclass(frozen=True)
class Trial:
    """A network with an image in front of it.

    Attributes:
        network: for its weights.
        forward: passes so many ``images`` once.
        step: learns from so many images, ``learnt``.
    """

    network: nn.Module
    forward: Callable[[], object]
    images: int
    step: Callable[[], object]
    learnt: int


@dataclass(frozen=True)
class Measured:
    """Of one image: seconds of a forward and of a step, and bytes of the network's weights."""

    forward: float
    step: float
    weights: int


class Timer:
    """Measures each network once.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: of torch, on the CPU.
    """

    def __init__(self, device: str = "cpu", threads: int = 1) -> None:
        self.device = device
        self.known: dict[str, Measured] = {}
        reproducible(threads, device)

    def seconds(self, passes: Passes) -> float:
        """Of all passes."""
        measured = self.of(passes)
        return passes.forwards * measured.forward + passes.steps * measured.step

    def of(self, passes: Passes) -> Measured:
        """One image through the network of some passes."""
        key = canonical([passes.kind, passes.params, list(passes.size), passes.batch])
        if key not in self.known:
            self.known[key] = self._measure(passes)
        return self.known[key]

    def _measure(self, passes: Passes) -> Measured:
        size = cut(passes.size, VALUES[self.device])
        larger = math.prod(passes.size) / math.prod(size)
        # Batch normalisation needs two images.
        batch = min(max(passes.batch, 2), max(BATCHES * VALUES[self.device] // math.prod(size), 2))
        trial = TRIALS[passes.kind](passes.params, size, batch, self.device)
        weights = sum(tensor.numel() * tensor.element_size() for tensor in trial.network.state_dict().values())
        forward = larger * self._time(trial.forward) / trial.images
        return Measured(forward, larger * self._time(trial.step) / trial.learnt, weights)

    def _time(self, call: Callable[[], object]) -> float:
        # Of the processor its own seconds: what else the machine does is not ours.
        clock = time.perf_counter if self.device == "cuda" else time.process_time
        call()
        self._wait()
        best, started = math.inf, clock()
        while best == math.inf or clock() - started < SECONDS:
            before = clock()
            call()
            self._wait()
            best = min(best, clock() - before)
        return best

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def cut(size: tuple[int, ...], most: int) -> tuple[int, ...]:
    """A size (C, *spatial) with its longest edges halved until it has few enough values."""
    channels, *edges = size
    while channels * math.prod(edges) > most and max(edges) >= 2 * LEAST_EDGE:
        longest = int(np.argmax(edges))
        edges[longest] //= 2
    return (channels, *edges)


def _images(number: int, size: tuple[int, ...], device: str) -> Tensor:
    return torch.rand(number, *size, generator=torch.Generator().manual_seed(0)).to(device)


def _trial(network: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor]) -> Trial:
    """A network that learns by AdamW, as in :mod:`weakseg.training`."""
    device = images.device.type
    network = network.to(device)
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            value = loss(network(images))
        value.backward()
        optimizer.step()

    def forward() -> None:
        network.eval()
        with torch.inference_mode():
            network(images)

    return Trial(network, forward, len(images), step, len(images))


def _classifier(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    slices = params.get("window", {}).get("slices", 1)
    images = _images(-(-batch // slices) * slices, size, device)
    return _trial(
        classifier_network(size[0], params, 0),
        images,
        lambda logits: F.binary_cross_entropy_with_logits(logits.float(), torch.ones_like(logits).float()),
    )


def _unet(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    images, loss = _images(batch, size, device), DiceCELoss(sigmoid=True, batch=True)
    targets = (images[:, :1] > 0.5).float()
    return _trial(unet(size[0], params, 0), images, lambda logits: loss(logits, targets))


def _student(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    return _trial(
        Student(size[0], params["width"], 0), _images(batch, size, device), lambda logits: logits.square().mean()
    )


def _field(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    network = FieldNetwork(size[0], params["width"], 0, len(size) - 1)
    return _trial(network, _images(batch, size, device), lambda field: field.square().mean())


class _Linear(nn.Module):
    """Stands for the classifier, whose passes are counted apart."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).mean(1, keepdim=True)


def _generators(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    variant = replace(COIN, **{name: params[name] for name in ("skips", "perturbation", "conditions")})
    dims = len(size) - 1
    generator = counterfactual.Generator(size[0], params["width"], variant, 0, dims)
    discriminator = counterfactual.Discriminator(size[0], params["width"], 0, dims)
    adversaries = Adversaries(generator, discriminator, Judge(_Linear(), 0.0), variant, 1e-3, device)
    images = _images(batch, size, device)
    inside = torch.ones(batch, 1, *size[1:], dtype=torch.bool, device=device)
    slices = Slices(images, inside, torch.linspace(0, 1, batch).to(device))
    every = params["generator_every"]

    def step() -> None:
        for number in range(every):
            adversaries.step(slices, generator_too=number == 0)

    def forward() -> None:
        generator.eval()
        with torch.inference_mode():
            generator(images, torch.zeros(batch, dtype=torch.int64, device=device), inside)

    return Trial(generator, forward, batch, step, batch * every)


def _cmff(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    network = cmff.build(params["network"], params["guidance"], "default", params["width"], 0, [])
    learner = cmff.Learner(network, 1e-4, 0.0, device)
    images = _images(batch, size, device)
    classes = (images[:, 0] * CLASSES).long().clamp(max=CLASSES - 1)

    def forward() -> None:
        learner.network.eval()
        with torch.inference_mode():
            learner.network(images)

    return Trial(learner.network, forward, batch, lambda: learner.step(images, classes), batch)


def _cmft(params: dict[str, Any], size: tuple[int, ...], batch: int, device: str) -> Trial:
    cycle = Cycle("cross", params["width"], 10.0, 1e-4, 0, device)
    images, numbers = _images(batch, size, device), count()

    def forward() -> None:
        with torch.inference_mode():
            cycle.translate(0, images[:, :2])

    return Trial(cycle.generators, forward, batch, lambda: cycle.step(images, next(numbers)), batch)


TRIALS: dict[str, Callable[[dict[str, Any], tuple[int, ...], int, str], Trial]] = {
    "classifier": _classifier,
    "unet": _unet,
    "student": _student,
    "field": _field,
    "generators": _generators,
    "cmff": _cmff,
    "cmft": _cmft,
}
"""How each kind of network is built and passed."""
