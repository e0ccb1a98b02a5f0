"""Trained classifiers that say of an image whether it shows a lesion, each at its own threshold."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weakseg.execution import Context
from weakseg.networks import classifier_network, freeze, load_weights
from weakseg.sequences import alone

BATCH = 64
"""Images per forward without gradients; results do not depend on it."""


@dataclass(frozen=True)
class Judge:
    """A frozen classifier and where it draws the line, by Youden's J on validation labels."""

    network: nn.Module
    threshold: float

    def margins(self, images: Tensor) -> Tensor:
        """By how much logits exceed the threshold, (N,) of images (N, C, *spatial); at least 0 is called lesion."""
        logits: Tensor = self.network(images)[:, 0]
        return logits - self.threshold


def read_judge(context: Context, role: str) -> Judge:
    """The classifier that a stage reads as a role, with the network that its record describes.

    It is shown slices without neighbours, also one that learnt beside them.
    """
    channels = len(context.record("preprocess")["params"]["channels"])
    params = context.record(role)["params"]
    network = classifier_network(channels, params, params["seed"])
    load_weights(context.folder(role) / "weights.safetensors", network)
    threshold = json.loads((context.folder(role) / "metrics.json").read_text())["threshold"]
    return Judge(alone(freeze(network, context.device)), threshold)


def margins_of(judge: Judge, images: Tensor, device: str) -> Tensor:
    """Margins (N,) of any number of images, batch by batch, on the CPU."""
    with torch.inference_mode():
        return torch.cat([judge.margins(batch.to(device)).float().cpu() for batch in images.split(BATCH)])
