"""The CycleGAN between pairs of modalities."""

import numpy as np
import pytest
import torch
from torch import nn

from weakseg.references.branches import Features
from weakseg.references.cmft import Cycle, Pool, judged
from weakseg.references.steps import learn


class Shift(nn.Module):
    """A generator that adds a number."""

    def __init__(self, by):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(float(by)))

    def forward(self, image):
        return Features(image, image, image + self.by)


class Mean(nn.Module):
    """A discriminator whose logit is the mean, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return self.weight * image.mean((1, 2, 3, 4), keepdim=True)


def by_hand(transition, shifts=(1.0, 2.0)):
    """A cycle of known networks, with optimizers that do not move them."""
    cycle = Cycle(transition, 2, 10, 0.0, 0, "cpu")
    cycle.generators = nn.ModuleList(Shift(by) for by in shifts)
    cycle.discriminators = nn.ModuleList(Mean() for _ in shifts)
    cycle.optimizers = [torch.optim.Adam(part.parameters(), 0.0) for part in (cycle.generators, cycle.discriminators)]
    return cycle


def test_least_squares_by_hand():
    images = torch.stack([torch.full((1, 1, 1, 1), value) for value in (0.5, 2.0)])
    assert judged(Mean(), images, 1).item() == pytest.approx((0.25 + 1) / 2)


def test_losses_across_pairs_by_hand():
    """A is 0 and B is 5 everywhere. A -> 1 -> 3, off by 3; B -> 7 -> 8, off by 3. Discriminators see the mean."""
    images = torch.cat([torch.zeros(1, 2, 1, 1, 1), torch.full((1, 2, 1, 1, 1), 5.0)], 1)
    losses = by_hand("cross").step(images, 0)
    assert losses["cycle"] == pytest.approx(3 + 3)
    # A's translation lies in B, where 1 is wanted and 1 is seen; B's in A, where 7 is seen.
    assert losses["adversarial"] == pytest.approx(0 + 36)
    # In A: real 0 for 1, made 7 for 0. In B: real 5 for 1, made 1 for 0.
    assert losses["discriminator"] == pytest.approx((1 + 49) / 2 + (16 + 1) / 2)


def test_losses_within_pairs_by_hand():
    """A -> 1 -> 2, off by 2; B -> 7 -> 9, off by 4."""
    images = torch.cat([torch.zeros(1, 2, 1, 1, 1), torch.full((1, 2, 1, 1, 1), 5.0)], 1)
    losses = by_hand("self").step(images, 0)
    assert losses["cycle"] == pytest.approx(2 + 4)
    assert losses["adversarial"] == pytest.approx(0 + 36)
    assert losses["discriminator"] == pytest.approx((1 + 1) / 2 + (16 + 49) / 2)


def test_generators_follow_the_weighted_sum():
    """The gradient of 10 x cycle + adversarial, by hand: cycles are a + b (twice, signs +), adversarial (a-1)^2 etc."""
    cycle = by_hand("cross")
    cycle.optimizers[0] = torch.optim.SGD(cycle.generators.parameters(), 1.0)
    images = torch.cat([torch.zeros(1, 2, 1, 1, 1), torch.full((1, 2, 1, 1, 1), 5.0)], 1)
    cycle.step(images, 0)
    first, second = (generator.by.item() for generator in cycle.generators)
    # d/da: 10 * (1 + 1) + 2 (0 + a - 1); d/db: 10 * (1 + 1) + 2 (5 + b - 1).
    assert first == pytest.approx(1 - (20 + 0))
    assert second == pytest.approx(2 - (20 + 12))


def test_discriminators_are_not_moved_by_the_generators_loss():
    cycle = by_hand("cross")
    cycle.step(torch.zeros(1, 4, 1, 1, 1), 0)
    # Of the discriminators' own loss alone: A sees 0 and 2, B sees 0 and 1; d/dw of (w x)^2 / 2 is w x^2.
    gradients = [network.weight.grad.item() for network in cycle.discriminators]
    assert gradients == pytest.approx([4.0, 1.0])


def test_pool_keeps_then_exchanges():
    pool, draws = Pool(2), np.random.default_rng(0)
    images = torch.arange(40.0).reshape(40, 1)
    first = pool.exchange(images[:2], draws)
    assert first.flatten().tolist() == [0, 1]
    shown = torch.cat([pool.exchange(image[None], draws) for image in images[2:]]).flatten()
    older = (shown != images[2:].flatten()).sum().item()
    assert 10 < older < 28
    assert len(set(shown.tolist())) == len(shown), "what was exchanged is not shown again"
    assert len(pool.kept) == 2


def learnt(state, steps, stop=None):
    """Weights after a few steps on random patches; killed before step ``stop``."""
    cycle = Cycle("cross", 2, 10, 1e-3, 0, "cpu")
    cycle.pools = [Pool(2), Pool(2)]

    def step(number):
        if number == stop:
            raise KeyboardInterrupt
        images = torch.randn(2, 4, 32, 32, 32, generator=torch.Generator().manual_seed(number))
        return cycle.step(images, number)

    history = learn(cycle.parts, step, steps, 2, state, "cpu")
    return {**cycle.generators.state_dict(), **cycle.discriminators.state_dict()}, history


def test_training_resumes_to_the_same_weights(tmp_path):
    """Also the pools, which are full after the first step."""
    whole, history = learnt(tmp_path / "whole", 5)
    with pytest.raises(KeyboardInterrupt):
        learnt(tmp_path / "killed", 5, stop=3)
    resumed, again = learnt(tmp_path / "killed", 5)
    assert again == history
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)
