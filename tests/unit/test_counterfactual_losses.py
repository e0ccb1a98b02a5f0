"""Each term of the loss against what a pencil gives."""

from __future__ import annotations

import math

import pytest
import torch

from weakseg.counterfactual import losses


def test_one_condition_makes_all_normal():
    aim = losses.wanted(torch.tensor([0.9, 0.5, 0.2]), 1)
    torch.testing.assert_close(aim.probability, torch.tensor([1e-6, 1e-6, 0.2]))
    assert aim.condition.tolist() == aim.own.tolist() == [0, 0, 0]


def test_two_conditions_flip():
    aim = losses.wanted(torch.tensor([0.9, 0.5, 0.2]), 2)
    torch.testing.assert_close(aim.probability, torch.tensor([0.1, 0.5, 0.8]))
    assert aim.condition.tolist() == [0, 0, 1]
    assert aim.own.tolist() == [1, 1, 0]


def test_consistency_is_the_divergence_of_bernoullis():
    logit = math.log(0.25 / 0.75)
    by_hand = 0.6 * math.log(0.6 / 0.25) + 0.4 * math.log(0.4 / 0.75)
    found = losses.consistency(torch.tensor([logit, logit]), torch.tensor([0.6, 0.25]))
    assert found.item() == pytest.approx(by_hand / 2, abs=1e-6)


def test_consistency_of_a_sure_classifier_is_finite_and_has_a_gradient():
    logits = torch.tensor([40.0], requires_grad=True)
    loss = losses.consistency(logits, torch.tensor([1e-6]))
    loss.backward()
    assert loss.item() == pytest.approx(40, abs=0.01)
    assert logits.grad.item() == pytest.approx(1, abs=1e-3)


def test_adversarial_terms():
    logits = torch.tensor([0.0, 2.0])
    soft = [math.log(1 + math.exp(-x)) for x in (0, 2)]
    assert losses.adversarial(logits).item() == pytest.approx(sum(soft) / 2, abs=1e-6)
    hard = [math.log(1 + math.exp(x)) for x in (0, 2)]
    assert losses.discrimination(logits, logits).item() == pytest.approx((sum(soft) + sum(hard)) / 4, abs=1e-6)


CHANGE = torch.tensor([[[[0.1, -0.2], [0.0, 0.3]]]])


def test_reconstruction_is_the_mean_difference_of_images_from_minus_1_to_1():
    assert losses.reconstruction(CHANGE).item() == pytest.approx(2 * 0.6 / 4)


def test_carl_adds_the_means_of_both_regions():
    organ = torch.tensor([[[[True, False], [False, False]]]])
    assert losses.reconstruction(CHANGE, organ).item() == pytest.approx(2 * (0.1 + (0.2 + 0.0 + 0.3) / 3))
    assert losses.reconstruction(CHANGE, organ & False).item() == pytest.approx(2 * 0.6 / 4)
    two = CHANGE.repeat(1, 2, 1, 1)
    assert losses.reconstruction(two, organ).item() == pytest.approx(losses.reconstruction(CHANGE, organ).item())


def test_total_variation_is_in_grey_levels():
    down = (0.1 - 0.0) ** 2 + (0.2 - 0.3) ** 2
    across = (0.1 - 0.2) ** 2 + (0.0 - 0.3) ** 2
    assert losses.total_variation(CHANGE).item() == pytest.approx(255**2 * (down + across) / 2, rel=1e-5)


def test_total_variation_of_a_volume_has_three_axes():
    ramp = 0.01 * torch.arange(4.0).reshape(1, 1, 1, 1, 4).expand(1, 1, 3, 2, 4)
    for turned in (ramp, ramp.transpose(2, 4), ramp.transpose(3, 4)):
        assert losses.total_variation(turned).item() == pytest.approx(2.55**2, rel=1e-5)
