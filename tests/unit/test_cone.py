"""Cone forwards give the logits of whole forwards, of any network, and do far less for them."""

import copy

import numpy as np
import pytest
import torch
from monai.networks.nets import ResNet
from scipy import ndimage
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from weakseg.maps import cone
from weakseg.maps.cone import ConeForward, Windows
from weakseg.maps.reach import LocalNetwork, Reach
from weakseg.networks import densenet, efficientnet, freeze, resnet
from weakseg.randomness import rng

PLACES_2D = [
    (slice(0, 5), slice(0, 3)),
    (slice(10, 14), slice(20, 31)),
    (slice(40, 43), slice(37, 39)),
    (slice(5, 6), slice(38, 39)),
    (slice(17, 18), slice(9, 10)),
    (slice(0, 43), slice(11, 12)),
    (slice(0, 43), slice(0, 39)),
]
"""Corners, borders, one voxel, a column and all of an image (43, 39)."""

PLACES_3D = [(*box, slice(row, row + 4)) for row, box in zip((0, 3, 17, 16, 8, 5), PLACES_2D, strict=False)]
PLACES_3D += [(slice(0, 43), slice(0, 39), slice(0, 21))]


def noise(*shape, name="image"):
    return torch.from_numpy(rng(0, "cone", name).normal(size=shape).astype(np.float32))


def settled(network):
    """The network with running statistics as if trained: each normalisation has the mean and variance of its input."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
        if isinstance(module, nn.Dropout):
            module.p = 0
    channels = next(network.parameters()).shape[1]
    with torch.no_grad():
        network(noise(2, channels, *([64] * (next(network.parameters()).ndim - 2)), name="training"))
    return freeze(network, "cpu")


def whole_forwards(network, image, boxes, fill):
    logits = []
    for box in boxes:
        perturbed = image.clone()
        perturbed[:, *box] = fill[:, *box]
        logits.append(network(perturbed[None])[0])
    return torch.stack(logits)


def assert_same_logits(network, shape, boxes):
    """Cone and whole forwards agree to far less than the perturbations change."""
    image, fill = noise(*shape), noise(*shape, name="fill")
    expected = whole_forwards(network, image, boxes, fill)
    logits = ConeForward(LocalNetwork(network), image).logits(boxes, lambda _, box: fill[:, *box])
    assert logits.shape == expected.shape
    changes = (expected - network(image[None])).abs().amax()
    assert changes > 1e-2
    assert (logits - expected).abs().max() < 1e-4 * min(1, changes)


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize(("blocks", "width"), [([1, 1, 1, 1], 4), ([2, 2, 2, 2], 6), ([1, 2, 1, 1], 16)])
def test_resnets_in_2d(blocks, width, stem_stride):
    network = resnet(3, {"blocks": blocks, "width": width, "stem_stride": stem_stride}, 0)
    assert_same_logits(settled(network), (3, 43, 39), PLACES_2D)


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize(("blocks", "width"), [([1, 1, 1, 1], 4), ([2, 2, 2, 2], 2)])
def test_resnets_in_3d(blocks, width, stem_stride):
    network = resnet(2, {"blocks": blocks, "width": width, "stem_stride": stem_stride}, 0, spatial_dims=3)
    assert_same_logits(settled(network), (2, 43, 39, 21), PLACES_3D)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_shortcuts_and_bottlenecks_of_several_logits(block, shortcut):
    torch.manual_seed(0)
    network = ResNet(block, [1, 1, 1, 1], [4, 8, 16, 32], 3, 2, shortcut_type=shortcut, num_classes=3)
    assert_same_logits(settled(network), (2, 43, 39, 21), PLACES_3D)
    assert [node.name for node in LocalNetwork(network).steps][-1] == "layer4_0_act" + {
        "basic": "_1",
        "bottleneck": "_2",
    }[block]


@pytest.mark.parametrize(
    ("network", "last"),
    [
        (resnet(3, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 2}, 0), "layer4_0_act_1"),
        (densenet(3, {"blocks": [2, 2, 2, 2], "width": 8, "growth": 4}, 0), "class_layers_relu"),
        (efficientnet(3, {"width": 0.3, "depth": 0.3}, 0), "_blocks_0_0__bn1"),
    ],
    ids=["resnet", "densenet", "efficientnet"],
)
def test_the_slice_classifiers_run_on_crops_as_far_as_they_are_local(network, last):
    settled(network)
    assert list(LocalNetwork(network).steps)[-1].name == last
    assert_same_logits(network, (3, 43, 39), PLACES_2D)


class Net(nn.Module):
    """A small network of one logit around a body."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(2, 6, 5, padding=2), nn.BatchNorm2d(6)
        self.second, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.LazyLinear(1)
        self.body, self.relu = body, nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.norm(self.first(x))
        return 100 * self.head(self.second(self.body(self, x)).mean((2, 3)))


