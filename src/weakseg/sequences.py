"""A network that sees a slice beside its neighbours, and what it makes of slices of one case.

A window is K slices of a case with the slice that it is about in the middle. The ResNet gives each slice its features,
once; the LSTM reads those of a window. So to ask about a slice that was changed costs one forward of the ResNet, as
without neighbours: :class:`InContext` puts it in its window, where the neighbours stay as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.networks.nets.resnet import ResNet
from numpy.typing import NDArray
from torch import Tensor, nn

BATCH = 64
"""Slices per forward; results do not depend on it."""


class ResNetLSTM(nn.Module):
    """A 2D ResNet on each slice, an LSTM over the slices of a window, a logit for each slice.

    In the manner of Ramananda & Sundaresan 2023 (arXiv 2309.16627): the LSTM stands between the mean of the last
    activations and the logit, so no weights of a linear head tell where the evidence is, as CAM needs them. The
    ResNet's own head therefore stays beside it, and gives each slice a second logit.

    Args:
        resnet: with its linear head, of one logit.
        hidden: channels of the LSTM's state, in each direction.
        layers: of the LSTM.
        bidirectional: whether it also reads from the last slice to the first.
        length: K, odd.
    """

    def __init__(self, resnet: ResNet, hidden: int, layers: int, bidirectional: bool, length: int) -> None:
        super().__init__()
        assert resnet.fc is not None
        self.resnet, self.linear, self.length = resnet, resnet.fc, length
        resnet.fc = nn.Identity()  # type: ignore[assignment]
        channels = self.linear.in_features
        self.lstm = nn.LSTM(channels, hidden, layers, bidirectional=bidirectional, batch_first=True)
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N K, 2) of windows (N K, C, X, Y), the K slices of one after those of another."""
        features: Tensor = self.resnet(images)
        return self.logits(features.unflatten(0, (-1, self.length))).flatten(0, 1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (N, K, 2) of each slice of windows from the features (N, K, F): that of the LSTM, and the linear one.

        In full precision, since a logit of fewer bits hides the small drops that maps are made of. Not by cuDNN, whose
        LSTM has no gradient in evaluation mode.
        """
        with torch.autocast(features.device.type, enabled=False), torch.backends.cudnn.flags(enabled=False):
            features = features.float()
            states, _ = self.lstm(features)
            return torch.cat([self.head(states), self.linear(features)], dim=2)


class InContext(nn.Module):
    """A network of single slices: each stands in one window, whose other slices stay as they are.

    Args:
        network: frozen.
        context: (K, F), features of the window's slices.
        own: (K,) bool, where the slice itself stands: in the middle, and wherever an edge is replicated.
    """

    def __init__(self, network: ResNetLSTM, context: Tensor, own: Tensor) -> None:
        super().__init__()
        # By the names that it has in the network, methods find its stages here too.
        self.resnet = network.resnet
        self.network, self.context, self.own = network, context, own
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2) of slices (N, C, X, Y)."""
        features: Tensor = self.resnet(images)
        windows = torch.where(self.own[:, None], features[:, None], self.context)
        return self.network.logits(windows)[:, self.network.length // 2]


def alone(network: nn.Module) -> nn.Module:
    """A network of slices without neighbours: in a window each is its own, as in a case of one slice."""
    if not isinstance(network, ResNetLSTM):
        return network
    weight = network.linear.weight
    own = torch.ones(network.length, dtype=torch.bool, device=weight.device)
    return InContext(network, weight.new_zeros(network.length, network.linear.in_features), own)


@torch.no_grad()
def window_features(network: ResNetLSTM, images: NDArray, windows: NDArray, device: str) -> Tensor:
    """Features (M, K, F) of windows (M, K), indices of slices (N, C, X, Y); those of each slice are computed once."""
    seen, places = np.unique(windows, return_inverse=True)
    batches = torch.from_numpy(images[seen]).split(BATCH)
    features = torch.cat([network.resnet(batch.to(device)).float() for batch in batches])
    return features[torch.from_numpy(places.reshape(windows.shape)).to(device)]


def middle_logits(network: ResNetLSTM, images: NDArray, windows: NDArray, device: str) -> NDArray:
    """The LSTM's logits (M,) of the slices in the middle of windows, as :func:`window_features` takes them."""
    with torch.no_grad():
        logits = network.logits(window_features(network, images, windows, device))
    return logits[:, network.length // 2, 0].cpu().numpy()
