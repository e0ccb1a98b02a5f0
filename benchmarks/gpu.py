"""Full size on a GPU: one training step of the 3D classifier, and RISE of one volume, in seconds and memory.

    python benchmarks/gpu.py [--masks 4000] [--batch 8] [--sizes 128,128,128 240,240,155]

The network is that of `config/paper.yaml`, a full-width 3D ResNet-18, on volumes of four channels. A step is that of
`weakseg.training`: forward and backward in bfloat16, AdamW. RISE runs `--masks` forwards, in float32 and in bfloat16,
at the batch size that the engine finds for the memory that is free. Each is warmed up once. Deterministic, as all
stages are. With `--device cpu`, `--masks 4 --batch 2 --sizes 32,32,32` it shows in seconds that it works.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from weakseg.config_text import load
from weakseg.data.views import Units
from weakseg.device import DEVICES, taken
from weakseg.errors import WeaksegError
from weakseg.maps import perturbation
from weakseg.maps.base import Explained
from weakseg.networks import classifier_network, freeze, reproducible
from weakseg.training import Schedule, train

NETWORK = {"architecture": "resnet3d", "blocks": [2, 2, 2, 2], "width": 64, "stem_stride": 2}
CHANNELS = 4


def measured(what: str, call: Callable[[], object], device: str) -> None:
    """Print the seconds of the second call, and the most memory that torch held on the GPU meanwhile."""
    call()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else float("nan")
    print(f"{what:44}{seconds:10.3f} s{peak:10.2f} GiB", flush=True)


def learn(size: tuple[int, ...], batch: int, device: str, state: Path) -> None:
    """One step of the one training loop, checkpoint and all."""
    network = classifier_network(CHANNELS, NETWORK, 0).to(device)
    images = torch.rand(batch, CHANNELS, *size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) % 2

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0].float(), targets.float())

    schedule = Schedule(1, 1, 1e-3, 1e-2, 0, 1)
    for path in state.glob("*"):
        path.unlink()
    train(network, lambda _: [(images, labels)], loss, lambda _: 0.0, schedule, state, device)


def rise(size: tuple[int, ...], masks: int, precision: str, device: str) -> None:
    """One volume, all of it foreground."""
    image = np.random.default_rng(0).random((1, CHANNELS, *size), dtype=np.float32)
    units = Units(image, np.ones((1, *size), bool), np.array([0]), "full", np.eye(4), (size[0], size[1], size[2]))
    network = freeze(classifier_network(CHANNELS, NETWORK, 0), device)
    explained = Explained(units, np.array([0]), network, network, ["t1"] * CHANNELS, 0, device)
    settings = load({}).maps.methods.rise
    assert settings is not None
    asked = {"masks": masks, "check": masks, "reliability": None, "precision": precision}
    perturbation.explain(explained, {"rise": settings.parameters | asked})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=DEVICES)
    parser.add_argument("--masks", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sizes", nargs="+", default=["128,128,128", "240,240,155"])
    options = parser.parse_args()
    with taken(options.device) as device, TemporaryDirectory() as state:
        reproducible(1, device)
        print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}")
        for text in options.sizes:
            size = tuple(map(int, text.split(",")))
            shape = "x".join(map(str, (CHANNELS, *size)))
            step = partial(learn, size, options.batch, device, Path(state))
            measured(f"step, batch of {options.batch}, {shape}", step, device)
            for precision in ("fp32", "bf16"):
                maps = partial(rise, size, options.masks, precision, device)
                measured(f"RISE, {options.masks} masks, {precision}, {shape}", maps, device)


if __name__ == "__main__":
    try:
        main()
    except WeaksegError as error:
        sys.exit(f"gpu.py: {error}")
