"""Tiny ResNet-LSTMs, and slices in windows of three to explain, for tests of the sequence view."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import torch
from tests.contract.checks import Made, bright
from tests.maps_factory import ARCHITECTURE, MODALITIES, SHAPE, supervoxels, units
from torch import nn

from weakseg.data.views import Windowed, windows_of
from weakseg.maps.base import Explained
from weakseg.networks import classifier_network, freeze
from weakseg.randomness import rng
from weakseg.sequences import ResNetLSTM

LSTM = {"hidden": 6, "layers": 1, "bidirectional": True, "window": {"slices": 3, "distance_mm": None}}
ARCHITECTURE = {**ARCHITECTURE, "architecture": "resnet_lstm", **LSTM}


def network(seed=0):
    """A frozen tiny ResNet-LSTM whose batch norms have seen some data; a copy of its own for each caller."""
    return deepcopy(_seen(seed))


@cache
def _seen(seed):
    model = classifier_network(4, ARCHITECTURE, seed).train()
    with torch.no_grad():
        model(torch.from_numpy(rng(seed, "data").normal(size=(18, 4, *SHAPE)).astype(np.float32)))
        # Initial weights are small, and would leave little of a slice in the logit.
        model.lstm.weight_ih_l0.mul_(3)
        model.head.weight.mul_(10)
    return freeze(model, "cpu")


def windowed(made=None, slices=3):
    """Units in windows of adjacent slices."""
    made = made or units()
    return Windowed(**vars(made), windows=windows_of(made.positions, 4.0, slices, None))


def explained(selected=(0, 1, 2, 3, 4), seed=0, **changes):
    """As :func:`tests.maps_factory.explained`, of slices beside their neighbours; given units are put in windows."""
    parts = {"network": network(), "untrained": _seen(1), "supervoxels": supervoxels(), **changes}
    parts["units"] = windowed(changes.get("units"))
    return Explained(selected=np.array(selected), channels=MODALITIES, seed=seed, device="cpu", **parts)


class Disguised(nn.Module):
    """A network of slices with one feature, its logit, in the place of a ResNet."""

    def __init__(self, model):
        super().__init__()
        self.model, self.fc = model, nn.Linear(1, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (getattr(model, f"layer{n}") for n in range(1, 5))
        nn.init.ones_(self.fc.weight)

    def forward(self, images):
        return self.fc(self.model(images))


def bright_sequence():
    """A ResNet-LSTM whose logits rise with the brightness of FLAIR in the slice: the LSTM's input alone counts."""
    with torch.no_grad():
        model = ResNetLSTM(Disguised(bright()), 1, 1, False, 3)
        for weights in model.lstm.parameters():
            weights.zero_()
        # Input gate, forget gate, cell and output gate.
        model.lstm.weight_ih_l0.copy_(torch.tensor([[0.0], [0.0], [1.0], [0.0]]))
        nn.init.ones_(model.head.weight)
    return freeze(model, "cpu")


SEQUENCES = Made(explained, network, bright_sequence)
