"""Supervoxels: 3D SLIC inside the foreground, one connected piece per label.

scikit-image without its ``mask`` was taken after measuring (``benchmarks/supervoxels.py``).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_regions
from skimage.segmentation import relabel_sequential, slic

from weakseg import nifti
from weakseg.data.grid import image_file, preprocessed_cases, read_foreground
from weakseg.execution import Context

SMALLEST = 0.25
"""Pieces under this share of the mean size join the neighbour with which they share most faces."""


def run(context: Context) -> None:
    """Write ``<case>.nii.gz``, int32 labels (X, Y, Z), 0 outside the foreground, for every case."""
    preprocessed = context.folder("preprocess")
    work = partial(_write_case, preprocessed=preprocessed, out=context.out, **context.params)
    counts = context.map_cases(work, preprocessed_cases(preprocessed), "supervoxels")
    context.count("supervoxels", sum(counts))


def read_supervoxels(folder: Path, case: str) -> NDArray:
    """Supervoxels of a case: (X, Y, Z) int32, 0 outside the foreground."""
    return nifti.read(folder / f"{case}.nii.gz", np.int32)[0]


def _write_case(case: str, preprocessed: Path, out: Path, segments: int, compactness: float) -> int:
    foreground, affine = read_foreground(preprocessed, case)
    image = np.asarray(nifti.open_channels(image_file(preprocessed, case)))
    labels = supervoxels(image, foreground, nifti.spacing_of(affine), segments, compactness)
    nifti.write(out / f"{case}.nii.gz", labels, affine)
    return int(labels.max())


def supervoxels(
    image: NDArray, foreground: NDArray, spacing: tuple[float, float, float], segments: int, compactness: float
) -> NDArray:
    """SLIC (Achanta et al. 2012) on all channels, with distances in mm.

    Args:
        image: (C, X, Y, Z); each channel is scaled to [0, 1] over its 1st to 99th percentile in the foreground.
        foreground: (X, Y, Z) bool.
        spacing: voxel size in mm.
        segments: supervoxels asked for inside the foreground; the number had differs a little.
        compactness: weight of nearness against likeness.

    Returns:
        (X, Y, Z) int32: 0 outside the foreground, 1 to n inside, each label one connected piece (by faces).
    """
    occupied = np.nonzero(foreground)
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in occupied)
    inside = foreground[box]
    scaled = np.zeros((*inside.shape, len(image)), dtype=np.float32)
    for channel, values in enumerate(image[(slice(None), *box)]):
        low, high = np.percentile(values[inside], (1, 99))
        scaled[..., channel] = np.where(inside, np.clip((values - low) / max(high - low, 1e-6), 0, 1), 0)
    raw = slic(
        scaled,
        # The grid of seeds covers the whole box, so more are asked for.
        n_segments=max(1, round(segments * inside.size / inside.sum())),
        compactness=compactness,
        spacing=spacing,
        channel_axis=-1,
        enforce_connectivity=False,
        # Three channels would be taken for red, green and blue.
        convert2lab=False,
        start_label=1,
    )
    labels = np.zeros(foreground.shape, dtype=np.int32)
    labels[box] = _connected(np.where(inside, raw, 0), inside.sum() / segments * SMALLEST)
    return labels


def _connected(labels: NDArray, smallest: float) -> NDArray:
    """Give each connected piece a label of its own and let small ones join their neighbours."""
    pieces = connected_regions(labels, background=0, connectivity=1)
    sizes, (first, second, faces) = np.bincount(pieces.ravel()), contacts(pieces)
    # Where each of the first pieces has ended up.
    joined = np.arange(len(sizes))
    while True:
        small = (sizes[first] < smallest) & (sizes[second] >= sizes[first])
        if not small.any():
            return relabel_sequential(joined[pieces])[0].astype(np.int32)
        # For each small piece its best neighbour: sorted by contact, the last one written stays.
        order = np.argsort(faces[small], kind="stable")
        target = np.arange(len(sizes))
        target[first[small][order]] = second[small][order]
        # Only pieces whose target stays put may move, so that two small ones cannot swap labels.
        moving = (target != np.arange(len(sizes))) & (target[target] == target)
        if not moving.any():
            # All small pieces point at small pieces: the first of them moves, which lets the others follow.
            moving[np.flatnonzero(target != np.arange(len(sizes)))[0]] = True
        target = np.where(moving, target, np.arange(len(sizes)))
        joined, sizes = target[joined], np.bincount(target, sizes, len(sizes))
        apart = target[first] != target[second]
        first, second, faces = _counted(target[first[apart]], target[second[apart]], faces[apart], len(sizes))


def contacts(pieces: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Pairs of touching pieces, both ways round, and the number of faces they share."""
    firsts, seconds = [], []
    for axis in range(pieces.ndim):
        a = np.moveaxis(pieces, axis, 0)[:-1].ravel()
        b = np.moveaxis(pieces, axis, 0)[1:].ravel()
        touching = (a != b) & (a > 0) & (b > 0)
        firsts += [a[touching], b[touching]]
        seconds += [b[touching], a[touching]]
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    return _counted(first, second, np.ones(len(first), np.int64), int(pieces.max()) + 1)


def _counted(first: NDArray, second: NDArray, faces: NDArray, count: int) -> tuple[NDArray, NDArray, NDArray]:
    """Each pair of pieces once, in order, with the sum of its faces."""
    pairs, places = np.unique(first.astype(np.int64) * count + second, return_inverse=True)
    return pairs // count, pairs % count, np.bincount(places, faces, len(pairs)).astype(np.int64)
