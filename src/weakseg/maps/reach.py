"""Which part of its input a layer's output reads: a network as a graph, and the nodes of it whose reach is bounded."""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from monai.utils import ensure_tuple_rep
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
MAX_POOLS: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
AVERAGE_POOLS: dict[type[nn.Module], int] = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
PADS: dict[type[nn.Module], int] = {nn.ConstantPad1d: 1, nn.ConstantPad2d: 2, nn.ConstantPad3d: 3}
"""Layers that read a neighbourhood, and the number of their spatial axes."""

HANDING_ON = {nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d}
"""Layers whose output is their very input in evaluation mode."""

POINTWISE = {
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
}
"""Layers whose output at a voxel depends on that voxel alone in evaluation mode."""

FUNCTIONS = {operator.add, operator.sub, operator.mul, torch.add, torch.mul, torch.relu, torch.sigmoid}
FUNCTIONS |= {F.relu, F.silu, F.gelu}
"""Functions of which that is true, where they do not work in place."""


@dataclass(frozen=True)
class Reach:
    """What a layer reads of its input, for each of D spatial axes.

    Attributes:
        extent: (D,) voxels of input, from the first to the last, that a voxel of output reads.
        stride: (D,) voxels of input for one of output.
        padding: (D,) voxels added before the border.
        outside: the value added there.
    """

    extent: NDArray
    stride: NDArray
    padding: NDArray
    outside: float = 0


@dataclass(frozen=True)
class Step:
    """A node whose output at a voxel depends on a neighbourhood.

    Attributes:
        on_crops: computes it from crops that hold all that is read, padding included.
        reach: the neighbourhood; None for the voxel itself.
    """

    on_crops: Callable[..., Tensor]
    reach: Reach | None = None


