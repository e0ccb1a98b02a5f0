"""U-Nets trained on masks (Ronneberger et al. 2015, arXiv 1505.04597), the residual ones of MONAI.

Patches of which every other one holds a voxel of the lesion, mirrored along each axis or not; Dice and cross-entropy;
sliding windows to segment. A patch of one slice makes the network 2D.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.inferers.inferer import SlidingWindowInferer
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg.evaluation.segmentation import box_of, overlap
from weakseg.networks import freeze, initial_weights
from weakseg.randomness import rng
from weakseg.references.base import Fitted, Task
from weakseg.references.examples import Example, corner, cut
from weakseg.training import Schedule, train

WINDOWS = 16
"""Windows in one forward when segmenting; this decides nothing."""


def unet(channels: int, params: dict[str, Any], seed: int) -> UNet:
    """A U-Net with one logit for each voxel, initialised from ``seed``.

    Args:
        channels: C of the images; input is (N, C, *spatial).
        params: ``channels`` of each level, ``residual_units``, and the ``patch``, which is 2D if it has one slice.
        seed: decides the initial weights, and nothing else does.
    """
    levels = params["channels"]
    with initial_weights(seed):
        return UNet(
            spatial_dims=2 if params["patch"][2] == 1 else 3,
            in_channels=channels,
            out_channels=1,
            channels=levels,
            strides=[2] * (len(levels) - 1),
            num_res_units=params["residual_units"],
        )


class Patches:
    """The batches of an epoch, a function of (method, seed, number of the step) alone.

    Attributes:
        epoch: the last one that was asked for.
    """

    def __init__(self, task: Task, steps_per_epoch: int) -> None:
        self.task, self.steps, self.epoch = task, steps_per_epoch, -1

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        self.epoch = epoch
        for step in range(epoch * self.steps, (epoch + 1) * self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Patches of a step with their lesions: (N, C, *spatial) and (N, 1, *spatial)."""
        task, size = self.task, self.task.params["patch"]
        generator = rng(task.seed, f"patches-{task.name}", str(step))
        number_of = task.params["batch_size"]
        images, lesions = (np.empty((number_of, channels, *size), np.float32) for channels in (task.channels, 1))
        for number in range(number_of):
            example = task.train[generator.integers(len(task.train))]
            start = corner(example, size, number % 2 == 0, generator)
            mirrored = tuple(1 + axis for axis in range(3) if generator.random() < 0.5)
            images[number], lesions[number] = (np.flip(found, mirrored) for found in cut(example, start, size))
        inputs, targets = torch.from_numpy(images), torch.from_numpy(lesions)
        return (inputs[..., 0], targets[..., 0]) if size[2] == 1 else (inputs, targets)


def fit(task: Task) -> Fitted:
    """Train a U-Net for ``steps`` batches.

    The checkpoint with the best mean Dice of validation cases is kept; without any, the last one.
    """
    params = task.params
    epochs = params["steps"] // params["checkpoint"]
    network = unet(task.channels, params, task.seed).to(task.device)
    batches = Patches(task, params["checkpoint"])

    def score(model: nn.Module) -> float:
        if not task.val:
            return float(batches.epoch)
        return float(np.mean([_dice(segment(model, params, task.device, one.image), one) for one in task.val]))

    rates = {name: params[name] for name in ("learning_rate", "weight_decay", "averaging")}
    schedule = Schedule(epochs, patience=epochs, **rates, steps_per_epoch=params["checkpoint"])
    history = train(network, batches, DiceCELoss(sigmoid=True, batch=True), score, schedule, task.state, task.device)
    frozen = freeze(network, task.device)
    return Fitted(frozen, partial(segment, frozen, params, task.device), history)


def _dice(probability: NDArray, example: Example) -> float:
    """Dice of the mask at 0.5; 1 if both are empty."""
    return overlap(probability > 0.5, example.mask()[0])["dice"]


@torch.inference_mode()
def segment(network: nn.Module, params: dict[str, Any], device: str, image: NDArray) -> NDArray:
    """The probability of the lesion, (X, Y, Z) float32 in [0, 1], by overlapping windows of the patches' size.

    Args:
        network: of :func:`unet`, in evaluation mode.
        params: ``patch`` and ``overlap``.
        device: where it is.
        image: (C, X, Y, Z) float32, 0 outside the foreground; what lies there is not looked at.
    """
    probability = np.zeros(image.shape[1:], dtype=np.float32)
    box = box_of(np.any(image != 0, axis=0))
    x, y, z = params["patch"]
    # A copy, since memory maps cannot be written to.
    volume = torch.from_numpy(np.array(image[:, *box], dtype=np.float32))
    units = volume.movedim(3, 0) if z == 1 else volume[None]
    window = (x, y) if z == 1 else (x, y, z)
    inferer = SlidingWindowInferer(window, WINDOWS, params["overlap"], mode="gaussian")
    logits: Tensor = inferer(units.to(device), network)  # type: ignore[assignment]
    found = logits[:, 0].float().sigmoid().cpu()
    probability[box] = (found.movedim(0, 2) if z == 1 else found[0]).numpy()
    return probability
