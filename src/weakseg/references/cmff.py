"""Training of the networks that tell a glioma's regions apart: CMFF, and what it is compared with.

Zhang et al. 2021 (Pattern Recognition 110:107562, arXiv 2201.02356), stage 2: the mean of three soft Dice losses, of
the fused output and of both branches', on patches without augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.networks import freeze, initial_weights
from weakseg.randomness import rng, seed_of
from weakseg.references.base import Fitted, Task
from weakseg.references.branches import CLASSES, CMFF, LAYOUT, Single, initialise, laid_out, transfer
from weakseg.references.cmft import fit_cycle
from weakseg.references.patches import Volume, draw_patches, order_of, predict, volume_of
from weakseg.references.regions import REGIONS
from weakseg.references.steps import learn

WINDOWS = 4
"""Windows in one forward when segmenting; this decides nothing."""

NETWORKS: dict[str, list[int]] = {"early_fusion": [0, 1, 2, 3], "first_pair": [0, 1], "second_pair": [2, 3]}
"""Channels of the networks of one branch; ``cmff`` has two and fuses them."""

SOFT_DICE = DiceLoss(include_background=False, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5, batch=True)
"""Of probabilities and one-hot classes (N, CLASSES, X, Y, Z): 1 less the mean over foreground classes of
(2 sum(p t) + 1e-5) / (sum(p^2) + sum(t^2) + 1e-5), summed over all patches together.

The paper has batches of one. Small patches are often without a class, and alone would teach nothing about it.
"""


OUTPUTS = ("dice", "dice_first_pair", "dice_second_pair")
"""Names of the soft Dice of each output of a network; the first one's is that of the output that is judged."""


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
        self.network, self.device = laid_out(network, device), device
        self.optimizer = torch.optim.Adam(network.parameters(), learning_rate, weight_decay=weight_decay)

    @property
    def parts(self) -> dict[str, Any]:
        """All that has a state."""
        return {"network": self.network, "optimizer": self.optimizer}

    def step(self, images: Tensor, classes: Tensor) -> dict[str, float]:
        """Learn from patches (N, 4, X, Y, Z) and their classes (N, X, Y, Z); the ``loss``, and the soft Dice of each
        output, of which :data:`OUTPUTS` are the names."""
        self.network.train()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            outputs = self.network(images.contiguous(memory_format=LAYOUT))
        wanted = one_hot(classes)
        losses = torch.stack([SOFT_DICE(output.float(), wanted) for output in outputs])
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        self.optimizer.step()
        return {"loss": losses.mean().item(), **dict(zip(OUTPUTS, (1 - losses).tolist(), strict=False))}


def one_hot(classes: Tensor) -> Tensor:
    """Classes (N, X, Y, Z) int64 as (N, CLASSES, X, Y, Z) float32."""
    return F.one_hot(classes, CLASSES).movedim(-1, 1).float()


def fit_network(
    network: nn.Module,
    volumes: Sequence[Volume],
    targets: Sequence[NDArray],
    params: dict[str, Any],
    seed: int,
    state: Path,
    device: str,
) -> list[dict[str, float]]:
    """Train a network in place on patches of labelled cases; it ends with the weights of its last step.

    Args:
        network: of :func:`build`.
        volumes: to learn from.
        targets: classes (*box) of each.
        params: ``patch``, ``steps``, ``batch_size``, ``learning_rate``, whether it is to ``decay`` to 0 in equal parts,
            ``weight_decay``, and steps to a ``checkpoint``.
        seed: decides the patches.
        state: folder that survives a kill.
        device: ``cpu`` or ``cuda``.

    Returns:
        Per checkpoint the mean loss and soft Dice since the one before.
    """
    learner = Learner(network, params["learning_rate"], params["weight_decay"], device)

    def step(number: int) -> dict[str, float]:
        if params["decay"]:
            learner.optimizer.param_groups[0]["lr"] = params["learning_rate"] * (1 - number / params["steps"])
        draws = rng(seed, "cmff-patches", str(number))
        images, classes = draw_patches(volumes, targets, params["batch_size"], params["patch"], draws)
        assert classes is not None
        return learner.step(images.to(device), classes.to(device))

    return learn(learner.parts, step, params["steps"], params["checkpoint"], state, device)


def probabilities_of(network: nn.Module, volume: Volume, edge: int, device: str) -> NDArray:
    """The probability of each class, (CLASSES, X, Y, Z) float32 on the case's grid, by the output that is judged.

    Args:
        network: of :func:`build`, in evaluation mode.
        volume: the case; outside the box of its foreground all are 0.
        edge: of a window, in voxels.
        device: where the network is.
    """

    def judged(windows: Tensor) -> Tensor:
        probabilities: Tensor = network(windows)[0]
        return probabilities

    return predict(judged, volume, edge, WINDOWS, device)


def fit(task: Task) -> Fitted:
    """Train CMFT on the images of the training cases, then CMFF on their masks too; the last weights are kept.

    The examples hold the nested :data:`weakseg.references.regions.REGIONS`, so that their sum is the classes.
    """
    params, order = task.params, order_of(task.params["channels"])
    volumes = [volume_of(example.image, order) for example in task.train]
    targets = [
        example.mask().sum(axis=0, dtype=np.uint8)[volume.box]
        for example, volume in zip(task.train, volumes, strict=True)
    ]
    shared = {name: params[name] for name in ("width", "patch", "checkpoint")}
    unlabelled = {**shared, **params["transition"], "transition": "cross"}
    cycle, transition = fit_cycle(volumes, unlabelled, task.seed, task.state / "cmft", task.device)
    network = build("cmff", "mask", "cmft", params["width"], task.seed, list(cycle.generators))
    history = fit_network(network, volumes, targets, params, task.seed, task.state / "cmff", task.device)
    freeze(network, task.device)
    return Fitted(network, partial(_segment, network, params, task.device), [*transition, *history])


def _segment(network: nn.Module, params: dict[str, Any], device: str, image: NDArray) -> NDArray:
    """The probability of the region, (X, Y, Z) in [0, 1]: that of its classes together."""
    volume = volume_of(image, order_of(params["channels"]))
    classes = probabilities_of(network, volume, params["patch"], device)
    together: NDArray = classes[list(REGIONS[params["region"]])].sum(axis=0)
    return together