class Layer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, _, x):
        return self.layer(x)


def preactivated(net, x):
    """The shortcut carries what the activation in place made of it."""
    return x + net.second(net.relu(x))


def changed_after_reading(net, x):
    y = net.second(x)
    net.relu(x)
    return x + y


def functional_in_place(net, x):
    y = net.second(x)
    F.relu(x, inplace=True)
    return x + y


def method_in_place(_, x):
    y = x * 2
    x.add_(1)
    return x + y


def added_in_place(net, x):
    y = net.second(x)
    y += x
    return y


def swapped(net, x):
    return torch.cat([x[:, 3:], net.second(x)[:, :3]], 1)


def stacked(net, x):
    y = torch.cat([x, F.relu(net.second(x))], dim=1)
    return y[:, :6] - y[:, 6:]


def broadcast(net, x):
    return x * torch.sigmoid(net.second(x).mean((2, 3), keepdim=True))


def branching(_, x):
    """Cannot be traced."""
    return x if x.mean() > 0 else -x


def asking(_, x):
    """A trace takes the other way."""
    return x.relu() if isinstance(x, torch.Tensor) else x.sigmoid()


UNUSUAL = {
    "reflecting": nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"),
    "same": nn.Conv2d(6, 6, 3, padding="same"),
    "dilated": nn.Conv2d(6, 6, 3, padding=(3, 1), dilation=(2, 3), stride=(1, 2)),
    "grouped": nn.Conv2d(6, 6, (3, 1), groups=3, stride=3),
    "unread": nn.Conv2d(6, 6, 2, stride=5),
    "ceiling": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max": nn.MaxPool2d((5, 2), (3, 1), padding=(2, 1), dilation=(1, 2)),
    "average": nn.AvgPool2d(3, 2, padding=1),
    "uncounted": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "padded": nn.Sequential(nn.ConstantPad2d((3, 0, 1, 2), 0.7), nn.Conv2d(6, 6, 3)),
    "cut": nn.ConstantPad2d((-3, 1, -2, -4), 0.7),
    "transposed": nn.ConvTranspose2d(6, 6, 2, stride=2),
    "instance": nn.InstanceNorm2d(6),
    "group": nn.GroupNorm(2, 6),
    "dropout": nn.Sequential(nn.Dropout(0.5), nn.ReLU(inplace=True)),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
}
BODIES = {name: Layer(layer) for name, layer in UNUSUAL.items()}
BODIES |= {
    body.__name__: body
    for body in (
        preactivated,
        changed_after_reading,
        functional_in_place,
        method_in_place,
        added_in_place,
        swapped,
        stacked,
        broadcast,
    )
}
BODIES |= {body.__name__: body for body in (branching, asking)}


@pytest.mark.parametrize("name", BODIES)
def test_no_network_gets_a_wrong_result(name):
    network = Net(BODIES[name])
    network(noise(1, 2, 43, 39))
    assert_same_logits(freeze(network, "cpu"), (2, 43, 39), PLACES_2D)


@pytest.mark.parametrize("extent", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_windows_hold_what_a_layer_changes_and_little_else(extent, stride, dilation):
    size, padding = 31, extent // 2
    ones = torch.ones(1, 1, extent)

    def convolve(x):
        return F.conv1d(x[None, None], ones, stride=stride, padding=padding, dilation=dilation)[0, 0]

    reach = Reach(np.array([(extent - 1) * dilation + 1]), np.array([stride]), np.array([padding]))
    clean = convolve(torch.zeros(size))
    for length in (1, 2, 5, 31):
        starts = np.arange(size - length + 1)[:, None]
        windows = Windows(starts, np.array([length])).through(reach, np.array(clean.shape))
        most = 0
        for start, low in zip(starts[:, 0], windows.starts[:, 0], strict=True):
            changed = torch.zeros(size)
            changed[start : start + length] = 1
            places = np.flatnonzero(convolve(changed) != clean)
            most = max(most, np.ptp(places) + 1 if len(places) else 1)
            assert ((places >= low) & (places < low + windows.size[0])).all()
            assert 0 <= low <= len(clean) - windows.size[0]
        # Voxels that a dilated kernel leaves out can spare one.
        assert windows.size[0] == most or (dilation > 1 and windows.size[0] == most + 1)


def test_joined_windows_hold_both():
    one = Windows(np.array([[0, 4], [5, 5]]), np.array([3, 2]))
    other = Windows(np.array([[2, 4], [5, 0]]), np.array([4, 1]))
    joined = one.join(other, np.array([10, 7]))
    np.testing.assert_array_equal(joined.size, [6, 7])
    np.testing.assert_array_equal(joined.starts, [[0, 0], [4, 0]])


@pytest.fixture(scope="module")
def volume():
    """A narrow network of a volume, an image and supervoxels of all sizes, 0 outside a ball."""
    network = settled(resnet(2, {"blocks": [1, 1, 1, 1], "width": 2, "stem_stride": 2}, 0, spatial_dims=3))
    seeds = rng(0, "cone", "seeds").uniform(0, 40, (30, 3))
    grid = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)
    labels = np.linalg.norm(grid[..., None, :] - seeds, axis=-1).argmin(-1) + 1
    labels[np.linalg.norm(grid - 19.5, axis=-1) > 19] = 0
    return (
        network,
        noise(2, 40, 40, 40),
        torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape)),
    )


