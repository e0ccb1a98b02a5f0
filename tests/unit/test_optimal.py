"""The optimal perturbation, on classifiers whose evidence is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from tests.maps_factory import state_of
from torch import nn

from weakseg.config_maps import FitConfig, OptimalConfig
from weakseg.data.views import Units
from weakseg.maps import optimal
from weakseg.maps.base import Explained
from weakseg.maps.fit import Examples
from weakseg.maps.optimal import FieldNetwork, PerturbationLoss, mask_of, target_of
from weakseg.networks import freeze
from weakseg.randomness import rng

SIZES = [(28, 32), (16, 20, 12)]
CELL = 4
"""Supervoxels are cubes of this edge."""


class Evidence(nn.Module):
    """Its logit is the mean of what exceeds 1 in the first channel; the others do not count."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(100.0))

    def forward(self, images):
        return self.weight * (images[:, 0] - 1).relu().flatten(1).mean(1, keepdim=True)


def supervoxels(size):
    """(*spatial) int32: cubes, numbered from 1, and 0 in a rim of one cube."""
    cubes = np.indices(size) // CELL
    shape = [side // CELL for side in size]
    labels = 1 + np.ravel_multi_index(cubes, shape)
    rim = np.any([(axis == 0) | (axis == length - 1) for axis, length in zip(cubes, shape, strict=True)], axis=0)
    return np.where(rim, 0, labels).astype(np.int32)


@cache
def case(name, size=SIZES[0], number=4):
    """Units of noise in which two cubes stand out, one in the channel that counts; and where that one is."""
    generator, labels = rng(0, "case", f"{name}/{size}"), supervoxels(size)
    image = generator.normal(0, 0.2, (number, 2, *size)).astype(np.float32)
    truth = np.zeros((number, *size), bool)
    for unit in range(number):
        counting, other = generator.choice(np.unique(labels)[1:], 2, replace=False)
        truth[unit] = labels == counting
        image[unit, 0][truth[unit]] += 3
        image[unit, 1][labels == other] += 3
    image *= labels > 0
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    units = Units(image, np.broadcast_to(labels > 0, truth.shape), np.arange(number), name, affine, size)
    regions = np.broadcast_to(labels, truth.shape)
    network = freeze(Evidence(), "cpu")
    return Explained(units, np.arange(number), network, network, ["a", "b"], 0, "cpu", regions), truth


TRAIN, VAL = [f"train{number}" for number in range(6)], ["val0", "val1"]


def examples(state, size=SIZES[0], seed=0):
    network = freeze(Evidence(), "cpu")
    # Classes of a real classifier lie a few standard deviations apart.
    scale = float(network(torch.from_numpy(case("val0", size)[0].units.image)).mean()) / 2

    def open_case(name):
        return replace(case(name, size)[0], seed=seed, network=network)

    every = {"train": TRAIN, "val": VAL}
    return Examples(TRAIN, VAL, every, open_case, network, scale, None, seed, state, "cpu")


def methods(epochs=10, **changes):
    training = FitConfig(epochs=epochs, patience=epochs, learning_rate=0.03)
    return {"optimal_perturbation": OptimalConfig(training=training, **changes).model_dump()}


def explain(task, fitted, **changes):
    params = methods(**changes)
    return optimal.explain(replace(task, fitted=fitted.network.state_dict()), params)["optimal_perturbation"][:, 0]


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_learnt_map_finds_what_counts(tmp_path, size):
    """On a case that it was not trained on."""
    fitted = optimal.fit(examples(tmp_path, size), methods())
    task, truth = case("test", size)
    maps, inside = explain(task, fitted), task.units.foreground
    for unit in range(len(maps)):
        assert average_precision_score(truth[unit][inside[unit]], maps[unit][inside[unit]]) >= 0.95
    assert fitted.metrics["area"] == pytest.approx(maps[inside].mean(), abs=0.03)
    assert 0.5 * truth[inside].mean() < maps[inside].mean() < 2 * truth[inside].mean() + 0.02
    assert fitted.metrics["drop"] > 1


def test_without_the_area_term_all_is_perturbed(tmp_path):
    class Mean(Evidence):
        """Everything is evidence, and nothing is against it."""

        def forward(self, images):
            return self.weight * images[:, 0].abs().flatten(1).mean(1, keepdim=True)

    network = freeze(Mean(), "cpu")
    areas = {}
    for area in (0, OptimalConfig().area):
        found = replace(examples(tmp_path / str(area)), network=network, scale=20.0)
        areas[area] = optimal.fit(found, methods(area=area, smoothness=0)).metrics["area"]
    assert areas[0] > 0.95
    assert areas[OptimalConfig().area] < 0.1


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_mask_is_tied_to_supervoxels(size):
    task, _ = case("test", size)
    labels = torch.from_numpy(task.supervoxels.copy()).long()
    field = torch.from_numpy(rng(0, "field").normal(size=(len(labels), 1, *size)).astype(np.float32))
    mask = mask_of(field, labels)
    assert (mask[labels == 0] == 0).all()
    for label in labels.unique()[1:]:
        inside = labels[0] == label
        for unit in range(len(labels)):
            (value,) = mask[unit][inside].unique()
            assert value.item() == pytest.approx(field[unit, 0][inside].mean().sigmoid().item(), abs=1e-6)


@pytest.mark.parametrize("size", [(28, 32), (25, 30), (17, 21, 13)])
def test_field_has_the_size_of_the_image_and_no_batch_effect(size):
    network = freeze(FieldNetwork(2, 4, 0, len(size)), "cpu")
    images = torch.from_numpy(rng(0, "images").normal(size=(3, 2, *size)).astype(np.float32))
    fields = network(images)
    assert fields.shape == (3, 1, *size)
    for unit in range(3):
        torch.testing.assert_close(network(images[unit : unit + 1])[0], fields[unit], rtol=1e-4, atol=1e-5)


def test_initial_weights_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    one, same, other = (FieldNetwork(2, 4, seed, 2).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_terms_by_hand(size):
    """All of m is 1/2 here, so with the fill 0 the image is halved."""
    task, _ = case("test", size)
    target = target_of(task, task.selected, methods()["optimal_perturbation"])
    image = torch.from_numpy(task.units.image)
    whole, half = task.network(image)[:, 0], task.network(image / 2)[:, 0]
    field = torch.zeros(len(image), 1, *size)
    for threshold, sign in ((None, 1), (-1, 1), (1e6, -1)):
        loss = PerturbationLoss(task.network, 4.0, 5.0, 0.5, threshold)
        drop, area, smoothness = loss.terms(field, target)
        torch.testing.assert_close(drop, sign * (whole - half) / 4)
        torch.testing.assert_close(area, torch.full_like(area, 0.5))
        torch.testing.assert_close(smoothness, torch.zeros_like(smoothness))
        torch.testing.assert_close(loss(field, target), 5 * area.mean() - drop.mean())
    field[:, 0, : size[0] // 2] = 20
    parts = PerturbationLoss(task.network, 4.0, 5.0, 0.5).terms(field, target).mean(1)
    assert parts[2] > 0
    torch.testing.assert_close(
        PerturbationLoss(task.network, 4.0, 5.0, 0.5)(field, target), 5 * parts[1] + 0.5 * parts[2] - parts[0]
    )


def test_gradients_reach_every_weight_of_the_network_and_none_of_the_classifier():
    task, _ = case("test")
    network, classifier = FieldNetwork(2, 4, 0, 2), task.network
    before = state_of(classifier)
    target = target_of(task, task.selected, methods()["optimal_perturbation"])
    PerturbationLoss(classifier, 1.0, 1.0, 1.0)(network(target[:, :2]), target).backward()
    for name, weight in network.named_parameters():
        assert weight.grad.isfinite().all(), name
    moved = [name for name, weight in network.named_parameters() if weight.grad.abs().max() > 0]
    # A bias before instance normalisation is taken away by it.
    assert {name for name, _ in network.named_parameters() if name.endswith("weight")} <= set(moved)
    assert state_of(classifier)[1] == before[1]


@pytest.mark.parametrize("fill", ["zero", "blur", "noise"])
def test_fill_of_a_unit_does_not_depend_on_others(fill):
    task, _ = case("test")
    params = methods(fill=fill)["optimal_perturbation"]
    whole, image = target_of(task, task.selected, params), torch.from_numpy(task.units.image)
    assert torch.equal(whole[:, :2], image)
    assert torch.equal(whole[:, 4], torch.from_numpy(task.supervoxels.astype(np.float32)))
    assert torch.equal(target_of(task, np.array([3, 1]), params), whole[[3, 1]])
    inside = torch.from_numpy(task.units.foreground.copy())
    fills = whole[:, 2:4]
    assert (fills.movedim(1, -1)[~inside] == 0).all()
    if fill == "zero":
        assert not fills.any()
    else:
        assert fills.movedim(1, -1)[inside].std() > 0.02
        assert not torch.equal(fills[0], fills[1])


def weights(fitted):
    return fitted.network.state_dict()


def test_same_seed_same_weights_and_classifier_as_it_was(tmp_path):
    found = examples(tmp_path / "one")
    before = state_of(found.network)
    one = optimal.fit(found, methods(epochs=2, width=4))
    tensors, facts = state_of(found.network)
    assert facts == before[1]
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in tensors.items())
    torch.manual_seed(7)
    same = optimal.fit(examples(tmp_path / "same"), methods(epochs=2, width=4))
    other = optimal.fit(examples(tmp_path / "other", seed=1), methods(epochs=2, width=4))
    assert one.history == same.history
    assert all(torch.equal(weights(one)[name], tensor) for name, tensor in weights(same).items())
    assert any(not torch.equal(weights(one)[name], tensor) for name, tensor in weights(other).items())


def test_killed_fit_resumes_to_the_same_weights(tmp_path):
    straight = optimal.fit(examples(tmp_path / "straight"), methods(epochs=4, width=4))
    found, opened = examples(tmp_path / "killed"), []

    def killed(name):
        opened.append(name)
        # An epoch opens each case once, and one more is opened to see its size.
        if len(opened) == 1 + 2 * (len(TRAIN) + len(VAL)) + 3:
            raise KeyboardInterrupt
        return found.open(name)

    with pytest.raises(KeyboardInterrupt):
        optimal.fit(replace(found, open=killed), methods(epochs=4, width=4))
    resumed = optimal.fit(found, methods(epochs=4, width=4))
    assert resumed.history == straight.history
    assert resumed.metrics == straight.metrics
    assert all(torch.equal(weights(straight)[name], tensor) for name, tensor in weights(resumed).items())


def test_units_per_step_are_limited_and_drawn_anew(tmp_path, monkeypatch):
    seen = []
    plain = optimal.target_of

    def spying(task, chosen, params):
        seen.append((task.units.case, tuple(chosen)))
        return plain(task, chosen, params)

    monkeypatch.setattr(optimal, "target_of", spying)
    params = methods(epochs=3, width=4)
    params["optimal_perturbation"]["training"]["units"] = 2
    optimal.fit(examples(tmp_path), params)
    drawn = [units for name, units in seen if name == "train0"]
    assert [len(units) for units in drawn] == [2, 2, 2]
    assert len(set(drawn)) > 1


def test_explaining_needs_what_was_learnt():
    task, _ = case("test")
    with pytest.raises(ValueError, match="what `fit` has learnt"):
        optimal.explain(task, methods())
