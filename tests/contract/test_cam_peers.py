"""Class activation maps beside those of torchcam, on the ResNets that are used, in 2D and 3D."""

from __future__ import annotations

import pytest
import torch
from monai.visualize import GradCAMpp
from tests.contract import analytic
from tests.maps_factory import ARCHITECTURE
from torch.nn import functional as F
from torchcam import methods as peers

from weakseg.maps import cam
from weakseg.networks import freeze, resnet
from weakseg.randomness import rng

SIZES = {"2D": (32, 48), "3D": (32, 24, 40)}
# No Grad-CAM++: the one of torchcam 0.5 divides a copy of its numerators, so that its weights are cubes of gradients.
CASES = [
    ("cam", peers.CAM, "layer4"),
    ("gradcam", peers.GradCAM, "layer3"),
    ("gradcam", peers.GradCAM, "layer4"),
    ("xgradcam", peers.XGradCAM, "layer2"),
    ("xgradcam", peers.XGradCAM, "layer4"),
    ("layercam", peers.LayerCAM, "layer1"),
    ("layercam", peers.LayerCAM, "layer3"),
]


@pytest.fixture(params=SIZES)
def case(request):
    """A frozen tiny ResNet whose batch norms have seen some data, with a head of its own, and images."""
    size = SIZES[request.param]
    model = resnet(2, ARCHITECTURE, 0, len(size)).train()
    images = analytic.tensor(rng(0, "peers").normal(size=(3, 2, *size)))
    with torch.no_grad():
        model(images)
        # Positive, or a map could be 0 everywhere.
        model.fc.weight.abs_()
    return freeze(model, "cpu"), images


def of_peer(peer, model, images, layers):
    """Maps (N, *grid) of each layer, not scaled."""
    with peer(model, layers, input_shape=tuple(images.shape[1:])) as extractor:
        scores = model(images.clone().requires_grad_())
        return extractor(class_idx=0, scores=scores, normalized=False)


def close(have, want):
    torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-5 * float(want.max()))
    assert want.max() > 0


@pytest.mark.parametrize(("method", "peer", "layer"), CASES)
def test_same_as_torchcam(method, peer, layer, case):
    model, images = case
    (coarse,) = of_peer(peer, model, images, layer)
    mode = {2: "bilinear", 3: "trilinear"}[images.ndim - 2]
    want = F.interpolate(coarse[:, None], images.shape[2:], mode=mode)
    close(torch.from_numpy(cam.cams(model, images, {method: layer}, "cpu")[method]), want)


def test_gradcampp_is_that_of_monai_up_to_a_factor_for_each_unit(case):
    """Of the last layer, unit by unit: MONAI mixes units, and voxels where their gradients differ; it keeps e^y."""
    model, images = case
    # It adds 1e-7 to squares of gradients, so let them be large, and the logit small.
    model.fc.weight.mul_(100)
    model.fc.bias.copy_(-model(images).mean(0))
    peer = GradCAMpp(model, "layer4")
    maps = torch.from_numpy(cam.cams(model, images, {"gradcampp": "layer4"}, "cpu")["gradcampp"])
    mode = {2: "bilinear", 3: "trilinear"}[images.ndim - 2]
    for have, image in zip(maps, images, strict=True):
        coarse = peer.compute_map(image[None].requires_grad_(), class_idx=0).detach()
        want = F.interpolate(coarse, images.shape[2:], mode=mode)[0]
        torch.testing.assert_close(have / have.max(), want / want.max(), rtol=1e-3, atol=1e-5)
        assert have.max() > have.min()


def test_fusion_is_that_of_torchcam_up_to_a_factor_for_each_unit(case):
    model, images = case
    layers = ["layer1", "layer2", "layer4"]
    coarse = of_peer(peers.LayerCAM, model, images, layers)
    peaks = [one.flatten(1).amax(1).reshape(-1, *[1] * (images.ndim - 2)) for one in coarse]
    relative = [one / peak for one, peak in zip(coarse, peaks, strict=True)]
    want = peers.LayerCAM.fuse_cams(relative, tuple(images.shape[2:])) * torch.stack(peaks).amax(0)
    close(torch.from_numpy(cam.cams(model, images, {"layercam": layers}, "cpu")["layercam"][:, 0]), want)