def ablate(network, image, labels):
    def ablated(number, box):
        return torch.where(labels[box] == number + 1, 0, image[:, *box])

    return ConeForward(LocalNetwork(network), image).logits(ndimage.find_objects(labels.numpy()), ablated)


def test_ablated_supervoxels(volume):
    network, image, labels = volume
    count = int(labels.max())
    expected = torch.cat([network(torch.where(labels == label, 0, image)[None]) for label in range(1, count + 1)])
    assert (expected - network(image[None])).abs().max() > 0.05
    torch.testing.assert_close(ablate(network, image, labels), expected, rtol=0, atol=1e-5)


def test_batches_do_not_matter_and_keep_to_the_budget(volume, monkeypatch):
    network, image, labels = copy.deepcopy(volume[0]), *volume[1:]
    taken = []
    network.fc.register_forward_hook(lambda _module, inputs, _output: taken.append(len(inputs[0])))
    expected = ablate(network, image, labels)
    assert 1 < max(taken) <= cone.BATCH
    taken.clear()
    monkeypatch.setattr(cone, "BUDGET", 1)
    torch.testing.assert_close(ablate(network, image, labels), expected, rtol=0, atol=1e-5)
    assert set(taken) == {1}


@pytest.mark.parametrize("most", [0, 0.3, 1])
@pytest.mark.parametrize("quantum", [1, 5])
def test_sizes_do_not_matter(volume, monkeypatch, quantum, most):
    expected = ablate(*volume)
    monkeypatch.setattr(cone, "QUANTUM", quantum)
    monkeypatch.setattr(cone, "MOST", most)
    torch.testing.assert_close(ablate(*volume), expected, rtol=0, atol=1e-5)


def test_small_boxes_take_a_small_part_of_the_work():
    network = settled(resnet(1, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 2}, 0, spatial_dims=3))
    image = noise(1, 80, 80, 80)
    boxes = [tuple(slice(start, start + 12) for start in starts) for starts in [(0, 0, 0), (31, 40, 68), (50, 9, 33)]]
    forward = ConeForward(LocalNetwork(network), image)
    with FlopCounterMode(display=False) as whole:
        network(image[None])
    with FlopCounterMode(display=False) as ours:
        forward.logits(boxes, lambda _, box: torch.zeros_like(image[:, *box]))
    assert ours.get_total_flops() < len(boxes) * whole.get_total_flops() / 8


def test_nothing_is_left_behind():
    network, image = resnet(2, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 2}, 0), noise(2, 43, 39)
    freeze(network, "cpu")
    weights, before, modules = copy.deepcopy(network.state_dict()), image.clone(), repr(network)
    ConeForward(LocalNetwork(network), image).logits(PLACES_2D, lambda _, box: torch.ones_like(image[:, *box]))
    assert torch.equal(image, before)
    assert repr(network) == modules
    assert not network.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_an_image_outlives_a_network_that_changes_its_input():
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    image = noise(2, 43, 39)
    before = image.clone()
    ConeForward(LocalNetwork(freeze(network, "cpu")), image).logits(PLACES_2D, lambda _, box: 1 - image[:, *box])
    assert torch.equal(image, before)


def test_networks_whose_logits_depend_on_the_batch_are_refused():
    network = resnet(2, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 2}, 0)
    with pytest.raises(ValueError, match="the network is in training mode"):
        LocalNetwork(network)
    network.eval()
    network.layer2.train()
    with pytest.raises(ValueError, match="layer2 is in training mode"):
        LocalNetwork(network)
    network.layer2[0].bn1 = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(ValueError, match=r"layer2.0.bn1 normalises by the batch"):
        LocalNetwork(network.eval())
