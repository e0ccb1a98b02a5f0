"""A small U-Net of slices that learns what pseudo-masks of training cases have in common.

Pseudo-masks miss lesions, are displaced, and show what is no lesion. What is wrong with them differs from case to case,
what is right does not: so a network that cannot fit every mask comes out cleaner than those that it has seen, if its
loss gives up on voxels that it cannot explain. It is the only refinement that is trained, and the only one that, once
trained, looks at no map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.networks.nets.basic_unet import BasicUNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.data.labels import LESION
from weakseg.networks import freeze, initial_weights
from weakseg.randomness import rng
from weakseg.refinements.case import Case
from weakseg.training import Schedule, train

BATCH = 32
"""Slices per forward; results do not depend on it."""
MULTIPLE = 16
"""The U-Net halves slices four times."""
STEPS_PER_EPOCH = 25
"""From one checkpoint of the training to the next."""


class Student(nn.Module):
    """A U-Net from slices (N, C, X, Y) of any size to logits (N, 1, X, Y).

    Normalised by the batch, not by the slice: how bright a slice is as a whole says something of it.

    Args:
        channels: C.
        width: channels at full and at half the resolution, doubled at each of three more halvings.
        seed: decides the initial weights, and nothing else does.
    """

    def __init__(self, channels: int, width: int, seed: int) -> None:
        super().__init__()
        features = (width, width, 2 * width, 4 * width, 8 * width, width)
        with initial_weights(seed):
            self.unet = BasicUNet(2, channels, 1, features, norm="batch")

    def forward(self, images: Tensor) -> Tensor:
        sizes = images.shape[2:]
        # At least two cells at the coarsest resolution.
        missing = [max(-size % MULTIPLE, 2 * MULTIPLE - size) for size in sizes]
        logits: Tensor = self.unet(F.pad(images, [0, missing[1], 0, missing[0]]))
        return logits[..., : sizes[0], : sizes[1]]


@dataclass(frozen=True)
class Lessons:
    """Slices with what is taken for their lesion.

    Attributes:
        images: (N, C, X, Y) float32.
        foreground: (N, X, Y) bool.
        masks: (N, X, Y) float32 in [0, 1].
        lesion: (N,) bool, those that are labelled so; all others have an empty mask.
    """

    images: NDArray
    foreground: NDArray
    masks: NDArray
    lesion: NDArray

    def draw(self, size: int, generator: np.random.Generator) -> NDArray:
        """Indices (size,) of slices, every other one with a lesion if there are both kinds."""
        groups = [np.flatnonzero(kind) for kind in (self.lesion, ~self.lesion) if kind.any()]
        return np.array([generator.choice(groups[place % len(groups)]) for place in range(size)])


def chosen_slices(labels: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most so many labelled slices of a case, half of them with a lesion where there are enough of both.

    Args:
        labels: of one case: ``case``, ``position``, ``label``, of LESION and NORMAL alone.
        most: of the slices.
        seed: repetition.

    Returns:
        The rows that were drawn, by position.
    """
    lesion = labels["label"] == LESION
    kinds = [labels[lesion], labels[~lesion]]
    shares = [min(len(kind), max(most // 2, most - len(other))) for kind, other in zip(kinds, kinds[::-1], strict=True)]
    drawn = [
        kind.iloc[rng(seed, "student-slices", f"{kind['case'].iloc[0]}/{number}").permutation(len(kind))[:share]]
        for number, (kind, share) in enumerate(zip(kinds, shares, strict=True))
        if share
    ]
    return pd.concat(drawn).sort_values("position")


def noisy_loss(logits: Tensor, targets: Tensor, q: float, gamma: float) -> Tensor:
    r"""Generalised cross entropy and noise-robust Dice, two losses that give up on single voxels.

    With probabilities :math:`p`, masks :math:`m` and :math:`p_m = m p + (1 - m)(1 - p)`, over the foreground,

    .. math:: \overline{(1 - p_m^q) / q} + \frac{\sum |p - m|^\gamma}{\sum p^2 + \sum m^2},

    the first of Zhang & Sabuncu 2018 (arXiv 1805.07836; cross entropy for :math:`q \to 0`, mean absolute error for 1),
    the second of Wang et al. 2020 (10.1109/TMI.2020.3000314; Dice for :math:`\gamma = 2`), over the whole batch, so
    that slices without a lesion count.

    Args:
        logits: (N, 1, X, Y).
        targets: (N, 2, X, Y), masks in [0, 1] and the foreground.
        q: in (0, 1].
        gamma: in [1, 2].
    """
    masks, inside = targets[:, :1], targets[:, 1:]
    # Powers below 1 have no slope at 0.
    probability = logits.float().sigmoid().clamp(1e-6, 1 - 1e-6)
    right = masks * probability + (1 - masks) * (1 - probability)
    entropy = ((1 - right**q) / q * inside).sum() / inside.sum().clamp(min=1)
    wrong = ((probability - masks).abs().clamp(min=1e-6) ** gamma * inside).sum()
    sizes = ((probability**2 + masks**2) * inside).sum()
    return entropy + wrong / (sizes + 1)


def fit(lessons: Lessons, params: dict[str, Any], seed: int, state: Path, device: str) -> Student:
    """Train a student for a fixed number of steps, in one round or several.

    In each further round a new student learns from what the one before makes of the slices with a lesion.

    Args:
        lessons: of training cases.
        params: ``width``, ``steps``, ``batch_size``, ``learning_rate``, ``weight_decay``, ``q``, ``gamma``, ``rounds``.
        seed: repetition.
        state: folder that survives a kill.
        device: where to train.

    Returns:
        The student of the last round, frozen.
    """
    for number in range(params["rounds"]):
        student = Student(lessons.images.shape[1], params["width"], seed).to(device)
        _train(student, lessons, params, seed, state / f"round-{number}", device)
        freeze(student, device)
        if number + 1 < params["rounds"]:
            found = probabilities(student, lessons.images, device) * lessons.foreground
            lessons = replace(lessons, masks=np.where(lessons.lesion[:, None, None], found > 0.5, 0).astype(np.float32))
    return student


def _train(
    student: Student, lessons: Lessons, params: dict[str, Any], seed: int, state: Path, device: str
) -> list[dict[str, float]]:
    epochs = -(-params["steps"] // STEPS_PER_EPOCH)
    reached = 0

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal reached
        reached = epoch
        for step in range(STEPS_PER_EPOCH):
            generator = rng(seed, "student", f"{state.name}/{epoch}/{step}")
            yield _batch(lessons, lessons.draw(params["batch_size"], generator), generator)

    schedule = Schedule(
        epochs,
        epochs,
        params["learning_rate"],
        params["weight_decay"],
        averaging=0,
        steps_per_epoch=STEPS_PER_EPOCH,
    )
    # No mask says which epoch is best, so the last one is.
    return train(
        student,
        batches,
        lambda logits, targets: noisy_loss(logits, targets, params["q"], params["gamma"]),
        lambda _: float(reached),
        schedule,
        state,
        device,
    )


def _batch(lessons: Lessons, chosen: NDArray, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images and targets of some slices, flipped, with contrast and brightness changed a little."""
    images = torch.from_numpy(lessons.images[chosen])
    targets = torch.from_numpy(np.stack([lessons.masks[chosen], lessons.foreground[chosen]], axis=1, dtype=np.float32))
    draws = generator.random((len(chosen), 2 + 2 * images.shape[1])).astype(np.float32)
    for axis in (2, 3):
        flip = torch.from_numpy(draws[:, axis - 2] < 0.5)[:, None, None, None]
        images = torch.where(flip, images.flip(axis), images)
        targets = torch.where(flip, targets.flip(axis), targets)
    gain, offset = torch.from_numpy(draws[:, 2:, None, None]).chunk(2, dim=1)
    changed = images * (0.9 + 0.2 * gain) + 0.2 * offset - 0.1
    return torch.where(images != 0, changed, images), targets


@torch.no_grad()
def probabilities(student: nn.Module, images: NDArray, device: str) -> NDArray:
    """What a student makes of slices (N, C, X, Y): (N, X, Y) float32 in [0, 1]."""
    batches = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).split(BATCH)
    return torch.cat([student(batch.to(device))[:, 0].float().sigmoid().cpu() for batch in batches]).numpy()


def refine(relevance: NDArray, case: Case, *, student: nn.Module, device: str) -> NDArray:
    """The student's probability, in place of the map.

    Args:
        relevance: (X, Y, Z); nothing of it is used.
        case: its image, foreground, and the slices that its classifier calls lesion: all others stay empty.
        student: frozen.
        device: where it is.

    Returns:
        (X, Y, Z) float32 in [0, 1], 0 outside the foreground.
    """
    shown = case.foreground.any(axis=(0, 1)) & (True if case.called is None else case.called)
    refined = np.zeros(relevance.shape, dtype=np.float32)
    if shown.any():
        found = probabilities(student, np.moveaxis(np.asarray(case.image[..., shown]), 3, 0), device)
        refined[..., shown] = np.moveaxis(found, 0, 2) * case.foreground[..., shown]
    return refined
