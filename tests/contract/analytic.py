"""Networks whose maps are known, and images with a lesion that one of them looks for."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from weakseg.networks import freeze
from weakseg.randomness import rng

SIZES = {"2D": (12, 16), "3D": (8, 12, 10)}
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


def tensor(values):
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


class Voxelwise(nn.Module):
    """Each voxel adds to the logits by itself: three features of it, an activation, the mean, a linear head.

    The first logit rises with channel 0 above about 1, and falls with channel 1.
    """

    WEIGHT, BIAS = np.array([[1.0, 0.0], [-1.0, 0.2], [0.0, 1.0]]), np.array([-1.0, 0.1, 0.3])
    HEAD = np.array([[2.0, -0.3, -1.0], [-1.0, 1.0, 0.5]])

    def __init__(self, spatial_dims, activation):
        super().__init__()
        self.features = CONVOLUTIONS[spatial_dims](2, 3, 1)
        self.features.weight.data = tensor(self.WEIGHT).reshape(3, 2, *[1] * spatial_dims)
        self.features.bias.data = tensor(self.BIAS)
        self.layer = activation
        self.fc = nn.Linear(3, 2)
        self.fc.weight.data, self.fc.bias.data = tensor(self.HEAD), tensor([0.5, -0.5])

    def forward(self, images):
        return self.fc(self.layer(self.features(images)).flatten(2).mean(2))


class Mirrored(nn.Module):
    """Two stages whose kernels are their own mirror images along X, the second at half the resolution."""

    def __init__(self, spatial_dims):
        super().__init__()
        convolution, generator = CONVOLUTIONS[spatial_dims], rng(0, "mirrored", str(spatial_dims))
        self.layer1 = nn.Sequential(convolution(2, 4, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(convolution(4, 4, 2, stride=2), nn.ReLU())
        for stage in (self.layer1, self.layer2):
            kernel = tensor(generator.normal(size=stage[0].weight.shape))
            stage[0].weight.data = kernel + kernel.flip(2)
        self.fc = nn.Linear(4, 1)
        self.fc.weight.data = tensor(generator.normal(0.5, 1, size=(1, 4)))

    def forward(self, images):
        return self.fc(self.layer2(self.layer1(images)).flatten(2).mean(2))


def voxelwise(size, activation):
    return freeze(Voxelwise(len(size), activation), "cpu")


def mirrored(size):
    return freeze(Mirrored(len(size)), "cpu")


def noise(size, count=3):
    return rng(1, "images").normal(size=(count, 2, *size)).astype(np.float32)


def lesions(size):
    """Images (N, 2, *size) with a lesion that is bright in channel 0 and a cyst that is so in channel 1; and (N, *size)
    bool, where the lesion is."""
    images, lesion = 0.2 * noise(size), np.zeros((3, *size), bool)
    for unit, start in enumerate((1, 2, 4)):
        lesion[(unit, *[slice(start, start + 3)] * len(size))] = True
    images[:, 0][lesion] += 3
    images[:, 1, -3:] += 2
    return images, lesion
