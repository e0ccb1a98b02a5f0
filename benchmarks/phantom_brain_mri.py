"""Measure the brain-MRI phantom against figures of real glioma MRI. Run by hand:

python benchmarks/phantom_brain_mri.py --data-seed 20220 --cases 80

The targets stem from real data (see docs/explanation/phantoms.md). No weakly supervised method is scored here, so that
the phantom cannot be tuned towards one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from weakseg import nifti
from weakseg.data.phantoms import brain_mri
from weakseg.data.phantoms.brain_mri import PhantomCase

POSITIVE_MM2 = 20.0  # a slice with less lesion than this, yet some, is left out
THRESHOLDS = np.arange(0.4, 3.01, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-seed", type=int, default=20220)
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--shape", type=int, nargs=3, default=brain_mri.SHAPE)
    parser.add_argument("--shifted", action="store_true")
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)
    brain_mri.make_case(arguments.data_seed, "warm-up", grade="HGG", shape=shape)  # reads the template
    start = time.process_time()
    cases = [
        brain_mri.make_case(arguments.data_seed, name, grade=grade, shape=shape, shifted=arguments.shifted)
        for name, grade in brain_mri.roster(arguments.data_seed, arguments.cases, shifted=arguments.shifted).items()
    ]
    making = (time.process_time() - start) / len(cases)
    rows = [
        *threshold_rows(cases),
        *slice_rows(cases),
        ("AUC of T1ce p99.8 for grade", f"{grade_auc(cases):.3f}"),
        *volume_rows(cases),
        ("processor seconds a case, making", f"{making:.3f}"),
        ("processor seconds a case, making and writing", f"{seconds_written(arguments.data_seed, shape):.3f}"),
    ]
    for name, value in rows:
        print(f"| {name} | {value} |")


def z_scored(image: NDArray) -> NDArray[np.float32]:
    """Intensities with mean 0 and SD 1 over the brain; 0 outside."""
    brain = image > 0
    return np.where(brain, (image - image[brain].mean()) / image[brain].std(), 0).astype(np.float32)


def threshold_rows(cases: list[PhantomCase]) -> list[tuple[str, str]]:
    """3D Dice of bright FLAIR (opening, largest component) for the whole tumour at the set's one best threshold."""
    scores = np.array([[dice_of_bright(case, flair, t) for t in THRESHOLDS] for case, flair in with_flair(cases)])
    best = int(scores.mean(axis=0).argmax())
    high = np.array([case.grade == "HGG" for case in cases])
    chosen = scores[:, best]
    return [
        ("bright FLAIR, 3D Dice at the best threshold", f"{chosen.mean():.3f} (z {THRESHOLDS[best]:.1f})"),
        ("... HGG / LGG", f"{chosen[high].mean():.3f} / {chosen[~high].mean():.3f}"),
        (
            "... 10th / 50th / 90th percentile of cases",
            " / ".join(f"{q:.2f}" for q in np.quantile(chosen, (0.1, 0.5, 0.9))),
        ),
    ]


def with_flair(cases: list[PhantomCase]) -> list[tuple[PhantomCase, NDArray]]:
    return [(case, z_scored(case.images["flair"])) for case in cases]


def dice_of_bright(case: PhantomCase, flair: NDArray, threshold: float) -> float:
    bright = ndimage.binary_opening(flair > threshold)
    components, count = ndimage.label(bright)
    if count == 0:
        return 0.0
    largest = components == 1 + np.bincount(components.ravel())[1:].argmax()
    lesion = case.segmentation > 0
    return 2 * float((largest & lesion).sum()) / float(largest.sum() + lesion.sum())


def slice_rows(cases: list[PhantomCase]) -> list[tuple[str, str]]:
    """AUC of single intensity statistics for slice labels, and how the labels are shared out."""
    columns: dict[str, list[float]] = {}
    areas: list[float] = []
    blank = 0
    for case in cases:
        images = {modality: z_scored(image) for modality, image in case.images.items()}
        dx, dy, _ = nifti.spacing_of(case.affine)
        foreground = case.images["t1"] > 0
        middle = np.flatnonzero(foreground.any(axis=(0, 1))).mean()
        for z in range(foreground.shape[2]):
            inside = foreground[:, :, z]
            if not inside.any():
                blank += 1
                continue
            areas.append(np.count_nonzero(case.segmentation[:, :, z]) * dx * dy)
            row = {"-distance to centre": -abs(z - middle), "foreground area": float(inside.sum())}
            for modality, image in images.items():
                for quantile in (95, 99):
                    row[f"{modality} p{quantile}"] = float(np.percentile(image[:, :, z][inside], quantile))
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    area = np.array(areas)
    positive, partial = area >= POSITIVE_MM2, (area > 0) & (area < POSITIVE_MM2)
    aucs = {name: auc(np.array(v)[~partial], positive[~partial]) for name, v in columns.items()}
    position = {name: aucs.pop(name) for name in ("-distance to centre", "foreground area")}
    ordered = sorted(aucs, key=lambda name: aucs[name], reverse=True)
    return [
        ("slice AUC, best single statistic", f"{aucs[ordered[0]]:.3f} ({ordered[0]})"),
        ("... the others", ", ".join(f"{name} {aucs[name]:.2f}" for name in ordered[1:])),
        ("... position and area", ", ".join(f"{name} {value:.2f}" for name, value in position.items())),
        (
            "positive slices, of all / of those with brain",
            f"{positive.sum() / (area.size + blank):.3f} / {positive.mean():.3f}",
        ),
        ("slices below 20 mm2, of all with lesion", f"{partial.sum() / (area > 0).sum():.3f}"),
    ]


def auc(scores: NDArray, labels: NDArray) -> float:
    """Area under the ROC curve by ranks (ties count half)."""
    ranks = stats.rankdata(scores)
    positives, negatives = labels.sum(), (~labels).sum()
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def grade_auc(cases: list[PhantomCase]) -> float:
    bright = np.array([np.percentile(z_scored(c.images["t1ce"])[c.images["t1ce"] > 0], 99.8) for c in cases])
    return auc(bright, np.array([case.grade == "HGG" for case in cases]))


def volume_rows(cases: list[PhantomCase]) -> list[tuple[str, str]]:
    voxel = np.prod(nifti.spacing_of(cases[0].affine)) / 1000
    whole = {g: np.array([(c.segmentation > 0).sum() * voxel for c in cases if c.grade == g]) for g in brain_mri.GRADES}
    core = {
        g: np.array([np.isin(c.segmentation, (1, 4)).sum() * voxel for c in cases if c.grade == g])
        for g in brain_mri.GRADES
    }
    every, cores = np.concatenate(list(whole.values())), np.concatenate(list(core.values()))
    return [
        ("whole tumour, ml: median (range)", f"{np.median(every):.0f} ({every.min():.0f} to {every.max():.0f})"),
        ("... HGG / LGG", " / ".join(f"{np.median(whole[g]):.0f}" for g in brain_mri.GRADES)),
        ("whole / core volume: median", f"{np.median(every / cores):.2f}"),
        ("... HGG / LGG", " / ".join(f"{np.median(whole[g] / core[g]):.2f}" for g in brain_mri.GRADES)),
    ]


def seconds_written(data_seed: int, shape: tuple[int, int, int], cases: int = 8) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        brain_mri.write(Path(folder), data_seed=data_seed, cases=cases, shape=shape)
        return (time.process_time() - start) / cases


if __name__ == "__main__":
    main()
