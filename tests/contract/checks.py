"""The contract of map methods.

Each check takes a function from what is to be explained to raw maps, and what makes tasks and networks of a view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from tests.maps_factory import MODALITIES, SHAPE, explained, network, state_of, units
from torch import nn

from weakseg.networks import freeze


def bright():
    """A network of slices whose logit is the mean of the positive part of FLAIR, in the disguise of a ResNet."""
    with torch.no_grad():
        return freeze(Brightness(), "cpu")


@dataclass(frozen=True)
class Made:
    """Of a view: what is to be explained, networks by seed, and one that looks for brightness in FLAIR alone."""

    explained: Callable
    network: Callable
    bright: Callable


SLICES = Made(explained, network, bright)


def check_form(explain, made=SLICES):
    """(M, 1, X, Y) float32, finite and not all the same."""
    for selected in ((0, 1, 2, 3, 4), (1, 3), (2,)):
        maps = explain(made.explained(selected))
        assert maps.shape == (len(selected), 1, *SHAPE)
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()
        assert np.ptp(maps) > 0


def check_constant_image(explain, made=SLICES):
    """Finite where the image has no contrast, be it 0 or not."""
    for value in (0.0, 1.5):
        maps = explain(made.explained(units=replace(units(), image=np.full_like(units().image, value))))
        assert np.isfinite(maps).all()


def check_alone(explain, made=SLICES):
    """The map of a unit does not depend on the others that are explained with it, nor on their order."""
    together = explain(made.explained())
    atol = 1e-5 * np.abs(together).max()
    for index in range(len(together)):
        np.testing.assert_allclose(explain(made.explained((index,)))[0], together[index], rtol=0, atol=atol)
    np.testing.assert_allclose(explain(made.explained((4, 1, 2))), together[[4, 1, 2]], rtol=0, atol=atol)


def check_repeats(explain, made=SLICES):
    """Bytes depend on the seed and on no global generator."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = explain(made.explained())
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(explain(made.explained()), first)


def check_untouched(explain, made=SLICES):
    """Networks, units and selection stay as they are, and no hook is left."""
    task = made.explained()
    before = [state_of(model) for model in (task.network, task.untrained)]
    explain(task)
    for model, (tensors, facts) in zip((task.network, task.untrained), before, strict=True):
        tensors_now, facts_now = state_of(model)
        assert facts_now == facts
        for name, tensor in tensors.items():
            assert torch.equal(tensors_now[name], tensor), name
    for name in ("image", "foreground", "positions"):
        np.testing.assert_array_equal(getattr(task.units, name), getattr(units(), name))
    np.testing.assert_array_equal(task.selected, np.arange(5))


class Brightness(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Conv2d(4, 1, 1, bias=False)
        self.layer2, self.layer3, self.layer4 = nn.ReLU(), nn.Identity(), nn.Identity()
        nn.init.zeros_(self.layer1.weight)[0, MODALITIES.index("flair")] = 1

    def forward(self, images):
        return self.layer4(self.layer3(self.layer2(self.layer1(images)))).mean((2, 3))


def check_direction(explain, made=SLICES):
    """Larger means more evidence: a square that alone raises the logit stands out."""
    image = units().image * 0
    image[:, MODALITIES.index("flair"), 6:11, 10:17] = 3
    image[:, MODALITIES.index("t1"), 11:15, 10:17] = 3
    maps = explain(made.explained(units=replace(units(), image=image), network=made.bright()))
    square = np.zeros(SHAPE, bool)
    square[6:11, 10:17] = True
    for one in maps[:, 0]:
        assert one[square].mean() > one[~square].mean()


def check_network_counts(explain, made=SLICES):
    """Another classifier gets another map, and its forwards are counted."""
    task = made.explained()
    first = explain(task)
    assert task.forwards >= len(first)
    assert not np.allclose(explain(made.explained(network=made.network(5))), first)


COMMON = [check_form, check_constant_image, check_alone, check_repeats, check_untouched]
"""What nulls are held to as well."""
