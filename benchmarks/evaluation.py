"""Evaluation by weakseg and by its peers, side by side on brain-MRI phantoms and random scores.

    python benchmarks/evaluation.py

Prints ratios of peer to ours, the more the better, and the largest difference between the two:

- AUPRC with the whole Dice curve, against scikit-learn's ``average_precision_score``, both over the foreground of a
  240 x 240 x 155 case;
- HD95 with NSD, against MONAI's ``compute_hausdorff_distance`` and ``compute_surface_dice``: for one prediction,
  and for all that share a truth, as in the stage ``scores``;
- 10,000 bootstraps of the mean of 40 methods over 3 data sets of 100 cases, against ``scipy.stats.bootstrap``, and of
  their ranks by all schemes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score

from weakseg.data.foreground import nonzero
from weakseg.data.phantoms.brain_mri import make_case
from weakseg.evaluation.histogram import histogram, overlap_curves
from weakseg.evaluation.protocol import normalise
from weakseg.evaluation.ranking import rankings
from weakseg.evaluation.segmentation import TOLERANCE_MM, Surface, box_of, compare_surfaces, diagonal
from weakseg.evaluation.statistics import mean_intervals
from weakseg.nifti import spacing_of
from weakseg.randomness import rng

SHAPE = (240, 240, 155)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a call."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def phantom(name: str) -> tuple[NDArray, NDArray, tuple[float, float, float]]:
    """A phantom's foreground and whole tumour, both SHAPE, and its voxel size in mm."""
    case = make_case(1, name, grade="HGG", shape=SHAPE)
    lesion = case.segmentation > 0
    foreground = nonzero(np.stack(list(case.images.values())))
    return foreground, lesion, spacing_of(case.affine)


def relevance_maps(name: str, foreground: NDArray, lesion: NDArray) -> dict[str, NDArray]:
    """Maps in [0, 1] from near to far of the truth."""
    generator = rng(0, "benchmark", name)
    noise = generator.random(lesion.shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, 3)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    blurred = ndimage.gaussian_filter(lesion.astype(np.float32), 6)
    raw = {
        "sharp": 0.9 * lesion + 0.1 * noise,
        "blurred": blurred + 0.1 * smooth,
        "shifted": np.roll(blurred, (10, -12, 8), (0, 1, 2)),
        "smooth": smooth**4,
        "random": noise,
    }
    return {kind: normalise(each, foreground) for kind, each in raw.items()}


def monai_surfaces(predicted: NDArray, lesion: NDArray, spacing: tuple[float, float, float]) -> dict[str, float]:
    first, second = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, lesion))
    settings: dict[str, Any] = {"include_background": True, "spacing": spacing}
    return {
        "hd95_mm": float(compute_hausdorff_distance(first, second, percentile=95, **settings)),
        "nsd": float(compute_surface_dice(first, second, [TOLERANCE_MM], **settings)),
    }


def benchmark_curves(maps: dict[str, NDArray], foreground: NDArray, lesion: NDArray, repeats: int) -> list[NDArray]:
    """Rows of seconds (ours, scikit-learn) and the difference."""

    def ours(relevance: NDArray) -> float:
        counts = histogram(relevance, lesion, foreground, 0.001)
        overlap_curves(counts)
        return counts.auprc

    rows = []
    for relevance in maps.values():
        seconds, area = min(timed(lambda each=relevance: ours(each)) for _ in range(repeats))
        theirs, expected = timed(lambda each=relevance: average_precision_score(lesion[foreground], each[foreground]))
        rows.append(np.array([seconds, theirs, abs(area - expected)]))
    return rows


