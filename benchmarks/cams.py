"""Six class activation maps beside one, and beside torchcam's, of a quarter-width 3D ResNet-18.

    pip install torchcam
    python benchmarks/cams.py

Prints the median of each time, in the same process and by turns, as a ratio to the time of one LayerCAM of ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchcam import methods as peers

from weakseg.maps.cam import cams
from weakseg.networks import freeze, resnet

NETWORK = {"blocks": [2, 2, 2, 2], "width": 16, "stem_stride": 2}
LAYERS = {
    "cam": "layer4",
    "gradcam": "layer3",
    "gradcampp": "layer3",
    "xgradcam": "layer3",
    "hirescam": "layer3",
    "layercam": "layer1",
}
PEERS = {"cam": peers.CAM, "gradcam": peers.GradCAM, "gradcampp": peers.GradCAMpp, "xgradcam": peers.XGradCAM}
PEERS |= {"layercam": peers.LayerCAM}


def of_torchcam(network: nn.Module, images: Tensor, methods: list[str]) -> None:
    """Maps at the resolution of their layers: torchcam leaves them there."""
    for method in methods:
        with PEERS[method](network, LAYERS[method], input_shape=tuple(images.shape[1:])) as extractor:
            scores = network(images.clone().requires_grad_())
            extractor(class_idx=0, scores=scores, normalized=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = freeze(resnet(4, NETWORK, 0, 3), "cpu")
    images = torch.randn(1, 4, *[options.edge] * 3, generator=torch.Generator().manual_seed(0))
    fused = {**LAYERS, "layercam": ["layer1", "layer2", "layer3", "layer4"]}
    contenders: dict[str, Callable[[], object]] = {
        "one: LayerCAM of layer1": lambda: cams(network, images, {"layercam": "layer1"}, "cpu"),
        "one: Grad-CAM of layer3": lambda: cams(network, images, {"gradcam": "layer3"}, "cpu"),
        "six": lambda: cams(network, images, LAYERS, "cpu"),
        "six, LayerCAM of four layers": lambda: cams(network, images, fused, "cpu"),
        "torchcam, one: LayerCAM of layer1": lambda: of_torchcam(network, images, ["layercam"]),
        "torchcam, five (it has no HiResCAM)": lambda: of_torchcam(network, images, list(PEERS)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            if turn:  # The first warms up.
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians["one: LayerCAM of layer1"]
    print(f"4 x {options.edge}^3, one thread, median of {options.rounds}")
    for name, median in medians.items():
        print(f"{name:36s} {1000 * median:7.1f} ms  {median / base:.2f}x")


if __name__ == "__main__":
    main()
