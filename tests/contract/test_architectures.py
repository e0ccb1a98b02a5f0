"""Every architecture of a classifier: its logits, weights from its seed alone, and CAMs at its four sizes."""

import numpy as np
import pytest
import torch
from tests.maps_factory import state_of

from weakseg import catalogue
from weakseg.config_classifiers import ResNet3DConfig, ResNetConfig, ResNetLSTMConfig
from weakseg.config_studies import DenseNetConfig, EfficientNetConfig
from weakseg.maps.cam import WEIGHTINGS, cams
from weakseg.networks import BUILDERS, classifier_network, freeze

PARAMS = {
    "resnet": {**ResNetConfig().model_dump(), "stem_stride": 2},
    "resnet3d": ResNet3DConfig().model_dump(),
    "resnet_lstm": {**ResNetLSTMConfig().model_dump(), "stem_stride": 2, "window": {"slices": 3}},
    "densenet": DenseNetConfig().model_dump(),
    "efficientnet": EfficientNetConfig().model_dump(),
}


def images(architecture):
    """Three images of two channels."""
    size = (64, 96, 32)[: catalogue.ARCHITECTURES[architecture].spatial_dims]
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, *size)).astype(np.float32))


def network(architecture, seed=0):
    params = {**PARAMS[architecture], "architecture": architecture}
    return freeze(classifier_network(2, params, seed), "cpu")


def test_all_have_facts_and_parameters():
    assert set(catalogue.ARCHITECTURES) == set(BUILDERS) == set(PARAMS)


@pytest.mark.parametrize("architecture", BUILDERS)
def test_weights_depend_on_the_seed_alone(architecture):
    one = network(architecture)(images(architecture))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = network(architecture)(images(architecture))
    assert torch.equal(before, torch.get_rng_state())
    assert one.shape == (3, 2 if architecture == "resnet_lstm" else 1)
    assert torch.equal(one, again)
    assert not torch.equal(one, network(architecture, 1)(images(architecture)))


@pytest.mark.parametrize("architecture", BUILDERS)
def test_training_draws_nothing(architecture):
    """Dropout would make a resumed run another run."""
    model = network(architecture).train()
    assert torch.equal(model(images(architecture)), model(images(architecture)))


@pytest.mark.parametrize("architecture", BUILDERS)
def test_layers_halve_from_a_quarter(architecture):
    model, sizes = network(architecture), {}
    for name, module in catalogue.ARCHITECTURES[architecture].layers.items():
        model.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, output, name=name: sizes.__setitem__(name, tuple(output.shape[2:]))
        )
    model(images(architecture))
    spatial = images(architecture).shape[2:]
    assert sizes == {f"layer{stage}": tuple(size // 2 ** (stage + 1) for size in spatial) for stage in range(1, 5)}


@pytest.mark.parametrize("architecture", BUILDERS)
def test_cams_of_every_layer(architecture):
    """Finite maps of the image's size, and the network as it was."""
    model = network(architecture)
    tensors, facts = state_of(model)
    for layer in catalogue.ARCHITECTURES[architecture].layers.values():
        for name, maps in cams(model, images(architecture), dict.fromkeys(WEIGHTINGS, layer), "cpu").items():
            assert maps.shape == (3, 1, *images(architecture).shape[2:]), name
            assert np.isfinite(maps).all()
    after, facts_after = state_of(model)
    assert facts == facts_after
    assert all(torch.equal(tensor, after[name]) for name, tensor in tensors.items())
