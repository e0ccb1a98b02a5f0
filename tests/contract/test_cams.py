"""Class activation maps of networks for which they are known in closed form."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score
from tests.contract import analytic
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


def gradcampp_weight(activation, gradient):
    """Eq. 19 of the source as it stands, voxel by voxel."""
    total, weight = activation.sum(), 0.0
    for one in gradient.flat:
        alpha = one**2 / (2 * one**2 + total * one**3)
        weight += alpha * max(one, 0)
    return weight


CLOSED_FORMS = {
    "cam": lambda a, g: sum(g[k].sum() * a[k] for k in range(3)),
    "gradcam": lambda a, g: np.maximum(sum(g[k].mean() * a[k] for k in range(3)), 0),
    "gradcampp": lambda a, g: np.maximum(sum(gradcampp_weight(a[k], g[k]) * a[k] for k in range(3)), 0),
    "xgradcam": lambda a, g: np.maximum(sum((g[k] * a[k] / a[k].sum()).sum() * a[k] for k in range(3)), 0),
    "hirescam": lambda a, g: sum(g[k] * a[k] for k in range(3)),
    "layercam": lambda a, g: np.maximum(sum(np.maximum(g[k], 0) * a[k] for k in range(3)), 0),
}
"""The map (*grid) of one unit from its activations and the gradient, both (3, *grid)."""


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
@pytest.mark.parametrize("method", cam.WEIGHTINGS)
def test_closed_form(method, size):
    model, images, activations, gradient = linear_case(size)
    expected = np.stack([CLOSED_FORMS[method](of_unit, gradient) for of_unit in activations])
    maps = cam.cams(model, torch.from_numpy(images), {method: "layer"}, "cpu")
    np.testing.assert_allclose(maps[method][:, 0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert (expected > 0.1).any()


@pytest.mark.parametrize("size", analytic.SIZES.values(), ids=analytic.SIZES)
@pytest.mark.parametrize("logit", [0, 1])
def test_cam_has_the_weights_of_the_head(logit, size):
    model, images = analytic.voxelwise(size, nn.ReLU()), torch.from_numpy(analytic.noise(size))
    expected = np.einsum("k,nk...->n...", model.HEAD[logit], model.layer(model.features(images)).numpy())
    layers = dict.fromkeys(("cam", "gradcam", "hirescam"), "layer")
    # Beside them one of the other logit, which must not change them.
    logits = dict.fromkeys(layers, logit) | {"layercam": 1 - logit}
    maps = cam.cams(model, images, layers | {"layercam": "layer"}, "cpu", logits)
    np.testing.assert_allclose(maps["cam"][:, 0], expected, atol=1e-5)
    # There the gradient is the head's weight over the number of voxels, everywhere.
    np.testing.assert_allclose(maps["gradcam"][:, 0], np.maximum(expected, 0) / np.prod(size), atol=1e-7)
    np.testing.assert_allclose(maps["hirescam"][:, 0], expected / np.prod(size), atol=1e-7)


@pytest.mark.parametrize("size", analytic.SIZES.values(), ids=analytic.SIZES)
@pytest.mark.parametrize("method", cam.WEIGHTINGS)
def test_lesion_is_found_to_the_voxel(method, size):
    images, lesion = analytic.lesions(size)
    model = analytic.voxelwise(size, nn.ReLU())
    for one, there in zip(
        cam.cams(model, torch.from_numpy(images), {method: "layer"}, "cpu")[method], lesion, strict=True
    ):
        assert average_precision_score(there.ravel(), one.ravel()) >= 0.99


@pytest.mark.parametrize("size", analytic.SIZES.values(), ids=analytic.SIZES)
def test_mirrored_image_has_the_mirrored_map(size):
    model, images = analytic.mirrored(size), torch.from_numpy(analytic.noise(size))
    for layer in ("layer1", "layer2", ("layer1", "layer2")):
        layers = dict.fromkeys(cam.WEIGHTINGS, layer)
        maps = cam.cams(model, images, layers, "cpu")
        for method, flipped in cam.cams(model, images.flip(2), layers, "cpu").items():
            np.testing.assert_allclose(flipped[:, :, ::-1], maps[method], rtol=0, atol=1e-5 * np.abs(flipped).max())
            assert np.ptp(flipped) > 0


def test_fused_layers_in_closed_form():
    """On lines, by NumPy: the voxelwise maximum of tanh(2 M / max M), times the larger of the two maxima."""
    fine, coarse = np.array([[0.0, 1.0, 3.0, 2.0]]), np.array([[0.5, 0.25]])
    places = np.clip((np.arange(4) + 0.5) / 2 - 0.5, 0, 1)
    scaled = np.interp(places, [0, 1], np.tanh(2 * coarse[0] / 0.5))
    expected = 3 * np.maximum(np.tanh(2 * fine[0] / 3), scaled)
    maps = [analytic.tensor(one)[:, None] for one in (fine, coarse)]
    np.testing.assert_allclose(cam.fuse(maps, (4,))[0, 0], expected, rtol=1e-6)


def test_fused_layers_keep_the_ratio_of_units():
    maps = [torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(layer)) for layer in range(2)]
    factors = torch.tensor([1.0, 0.1, 0.0]).reshape(3, 1, 1, 1)
    whole = cam.fuse(maps, (8, 8))
    torch.testing.assert_close(cam.fuse([factors * one for one in maps], (8, 8)), factors * whole)


def test_several_layers_need_one_pass():
    model, images = analytic.mirrored((12, 16)), torch.from_numpy(analytic.noise((12, 16)))
    layers = dict.fromkeys(cam.WEIGHTINGS, ("layer1", "layer2"))
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    maps = cam.cams(model, images, layers, "cpu")
    assert len(passes) == 1
    for method, fused in maps.items():
        np.testing.assert_array_equal(cam.cams(model, images, {method: ("layer1", "layer2")}, "cpu")[method], fused)


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
    layers = dict.fromkeys(cam.WEIGHTINGS, "layer")
    whole = cam.cams(model, torch.from_numpy(images), layers, "cpu")
    monkeypatch.setattr(cam, "BATCH", 2)
    for name, maps in cam.cams(model, torch.from_numpy(images), layers, "cpu").items():
        np.testing.assert_allclose(maps, whole[name], rtol=1e-5, atol=1e-6)


def test_hooks_go_when_the_network_fails():
    model = network()
    with pytest.raises(RuntimeError):
        cam.cams(model, torch.zeros(1, 3, *SHAPE), {"gradcam": "layer3"}, "cpu")
    assert state_of(model)[1] == state_of(network())[1]
