"""Maps of a slice beside its neighbours: the contract of all methods, and CAMs that are known otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.contract.checks import (
    check_alone,
    check_direction,
    check_form,
    check_network_counts,
    check_untouched,
)
from tests.maps_factory import BY_VIEW, SHAPE, explain, explain_of, units
from tests.maps_factory import explained as of_slices
from tests.sequences_factory import SEQUENCES, explained, network
from torch.nn import functional as F
from torchcam import methods as peers

from weakseg import catalogue
from weakseg.maps import cam

METHODS = [name for name, method in catalogue.METHODS.items() if name in BY_VIEW["sequence"]]
# What learns first takes seconds each time, and is explained as in the slice view.
ASKING = [name for name in METHODS if not catalogue.METHODS[name].fits]
EXPLAINING = [name for name in ASKING if not catalogue.METHODS[name].null]


def test_every_method_explains_sequences():
    assert set(METHODS) == set(catalogue.METHODS) - {"mean_mask"}


@pytest.mark.parametrize("check", [check_form, check_alone, check_untouched])
@pytest.mark.parametrize("name", ASKING)
def test_method(name, check):
    check(explain_of(name, "sequence"), SEQUENCES)


@pytest.mark.parametrize("check", [check_direction, check_network_counts])
@pytest.mark.parametrize("name", EXPLAINING)
def test_method_that_asks_the_network(name, check):
    check(explain_of(name, "sequence"), SEQUENCES)


@pytest.mark.parametrize("name", [name for name in METHODS if catalogue.METHODS[name].fits])
def test_method_that_learns(name):
    check_direction(explain_of(name, "sequence"), SEQUENCES)


def windows(task, place):
    """The image of a slice, those of its window, and where in that it stands itself."""
    units = task.units
    return units.image[place], units.image[units.windows[place]], units.windows[place] == place


def activations_of(model, images):
    """Of the last stage, (N, F, *grid), and the mean of each channel, (N, F), stage by stage."""
    resnet = model.resnet
    values = resnet.maxpool(resnet.act(resnet.bn1(resnet.conv1(torch.from_numpy(images)))))
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        values = stage(values)
    return values, values.mean((2, 3))


def logit_of(model, features):
    """The logit of the middle one of three slices, (1, 3, F): the LSTM by torch, the head by hand."""
    states, _ = model.lstm(features)
    return (states[0, 1] @ model.head.weight[0] + model.head.bias[0]).double()


@pytest.mark.parametrize("place", [0, 2, 4])
def test_gradcam_through_the_lstm_by_finite_differences(place):
    """How the logit changes with each feature of the slice, wherever it stands in its window, weighs the channels."""
    task = explained()
    model = task.network.double()
    image, window, own = windows(task, place)
    activations, _ = activations_of(model, image[None].astype(np.float64))
    _, features = activations_of(model, window.astype(np.float64))
    weights = []
    for channel in range(features.shape[1]):
        change = torch.zeros_like(features)
        change[torch.from_numpy(own), channel] = 1e-4
        up, down = (logit_of(model, (features + sign * change)[None]) for sign in (1, -1))
        weights.append((up - down) / 2e-4)
    voxels = activations[0, 0].numel()
    coarse = torch.einsum("k,kxy->xy", torch.stack(weights), activations[0]).relu() / voxels
    expected = F.interpolate(coarse[None, None], SHAPE, mode="bilinear")[0, 0]
    method = {"gradcam": {"layer": "resnet.layer4"}}
    have = explain(explained((place,)), method)["gradcam"][0, 0]
    np.testing.assert_allclose(have, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert expected.max() > 0


@pytest.mark.parametrize("name", ["gradcam", "layercam", "hirescam"])
@pytest.mark.parametrize("layer", ["layer2", "layer3"])
def test_cams_have_the_gradient_of_the_whole_network(name, layer):
    """Autograd through whole windows, without a network in context: where a slice stands twice, gradients add up."""
    task = explained()
    model, found = task.network, []
    for place in range(5):
        _, window, own = windows(task, place)
        kept = []
        hook = model.resnet.get_submodule(layer).register_forward_hook(lambda *call, kept=kept: kept.append(call[-1]))
        with torch.enable_grad():
            logits = model(torch.from_numpy(window).requires_grad_())
            (gradients,) = torch.autograd.grad(logits[1, 0], kept)
        hook.remove()
        total = gradients[torch.from_numpy(own)].sum(0, keepdim=True)
        found.append(cam.WEIGHTINGS[name](kept[0].detach()[1:2], total))
    expected = F.interpolate(torch.cat(found), SHAPE, mode="bilinear").numpy()
    have = explain(explained(), {name: {"layer": f"resnet.{layer}"}})[name]
    np.testing.assert_allclose(have, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0


def test_cam_is_that_of_the_linear_head():
    """Zhou's formula by hand, and torchcam's on a ResNet with this head; neighbours have no say."""
    task = explained()
    model, images = task.network, task.units.image
    activations, _ = activations_of(model, images)
    coarse = torch.einsum("k,nkxy->nxy", model.linear.weight[0], activations)[:, None]
    expected = F.interpolate(coarse, SHAPE, mode="bilinear")
    have = explain_of("cam", "sequence")(explained())
    np.testing.assert_allclose(have, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    plain = network().resnet
    plain.fc = model.linear
    with peers.CAM(plain, "layer4", input_shape=images.shape[1:]) as extractor:
        scores = plain(torch.from_numpy(images).requires_grad_())
        (peer,) = extractor(class_idx=0, scores=scores, normalized=False)
    torch.testing.assert_close(coarse, peer[:, None], rtol=1e-4, atol=1e-5 * float(peer.max()))
    assert coarse.max() > 0


def test_untrained_is_layercam_of_the_other_network_beside_its_own_features():
    maps = explain_of("untrained", "sequence")(explained())
    other = explained(network=network(1))
    of_other = explain(other, {"layercam": {"layer": "resnet.layer1"}})["layercam"]
    np.testing.assert_allclose(maps[:, 0], of_other[:, 0] * units().foreground, rtol=1e-5)
    np.testing.assert_array_equal(explain_of("untrained", "sequence")(explained(network=network(5))), maps)
    assert maps.any()


def test_only_what_is_in_the_window_counts():
    """Slice 0 sees 0 and 1: the others may be anything, in any order."""
    image = units().image[[0, 1, 4, 2, 3]]
    image[2:] *= 2
    others = explained((0,), units=replaced(image))
    image = units().image
    image[1] *= 2
    neighbour = explained((0,), units=replaced(image))
    for name in ("gradcam", "integrated_gradients"):
        explain_one = explain_of(name, "sequence")
        first = explain_one(explained((0,)))
        np.testing.assert_array_equal(explain_one(others), first)
        assert not np.allclose(explain_one(neighbour), first)


def replaced(image):
    made = units()
    made.image[:] = image
    return made


@pytest.mark.parametrize(("selected", "beside"), [((0, 1, 2, 3, 4), 5), ((0,), 2), ((1,), 3), ((0, 4), 4)])
def test_features_are_computed_once_and_explained_slices_once_more(selected, beside):
    """Two methods of three layers and two logits in one pass; what is not perturbed is not computed again."""
    task = explained(selected)
    shown = counted(task.network)
    methods = {name: BY_VIEW["sequence"][name] for name in ("cam", "gradcam", "layercam")}
    explain(task, methods)
    assert sum(shown) == task.forwards == beside + len(selected)
    task = explained(selected)
    shown = counted(task.network)
    occlusion = {"occlusion": BY_VIEW["sequence"]["occlusion"]}
    explain(task, occlusion)
    without_neighbours = of_slices(selected)
    explain(without_neighbours, occlusion)
    assert sum(shown) == task.forwards == beside + without_neighbours.forwards


def test_nulls_compute_the_features_of_the_untrained_network_alone():
    task = explained((0, 4), untrained=network(1))
    shown = [counted(model) for model in (task.network, task.untrained)]
    nulls = {name: BY_VIEW["sequence"][name] for name in ("random", "centre", "intensity", "untrained")}
    maps = explain(task, nulls)
    assert [sum(one) for one in shown] == [0, 4 + 2]
    assert task.forwards == 4 + 2
    del nulls["untrained"]
    for name, without_neighbours in explain(of_slices((0, 4)), nulls).items():
        np.testing.assert_array_equal(maps[name], without_neighbours)


def counted(model):
    """Slices that pass the first convolution, as a list that grows."""
    seen = []
    model.resnet.conv1.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    return seen
