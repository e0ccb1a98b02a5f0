"""Measure the abdominal-CT phantom against its targets. Run by hand:

python benchmarks/phantom_abdomen_ct.py --data-seed 20220 --cases 80

No real CT with kidney tumours was at hand to copy, so the targets are how hard the task is for a threshold and for
single numbers (see docs/explanation/phantoms.md). No weakly supervised method is scored, so that the phantom cannot be
tuned towards one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from weakseg import nifti
from weakseg.data.phantoms import abdomen_ct
from weakseg.data.phantoms.abdomen_ct import CYST, KIDNEY, TUMOUR, PhantomCase

POSITIVE_MM2 = 20.0  # a slice with less tumour than this, yet some, is left out
THRESHOLDS = np.arange(40, 201, 10)  # HU
AIR = -300  # HU; brighter is body
Selection = Callable[[PhantomCase, float], NDArray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-seed", type=int, default=20220)
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--shape", type=int, nargs=3, default=abdomen_ct.SHAPE)
    parser.add_argument("--shifted", action="store_true")
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)
    start = time.process_time()
    cases = [
        abdomen_ct.make_case(arguments.data_seed, name, lesion=lesion, shape=shape, shifted=arguments.shifted)
        for name, lesion in abdomen_ct.roster(arguments.data_seed, arguments.cases, shifted=arguments.shifted).items()
    ]
    making = (time.process_time() - start) / len(cases)
    rows = [
        *threshold_rows("dark in the kidney", cases, lambda case, t: (case.image < t) & (case.segmentation > 0)),
        *threshold_rows("bright in the body", cases, lambda case, t: case.image > t),
        *threshold_rows("dark in the body", cases, lambda case, t: (case.image < t) & (case.image > AIR)),
        *slice_rows(cases),
        *case_rows(cases),
        ("processor seconds a case, making", f"{making:.3f}"),
        ("processor seconds a case, making and writing", f"{seconds_written(arguments.data_seed, shape):.3f}"),
    ]
    for name, value in rows:
        print(f"| {name} | {value} |")


def threshold_rows(name: str, cases: list[PhantomCase], select: Selection) -> list[tuple[str, str]]:
    """3D Dice for the tumour of what ``select`` takes (opening, largest component) at the set's one best threshold."""
    scores = np.array([[dice(select(case, float(t)), case) for t in THRESHOLDS] for case in cases if has(case, TUMOUR)])
    best = int(scores.mean(axis=0).argmax())
    spread = " / ".join(f"{q:.2f}" for q in np.quantile(scores[:, best], (0.1, 0.5, 0.9)))
    return [
        (f"{name}, 3D Dice at the best threshold", f"{scores[:, best].mean():.3f} ({THRESHOLDS[best]} HU)"),
        ("... 10th / 50th / 90th percentile of cases", spread),
    ]


def has(case: PhantomCase, label: int) -> bool:
    return bool((case.segmentation == label).any())


def dice(selected: NDArray, case: PhantomCase) -> float:
    components, count = ndimage.label(ndimage.binary_opening(selected))
    if count == 0:
        return 0.0
    largest = components == 1 + np.bincount(components.ravel())[1:].argmax()
    tumour = case.segmentation == TUMOUR
    return 2 * float((largest & tumour).sum()) / float(largest.sum() + tumour.sum())


def slice_rows(cases: list[PhantomCase]) -> list[tuple[str, str]]:
    """AUC of single statistics within the kidneys for slice labels, and how the labels are shared out."""
    rows: list[dict[str, float]] = []
    areas: list[float] = []
    total = 0
    for case in cases:
        dx, dy, _ = nifti.spacing_of(case.affine)
        total += case.image.shape[2]
        for z in np.flatnonzero((case.segmentation > 0).any(axis=(0, 1))):
            labels = case.segmentation[:, :, z]
            inside = case.image[:, :, z][labels > 0]
            areas.append(np.count_nonzero(labels == TUMOUR) * dx * dy)
            rows.append(
                {
                    "p5": float(np.percentile(inside, 5)),
                    "p50": float(np.percentile(inside, 50)),
                    "p95": float(np.percentile(inside, 95)),
                    "SD": float(inside.std()),
                    "area": inside.size * dx * dy,
                }
            )
    area = np.array(areas)
    positive, partial = area >= POSITIVE_MM2, (area > 0) & (area < POSITIVE_MM2)
    aucs = {name: auc(np.array([row[name] for row in rows])[~partial], positive[~partial]) for name in rows[0]}
    best = max(aucs, key=lambda name: abs(aucs[name] - 0.5))
    return [
        ("slice AUC of the best single statistic in the kidneys", f"{max(aucs[best], 1 - aucs[best]):.3f} ({best})"),
        ("... of each", ", ".join(f"{name} {value:.3f}" for name, value in aucs.items())),
        ("slices with kidney, of all", f"{len(areas) / total:.3f}"),
        ("positive slices, of those with kidney", f"{positive.mean():.3f}"),
        ("positive slices, of all", f"{positive.sum() / total:.3f}"),
        ("dropped slices, of all with tumour", f"{partial.sum() / (area > 0).sum():.3f}"),
    ]


def auc(values: NDArray, positive: NDArray) -> float:
    """Area under the ROC curve; below 0.5 where positives have the lower values."""
    ranks = stats.rankdata(values)
    n = positive.sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def case_rows(cases: list[PhantomCase]) -> list[tuple[str, str]]:
    voxel = float(np.prod(nifti.spacing_of(cases[0].affine))) / 1000
    tumour, cyst = (np.array([has(case, label) for case in cases]) for label in (TUMOUR, CYST))
    volumes = np.array([np.bincount(case.segmentation.ravel(), minlength=4) * voxel for case in cases])
    sizes, cysts = volumes[tumour, TUMOUR], volumes[cyst, CYST]
    spared = volumes[~tumour & ~cyst, KIDNEY]
    hu = {
        label: np.median([np.median(c.image[c.segmentation == label]) for c in cases if has(c, label)])
        for label in (KIDNEY, TUMOUR, CYST)
    }
    return [
        (
            "cases without tumour / with cyst / with cyst only",
            f"{(~tumour).sum()} / {cyst.sum()} / {(cyst & ~tumour).sum()} of {len(cases)}",
        ),
        ("tumour, ml: median (range)", f"{np.median(sizes):.0f} ({sizes.min():.0f} to {sizes.max():.0f})"),
        (
            "both kidneys without lesion, ml: median (range)",
            f"{np.median(spared):.0f} ({spared.min():.0f} to {spared.max():.0f})",
        ),
        ("cysts of a case, ml: median (range)", f"{np.median(cysts):.0f} ({cysts.min():.0f} to {cysts.max():.0f})"),
        ("HU of kidney / tumour / cyst: median", " / ".join(f"{value:.0f}" for value in hu.values())),
    ]


def seconds_written(data_seed: int, shape: tuple[int, int, int], cases: int = 8) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        abdomen_ct.write(Path(folder), data_seed=data_seed, cases=cases, shape=shape)
        return (time.process_time() - start) / cases


if __name__ == "__main__":
    main()