class LocalNetwork:
    """A frozen network as a graph whose first nodes have a known reach.

    Attributes:
        image: the node that stands for the input.
        nodes: all others, in the order of computation; the last gives the output.
        steps: the nodes before the first whose reach is not known; of a network that cannot be traced, none.
        done: by node, those whose outputs are not read after it.
    """

    def __init__(self, network: nn.Module) -> None:
        """
        Args:
            network: (N, C, *spatial) to (N, K), in evaluation mode; it is not changed, its parameters are shared.

        Raises:
            ValueError: a logit would depend on the other images of its batch, as in training mode.
        """
        for name, module in network.named_modules():
            if module.training:
                raise ValueError(f"{name or 'the network'} is in training mode: call eval() first")
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats:
                raise ValueError(
                    f"{name} normalises by the batch: images of one batch would change each other's logits"
                )
        self._network = network
        self._verified = False
        try:
            self._use(_trace(network))
        # Which error a network raises when it is traced is its own affair.
        except Exception:
            self._use(_untraced(network))

    def _use(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self.image, *self.nodes = traced.graph.nodes
        self.steps = _local_steps(traced)
        self.done: dict[fx.Node, list[fx.Node]] = {node: [] for node in self.nodes}
        last = {used: node for node in self.nodes for used in node.all_input_nodes}
        for used, node in last.items():
            self.done[node].append(used)

    def evaluate(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        """The output of a node, given those of the nodes that it reads; nothing with a reach works in place."""
        args: Any = fx.node.map_arg(node.args, values.__getitem__)
        kwargs: Any = fx.node.map_arg(node.kwargs, values.__getitem__)
        target: Any = node.target
        match node.op:
            case "call_module":
                return self._traced.get_submodule(target)(*args, **kwargs)
            case "call_function":
                return target(*args, **kwargs)
            case "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            case "get_attr":
                return operator.attrgetter(target)(self._traced)
        return args[0]

    def verify(self, image: Tensor) -> None:
        """Forget the graph if it does not do what the network does on a first image (C, *spatial).

        Python code that asks what a tensor is can lead a trace astray.
        """
        if self._verified:
            return
        values: dict[fx.Node, Any] = {self.image: image[None].clone()}
        for node in self.nodes:
            values[node] = self.evaluate(node, values)
            for used in self.done[node]:
                del values[used]
        if not torch.allclose(values[self.nodes[-1]], self._network(image[None].clone()), rtol=1e-3, atol=1e-4):
            self._use(_untraced(self._network))
        self._verified = True


def _trace(network: nn.Module) -> fx.GraphModule:
    """The graph of a network, in which layers do not work in place."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    for block in twin.modules():
        if isinstance(block, ResNetBlock | ResNetBottleneck) and isinstance(block.downsample, functools.partial):
            block.downsample = _parameterless_shortcut(block.conv1.in_channels, **block.downsample.keywords)
    traced = fx.symbolic_trace(twin)
    _work_out_of_place(traced)
    return traced


def _untraced(network: nn.Module) -> fx.GraphModule:
    """A graph whose one node is the network."""
    graph = fx.Graph()
    graph.output(graph.call_module("network", (graph.placeholder("image"),)))
    return fx.GraphModule({"network": network}, graph)


def _parameterless_shortcut(channels: int, planes: int, stride: int, spatial_dims: int) -> nn.Module:
    """MONAI's shortcut of type A, strided and filled up with empty channels, in layers that can be traced."""
    pool, pad = {2: (nn.AvgPool2d, nn.ConstantPad2d), 3: (nn.AvgPool3d, nn.ConstantPad3d)}[spatial_dims]
    padding: Any = (0, 0) * spatial_dims + (0, planes - channels)
    return nn.Sequential(pool(1, stride), pad(padding, 0)).eval()


def _work_out_of_place(traced: fx.GraphModule) -> None:
    """Let whoever reads a tensor after a layer changed it in place, or handed it on, read the layer's output."""
    place = {node: number for number, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        module, read = traced.get_submodule(str(node.target)), node.all_input_nodes[0]
        if getattr(module, "inplace", False) or type(module) in HANDING_ON:
            for user in [user for user in read.users if place[user] > place[node]]:
                user.replace_input_with(read, node)
    layer: Any
    for layer in traced.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False


def _local_steps(traced: fx.GraphModule) -> dict[fx.Node, Step]:
    """The nodes after the image and before the first whose reach is not known, in order."""
    steps: dict[fx.Node, Step] = {}
    image, *nodes = traced.graph.nodes
    for node in nodes:
        step = _step(traced, node)
        read = node.all_input_nodes
        if step is None or not read or any(used is not image and used not in steps for used in read):
            break
        steps[node] = step
    return steps


def _step(traced: fx.GraphModule, node: fx.Node) -> Step | None:
    if node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
        return _layer(traced.get_submodule(str(node.target)))
    if node.target is torch.cat:
        along_channels = node.kwargs == {"dim": 1} or node.args[1:] == (1,)
        return Step(torch.cat) if along_channels else None
    if node.op == "call_function" and node.target in FUNCTIONS:
        in_place = node.kwargs.get("inplace", False) or any(given is True for given in node.args)
        return None if in_place else Step(node.target)
    return None


def _layer(module: Any) -> Step | None:
    kind = type(module)
    if kind in POINTWISE | HANDING_ON:
        return Step(module)
    if kind in PADS:
        return _pad(module, PADS[kind])
    if kind in CONVOLUTIONS:
        known = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return _unpadded(module, CONVOLUTIONS[kind]) if known else None
    if kind in MAX_POOLS:
        known = not module.ceil_mode and not module.return_indices
        return _unpadded(module, MAX_POOLS[kind], -np.inf) if known else None
    if kind in AVERAGE_POOLS:
        dims = AVERAGE_POOLS[kind]
        known = not module.ceil_mode and (module.count_include_pad or not any(ensure_tuple_rep(module.padding, dims)))
        return _unpadded(module, dims) if known else None
    return None


def _unpadded(module: Any, dims: int, outside: float = 0) -> Step:
    kernel, stride, padding, dilation = (
        np.array(ensure_tuple_rep(each, dims))
        for each in (module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
    )
    bare = copy.copy(module)
    bare.padding = (0,) * dims
    return Step(bare, Reach((kernel - 1) * dilation + 1, stride, padding, outside))


def _pad(module: Any, dims: int) -> Step:
    """Of padding, which is listed from the last axis on, the crops bring all but that of channels along."""
    before, channels = module.padding[: 2 * dims : 2][::-1], module.padding[2 * dims :]
    bare = copy.copy(module)
    bare.padding = (0, 0) * dims + tuple(channels)
    one = np.ones(dims, int)
    return Step(bare, Reach(one, one, np.array(before), module.value))
