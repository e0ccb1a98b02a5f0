"""The contract that every map method and every null is held to, and bad methods that it must find."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.contract import checks
from tests.contract.checks import (
    COMMON,
    check_alone,
    check_constant_image,
    check_direction,
    check_form,
    check_network_counts,
    check_repeats,
    check_untouched,
)
from tests.maps_factory import DEFAULTS, MODALITIES, POSITIONS, SHAPE, explain, explain_of, explained, network, units

from weakseg import catalogue
from weakseg.maps import cam, nulls

METHODS = [name for name, method in catalogue.METHODS.items() if not method.null]
NULLS = [name for name, method in catalogue.METHODS.items() if method.null and name in DEFAULTS]


def test_every_method_of_the_catalogue_can_be_configured():
    assert set(DEFAULTS) == set(catalogue.METHODS) - {"mean_mask"}


@pytest.mark.parametrize("check", [*COMMON, check_direction, check_network_counts])
@pytest.mark.parametrize("name", METHODS)
def test_method(name, check):
    check(explain_of(name))


@pytest.mark.parametrize("name", METHODS)
def test_family_gives_each_method_what_it_gets_alone(name):
    family = catalogue.METHODS[name].family
    methods = {other: DEFAULTS[other] for other in METHODS if catalogue.METHODS[other].family == family}
    maps = explain(explained(), methods)
    assert set(maps) == set(methods)
    np.testing.assert_array_equal(maps[name], explain_of(name)(explained()))


class TestNulls:
    @pytest.mark.parametrize("check", COMMON)
    @pytest.mark.parametrize("name", NULLS)
    def test_contract(self, name, check):
        check(explain_of(name))

    @pytest.mark.parametrize("name", NULLS)
    def test_zero_outside_the_foreground(self, name):
        maps = explain_of(name)(explained())
        np.testing.assert_array_equal(maps[:, 0][~units().foreground], 0)

    @pytest.mark.parametrize("name", NULLS)
    def test_classifier_does_not_count(self, name):
        np.testing.assert_array_equal(explain_of(name)(explained(network=network(5))), explain_of(name)(explained()))

    def test_random_is_uniform_and_depends_on_seed_and_case(self):
        explain, inside = explain_of("random"), units().foreground
        values = explain(explained())[:, 0][inside]
        assert values.min() >= 0
        assert values.max() < 1
        np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)
        for other in (explained(seed=1), explained(units=units("b"))):
            assert abs(np.corrcoef(explain(other)[:, 0][inside], values)[0, 1]) < 0.1

    def test_centre_falls_with_the_distance_in_mm(self):
        maps, foreground = explain_of("centre")(explained())[:, 0], units().foreground
        inside = np.argwhere(foreground)
        place = np.stack([inside[:, 1] * 1.0, inside[:, 2] * 1.5, POSITIONS[inside[:, 0]] * 4.0], axis=1)
        distance = np.linalg.norm(place - place.mean(axis=0), axis=1)
        np.testing.assert_allclose(maps[foreground], 1 - distance / distance.max(), atol=1e-5)

    @pytest.mark.parametrize(("channel", "sign"), [("flair", 1), ("t1", -1)])
    def test_intensity_is_brightness_or_darkness_against_the_mean(self, channel, sign):
        params = {"channel": channel, "sign": sign, "floor": None}
        maps = nulls.explain(explained((1, 3)), {"intensity": params})["intensity"]
        image, inside = units().image[:, MODALITIES.index(channel)], units().foreground
        expected = np.where(inside, sign * (image - image[inside].mean()), 0)
        np.testing.assert_allclose(maps[:, 0], expected[[1, 3]], atol=1e-6)

    def test_intensity_below_the_floor_is_no_evidence(self):
        params = {"channel": "flair", "sign": -1, "floor": -0.5}
        maps = nulls.explain(explained(), {"intensity": params})["intensity"]
        image, inside = units().image[:, MODALITIES.index("flair")], units().foreground
        tissue = inside & (image >= -0.5)
        np.testing.assert_allclose(maps[:, 0][tissue], image[tissue].mean() - image[tissue], atol=1e-6)
        assert not maps[:, 0][~tissue].any()

    def test_untrained_is_layercam_of_the_other_network(self):
        task = explained()
        have = explain_of("untrained")(task)[:, 0]
        (want,) = cam.cams(task.untrained, torch.from_numpy(units().image), {"layercam": "layer1"}, "cpu").values()
        np.testing.assert_allclose(have, want[:, 0] * units().foreground, rtol=1e-6)
        assert task.forwards == 5
        assert not np.array_equal(explain_of("untrained")(explained(untrained=network(7)))[:, 0], have)

    @pytest.mark.parametrize("name", ["random", "centre", "intensity"])
    def test_no_forwards(self, name):
        task = explained()
        explain_of(name)(task)
        assert task.forwards == 0


# Bad methods, each planted for the check that must find it.


def good(task):
    return explain_of("layercam")(task)


def contrast(task):
    image = task.units.image[task.selected].mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (image - image.mean()) / image.std((1, 2, 3), keepdims=True)


def scaled_over_the_batch(task):
    maps = good(task)
    return maps / maps.max()


def unseeded(task):
    return good(task) + np.random.default_rng().random((len(task.selected), 1, *SHAPE), dtype=np.float32)


def global_generator(task):
    return good(task) + torch.rand(len(task.selected), 1, *SHAPE).numpy()


def constant(task):
    return np.ones_like(good(task))


def normalises_by_the_batch(task):
    copied = deepcopy(task.network).train()
    images = torch.from_numpy(task.units.image[task.selected])
    # Twice, as a batch of one could not be normalised.
    return cam.cams(copied, images.repeat(2, 1, 1, 1), {"layercam": "layer1"}, "cpu")["layercam"][: len(images)]


def changes_a_weight(task):
    maps = good(task)
    with torch.no_grad():
        task.network.layer2[0].conv1.weight += 1e-6
    return maps


def leaves_a_gradient(task):
    maps = good(task)
    task.network.fc.weight.grad = torch.zeros_like(task.network.fc.weight)
    return maps


def leaves_a_hook(task):
    task.network.layer1.register_forward_hook(lambda *_: None)
    return good(task)


def leaves_a_backward_hook(task):
    task.network.layer1.register_full_backward_hook(lambda *_: None)
    return good(task)


def trains_batch_norm(task):
    task.network.train()(torch.from_numpy(task.units.image))
    task.network.eval()
    return good(task)


def leaves_training_mode(task):
    maps = good(task)
    task.network.train()
    return maps


def asks_for_gradients(task):
    task.network.requires_grad_(True)
    return good(task)


def writes_into_the_image(task):
    task.units.image[:] += 1
    return good(task)


def inverted(task):
    return -good(task)


def ignores_the_classifier(task):
    return explain_of("untrained")(task)


def forgets_forwards(task):
    return good(replace(task))


PLANTED = [
    (lambda task: good(task)[:, 0], check_form),
    (lambda task: good(task).astype(np.float64), check_form),
    (lambda task: good(explained()), check_form),
    (lambda task: good(task) / 0 * 0, check_form),
    (constant, check_form),
    (constant, check_direction),
    (contrast, check_constant_image),
    (scaled_over_the_batch, check_alone),
    (normalises_by_the_batch, check_alone),
    (unseeded, check_repeats),
    (unseeded, check_alone),
    (global_generator, check_repeats),
    (leaves_a_hook, check_untouched),
    (leaves_a_backward_hook, check_untouched),
    (changes_a_weight, check_untouched),
    (leaves_a_gradient, check_untouched),
    (trains_batch_norm, check_untouched),
    (leaves_training_mode, check_untouched),
    (asks_for_gradients, check_untouched),
    (writes_into_the_image, check_untouched),
    (inverted, check_direction),
    (ignores_the_classifier, check_network_counts),
    (forgets_forwards, check_network_counts),
]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(("bad", "check"), PLANTED)
def test_planted_method_is_found(bad, check):
    with pytest.raises(AssertionError):
        check(bad)


def test_every_check_has_found_a_planted_method():
    assert {check for _, check in PLANTED} == {
        check for name, check in vars(checks).items() if name.startswith("check_")
    }
