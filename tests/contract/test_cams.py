"""Class activation maps of networks for which they are known in closed form."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.maps_factory import SHAPE, network, state_of
from torch import nn

from weakseg.maps import cam
from weakseg.networks import freeze
from weakseg.randomness import rng


class Linear(nn.Module):
    """A convolution, then one weight for each activation: the gradient of the logit is those weights."""

    def __init__(self, size, stride=1):
        super().__init__()
        spatial_dims = len(size)
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        generator = rng(0, "linear", str(size))
        self.layer = convolution(2, 3, 3, padding=1, stride=stride)
        kernel = generator.normal(size=(3, 2, *[3] * spatial_dims))
        self.layer.weight.data = torch.from_numpy(kernel.astype(np.float32))
        self.layer.bias.data = torch.from_numpy(generator.normal(size=3).astype(np.float32))
        grid = [-(-side // stride) for side in size]
        self.head = nn.Parameter(torch.from_numpy(generator.normal(0.3, 1, size=(3, *grid)).astype(np.float32)))

    def forward(self, images):
        return (self.layer(images) * self.head).flatten(1).sum(1, keepdim=True)

    def activations(self, images):
        """The convolution without torch: (N, 3, *spatial)."""
        kernels, biases = self.layer.weight.detach().numpy(), self.layer.bias.detach().numpy()
        parts = zip(kernels, biases, strict=True)
        channels = [
            bias + np.array([sum(map(partial(ndimage.correlate, mode="constant"), image, kernel)) for image in images])
            for kernel, bias in parts
        ]
        return np.stack(channels, axis=1)


SIZES = [(7, 9), (5, 6, 4)]


def linear_case(size):
    model = freeze(Linear(size), "cpu")
    images = rng(1, "images").normal(size=(3, 2, *size)).astype(np.float32)
    return model, images, model.activations(images), model.head.numpy()


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_gradcam_in_closed_form(size):
    model, images, activations, gradient = linear_case(size)
    weights = gradient.reshape(3, -1).mean(1)
    expected = np.maximum(np.einsum("k,nk...->n...", weights, activations), 0)[:, None]
    maps = cam.cams(model, torch.from_numpy(images), {"gradcam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["gradcam"], expected, atol=1e-5)
    assert (expected > 0.1).any()


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_layercam_in_closed_form(size):
    model, images, activations, gradient = linear_case(size)
    expected = np.maximum((np.maximum(gradient, 0) * activations).sum(1, keepdims=True), 0)
    maps = cam.cams(model, torch.from_numpy(images), {"layercam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["layercam"], expected, atol=1e-5)
    assert (expected > 0.1).any()


def test_gradcam_after_global_average_pooling_is_cam():
    """With pooling, the gradient is w_k / voxels everywhere, so Grad-CAM is CAM (Zhou et al. 2016) over voxels."""
    model, images, activations, _ = linear_case((7, 9))
    model.head.data = torch.tensor([0.5, -2.0, 1.5]).reshape(3, 1, 1).expand(3, 7, 9) / 63
    expected = np.maximum(0.5 * activations[:, 0] - 2 * activations[:, 1] + 1.5 * activations[:, 2], 0) / 63
    maps = cam.cams(model, torch.from_numpy(images), {"gradcam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["gradcam"][:, 0], expected, atol=1e-6)


def test_coarse_maps_are_interpolated_linearly():
    size = (8,)
    model = freeze(Linear(size, stride=2), "cpu")
    images = rng(1, "images").normal(size=(2, 2, *size)).astype(np.float32)
    coarse = np.maximum((np.maximum(model.head.numpy(), 0) * model.activations(images)[..., ::2]).sum(1), 0)
    # Voxel centres of the fine grid lie at -1/4, 1/4, 3/4, ... of the coarse one; beyond its ends values are kept.
    places = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    expected = np.array([np.interp(places, np.arange(4), line) for line in coarse])
    maps = cam.cams(model, torch.from_numpy(images), {"layercam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["layercam"][:, 0], expected, atol=1e-5)


def test_batch_size_does_not_matter(monkeypatch):
    model, images, _, _ = linear_case((7, 9))
    layers = {"gradcam": "layer", "layercam": "layer"}
    whole = cam.cams(model, torch.from_numpy(images), layers, "cpu")
    monkeypatch.setattr(cam, "BATCH", 2)
    for name, maps in cam.cams(model, torch.from_numpy(images), layers, "cpu").items():
        np.testing.assert_allclose(maps, whole[name], rtol=1e-5, atol=1e-6)


def test_hooks_go_when_the_network_fails():
    model = network()
    with pytest.raises(RuntimeError):
        cam.cams(model, torch.zeros(1, 3, *SHAPE), {"gradcam": "layer3"}, "cpu")
    assert state_of(model)[1] == state_of(network())[1]
