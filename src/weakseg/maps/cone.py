"""Logits of images that differ from a clean one in a small box: only what the box changes is computed again.

A change in a box of the image changes a box of each layer's output, larger by the layer's kernel. So the clean
activations are computed once, and for a perturbation each layer runs on a crop: the changed box of its input with the
halo that its kernel reads, taken from the clean activation. Once the changed box fills most of a layer, it is pasted
into the clean activation and the rest of the network runs as ever, batched over perturbations.

The logits are those of whole forwards up to rounding: a crop holds what the layer reads in the whole, and its own
padding only where it reaches over the border of the volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from weakseg.maps.reach import LocalNetwork, Reach

Box = tuple[slice, ...]
"""A box of voxels: for each spatial axis a slice with start and stop."""

QUANTUM = 8
"""Boxes are enlarged to sizes that are multiples of this many voxels: equal sizes share a batch."""

MOST = 0.8
"""A changed box with more than this share of a layer's output is not worth cropping."""

BATCH = 32
"""Most perturbations in a forward; results do not depend on it."""

BUDGET = 2**28
"""Bytes that a batch's activations may take, roughly: where one perturbation takes much, a batch has fewer."""

LIVE = 4
"""Activations of the largest size that a residual block holds at once, roughly."""


@dataclass(frozen=True)
class Windows:
    """Boxes of one size, one for each perturbation, outside which an activation is the clean one.

    Attributes:
        starts: (P, D) int; in a crop's windows they may lie before the border.
        size: (D,) int.
    """

    starts: NDArray
    size: NDArray

    def through(self, reach: Reach, shape: NDArray) -> Windows:
        """What a layer with an output of a shape (D,) makes of changes in them."""
        # As many voxels of output as a box of this size reaches at most, however it lies between strides.
        size = np.minimum(shape, (self.size + reach.extent - 2) // reach.stride + 1)
        first = -((reach.extent - 1 - reach.padding - self.starts) // reach.stride)
        return Windows(np.clip(first, 0, shape - size), size)

    def read_by(self, reach: Reach) -> Windows:
        """What a layer reads of its padded input for these windows of its output."""
        return Windows(self.starts * reach.stride - reach.padding, (self.size - 1) * reach.stride + reach.extent)

    def join(self, other: Windows, shape: NDArray) -> Windows:
        """The smallest windows around two, in an activation of a shape (D,)."""
        starts = np.minimum(self.starts, other.starts)
        size = (np.maximum(self.starts + self.size, other.starts + other.size) - starts).max(0)
        return Windows(np.minimum(starts, shape - size), size)

    def same(self, other: Windows) -> bool:
        return np.array_equal(self.size, other.size) and np.array_equal(self.starts, other.starts)

    def part(self, items: slice) -> Windows:
        """Those of some of the perturbations."""
        return Windows(self.starts[items], self.size)


class ConeForward:
    """The clean activations of an image, of which perturbations in small boxes change a part.

    Convolution, pooling, normalisation by running statistics, activation functions, sums and concatenations of
    features run on crops, which is all of the body of a ResNet or DenseNet. From the first layer on that is none of
    these, the network runs whole; one that cannot be traced does so from the image on.

    Example:
        >>> boxes = scipy.ndimage.find_objects(supervoxels)
        >>> def ablated(number, box):
        ...     return torch.where(labels[box] == number + 1, fill, image[:, *box])
        >>> drops = network(image[None]) - ConeForward(LocalNetwork(network), image).logits(boxes, ablated)
    """

    @torch.inference_mode()
    def __init__(self, network: LocalNetwork, image: Tensor) -> None:
        """
        Args:
            network: the frozen network as a graph, for all images alike.
            image: (C, *spatial), on the network's device; kept, and not changed.
        """
        network.verify(image)
        self._network = network
        clean = {network.image: image[None]}
        self._shapes = {network.image: np.array(image.shape[1:])}
        for node, step in network.steps.items():
            clean[node] = network.evaluate(node, clean)
            self._shapes[node] = np.array(clean[node].shape[2:])
            only = node.all_input_nodes == [node.prev] and list(node.prev.users) == [node]
            # Nothing comes between the two, so that no crop is ever taken from the first.
            if only and step.reach is None and node.prev is not network.image:
                del clean[node.prev]
        self._clean = {node: activation[0] for node, activation in clean.items()}

    @torch.inference_mode()
    def logits(self, boxes: Sequence[Box], perturbed: Callable[[int, Box], Tensor]) -> Tensor:
        """Logits of perturbed images.

        Args:
            boxes: P boxes of at least a voxel inside the image; outside its box a perturbed image is the clean one.
            perturbed: gives for the number of a perturbation and its box what is in the box, (C, *box).

        Returns:
            (P, K).
        """
        image, shape = self._clean[self._network.image], self._shapes[self._network.image]
        starts = np.array([[axis.start for axis in box] for box in boxes])
        sizes = np.array([[axis.stop - axis.start for axis in box] for box in boxes])
        sizes = np.minimum(shape, -(-sizes // QUANTUM) * QUANTUM)
        found: dict[int, Tensor] = {}
        for size in np.unique(sizes, axis=0):
            alike = np.flatnonzero((sizes == size).all(1))
            windows = self._windows(Windows(np.clip(starts[alike], 0, shape - size), size))
            for part in _split(len(alike), self._batch(windows)):
                mine = {node: each.part(part) for node, each in windows.items()}
                inputs = _crops(image, mine[self._network.image])
                for crop, start, number in zip(inputs, mine[self._network.image].starts, alike[part], strict=True):
                    _paste(crop, start, perturbed(int(number), boxes[number]), starts[number])
                found.update(zip(alike[part].tolist(), self._forward(inputs, mine), strict=True))
        return torch.stack([found[number] for number in range(len(boxes))])

    def _windows(self, windows: Windows) -> dict[fx.Node, Windows]:
        """From windows of the image those of the nodes, as far as the changed box is small."""
        found = {self._network.image: windows}
        for node, step in self._network.steps.items():
            shape = self._shapes[node]
            here, *others = (found[used] for used in node.all_input_nodes)
            if step.reach is not None:
                here = here.through(step.reach, shape)
            elif any(not np.array_equal(self._shapes[used], shape) for used in node.all_input_nodes):
                break
            for other in others:
                here = here.join(other, shape)
            if here.size.prod() > MOST * shape.prod():
                break
            found[node] = here
        return found

    def _batch(self, windows: dict[fx.Node, Windows]) -> int:
        """Perturbations in a forward: as many as the budget of memory allows."""
        largest = max(
            len(activation)
            * (windows[node].size if node in windows else self._shapes[node]).prod()
            * activation.itemsize
            for node, activation in self._clean.items()
        )
        return int(np.clip(BUDGET // (LIVE * largest), 1, BATCH))

    def _forward(self, inputs: Tensor, windows: dict[fx.Node, Windows]) -> Tensor:
        """Logits (P, K) of perturbations, given their crops (P, C, *size) of the image."""
        network = self._network
        values: dict[fx.Node, Any] = {network.image: inputs}
        cropping = True
        for node in network.nodes:
            if cropping and node not in windows:
                cropping = False
                values = {used: self._whole(used, crops, windows[used]) for used, crops in values.items()}
            values[node] = self._on_crops(node, values, windows) if cropping else network.evaluate(node, values)
            for used in network.done[node]:
                del values[used]
        return values[network.nodes[-1]]

    def _whole(self, node: fx.Node, crops: Tensor, windows: Windows) -> Tensor:
        """The whole activation (P, C, *spatial) of which ``crops`` are what changed."""
        everywhere = Windows(np.zeros_like(windows.starts), self._shapes[node])
        return _crops(self._clean[node], everywhere, (crops, windows))

    def _on_crops(self, node: fx.Node, values: dict[fx.Node, Tensor], windows: dict[fx.Node, Windows]) -> Tensor:
        """The output of a node in its windows (P, C, *size)."""
        step, read, outside = self._network.steps[node], windows[node], 0.0
        if step.reach is not None:
            read, outside = read.read_by(step.reach), step.reach.outside

        def crops(used: fx.Node) -> Tensor:
            if read.same(windows[used]):
                return values[used]
            return _crops(self._clean[used], read, (values[used], windows[used]), outside)

        args: Any = fx.node.map_arg(node.args, crops)
        kwargs: Any = fx.node.map_arg(node.kwargs, crops)
        return step.on_crops(*args, **kwargs)


def _split(count: int, most: int) -> list[slice]:
    """Parts of at most so many of a sequence."""
    return [slice(first, min(first + most, count)) for first in range(0, count, most)]


def _crops(clean: Tensor, read: Windows, changed: tuple[Tensor, Windows] | None = None, outside: float = 0) -> Tensor:
    """Crops of a clean activation with what changed in its place.

    Args:
        clean: (C, *spatial).
        read: the crops; they may reach over the border.
        changed: what is put there, (P, C, *size), and its windows.
        outside: the value beyond the border.

    Returns:
        (P, C, *size).
    """
    crops = clean.new_full((len(read.starts), len(clean), *read.size), outside)
    corner = np.zeros(len(read.size), int)
    for number, (crop, start) in enumerate(zip(crops, read.starts, strict=True)):
        _paste(crop, start, clean, corner)
        if changed is not None:
            _paste(crop, start, changed[0][number], changed[1].starts[number])
    return crops


def _paste(target: Tensor, start: NDArray, source: Tensor, source_start: NDArray) -> None:
    """Copy what two boxes share: both are (C, *size), with their first voxels at the starts."""
    low = np.maximum(start, source_start)
    high = np.minimum(start + target.shape[1:], source_start + source.shape[1:])
    if (low < high).all():
        into, of = (
            tuple(slice(*axis) for axis in zip(low - first, high - first, strict=True))
            for first in (start, source_start)
        )
        target[:, *into] = source[:, *of]
