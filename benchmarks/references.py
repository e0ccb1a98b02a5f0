"""U-Nets on masks: what weakseg adds to MONAI's own loop and windows around the same network.

    python benchmarks/references.py

A U-Net of the default's size, 2D (16 patches of 64 x 64 a step) and 3D (2 of 32 x 32 x 32), on volumes of 4 x 240 x 240
x 155. Training is compared with a PyTorch loop around MONAI's loss that has its batch at hand; segmenting with MONAI's
SlidingWindowInferer on the same windows. Prints patches a second in training, seconds a volume in inference, and the
ratio of the times. It is the processor's time on one thread; of several rounds, side by side, the least.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.inferers.inferer import SlidingWindowInferer
from monai.losses.dice import DiceCELoss
from side_by_side import least

from weakseg import nifti
from weakseg.config_references import UNetConfig
from weakseg.networks import freeze
from weakseg.randomness import rng
from weakseg.references.base import Task
from weakseg.references.examples import Example
from weakseg.references.unet import WINDOWS, Patches, segment, unet
from weakseg.training import Schedule, train

CHANNELS, SHAPE = 4, (240, 240, 155)
SIZES = {"2D": ([64, 64, 1], 16), "3D": ([32, 32, 32], 2)}


def params_of(dims: str, steps: int) -> dict[str, object]:
    patch, batch_size = SIZES[dims]
    settings = UNetConfig().parameters("brats", None)
    return settings | {"patch": patch, "batch_size": batch_size, "steps": steps, "checkpoint": steps}


def example(folder: Path) -> Example:
    """A memory-mapped case, as the stage reads it, with a lesion of 40 voxels' width."""
    path = folder / "image.nii"
    if not path.exists():
        nifti.write(path, rng(0, "benchmark").normal(size=(CHANNELS, *SHAPE)).astype(np.float32), np.eye(4))
    lesion = (slice(80, 120), slice(80, 120), slice(60, 100))
    everything = (slice(0, 240), slice(0, 240), slice(0, 155))
    return Example("a", nifti.open_channels(path), everything, np.ones((1, 40, 40, 40), dtype=bool), lesion)


def training(dims: str, steps: int, folder: Path) -> dict[str, Callable[[], object]]:
    params, loss = params_of(dims, steps), DiceCELoss(sigmoid=True, batch=True)
    task = Task("unet", params, CHANNELS, [example(folder)], [], 0, folder, "cpu")
    schedule = Schedule(1, 1, 1e-2, 1e-2, 0.98, steps)
    images, lesions = Patches(task, steps).batch(0)

    def ours() -> None:
        (folder / "training.pt").unlink(missing_ok=True)
        train(unet(CHANNELS, params, 0), Patches(task, steps), loss, lambda _: 0.0, schedule, folder, "cpu")

    def bare() -> None:
        network = unet(CHANNELS, params, 0).train()
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(network(images), lesions).backward()
            optimizer.step()

    return {"weakseg": ours, "MONAI": bare}


def inference(dims: str, folder: Path) -> dict[str, Callable[[], object]]:
    params, image = params_of(dims, 1), example(folder).image
    network = freeze(unet(CHANNELS, params, 0), "cpu")
    size = params["patch"][:2] if dims == "2D" else params["patch"]
    inferer = SlidingWindowInferer(size, WINDOWS, params["overlap"], mode="gaussian")

    @torch.inference_mode()
    def bare() -> None:
        volume = torch.from_numpy(np.array(image))
        inferer(volume.movedim(3, 0) if dims == "2D" else volume[None], network).sigmoid()

    return {"weakseg": lambda: segment(network, params, "cpu", image), "MONAI": bare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dims", nargs="+", choices=list(SIZES), default=list(SIZES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for dims in given.dims:
            patches = given.steps * SIZES[dims][1]
            for what, runs in (
                ("training", training(dims, given.steps, folder)),
                ("inference", inference(dims, folder)),
            ):
                seconds = least(runs, given.rounds)
                for name, value in seconds.items():
                    speed = f"{patches / value:8.1f} patches/s" if what == "training" else f"{value:8.1f} s/volume"
                    print(f"{dims} {what:9s} {name:8s} {speed}  {value / seconds['MONAI']:.2f}x", flush=True)


if __name__ == "__main__":
    main()
