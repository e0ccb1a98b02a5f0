"""Training of a generator against a frozen classifier and a discriminator; it resumes after a kill.

As COIN is trained (Shvetsov et al. 2024, arXiv 2404.12832): Adam with betas 0 and 0.999, a step of the discriminator
for every batch and one of the generator for some, and the classifier's calls alone in place of labels. Three things are
our choice: which checkpoint is kept (:mod:`weakseg.counterfactual.choice`); that the classifier is shown
counterfactuals as it was shown images when it learnt, moved and recoloured: a change has to persuade it at any pose;
and that a checkpoint is the moving average of the generator's weights, which against a discriminator come to no rest
(Yazici et al. 2019, arXiv 1806.04498).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from weakseg.counterfactual import losses
from weakseg.counterfactual.choice import chosen
from weakseg.counterfactual.networks import Discriminator, Generator
from weakseg.counterfactual.slices import Slices
from weakseg.counterfactual.variants import Variant
from weakseg.feeding import laid_out
from weakseg.maps.judge import BATCH, Judge, margins_of
from weakseg.networks import freeze
from weakseg.randomness import rng
from weakseg.training import augment, augment_volumes

BETAS = (0.0, 0.999)


@dataclass(frozen=True)
class Settings:
    """How long and how fast.

    Attributes:
        steps: batches; each is a step of the discriminator.
        generator_every: the generator's steps are every so many batches.
        batch_size: slices, half of them called lesion.
        learning_rate: of both networks.
        checkpoint: batches between two checkpoints that may be kept.
        least_flips: see :func:`weakseg.counterfactual.choice.chosen`.
        augmentation: the classifier is shown counterfactuals moved and recoloured.
        averaging: decay per batch of the moving average of the generator, batch statistics too, that is compared and
            kept; 0 keeps it as it is.
    """

    steps: int
    generator_every: int
    batch_size: int
    learning_rate: float
    checkpoint: int
    least_flips: float
    augmentation: bool
    averaging: float


class Adversaries:
    """Generator and discriminator, their optimizers, and the steps that both take."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        classifier: Judge,
        variant: Variant,
        learning_rate: float,
        device: str,
    ) -> None:
        self.generator, self.discriminator = laid_out(generator, device), laid_out(discriminator, device)
        self.classifier, self.variant, self.device = classifier, variant, device
        self.optimizers = [
            torch.optim.Adam(network.parameters(), learning_rate, betas=BETAS, fused=True)
            for network in (generator, discriminator)
        ]

    def step(self, batch: Slices, *, generator_too: bool, moves: np.random.Generator | None = None) -> dict[str, float]:
        """Learn from a batch on the device.

        Args:
            batch: of slices.
            generator_too: the generator takes a step as well.
            moves: decides how counterfactuals are moved and recoloured for the classifier; None: they are not.

        Returns:
            The loss of the discriminator and, if it took a step, the generator's terms, without weights.
        """
        self.generator.train()
        self.discriminator.train()
        aim = losses.wanted(batch.probability, self.variant.conditions)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            scaled = self.generator.scaled(batch.images)
            with torch.set_grad_enabled(generator_too):
                change = self.generator(batch.images, aim.condition, batch.foreground)
            # Without batch statistics, images of both kinds may pass it together.
            shown = torch.cat([scaled, scaled + 2 * change.detach()])
            real, fake = self.discriminator(shown, torch.cat([batch.called.long(), aim.condition])).chunk(2)
            loss = losses.discrimination(real, fake)
        self._update(1, loss)
        found = {"discriminator": loss.item()}
        if generator_too:
            self.discriminator.requires_grad_(False)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                terms = self.terms(batch, change, aim, moves)
                total = torch.stack([weight * terms[name] for name, weight in self.variant.weights.items()]).sum()
            self._update(0, total)
            self.discriminator.requires_grad_(True)
            found |= {name: term.item() for name, term in terms.items()}
        return found

    def terms(
        self, batch: Slices, change: Tensor, aim: losses.Wanted, moves: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of the generator's loss, without weights, of the change that makes the counterfactuals."""
        images, scaled = batch.images, self.generator.scaled(batch.images)
        after = self.generator.changed(images, change)
        # With one condition, what reconstructs the image is its counterfactual: that keeps changes small.
        again = change if self.variant.conditions == 1 else self.generator(images, aim.own, batch.foreground)
        back = self.generator(after, aim.own, batch.foreground)
        cycle = (self.generator.scaled(after) - scaled) / 2 + back
        shown = after if moves is None else _augmented(after, moves)
        return {
            "adversarial": losses.adversarial(self.discriminator(scaled + 2 * change, aim.condition)),
            "consistency": losses.consistency(self.classifier.margins(shown), aim.probability),
            "reconstruction": losses.reconstruction(again, batch.organ) + losses.reconstruction(cycle, batch.organ),
            "variation": losses.total_variation(change),
        }

    def _update(self, place: int, loss: Tensor) -> None:
        self.optimizers[place].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[place].step()

    @property
    def parts(self) -> dict[str, Any]:
        """All that has a state."""
        of_generator, of_discriminator = self.optimizers
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_optimizer": of_generator,
            "discriminator_optimizer": of_discriminator,
        }


