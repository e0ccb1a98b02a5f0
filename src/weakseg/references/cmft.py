"""Cross-modality feature transition: a 3D CycleGAN between pairs of modalities, which learns without a label.

Zhang et al. 2021 (Pattern Recognition 110:107562, arXiv 2201.02356), stage 1: of each patch, (T1, T1c) is translated
into (T2, FLAIR) and back, and the other way round. Which patches of a pair are compared is not known; ours are those of
the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.networks import initial_weights
from weakseg.randomness import rng, seed_of
from weakseg.references.branches import LAYOUT, SLOPES, Branch, Discriminator, laid_out
from weakseg.references.patches import Volume, draw_patches
from weakseg.references.steps import learn

Transition = Literal["cross", "self"]
TARGETS: dict[Transition, tuple[int, int]] = {"cross": (1, 0), "self": (0, 1)}
"""Into which pair each pair is translated."""
POOL = 10
"""Translated patches that are kept to be shown to a discriminator again."""


class Pool:
    """Translations of earlier steps, so that a discriminator does not forget them (Shrivastava et al. 2017, arXiv
    1612.07828)."""

    def __init__(self, size: int = POOL) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, made: Tensor, generator: np.random.Generator) -> Tensor:
        """Patches (N, C, *spatial) to be judged: until the pool is full each as it is; then half of the time an earlier
        one, whose place it takes."""
        shown = []
        for image in made:
            if len(self.kept) < self.size:
                self.kept.append(image)
                shown.append(image)
            elif generator.random() < 0.5:
                place = int(generator.integers(self.size))
                shown.append(self.kept[place])
                self.kept[place] = image
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [image.clone() for image in self.kept]}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.kept = list(state["kept"])


class Cycle:
    """Two generators and two discriminators, their optimizers, and the step that they take together.

    Args:
        transition: ``cross`` from pair to pair, as in the paper's method; ``self`` from each pair to itself, the
            baseline of its logs: a generator's way back is then the generator itself.
        width: features of the first level, of all four networks.
        cycle_weight: of the cycle's L1 distance, beside the least-squares adversarial loss; the paper has 10.
        learning_rate: of Adam.
        seed: decides the initial weights and the pools.
        device: ``cpu`` or ``cuda``; on the latter forwards run in bfloat16.
    """

    def __init__(
        self, transition: Transition, width: int, cycle_weight: float, learning_rate: float, seed: int, device: str
    ) -> None:
        with initial_weights(seed_of(seed, "cmft")):
            self.generators = blank_generators(width)
            self.discriminators = nn.ModuleList(Discriminator(2, width) for _ in range(2))
        for networks in (self.generators, self.discriminators):
            laid_out(networks, device)
        self.targets, self.cycle_weight = TARGETS[transition], cycle_weight
        self.seed, self.device = seed, device
        self.pools = [Pool(), Pool()]
        self.optimizers = [
            torch.optim.Adam(networks.parameters(), learning_rate)
            for networks in (self.generators, self.discriminators)
        ]

    @property
    def parts(self) -> dict[str, Any]:
        """All that has a state."""
        of_generators, of_discriminators = self.optimizers
        return {
            "generators": self.generators,
            "discriminators": self.discriminators,
            "generator_optimizer": of_generators,
            "discriminator_optimizer": of_discriminators,
            "first_pool": self.pools[0],
            "second_pool": self.pools[1],
        }

    def step(self, images: Tensor, number: int) -> dict[str, float]:
        """Learn from patches (N, 4, X, Y, Z); losses ``cycle``, ``adversarial`` and ``discriminator``.

        Args:
            images: on the device.
            number: of the step, from which the pools draw.
        """
        real = [pair.contiguous(memory_format=LAYOUT) for pair in images.split(2, dim=1)]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            made = [self.translate(pair, image) for pair, image in enumerate(real)]
            back = [self.translate(target, image) for target, image in zip(self.targets, made, strict=True)]
            cycle = torch.stack([F.l1_loss(*images) for images in zip(back, real, strict=True)]).sum()
            self.discriminators.requires_grad_(False)
            lying = zip((self.discriminators[target] for target in self.targets), made, strict=True)
            adversarial = torch.stack([judged(discriminator, image, 1) for discriminator, image in lying]).sum()
        self._update(0, self.cycle_weight * cycle + adversarial)
        self.discriminators.requires_grad_(True)
        terms = []
        for pair, discriminator in enumerate(self.discriminators):
            # Both transitions are their own inverse: what lies in this pair was made from its target.
            draws = rng(self.seed, f"pool-{pair}", str(number))
            shown = self.pools[pair].exchange(made[self.targets[pair]].detach().float(), draws)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                terms.append((judged(discriminator, real[pair], 1) + judged(discriminator, shown, 0)) / 2)
        loss = torch.stack(terms).sum()
        self._update(1, loss)
        return {"cycle": cycle.item(), "adversarial": adversarial.item(), "discriminator": loss.item()}

    def translate(self, pair: int, image: Tensor) -> Tensor:
        """A pair of modalities (N, 2, X, Y, Z), the first or the second, as the generator turns it into its target."""
        output: Tensor = self.generators[pair](image).output
        return output

    def _update(self, place: int, loss: Tensor) -> None:
        self.optimizers[place].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[place].step()


def judged(discriminator: nn.Module, images: Tensor, wanted: float) -> Tensor:
    """Least-squares loss of a discriminator's logits, which should all be ``wanted`` (Mao et al. 2017, arXiv
    1611.04076)."""
    logits = discriminator(images).float()
    return F.mse_loss(logits, torch.full_like(logits, wanted))


def blank_generators(width: int) -> nn.ModuleList:
    """The generators of the first and the second pair, with no weights of note."""
    return nn.ModuleList(Branch(2, 2, width, SLOPES["transition"]) for _ in range(2))


def fit_cycle(
    volumes: Sequence[Volume], params: dict[str, Any], seed: int, state: Path, device: str
) -> tuple[Cycle, list[dict[str, float]]]:
    """Train a CycleGAN on patches of unlabelled cases; it ends with the weights of its last step.

    Args:
        volumes: to learn from.
        params: ``transition``, ``width``, ``patch``, ``steps``, ``batch_size``, ``learning_rate``, weight of the
            ``cycle``, and steps to a ``checkpoint``.
        seed: decides weights, patches and pools.
        state: folder that survives a kill.
        device: ``cpu`` or ``cuda``.

    Returns:
        The networks, and per checkpoint the mean losses since the one before.
    """
    cycle = Cycle(params["transition"], params["width"], params["cycle"], params["learning_rate"], seed, device)

    def step(number: int) -> dict[str, float]:
        draws = rng(seed, "cmft-patches", str(number))
        images, _ = draw_patches(volumes, None, params["batch_size"], params["patch"], draws)
        return cycle.step(images.to(device), number)

    return cycle, learn(cycle.parts, step, params["steps"], params["checkpoint"], state, device)
