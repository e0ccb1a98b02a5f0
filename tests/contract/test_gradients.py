"""Integrated Gradients and SmoothGrad of networks for which they are known, and beside those of captum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from sklearn.metrics import average_precision_score
from tests.contract import analytic
from tests.maps_factory import ARCHITECTURE, SHAPE, explained, network, units
from torch import nn

from weakseg.maps import gradients
from weakseg.networks import freeze, resnet
from weakseg.randomness import rng

SIZES = pytest.mark.parametrize("size", analytic.SIZES.values(), ids=analytic.SIZES)


def draw(size):
    return lambda unit, sample: rng(unit, str(sample)).standard_normal((2, *size), dtype=np.float32)


def integrated(model, images, steps=16, logit=0, baselines=None):
    baselines = torch.zeros_like(images) if baselines is None else baselines
    return gradients.integrated_gradients(model, images, baselines, steps, "cpu", logit)


@SIZES
@pytest.mark.parametrize("logit", [0, 1])
def test_integrated_gradients_in_closed_form(logit, size):
    """Where each voxel adds to the logit by itself, its attributions add up to what it adds."""
    model = analytic.voxelwise(size, nn.Softplus())
    images, baselines = (torch.from_numpy(analytic.noise(size)) for _ in range(2))
    baselines = 0.5 * baselines.flip(0) - 1

    def added(inputs):
        return np.einsum("k,nk...->n...", model.HEAD[logit], model.layer(model.features(inputs)).numpy()) / np.prod(
            size
        )

    have = integrated(model, images, logit=logit, baselines=baselines).sum(1).numpy()
    expected = added(images) - added(baselines)
    np.testing.assert_allclose(have, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_integrated_gradients_are_complete():
    """Over all voxels they add up to the difference of the logits, but for the kinks of the ResNet."""
    model, images = network(), torch.from_numpy(units().image)
    difference = (model(images) - model(torch.zeros_like(images)))[:, 0]
    assert (difference.abs() > 0.02).all()
    torch.testing.assert_close(integrated(model, images, 300).flatten(1).sum(1), difference, rtol=0.02, atol=2e-3)


@SIZES
def test_integrated_gradients_find_the_lesion_to_the_voxel(size):
    images, lesion = analytic.lesions(size)
    maps = integrated(analytic.voxelwise(size, nn.ReLU()), torch.from_numpy(images)).sum(1).numpy()
    for one, there in zip(maps, lesion, strict=True):
        assert average_precision_score(there.ravel(), one.ravel()) >= 0.99


@SIZES
def test_mirrored_image_has_the_mirrored_map(size):
    model, images = analytic.mirrored(size), torch.from_numpy(analytic.noise(size))
    maps, flipped = integrated(model, images), integrated(model, images.flip(2))
    torch.testing.assert_close(flipped.flip(2), maps, rtol=0, atol=1e-5 * float(maps.abs().max()))
    assert maps.abs().max() > 0


class Square(nn.Module):
    """Its gradient is twice the image."""

    def forward(self, images):
        return images.square().flatten(1).sum(1, keepdim=True)


@SIZES
def test_smoothgrad_in_closed_form(size):
    images = torch.from_numpy(analytic.noise(size)) * torch.tensor([1.0, 3.0, 0.0]).reshape(3, *[1] * (len(size) + 1))
    have = gradients.smoothgrad(Square(), images, draw(size), 7, 0.2, "cpu")
    for unit, image in enumerate(images.numpy()):
        added = 0.2 * np.ptp(image) * np.mean([draw(size)(unit, sample) for sample in range(7)], axis=0)
        np.testing.assert_allclose(have[unit], 2 * (image + added), atol=1e-5)


def test_smoothgrad_map_is_the_sum_of_absolute_values():
    """Of a linear logit, whatever the noise: those of its weights."""
    weights = np.array([0.5, -2.0, 0.0, 1.0])
    model = nn.Sequential(nn.Conv2d(4, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model[0].weight.data = analytic.tensor(weights).reshape(1, 4, 1, 1)
    (maps,) = gradients.explain(
        explained(network=freeze(model, "cpu")), {"smoothgrad": {"samples": 3, "noise": 0.1}}
    ).values()
    np.testing.assert_allclose(maps, 3.5 / np.prod(SHAPE), rtol=1e-5)


def test_smoothgrad_draws_by_seed_case_and_unit():
    def noisy(selected=(0, 1, 2, 3, 4), **changes):
        task = explained(selected, **changes)
        return gradients.explain(task, {"smoothgrad": {"samples": 3, "noise": 0.3}})["smoothgrad"]

    same = replace(units(), image=units().image[[0] * 5])
    maps = noisy(units=same)
    assert not np.allclose(maps[0], maps[1], rtol=1e-2)
    for other in (noisy(units=same, seed=1), noisy(units=replace(same, case="b"))):
        assert not np.allclose(other, maps, rtol=1e-2)
    np.testing.assert_allclose(noisy((3, 1), units=same), maps[[3, 1]], rtol=1e-4, atol=1e-6 * maps.max())


@pytest.mark.parametrize("values", [1, 4 * 22 * 26 * 7])
def test_batch_size_does_not_matter(values, monkeypatch):
    model, images = network(), torch.from_numpy(units().image)

    def both():
        drawn = lambda unit, sample: rng(unit, str(sample)).standard_normal((4, *SHAPE), dtype=np.float32)  # noqa: E731
        return integrated(model, images, 5), gradients.smoothgrad(model, images, drawn, 5, 0.1, "cpu")

    whole = both()
    monkeypatch.setattr(gradients, "VALUES", values)
    sizes = []
    model.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    for have, want in zip(both(), whole, strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-5 * float(want.abs().max()))
    assert max(sizes) == max(1, values // (4 * 22 * 26))
    assert sum(sizes) == 2 * 5 * 5


@pytest.mark.parametrize(
    ("method", "params", "passes"),
    [
        ("integrated_gradients", {"baseline": "zero", "steps": 6}, 6),
        ("smoothgrad", {"samples": 4, "noise": 0.1}, 4),
    ],
)
def test_forwards_are_counted(method, params, passes):
    task, sizes = explained((0, 2, 4)), []
    task.network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    gradients.explain(task, {method: params})
    assert task.forwards == sum(sizes) == 3 * passes


def test_baselines():
    images, foreground = units().image + 20, units().foreground
    assert not gradients.BASELINES["zero"](images, foreground).any()
    darkest = gradients.BASELINES["minimum"](images, foreground)
    for unit, channel in np.ndindex(5, 4):
        inside, image = foreground[unit], images[unit, channel]
        assert (darkest[unit, channel][inside] == image[inside].min()).all()
        np.testing.assert_array_equal(darkest[unit, channel][~inside], image[~inside])


def test_integrated_gradients_of_the_family_begin_at_the_baseline_that_is_named():
    for name, baseline in gradients.BASELINES.items():
        task = explained((1, 3))
        (maps,) = gradients.explain(task, {"integrated_gradients": {"baseline": name, "steps": 8}}).values()
        images, inside = units().image[[1, 3]], units().foreground[[1, 3]]
        want = integrated(task.network, torch.from_numpy(images), 8, 0, torch.from_numpy(baseline(images, inside)))
        np.testing.assert_allclose(maps[:, 0], want.sum(1), rtol=1e-5, atol=1e-7)


@pytest.fixture(params=[(24, 32), (16, 24, 20)], ids=["2D", "3D"])
def real(request):
    """A frozen tiny ResNet, and images."""
    size = request.param
    images = analytic.tensor(rng(0, "real").normal(size=(3, 2, *size)))
    model = resnet(2, ARCHITECTURE, 0, len(size)).train()
    with torch.no_grad():
        model(images)
    return freeze(model, "cpu"), images


def test_integrated_gradients_are_those_of_captum(real):
    model, images = real
    baselines = 0.3 * images.flip(0)
    want = IntegratedGradients(model).attribute(images, baselines, target=0, n_steps=9, method="gausslegendre")
    have = integrated(model, images, 9, 0, baselines)
    torch.testing.assert_close(have, want.float(), rtol=0, atol=1e-5 * float(want.abs().max()))


def test_smoothgrad_is_that_of_captum(real, monkeypatch):
    model, images = real
    drawn = analytic.tensor(rng(0, "drawn").normal(size=(3, 6, *images.shape[1:])))
    # captum draws here, for all samples of all units, unit by unit; it scales as it is told.
    monkeypatch.setattr(torch, "normal", lambda mean, std: mean + std * drawn.flatten(0, 1))
    want = NoiseTunnel(Saliency(model)).attribute(images, "smoothgrad", nt_samples=6, stdevs=0.4, target=0, abs=False)
    for unit, image in enumerate(images):
        share = 0.4 / float(image.max() - image.min())
        samples = drawn[unit].numpy()
        have = gradients.smoothgrad(model, image[None], lambda _, sample, of=samples: of[sample], 6, share, "cpu")
        torch.testing.assert_close(have[0], want[unit], rtol=0, atol=1e-5 * float(want.abs().max()))
