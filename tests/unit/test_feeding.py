"""Batches on their way to a GPU; pinning memory is left out, as there is none here."""

import threading

import pytest
import torch

from weakseg.feeding import LAYOUTS, ahead, laid_out, moved

BATCHES = [(torch.full((2, 1), float(number)), torch.tensor([number, number])) for number in range(5)]


@pytest.fixture
def unpinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


def test_batches_for_the_cpu_are_handed_on_as_they_are():
    assert all(got is made for got, made in zip(ahead(BATCHES, "cpu"), BATCHES, strict=True))


def test_batches_for_a_gpu_are_the_same_in_the_same_order(unpinned):
    for (inputs, targets), (wanted, labels) in zip(ahead(BATCHES, "cuda"), BATCHES, strict=True):
        assert torch.equal(inputs, wanted)
        assert torch.equal(targets, labels)


def test_a_batch_for_a_gpu_is_made_while_the_one_before_is_in_use(unpinned):
    asked = [threading.Event() for _ in BATCHES]

    def make():
        for batch, event in zip(BATCHES, asked, strict=True):
            event.set()
            yield batch

    for number, _ in enumerate(ahead(make(), "cuda")):
        if number + 1 < len(BATCHES):
            assert asked[number + 1].wait(10)


def test_what_goes_wrong_in_making_a_batch_ends_the_training(unpinned):
    def make():
        yield BATCHES[0]
        raise ValueError("broken file")

    stream = ahead(make(), "cuda")
    next(stream)
    with pytest.raises(ValueError, match="broken file"):
        next(stream)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axes", [2, 3])
def test_channels_of_convolutions_lie_last_and_nothing_else_changes(axes, channels):
    convolution = (torch.nn.Conv2d if axes == 2 else torch.nn.Conv3d)(channels, 3, 3)
    network, images = (
        torch.nn.Sequential(convolution, torch.nn.Flatten(), torch.nn.LazyLinear(1)),
        torch.rand(2, channels, *[5] * axes),
    )
    before = network(images)
    assert laid_out(network, "cpu") is network
    assert moved(images, "cpu") is images
    assert convolution.weight.is_contiguous(memory_format=LAYOUTS[axes + 2])
    assert convolution(images).is_contiguous(memory_format=LAYOUTS[axes + 2])
    torch.testing.assert_close(network(images), before)


@pytest.mark.parametrize(("channels", "safe"), [(4, False), (12, False), (16, True)])
def test_layout_that_breaks_the_memory_of_a_gradient_is_left_alone(channels, safe):
    first, shortcut = torch.nn.Conv2d(2, channels, 3), torch.nn.Conv2d(channels, 2 * channels, 1, stride=2)
    network = laid_out(torch.nn.Sequential(first, shortcut), "cpu")
    # That of a single voxel is laid out either way.
    assert first.weight.is_contiguous(memory_format=torch.channels_last) == safe
    images = torch.rand(28, 2, 38, 18)
    for _ in range(5):
        features = first(images).detach()
        made = shortcut(features)
        (slope,) = torch.autograd.grad(made.square().sum(), shortcut.weight)
        wanted = torch.nn.grad.conv2d_weight(features.contiguous(), shortcut.weight.shape, 2 * made, stride=2)
        torch.testing.assert_close(slope, wanted, rtol=1e-3, atol=1e-3)
    assert network(images).shape == (28, 2 * channels, 18, 8)
