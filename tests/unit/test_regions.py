"""Means over supervoxels and differences of neighbours, against loops."""

import numpy as np
import pytest
import torch

from weakseg.maps.regions import foreground_means, region_means, total_variation
from weakseg.randomness import rng

SIZES = [(9, 7), (5, 6, 4)]


def case(size):
    """Three units with labels 0 to 5, of which one unit lacks some; values of their own."""
    generator = rng(0, "regions", str(size))
    labels = generator.integers(0, 6, (3, *size))
    labels[1][labels[1] > 3] = 3
    return torch.from_numpy(generator.normal(size=labels.shape)), torch.from_numpy(labels)


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_means_are_those_of_a_loop(size):
    values, labels = case(size)
    expected = np.zeros(values.shape)
    for unit in range(3):
        for label in range(1, 6):
            inside = labels[unit].numpy() == label
            if inside.any():
                expected[unit][inside] = values[unit].numpy()[inside].mean()
    np.testing.assert_allclose(region_means(values, labels), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_tied_values_are_exactly_equal_and_of_their_unit_alone(size):
    values, labels = case(size)
    tied = region_means(values.float(), labels)
    for unit in range(3):
        assert torch.equal(region_means(values[unit : unit + 1].float(), labels[unit : unit + 1])[0], tied[unit])
        for label in labels[unit].unique():
            assert len(tied[unit][labels[unit] == label].unique()) == 1


def test_gradient_is_shared_among_the_voxels_of_a_supervoxel():
    labels = torch.tensor([[0, 1, 1, 1, 2]])
    values = torch.zeros(1, 5, requires_grad=True)
    region_means(values, labels)[0, 1].backward()
    assert values.grad.tolist() == [[0, *[pytest.approx(1 / 3)] * 3, 0]]


def test_foreground_means_leave_the_background_out():
    labels = torch.tensor([[[0, 1], [2, 2]], [[0, 0], [0, 0]]])
    values = torch.tensor([[[9.0, 1], [2, 6]], [[5, 5], [5, 5]]])
    assert foreground_means(values, labels).tolist() == [3, 0]


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_total_variation_is_that_of_a_loop(size):
    values, labels = case(size)
    for unit in range(3):
        steps = []
        for place in np.ndindex(*size):
            for axis in range(len(size)):
                after = tuple(index + (axis == other) for other, index in enumerate(place))
                if after[axis] < size[axis] and labels[unit][place] > 0 and labels[unit][after] > 0:
                    steps.append(abs(float(values[unit][place] - values[unit][after])))
        assert total_variation(values, labels)[unit].item() == pytest.approx(np.mean(steps))


def test_total_variation_of_a_constant_is_0_whatever_surrounds_it():
    _, labels = case((9, 7))
    assert total_variation((labels > 0).float(), labels).tolist() == [0, 0, 0]
    assert total_variation(torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.long)).tolist() == [0]