def benchmark_surfaces(
    maps: dict[str, NDArray], foreground: NDArray, lesion: NDArray, spacing: tuple[float, float, float]
) -> list[NDArray]:
    """Rows of seconds (ours alone, ours with a shared truth, MONAI) and the differences of HD95 and NSD."""
    box = box_of(foreground)
    seconds, surface = timed(lambda: Surface(lesion[box], spacing, diagonal(lesion.shape, spacing)))
    rows = []
    for relevance in maps.values():
        predicted = relevance > 0.5
        alone, first = timed(lambda mask=predicted: compare_surfaces(mask, lesion, spacing))
        shared, second = timed(lambda mask=predicted: surface.compare(mask[box]))
        theirs, expected = timed(lambda mask=predicted: monai_surfaces(mask, lesion, spacing))
        apart = [max(abs(have[key] - expected[key]) for have in (first, second)) for key in ("hd95_mm", "nsd")]
        rows.append(np.array([alone, shared, theirs, *apart]))
    rows[0][1] += seconds
    return rows


def benchmark_bootstrap(resamples: int) -> None:
    names = [f"method{place:02d}" for place in range(40)]
    tables = [pd.DataFrame(rng(0, "scores", str(n)).random((100, 40)), columns=names) for n in range(3)]
    ours, have = timed(lambda: [mean_intervals(table, rng(0, "bootstrap"), resamples) for table in tables])
    theirs, expected = timed(
        lambda: [
            stats.bootstrap((table.to_numpy(),), np.mean, n_resamples=resamples, batch=100, method="percentile", rng=0)
            for table in tables
        ]
    )
    apart = max(
        abs(mine[["low", "high"]].to_numpy().T - np.array(peer.confidence_interval)).max()
        for mine, peer in zip(have, expected, strict=True)
    )
    print(
        f"means, {resamples} bootstraps, 40 x 3 x 100:  ours {ours:.2f} s  SciPy {theirs:.2f} s ({theirs / ours:.0f}x)",
        end="",
    )
    print(f"  largest difference {apart:.4f}")
    seconds, _ = timed(lambda: [rankings(table, rng(0, "bootstrap"), resamples // 10) for table in tables])
    print(f"ranks by all schemes, {resamples // 10} bootstraps, 40 x 3 x 100:  {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    torch.set_num_threads(1)
    curves, surfaces = [], []
    for number in range(options.cases):
        name = f"benchmark{number}"
        foreground, lesion, spacing = phantom(name)
        maps = relevance_maps(name, foreground, lesion)
        print(f"{name}: {lesion.shape}, foreground {foreground.mean():.0%}, lesion {lesion.mean():.1%} of the grid")
        curves += benchmark_curves(maps, foreground, lesion, options.repeats)
        surfaces += benchmark_surfaces(maps, foreground, lesion, spacing)
        for kind, curve, surface in zip(maps, curves[-len(maps) :], surfaces[-len(maps) :], strict=True):
            print(
                f"  {kind:8s} AUPRC + curve {curve[0] * 1000:.0f} ms, scikit-learn {curve[1] / curve[0]:.0f}x"
                f"  HD95 + NSD {surface[0]:.2f} s, MONAI {surface[2] / surface[0]:.1f}x"
            )
    ours, theirs, _ = np.sum(curves, axis=0)
    print(f"AUPRC + Dice curve:  ours {ours:.2f} s  scikit-learn {theirs:.2f} s ({theirs / ours:.1f}x)", end="")
    print(f"  largest difference {np.max(curves, axis=0)[2]:.1e}")
    alone, shared, theirs, _, _ = np.sum(surfaces, axis=0)
    print(f"HD95 + NSD alone:  ours {alone:.2f} s  MONAI {theirs:.2f} s ({theirs / alone:.1f}x)")
    print(f"HD95 + NSD, truth shared:  ours {shared:.2f} s  MONAI {theirs:.2f} s ({theirs / shared:.1f}x)", end="")
    print(f"  largest differences {np.max(surfaces, axis=0)[3]:.1e} mm, {np.max(surfaces, axis=0)[4]:.1e}")
    benchmark_bootstrap(options.resamples)


if __name__ == "__main__":
    main()
