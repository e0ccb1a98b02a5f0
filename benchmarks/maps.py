"""Map methods that perturb, by weakseg and by its peers, side by side on one network.

    python benchmarks/maps.py

A quarter-width 3D ResNet-18 on volumes of 4 x 64^3. Prints milliseconds a forward and their ratio to the floor: as many
bare forwards, at the batch size that is fastest of 1, 2, 4, 8 and 16. Every method of ours and of peers runs as many
forwards, `--forwards`, over one case and ours over a set of cases as well; so the ratio is what a method adds. It is
the processor's time on one thread, each measured beside the floor: other work on the machine counts for less. Then the
peak memory of a process with few and with many masks or channels; and what bfloat16 saves, and its rank correlation
with float32. A processor without bfloat16 emulates it, very slowly: there, `--lower 0`. Last, in the same run, CAMs
(`cams.py`) and perturbations of small regions (`cone.py`), which need less than the floor.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import torch
from monai.visualize import OcclusionSensitivity
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchcam.methods import ScoreCAM

from weakseg.data.views import Units
from weakseg.maps import perturbation, relevance, surrogate
from weakseg.maps.base import Explained
from weakseg.networks import freeze, resnet
from weakseg.randomness import rng

CHANNELS = 4
SIDE = 64
ARCHITECTURE = {"blocks": [2, 2, 2, 2], "width": 16, "stem_stride": 2}
FILL = {"fill": "zero", "blur_mm": 10.0}
BATCHES = (1, 2, 4, 8, 16)


def classifier() -> nn.Module:
    """The frozen network, its batch norms fitted to some data."""
    network = resnet(CHANNELS, ARCHITECTURE, 0, 3).train()
    with torch.no_grad():
        network(images("warm", 4))
    return freeze(network, "cpu")


def images(name: str, count: int) -> Tensor:
    """Smooth volumes (N, 4, 64, 64, 64)."""
    coarse = rng(0, "benchmark", name).normal(size=(count, CHANNELS, 8, 8, 8)).astype(np.float32)
    return nn.functional.interpolate(torch.from_numpy(coarse), size=[SIDE] * 3, mode="trilinear")


def cubes(parts: int) -> NDArray:
    """Labels 1 to n (64, 64, 64) of about as many boxes."""
    edges = [np.linspace(0, SIDE, round(parts ** (1 / 3)) + 1).astype(int)] * 3
    counts = [len(edge) - 1 for edge in edges]
    places = [np.searchsorted(edge, np.arange(SIDE), side="right") - 1 for edge in edges]
    return (np.ravel_multi_index(np.meshgrid(*places, indexing="ij"), counts) + 1).astype(np.int32)


def task(network: nn.Module, volumes: Tensor, labels: NDArray) -> Explained:
    """Volumes as the units of one call."""
    count = len(volumes)
    units = Units(
        volumes.numpy(),
        np.ones((count, *labels.shape), bool),
        np.arange(count),
        "benchmark",
        np.eye(4),
        (SIDE, SIDE, SIDE),
    )
    supervoxels = np.repeat(labels[None], count, axis=0)
    return Explained(units, np.arange(count), network, network, ["t1"] * CHANNELS, 0, "cpu", supervoxels=supervoxels)


def ours(forwards: int) -> dict[str, Callable[..., tuple[NDArray, int]]]:
    """Our methods with parameters for about that many forwards a unit: maps, and forwards made."""
    edge = SIDE / round(forwards ** (1 / 3))
    methods: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "occlusion": (perturbation, "occlusion", {**FILL, "window_mm": edge, "stride_mm": edge}),
        "RISE": (
            perturbation,
            "rise",
            {
                **FILL,
                "masks": forwards,
                "cell_mm": 9.0,
                "keep": 0.5,
                "antithetic": True,
                "reliability": None,
                "check": 200,
            },
        ),
        "Score-CAM": (perturbation, "scorecam", {**FILL, "layer": "layer3"}),
        "ablation": (surrogate, "ablation", FILL),
        "LIME": (surrogate, "lime", {**FILL, "samples": forwards, "kernel_width": 0.25, "ridge": 1.0}),
        "KernelSHAP": (surrogate, "kernelshap", {**FILL, "samples": forwards - 2}),
        "relevance map": (relevance, "relevance_map", {"fills": ["neighbours"], "blur_mm": 10.0, "scales": [1.0]}),
    }

    def run(name: str, explained: Explained, precision: str) -> tuple[NDArray, int]:
        module, method, params = methods[name]
        maps = module.explain(explained, {method: {**params, "precision": precision}})[method]
        return maps, explained.forwards

    return {name: lambda explained, precision="fp32", name=name: run(name, explained, precision) for name in methods}


def peers(network: nn.Module, volume: Tensor, labels: NDArray, forwards: int, batch: int) -> dict[str, Callable]:
    """Peers on one volume, each as it is meant to be used, at the floor's batch size."""
    calls = Counted(network)
    features = torch.from_numpy(labels.astype(np.int64) - 1)[None, None]
    edge = SIDE // round(forwards ** (1 / 3))
    options = {"feature_mask": features, "perturbations_per_eval": batch, "target": 0}
    window = (CHANNELS, edge, edge, edge)

    def scorecam() -> None:
        with ScoreCAM(calls, "network.layer3", batch_size=batch, input_shape=volume.shape[1:]) as extractor:
            calls(volume)
            extractor(0)

    def monai() -> None:
        OcclusionSensitivity(calls, mask_size=edge, n_batch=batch, overlap=0.0, verbose=False)(volume)

    def run(call: Callable[[], Any]) -> int:
        calls.count = 0
        torch.manual_seed(0)
        with torch.no_grad():
            call()
        return calls.count

    every: dict[str, Callable[[], Any]] = {
        "captum ablation": lambda: captum.attr.FeatureAblation(calls).attribute(volume, **options),
        "captum occlusion": lambda: captum.attr.Occlusion(calls).attribute(
            volume, window, window, target=0, perturbations_per_eval=batch
        ),
        "captum LIME": lambda: captum.attr.Lime(calls).attribute(volume, n_samples=forwards, **options),
        "captum KernelSHAP": lambda: captum.attr.KernelShap(calls).attribute(volume, n_samples=forwards, **options),
        "torchcam Score-CAM": scorecam,
        "MONAI occlusion": monai,
    }
    return {name: lambda call=call: run(call) for name, call in every.items()}


