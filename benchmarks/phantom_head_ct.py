"""Measure the head-CT phantom against figures of real head CT. Run by hand:

python benchmarks/phantom_head_ct.py --data-seed 20220 --cases 80

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
from phantom_brain_mri import POSITIVE_MM2, auc
from scipy import ndimage

from weakseg import nifti
from weakseg.data.phantoms import head_ct
from weakseg.data.phantoms.head_ct import PhantomCase

THRESHOLDS = np.arange(36, 61)  # HU
BONE = 150  # HU
BRIGHTEST = 100  # HU; above it is bone or calcium
IN_PLANE = ndimage.generate_binary_structure(2, 1)[:, :, None]  # slices are thick: across them it is three of 5 mm
CUBIC = ndimage.generate_binary_structure(3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-seed", type=int, default=20220)
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--shape", type=int, nargs=3, default=head_ct.SHAPE)
    parser.add_argument("--shifted", action="store_true")
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)
    head_ct.make_case(arguments.data_seed, "warm-up", lesion=True, shape=shape)  # reads the template
    start = time.process_time()
    cases = [
        head_ct.make_case(arguments.data_seed, name, lesion=lesion, shape=shape, shifted=arguments.shifted)
        for name, lesion in head_ct.roster(arguments.data_seed, arguments.cases, shifted=arguments.shifted).items()
    ]
    making = (time.process_time() - start) / len(cases)
    brains = [brain_mask(case.image) for case in cases]
    rows = [
        *threshold_rows(cases, brains),
        *slice_rows(cases, brains),
        *volume_rows(cases),
        ("processor seconds a case, making", f"{making:.3f}"),
        ("processor seconds a case, making and writing", f"{seconds_written(arguments.data_seed, shape):.3f}"),
    ]
    for name, value in rows:
        print(f"| {name} | {value} |")


def brain_mask(image: NDArray) -> NDArray[np.bool_]:
    """Inside of the skull as preprocessing would find it: per slice bone closed, filled, taken off, a voxel eroded."""
    bone = np.pad(image > BONE, ((2, 2), (2, 2), (0, 0)))
    closed = ndimage.binary_closing(bone, IN_PLANE, iterations=2)[2:-2, 2:-2] | (image > BONE)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(closed, 2, 0)], axis=2)
    return largest_component(ndimage.binary_erosion(filled & ~closed, IN_PLANE)) & (image < BRIGHTEST)


def largest_component(mask: NDArray) -> NDArray[np.bool_]:
    components, count = ndimage.label(mask)
    return components == 1 + np.bincount(components.ravel())[1:].argmax() if count else np.zeros_like(mask)


def threshold_rows(cases: list[PhantomCase], brains: list[NDArray]) -> list[tuple[str, str]]:
    """3D Dice of bright voxels (opening, largest component) over cases with a lesion, at the set's best threshold."""
    pairs = [(case, brain) for case, brain in zip(cases, brains, strict=True) if case.lesion.any()]
    scores = np.array([[dice_of_bright(case, brain, t, IN_PLANE) for t in THRESHOLDS] for case, brain in pairs])
    cubic = np.array([[dice_of_bright(case, brain, t, CUBIC) for t in THRESHOLDS] for case, brain in pairs])
    best = int(scores.mean(axis=0).argmax())
    chosen = scores[:, best]
    return [
        ("bright voxels, 3D Dice at the best threshold", f"{chosen.mean():.3f} ({THRESHOLDS[best]} HU)"),
        ("... at 46 HU", f"{scores[:, list(THRESHOLDS).index(46)].mean():.3f}"),
        (
            "... opened across slices, too",
            f"{cubic.mean(axis=0).max():.3f} ({THRESHOLDS[cubic.mean(axis=0).argmax()]} HU)",
        ),
        ("... 10th / 50th / 90th percentile", " / ".join(f"{q:.2f}" for q in np.quantile(chosen, (0.1, 0.5, 0.9)))),
    ]


def dice_of_bright(case: PhantomCase, brain: NDArray, threshold: float, opening: NDArray) -> float:
    found = largest_component(ndimage.binary_opening(brain & (case.image > threshold), opening))
    lesion = case.lesion > 0
    return 2 * float((found & lesion).sum()) / float(found.sum() + lesion.sum())


def slice_rows(cases: list[PhantomCase], brains: list[NDArray]) -> list[tuple[str, str]]:
    """AUC of single intensity statistics for slice labels, and how the labels are shared out."""
    columns: dict[str, list[float]] = {}
    areas: list[float] = []
    every: list[float] = []
    for case, brain in zip(cases, brains, strict=True):
        dx, dy, _ = nifti.spacing_of(case.affine)
        middle = np.flatnonzero(brain.any(axis=(0, 1))).mean()
        for z in range(brain.shape[2]):
            inside = case.image[:, :, z][brain[:, :, z]]
            every.append(np.count_nonzero(case.lesion[:, :, z]) * dx * dy)
            if inside.size == 0:
                continue
            areas.append(every[-1])
            row = {f"p{q}": float(np.percentile(inside, q)) for q in (95, 99)}
            row["share above 50 HU"] = float((inside > 50).mean())
            row["-distance to centre"] = -abs(z - middle)
            row["brain area"] = float(inside.size)
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    area, all_areas = np.array(areas), np.array(every)
    positive, partial = area >= POSITIVE_MM2, (area > 0) & (area < POSITIVE_MM2)
    aucs = {name: auc(np.array(v)[~partial], positive[~partial]) for name, v in columns.items()}
    position = {name: aucs.pop(name) for name in ("-distance to centre", "brain area")}
    best = max(aucs, key=lambda name: aucs[name])
    dropped = (all_areas > 0) & (all_areas < POSITIVE_MM2)
    return [
        ("slice AUC, best single statistic", f"{aucs[best]:.3f} ({best})"),
        ("... the others", ", ".join(f"{name} {value:.2f}" for name, value in aucs.items() if name != best)),
        ("... position and area", ", ".join(f"{name} {value:.2f}" for name, value in position.items())),
        ("positive slices, of all", f"{(all_areas >= POSITIVE_MM2).mean():.3f}"),
        ("slices below 20 mm2, of all with lesion", f"{dropped.sum() / (all_areas > 0).sum():.3f}"),
    ]


def volume_rows(cases: list[PhantomCase]) -> list[tuple[str, str]]:
    millilitres = np.prod(nifti.spacing_of(cases[0].affine)) / 1000
    volumes = np.array([case.lesion.sum() * millilitres for case in cases if case.lesion.any()])
    density = [case.image[case.lesion > 0].mean() for case in cases if case.lesion.any()]
    return [
        ("lesion-free cases", f"{np.mean([not case.lesion.any() for case in cases]):.2f}"),
        ("lesion, ml: median (range)", f"{np.median(volumes):.1f} ({volumes.min():.1f} to {volumes.max():.0f})"),
        ("lesion, mean HU: 10th / 50th / 90th", " / ".join(f"{q:.0f}" for q in np.quantile(density, (0.1, 0.5, 0.9)))),
    ]


def seconds_written(data_seed: int, shape: tuple[int, int, int], cases: int = 8) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        head_ct.write(Path(folder), data_seed=data_seed, cases=cases, shape=shape)
        return (time.process_time() - start) / cases


if __name__ == "__main__":
    main()
