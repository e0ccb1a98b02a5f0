"""Training of the networks that tell a glioma's regions apart: CMFF, and what it is compared with.

Zhang et al. 2021 (Pattern Recognition 110:107562, arXiv 2201.02356), stage 2: the mean of three soft Dice losses, of
the fused output and of both branches', on patches without augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.networks import initial_weights
from weakseg.randomness import seed_of
from weakseg.references.branches import CLASSES, CMFF, Single, initialise, transfer

NETWORKS: dict[str, list[int]] = {"early_fusion": [0, 1, 2, 3], "first_pair": [0, 1], "second_pair": [2, 3]}
"""Channels of the networks of one branch; ``cmff`` has two and fuses them."""

SOFT_DICE = DiceLoss(include_background=False, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
"""Of probabilities and one-hot classes (N, CLASSES, X, Y, Z): 1 less the mean over patches and foreground classes of
(2 sum(p t) + 1e-5) / (sum(p^2) + sum(t^2) + 1e-5)."""


def build(
    network: str, guidance: str, initial: str, width: int, seed: int, generators: Sequence[nn.Module]
) -> CMFF | Single:
    """A network of four modalities, in the order of :data:`weakseg.references.patches.MODALITIES`, and its weights.

    Args:
        network: ``cmff``, or one of :data:`NETWORKS`.
        guidance: as of :class:`CMFF`; networks of one branch have none.
        initial: as :func:`initialise` takes, or anything else where ``generators`` are given.
        width: features of a branch's first level.
        seed: decides the weights.
        generators: of the first and the second pair, whose weights the branches of these pairs begin with; or none.
    """
    with initial_weights(seed_of(seed, "cmff")):
        built = CMFF(width, guidance) if network == "cmff" else Single(NETWORKS[network], width)
        if generators:
            for pair, branch in built.branches.items():
                transfer(generators[pair], branch)
        else:
            initialise(built, initial)
    return built


class Learner:
    """A network, its optimizer and the step that it takes.

    Args:
        network: gives probabilities (N, CLASSES, X, Y, Z), the one to be judged first.
        learning_rate, weight_decay: of Adam.
        device: ``cpu`` or ``cuda``; on the latter forwards run in bfloat16.
    """

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float, device: str) -> None:
        self.network, self.device = network.to(device), device
        self.optimizer = torch.optim.Adam(network.parameters(), learning_rate, weight_decay=weight_decay)

    @property
    def parts(self) -> dict[str, Any]:
        """All that has a state."""
        return {"network": self.network, "optimizer": self.optimizer}

    def step(self, images: Tensor, classes: Tensor) -> dict[str, float]:
        """Learn from patches (N, 4, X, Y, Z) and their classes (N, X, Y, Z); the ``loss``, and ``dice``: the soft Dice
        of the output that is judged."""
        self.network.train()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            outputs = self.network(images)
        wanted = one_hot(classes)
        losses = torch.stack([SOFT_DICE(output.float(), wanted) for output in outputs])
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        self.optimizer.step()
        return {"loss": losses.mean().item(), "dice": 1 - losses[0].item()}


def one_hot(classes: Tensor) -> Tensor:
    """Classes (N, X, Y, Z) int64 as (N, CLASSES, X, Y, Z) float32."""
    return F.one_hot(classes, CLASSES).movedim(-1, 1).float()