class Counted(nn.Module):
    """The network, and how many units it has seen."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.count = network, 0

    def forward(self, inputs: Tensor, **_options: Any) -> Tensor:
        self.count += len(inputs)
        logits: Tensor = self.network(inputs)
        return logits


def floor(network: nn.Module, volume: Tensor, forwards: int, batch: int) -> int:
    """Bare forwards."""
    inputs = volume.repeat(batch, 1, 1, 1, 1)
    with torch.inference_mode():
        for _ in range(max(1, forwards // batch)):
            network(inputs)
    return max(1, forwards // batch) * batch


def milliseconds(call: Callable[[], int]) -> float:
    """Of a forward, all that a call does shared among its forwards."""
    started = time.process_time()
    count = call()
    return (time.process_time() - started) / count * 1000


def speed(network: nn.Module, forwards: int, cases: int, repeats: int) -> None:
    """Print the table of times."""
    volume, labels = images("case", 1), cubes(forwards)
    batch = min(BATCHES, key=lambda size: min(milliseconds(lambda: floor(network, volume, 16, size)) for _ in range(3)))
    rows: dict[str, Callable[[], int]] = {"bare forwards": lambda: floor(network, volume, forwards, batch)}
    methods = ours(forwards)
    several = images("cases", cases)
    for name, method in methods.items():
        rows[name] = lambda method=method: method(task(network, volume, labels))[1]
    # Together as many forwards as over one case.
    few, few_labels = ours(max(8, forwards // cases)), cubes(max(8, forwards // cases))
    for name, method in few.items():
        rows[f"{name}, {cases} cases"] = lambda method=method: method(task(network, several, few_labels))[1]
    rows |= peers(network, volume, labels, forwards, batch)
    print(f"{forwards} forwards; batch size of the floor {batch}; least of {repeats} rounds")
    bare = rows.pop("bare forwards")
    for name, call in rows.items():
        pairs = [(milliseconds(bare), milliseconds(call)) for _ in range(repeats)]
        least, here = np.min(pairs, axis=0)
        print(f"{name:26s} {here:7.1f} ms a forward  floor {least:7.1f} ms  {here / least:.2f}x", flush=True)


def bfloat16(network: nn.Module, forwards: int) -> None:
    """Print what bfloat16 saves and changes."""
    volume, labels = images("case", 1), cubes(forwards)
    for name, method in ours(forwards).items():
        started = time.process_time()
        exact, _ = method(task(network, volume, labels))
        between = time.process_time()
        lower, _ = method(task(network, volume, labels), "bf16")
        times = between - started, time.process_time() - between
        rank = spearmanr(exact, lower, axis=None).statistic
        print(f"{name:26s} bfloat16 {times[0] / times[1]:.2f}x as fast  rank correlation {rank:.4f}")


MEMORY = {
    "RISE, 32 masks": ("rise", 32),
    "RISE, 320 masks": ("rise", 320),
    "Score-CAM, 16 channels": ("scorecam", 16),
    "Score-CAM, 512 channels": ("scorecam", 512),
}


class Channels(nn.Module):
    """A cheap classifier whose layer has many channels on a coarse grid, for what is measured is memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer3 = nn.Sequential(nn.AvgPool3d(8), nn.Conv3d(CHANNELS, channels, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer3(inputs).relu().mean((1, 2, 3, 4))[:, None]


def peak(row: str) -> float:
    """Peak memory in MB of this process after one run."""
    method, number = MEMORY[row]
    network = freeze(Channels(number if method == "scorecam" else 16), "cpu")
    params = {"rise": number} | {"scorecam": 8}
    name = {"rise": "RISE", "scorecam": "Score-CAM"}[method]
    ours(params[method])[name](task(network, images("case", 1), cubes(8)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> None:
    """Print peak memory, each in a process of its own."""
    for row in MEMORY:
        command = [sys.executable, __file__, "--peak", row]
        print(f"{row:26s} {subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forwards", type=int, default=64)
    parser.add_argument("--lower", type=int, default=27, help="forwards in bfloat16; 0: none")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", choices=MEMORY, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(f"{peak(options.peak):.0f}")
        return
    warnings.filterwarnings("ignore")
    network = classifier()
    speed(network, options.forwards, options.cases, options.repeats)
    memory()
    if options.lower:
        bfloat16(network, options.lower)
    for below_the_floor in ("cams.py", "cone.py"):
        print(flush=True)
        subprocess.run([sys.executable, str(Path(__file__).with_name(below_the_floor))], check=True)


if __name__ == "__main__":
    main()
