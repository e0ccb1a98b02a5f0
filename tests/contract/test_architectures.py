"""Every architecture of the slice classifier: one logit, weights from its seed alone, and CAMs at its four sizes."""

import numpy as np
import pytest
import torch
from tests.maps_factory import state_of

from weakseg import catalogue
from weakseg.config import DenseNetConfig, EfficientNetConfig, ResNetConfig
from weakseg.maps.cam import WEIGHTINGS, cams
from weakseg.networks import BUILDERS, freeze, slice_network

PARAMS = {"resnet": ResNetConfig(), "densenet": DenseNetConfig(), "efficientnet": EfficientNetConfig()}
IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 64, 96)).astype(np.float32))


def network(architecture, seed=0):
    params = {**PARAMS[architecture].model_dump(), "architecture": architecture}
    return freeze(slice_network(2, params, seed), "cpu")


def test_all_have_facts_and_parameters():
    assert set(catalogue.ARCHITECTURES) == set(BUILDERS) == set(PARAMS)


@pytest.mark.parametrize("architecture", BUILDERS)
def test_weights_depend_on_the_seed_alone(architecture):
    one = network(architecture)(IMAGES)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = network(architecture)(IMAGES)
    assert torch.equal(before, torch.get_rng_state())
    assert one.shape == (3, 1)
    assert torch.equal(one, again)
    assert not torch.equal(one, network(architecture, 1)(IMAGES))


@pytest.mark.parametrize("architecture", BUILDERS)
def test_training_draws_nothing(architecture):
    """Dropout would make a resumed run another run."""
    model = network(architecture).train()
    assert torch.equal(model(IMAGES), model(IMAGES))


@pytest.mark.parametrize("architecture", BUILDERS)
def test_layers_halve_from_a_quarter(architecture):
    model, sizes = network(architecture), {}
    for name, module in catalogue.ARCHITECTURES[architecture].layers.items():
        model.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, output, name=name: sizes.__setitem__(name, tuple(output.shape[2:]))
        )
    model(IMAGES)
    assert sizes == {"layer1": (16, 24), "layer2": (8, 12), "layer3": (4, 6), "layer4": (2, 3)}


@pytest.mark.parametrize("architecture", BUILDERS)
def test_cams_of_every_layer(architecture):
    """Finite maps of the image's size, and the network as it was."""
    model = network(architecture)
    tensors, facts = state_of(model)
    for layer in catalogue.ARCHITECTURES[architecture].layers.values():
        for name, maps in cams(model, IMAGES, dict.fromkeys(WEIGHTINGS, layer), "cpu").items():
            assert maps.shape == (3, 1, 64, 96), name
            assert np.isfinite(maps).all()
    after, facts_after = state_of(model)
    assert facts == facts_after
    assert all(torch.equal(tensor, after[name]) for name, tensor in tensors.items())
