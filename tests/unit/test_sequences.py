"""The ResNet-LSTM, and what it makes of the slices of a case."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.maps_factory import ARCHITECTURE as OF_RESNET
from tests.maps_factory import units
from tests.sequences_factory import ARCHITECTURE, network, windowed

from weakseg.networks import freeze, resnet, resnet_lstm
from weakseg.randomness import rng
from weakseg.sequences import InContext, alone, middle_logits, window_features


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def lstm_by_hand(weights, features, suffix=""):
    """States (K, H) of one window (K, F), as Hochreiter & Schmidhuber and Gers et al. write the LSTM."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    of_input, of_state, bias, more = (weights[f"{name}{suffix}"].double().numpy() for name in names)
    state = cell = np.zeros(of_state.shape[1])
    states = []
    for one in features:
        gates = np.split(of_input @ one + of_state @ state + bias + more, 4)
        enter, forget, leave = (sigmoid(gates[place]) for place in (0, 1, 3))
        cell = forget * cell + enter * np.tanh(gates[2])
        state = leave * np.tanh(cell)
        states.append(state)
    return np.array(states)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_logits_by_hand(bidirectional):
    model = freeze(resnet_lstm(4, {**ARCHITECTURE, "bidirectional": bidirectional}, 0), "cpu")
    features = rng(0, "features").normal(size=(2, 3, 32))
    have = model.logits(torch.from_numpy(features).float()).double().numpy()
    weights = model.lstm.state_dict()
    for window, found in zip(features, have, strict=True):
        states = lstm_by_hand(weights, window)
        if bidirectional:
            back = lstm_by_hand(weights, window[::-1], "_reverse")[::-1]
            states = np.concatenate([states, back], axis=1)
        for column, values, layer in ((0, states, model.head), (1, window, model.linear)):
            expected = values @ layer.weight.double().numpy()[0] + layer.bias.item()
            np.testing.assert_allclose(found[:, column], expected, atol=1e-5)
        assert np.ptp(found[:, 0]) > 1e-3


def test_beside_the_lstm_stands_the_resnet_of_the_same_seed():
    images = torch.from_numpy(units().image[:3])
    plain, both = freeze(resnet(4, OF_RESNET, 3), "cpu"), freeze(resnet_lstm(4, ARCHITECTURE, 3), "cpu")
    torch.testing.assert_close(both(images)[:, 1:], plain(images))
    other = freeze(resnet_lstm(4, ARCHITECTURE, 4), "cpu")
    assert not torch.allclose(other.lstm.weight_ih_l0, both.lstm.weight_ih_l0)


def test_windows_stand_one_after_another():
    model, images = network(), torch.from_numpy(units().image)
    first, second = model(images[[0, 1, 2]]), model(images[[2, 3, 4]])
    torch.testing.assert_close(model(images[[0, 1, 2, 2, 3, 4]]), torch.cat([first, second]))
    assert not torch.allclose(first[2, 0], second[0, 0])


@pytest.mark.parametrize("slices", [1, 3, 5])
def test_a_logit_is_that_of_the_middle_of_its_window_alone(slices):
    model = network()
    model.length = slices
    made = windowed(slices=slices)
    logits = middle_logits(model, made.image, made.windows, "cpu")
    for place, window in enumerate(made.windows):
        whole = model(torch.from_numpy(made.image[window]))
        np.testing.assert_allclose(logits[place], whole[slices // 2, 0].item(), rtol=1e-4, atol=1e-5)
        outside = np.setdiff1d(np.arange(5), window)
        image = made.image.copy()
        image[outside] = 3 * image[outside][::-1] + 1
        assert middle_logits(model, image, made.windows, "cpu")[place] == pytest.approx(logits[place], abs=1e-5)
        for seen in np.unique(window):
            image = made.image.copy()
            image[seen] *= -1
            assert abs(middle_logits(model, image, made.windows, "cpu")[place] - logits[place]) > 1e-3


def test_features_of_a_slice_are_computed_once():
    model, made, seen = network(), windowed(), []
    model.resnet.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    found = window_features(model, made.image, made.windows[[0, 1]], "cpu")
    assert seen == [3]
    every = model.resnet(torch.from_numpy(made.image))
    torch.testing.assert_close(found, every[torch.tensor([[0, 0, 1], [0, 1, 2]])])


@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_changed_slice_changes_wherever_it_stands_and_its_neighbours_stay(place):
    model, made = network(), windowed()
    window = made.windows[place]
    own = torch.from_numpy(window == place)
    context = window_features(model, made.image, made.windows, "cpu")[place]
    changed = torch.from_numpy(rng(0, "changed").normal(size=(4, *made.image.shape[1:])).astype(np.float32))
    have = InContext(model, context, own)(changed)
    for one, logits in zip(changed, have, strict=True):
        image = torch.from_numpy(made.image[window])
        image[own] = one
        torch.testing.assert_close(logits, model(image)[1], rtol=1e-4, atol=1e-5)
    assert own.sum() == (1 if place == 1 else 2)
    assert have[:, 0].std() > 1e-3


def test_alone_a_slice_is_its_own_neighbour():
    model, images = network(), torch.from_numpy(units().image)
    expected = torch.stack([model(image.expand(3, -1, -1, -1))[1] for image in images])
    torch.testing.assert_close(alone(model)(images), expected, rtol=1e-4, atol=1e-5)
    plain = freeze(resnet(4, OF_RESNET, 0), "cpu")
    assert alone(plain) is plain


def test_the_lstm_keeps_full_precision_and_its_gradient_on_any_device():
    """In bfloat16 small drops of a logit vanish, and cuDNN's LSTM has no gradient in evaluation mode."""
    model, by_cudnn = network(), []
    model.lstm.register_forward_hook(lambda *_: by_cudnn.append(torch.backends.cudnn.enabled))
    features = torch.from_numpy(rng(0, "features").normal(size=(2, 3, 32)).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(features)
    assert torch.equal(logits, model.logits(features))
    assert by_cudnn == [False, False]
