"""Supervoxels by scikit-image (ours) and by SimpleITK, side by side on brain-MRI phantoms.

    pip install SimpleITK
    python benchmarks/supervoxels.py

Prints, for the same number of supervoxels inside the foreground: seconds a case, labels left in more than one piece,
and the best whole-tumour Dice that any choice of whole supervoxels could reach. Ratios are against ours.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from skimage.measure import label as connected_regions

from weakseg.data.foreground import nonzero
from weakseg.data.phantoms.brain_mri import make_case
from weakseg.data.preprocess import to_grid
from weakseg.supervoxels import supervoxels

SPACING = (3.0, 3.0, 3.0)


def simpleitk(image: NDArray, foreground: NDArray, segments: int) -> NDArray:
    """SimpleITK's SLIC on the four channels, cut to the foreground; its grid is set to the same mean size."""
    scaled = (image - image.min()) / np.ptp(image)
    vector = SimpleITK.GetImageFromArray(np.moveaxis(scaled, 0, 3).astype(np.float32), isVector=True)
    edge = max(2, round((foreground.sum() / segments) ** (1 / 3)))
    labels = SimpleITK.SLIC(vector, [edge] * 3, 0.1, 5, True, True)
    return np.where(foreground, SimpleITK.GetArrayFromImage(labels).astype(np.int64) + 1, 0)


def best_dice(labels: NDArray, lesion: NDArray) -> float:
    """Dice of the supervoxels that lie at least half inside the lesion."""
    inside = np.bincount(labels[lesion], minlength=labels.max() + 1)
    size = np.bincount(labels.ravel())
    chosen = inside * 2 >= size
    chosen[0] = False
    return float(2 * inside[chosen].sum() / (size[chosen].sum() + lesion.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--segments", type=int, default=400)
    options = parser.parse_args()
    contenders: dict[str, Callable[[NDArray, NDArray], NDArray]] = {
        "ours (scikit-image)": lambda image, inside: supervoxels(image, inside, SPACING, options.segments, 0.1),
        "SimpleITK": lambda image, inside: simpleitk(image, inside, options.segments),
    }
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    for number in range(options.cases):
        case = make_case(1, f"benchmark{number}", grade="HGG")
        raw = np.stack(list(case.images.values()))
        image, foreground, _ = to_grid(raw, nonzero(raw), case.affine, None, None, None, "benchmark")
        for name, contender in contenders.items():
            started = time.perf_counter()
            labels = contender(image, foreground)
            seconds = time.perf_counter() - started
            count = len(np.unique(labels)) - 1
            split = connected_regions(labels, background=0, connectivity=1).max() - count
            results[name].append((seconds, count, split, best_dice(labels, case.segmentation > 0)))
    base = np.mean(results["ours (scikit-image)"], axis=0)[0]
    for name, rows in results.items():
        seconds, count, split, dice = np.mean(rows, axis=0)
        print(
            f"{name:20s} {seconds:.2f} s ({seconds / base:.2f}x)  "
            f"{count:.0f} labels  {split:.1f} split  Dice {dice:.3f}"
        )


if __name__ == "__main__":
    main()
