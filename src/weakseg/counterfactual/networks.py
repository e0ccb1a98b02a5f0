"""The generator of counterfactuals and its discriminator.

Both follow COIN (Shvetsov et al. 2024, arXiv 2404.12832), its configuration for synthetic anomalies: shortcuts of the
encoder with spectral norm, upsampling by nearest neighbours. Where they are in the manner of it, their docstrings say.
"""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Norm
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from weakseg.counterfactual.blocks import (
    CriticBlock,
    DownBlock,
    UpBlock,
    convolution,
    cropped,
    padded,
)
from weakseg.counterfactual.variants import Variant
from weakseg.networks import initial_weights

LEVELS = 5
"""Times that the encoder halves the size."""

WITHIN = 0.9
"""The tanh of this is taken of 1, the end of the range, so that the brightest voxels can still be changed."""


class Encoder(nn.Module):
    """Features at each size: an image (N, C, *spatial) to width * (1, 2, 4, 8, 16) channels at 1/2 to 1/32 of it."""

    def __init__(self, spatial_dims: int, channels: int, width: int) -> None:
        super().__init__()
        self.stem = convolution(spatial_dims, channels, width)
        self.norm = Norm["batch", spatial_dims](width)
        sizes = [width, *_widths(width)]
        self.blocks = nn.ModuleList(DownBlock(spatial_dims, *sizes[level : level + 2]) for level in range(LEVELS))

    def forward(self, images: Tensor) -> list[Tensor]:
        features, found = self.norm(self.stem(images).relu()), []
        for block in self.blocks:
            features = block(features)
            found.append(features)
        return found


class Decoder(nn.Module):
    """Features of the encoder to (N, C, *spatial), under conditions (N,).

    Each of its blocks doubles the size. Before those after the first, the encoder's features of the same size are
    concatenated, at the coarsest ``skips`` sizes.
    """

    def __init__(self, spatial_dims: int, channels: int, width: int, skips: int) -> None:
        super().__init__()
        self.skips = skips
        encoded, here = _widths(width), 16 * width
        blocks = []
        for level, out in enumerate(reversed(encoded)):
            joined = encoded[LEVELS - 1 - level] if 1 <= level <= skips else 0
            blocks.append(UpBlock(spatial_dims, here + joined, out))
            here = out
        self.blocks = nn.ModuleList(blocks)
        self.norm = Norm["batch", spatial_dims](here)
        self.last = convolution(spatial_dims, here, channels, bias=True)

    def forward(self, encoded: list[Tensor], condition: Tensor) -> Tensor:
        *finer, features = encoded
        for level, block in enumerate(self.blocks):
            if 1 <= level <= self.skips:
                features = torch.cat([features, finer[LEVELS - 1 - level]], 1)
            features = block(features, condition)
        out: Tensor = self.last(self.norm(features).relu())
        return out


class Generator(nn.Module):
    r"""Makes counterfactuals of images (N, C, *spatial) of any size.

    Images are in the classifier's units; inside they are cut to the training range of each channel and scaled to
    [-1, 1]. With ``perturbation`` the counterfactual is :math:`\tanh(G(x) + \tanh^{-1}(0.9 x)) / 0.9`, without it
    :math:`\tanh(G(x)) / 0.9`. COIN's is :math:`\tanh(G(x) + x)`; ours is in the manner of it: no output is no change,
    and with its last layer at 0 the untrained generator changes nothing. Nothing is changed outside the foreground.

    Attributes:
        low, high: (C,) ends of the range, in the classifier's units.
    """

    low: Tensor
    high: Tensor

    def __init__(self, channels: int, width: int, variant: Variant, seed: int, spatial_dims: int = 2) -> None:
        super().__init__()
        with initial_weights(seed):
            self.encoder = Encoder(spatial_dims, channels, width)
            self.decoder = Decoder(spatial_dims, channels, width, variant.skips)
        self.perturbation, self.spatial_dims = variant.perturbation, spatial_dims
        if self.perturbation:
            nn.init.zeros_(self.decoder.last.get_parameter("weight"))
        self.register_buffer("low", torch.full((channels,), -1.0))
        self.register_buffer("high", torch.full((channels,), 1.0))

    def forward(self, images: Tensor, condition: Tensor, foreground: Tensor) -> Tensor:
        """The change (N, C, *spatial) that makes the counterfactual of each image, in units of the range.

        Args:
            images: (N, C, *spatial).
            condition: (N,) int64: 0 for normal, 1 for lesion.
            foreground: (N, 1, *spatial) bool.
        """
        scaled = self.scaled(images)
        # Padded in the classifier's units, in which there is nothing at 0.
        encoded = self.encoder(self.scaled(padded(images, 2**LEVELS)))
        output = cropped(self.decoder(encoded, condition), images.shape[2:])
        if self.perturbation:
            output = output + torch.atanh(WITHIN * scaled)
        return torch.where(foreground, (output.tanh() / WITHIN - scaled) / 2, 0)

    def scaled(self, images: Tensor) -> Tensor:
        """Images (N, C, *spatial) cut to the range, which becomes [-1, 1]."""
        return (2 * (images - self._each(self.low)) / self._each(self.high - self.low) - 1).clamp(-1, 1)

    def changed(self, images: Tensor, change: Tensor) -> Tensor:
        """Images (N, C, *spatial) after a change in units of the range; what lies beyond the range stays beyond it."""
        return images + change * self._each(self.high - self.low)

    def _each(self, values: Tensor) -> Tensor:
        return values.reshape(1, -1, *[1] * self.spatial_dims)


class Discriminator(nn.Module):
    """Projection discriminator (Miyato & Koyama 2018, arXiv 1802.05637): is an image a real one of its condition?

    Spectral norm everywhere (Miyato et al. 2018, arXiv 1802.05957). Images (N, C, *spatial) of any size are scaled as
    inside the generator.
    """

    def __init__(self, channels: int, width: int, seed: int, spatial_dims: int = 2) -> None:
        super().__init__()
        sizes = [channels, *_widths(width), 16 * width]
        with initial_weights(seed):
            self.blocks = nn.Sequential(
                *(
                    CriticBlock(spatial_dims, *sizes[level : level + 2], first=level == 0, halves=level < LEVELS)
                    for level in range(LEVELS + 1)
                )
            )
            self.linear = spectral_norm(nn.Linear(sizes[-1], 1))
            self.embedding = spectral_norm(nn.Embedding(2, sizes[-1]))

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """Logits (N,) of images under conditions (N,)."""
        features = self.blocks(padded(images, 2**LEVELS)).relu().flatten(2).sum(2)
        logits: Tensor = self.linear(features)[:, 0] + (self.embedding(condition) * features).sum(1)
        return logits


def _widths(width: int) -> list[int]:
    return [width * 2**level for level in range(LEVELS)]
