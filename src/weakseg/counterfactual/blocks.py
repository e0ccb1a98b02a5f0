"""What the networks of counterfactuals are built of, for 2D and 3D alike.

Residual blocks of Singla et al. 2020 (arXiv 1911.00483) as COIN has them (Shvetsov et al. 2024, arXiv 2404.12832).
Weights are drawn as there: Xavier uniform, with gain sqrt(2) on residual convolutions and 1 on shortcuts.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def padded(images: Tensor, multiple: int) -> Tensor:
    """Images (N, C, *spatial) with 0 after each spatial axis, up to a multiple of a length."""
    missing = [-size % multiple for size in images.shape[2:]]
    return F.pad(images, [side for size in reversed(missing) for side in (0, size)])


def cropped(images: Tensor, size: Sequence[int]) -> Tensor:
    """The first ``size`` voxels along each spatial axis of images (N, C, *spatial)."""
    for axis, length in enumerate(size, 2):
        images = images.narrow(axis, 0, length)
    return images


def convolution(
    spatial_dims: int, channels: int, out: int, *, kernel: int = 3, gain: float = 2**0.5, bias: bool = False
) -> nn.Module:
    """A convolution that keeps the size, with weights drawn as Xavier uniform of a gain."""
    made: nn.Module = Conv["conv", spatial_dims](channels, out, kernel, padding=kernel // 2, bias=bias)
    nn.init.xavier_uniform_(made.get_parameter("weight"), gain)
    if bias:
        nn.init.zeros_(made.get_parameter("bias"))
    return made


def shortcut(spatial_dims: int, channels: int, out: int) -> nn.Module:
    """The 1-voxel convolution of a block's way past its residual part."""
    return convolution(spatial_dims, channels, out, kernel=1, gain=1)


class DownBlock(nn.Module):
    """Residual block of the encoder: (N, channels, *spatial) to (N, out, *half of it)."""

    def __init__(self, spatial_dims: int, channels: int, out: int) -> None:
        super().__init__()
        self.halve = Pool["avg", spatial_dims](2)
        self.shortcut = spectral_norm(shortcut(spatial_dims, channels, out))
        self.norm1, self.norm2 = Norm["batch", spatial_dims](channels), Norm["batch", spatial_dims](out)
        self.conv1 = convolution(spatial_dims, channels, out)
        self.conv2 = convolution(spatial_dims, out, out)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.conv1(self.halve(self.norm1(features).relu()))
        residual = self.conv2(self.norm2(residual).relu())
        added: Tensor = self.shortcut(self.halve(features)) + residual
        return added


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and shift depend on the condition, one of two."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.norm = Norm["batch", spatial_dims](channels, affine=False)
        self.scale, self.shift = nn.Embedding(2, channels), nn.Embedding(2, channels)
        nn.init.normal_(self.scale.weight, 1, 0.02)
        nn.init.zeros_(self.shift.weight)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        each = (*features.shape[:2], *[1] * (features.ndim - 2))
        normed: Tensor = self.norm(features)
        return normed * self.scale(condition).reshape(each) + self.shift(condition).reshape(each)


class UpBlock(nn.Module):
    """Residual block of the decoder: (N, channels, *spatial) to (N, out, *twice of it), under conditions (N,)."""

    def __init__(self, spatial_dims: int, channels: int, out: int) -> None:
        super().__init__()
        self.shortcut = shortcut(spatial_dims, channels, out)
        self.norm1, self.norm2 = ConditionalNorm(spatial_dims, channels), ConditionalNorm(spatial_dims, out)
        self.conv1 = convolution(spatial_dims, channels, out)
        self.conv2 = convolution(spatial_dims, out, out)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        residual = self.conv1(doubled(self.norm1(features, condition).relu()))
        residual = self.conv2(self.norm2(residual, condition).relu())
        # One voxel alone decides about itself here, so it costs less before than after its copies are made.
        added: Tensor = doubled(self.shortcut(features)) + residual
        return added


def doubled(features: Tensor) -> Tensor:
    """Each voxel of (N, C, *spatial) twice along each axis."""
    return F.interpolate(features, scale_factor=2, mode="nearest")


class CriticBlock(nn.Module):
    """Residual block of the discriminator, all of it with spectral norm, at half the size if it ``halves``."""

    def __init__(self, spatial_dims: int, channels: int, out: int, *, first: bool, halves: bool) -> None:
        super().__init__()
        self.first = first
        self.halve = Pool["avg", spatial_dims](2) if halves else nn.Identity()
        self.shortcut = spectral_norm(shortcut(spatial_dims, channels, out))
        self.conv1 = spectral_norm(convolution(spatial_dims, channels, out))
        self.conv2 = spectral_norm(convolution(spatial_dims, out, out))

    def forward(self, features: Tensor) -> Tensor:
        # The first block is shown the image, which an activation would cut.
        residual = self.conv1(features if self.first else features.relu())
        residual = self.halve(self.conv2(residual.relu()))
        added: Tensor = self.shortcut(self.halve(features)) + residual
        return added