def train(
    adversaries: Adversaries,
    train_slices: Slices,
    val_slices: Slices,
    selector: Judge,
    settings: Settings,
    seed: int,
    state: Path,
) -> list[dict[str, float]]:
    """Train; the generator ends, frozen, with the averaged weights of the checkpoint that :func:`chosen` keeps.

    Args:
        adversaries: with the classifier to be explained.
        train_slices: to learn from.
        val_slices: on which checkpoints are compared.
        selector: judges them.
        settings: lengths and rates.
        seed: with the number of a step it decides the step's batch, so that a resumed run is the same run.
        state: folder for the last checkpoint.

    Returns:
        Per checkpoint: ``step``, the mean of each loss since the one before, and what :func:`reached` says.
    """
    device, generator = adversaries.device, adversaries.generator
    averaged = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging), use_buffers=True)
    parts = {**adversaries.parts, "averaged": averaged}
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    path = state / "training.pt"
    if path.exists():
        saved = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        history, best = saved["history"], saved["best"]
    before, called = margins_of(selector, val_slices.images, device), int(val_slices.called.sum())
    step = int(history[-1]["step"]) if history else 0
    sums: dict[str, list[float]] = defaultdict(list)
    with tqdm(total=settings.steps, initial=step, desc="train", unit="step", disable=None) as bar:
        while step < settings.steps:
            rows = train_slices.draw(settings.batch_size, rng(seed, "counterfactual-batch", str(step)))
            step += 1
            turn = step % settings.generator_every == 0
            moves = rng(seed, "counterfactual-moves", str(step)) if settings.augmentation else None
            for name, loss in adversaries.step(train_slices.of(rows, device), generator_too=turn, moves=moves).items():
                sums[name].append(loss)
            averaged.update_parameters(generator)
            bar.update()
            if step % settings.checkpoint and step < settings.steps:
                continue
            after, size = changes_of(cast(Generator, averaged.module), val_slices, device, [selector])
            means = {name: float(np.mean(values)) for name, values in sums.items()}
            history.append({"step": step, **means, **reached(val_slices, size, before, after[0])})
            sums.clear()
            if chosen(history, settings.least_flips, called) == len(history) - 1:
                best = {name: tensor.detach().clone() for name, tensor in averaged.module.state_dict().items()}
            states = {name: part.state_dict() for name, part in parts.items()}
            _save(path, {**states, "history": history, "best": best})
    generator.load_state_dict(best)
    freeze(generator, device)
    return history


def _augmented(images: Tensor, moves: np.random.Generator) -> Tensor:
    """Slices or volumes (N, C, *spatial) as classifiers see them while they learn."""
    number, channels = images.shape[:2]
    slices = images.ndim == 4
    draws = moves.random((number, (8 if slices else 12) + 2 * channels))
    # They are made on the CPU, as those of classifiers are.
    return (augment if slices else augment_volumes)(images.cpu(), draws).to(images.device)


def changes_of(generator: Generator, slices: Slices, device: str, judges: list[Judge]) -> tuple[list[Tensor], Tensor]:
    """Make all slices normal: margins (N,) of each judge after it, and the mean absolute change (N,) of the foreground.

    In evaluation mode and full precision.
    """
    generator.eval()
    margins: list[list[Tensor]] = [[] for _ in judges]
    sizes = []
    with torch.inference_mode():
        for rows in torch.arange(len(slices.images)).split(BATCH):
            batch = slices.of(rows, device)
            change = generator(batch.images, torch.zeros_like(rows).to(device), batch.foreground)
            after = generator.changed(batch.images, change)
            for judge, found in zip(judges, margins, strict=True):
                found.append(judge.margins(after).cpu())
            inside = batch.foreground.flatten(1).sum(1).clamp(min=1)
            sizes.append((change.abs().mean(1).flatten(1).sum(1) / inside).cpu())
    return [torch.cat(found) for found in margins], torch.cat(sizes)


def reached(slices: Slices, size: Tensor, before: Tensor, after: Tensor) -> dict[str, float]:
    """How much was changed, and how often that flipped a judge.

    Args:
        slices: N of them.
        size: (N,) mean absolute change.
        before, after: (N,) margins of the judge.

    Returns:
        ``positive`` and ``negative``: mean change of slices that the classifier calls lesion and normal. ``flips``: of
        those that classifier and judge call lesion, the share that the judge calls normal after the change. All are 0
        where there is no such slice.
    """
    both = slices.called & (before >= 0)
    return {
        "positive": _mean(size[slices.called]),
        "negative": _mean(size[~slices.called]),
        "flips": _mean((after[both] < 0).float()),
    }


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else 0.0


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(content, temporary)
    temporary.replace(path)
