"""Synthetic anomalies on slices of healthy kidneys, as COIN is tested on (Shvetsov et al. 2024, arXiv 2404.12832).

A bright Gaussian blob, bent and turned at random, is drawn into one of the two largest kidneys of a slice. The paper
gives lengths in pixels of TotalSegmentator, which are 1.5 mm; here they are in mm, so that any scan can be drawn into.
In the manner of it: the blob is computed where its pixels lie, not interpolated from a template, and a slice is drawn
into once, not anew in every epoch. The kidneys come from organ masks, so rows about such slices say so under
``anatomy``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from weakseg import nifti
from weakseg.data.anatomy import organ_file
from weakseg.data.checks import MIN_SLICES
from weakseg.data.index import read_cases
from weakseg.data.phantoms.writing import MARKER
from weakseg.data.truth import open_lesion
from weakseg.data.views import pixel_area
from weakseg.errors import WeaksegError
from weakseg.execution import Context, write_json
from weakseg.randomness import rng

CHANCE = 0.65
"""Probability that a slice gets an anomaly, where a kidney is large enough."""
HALF_WIDTH_MM = 15.0
"""Half of the blob's window, of 20 pixels: 1 in the coordinates of the Gaussian."""
SIGMA = 0.4
"""Standard deviation of the Gaussian, in those coordinates."""
SHRINK = 0.25
"""The window becomes smaller by up to this share."""
BEND = 0.2
"""The Gaussian's centre moves along each axis by up to this, while the ends of the window stay where they are."""
STRENGTH = 0.9
"""What the blob adds at its peak to an image in [0, 1]."""
EDGE = 0.25
"""The anomaly is where the blob exceeds this share of its peak."""
LEAST_BOX_MM2 = 900.0
"""A kidney whose bounding box is no larger, 400 pixels, gets no anomaly."""
MARGIN = 0.05
"""Share of the bounding box along each of its sides in which no blob is centred."""
KIDNEYS = 2
"""So many largest connected parts of the organ mask count."""
LEAST_KIDNEY_MM2 = 72.0
"""Slices with no more kidney, 32 pixels, are left out."""
RANGE = (0.5, 99.5)
"""Percentiles of the kidneys' HU over all cases that become 0 and 1."""
KIDNEY, ANOMALY = 1, 2
"""Labels of masks: an anomaly stands where KiTS has a tumour."""
SAMPLES = 10_000
"""Voxels of a case that the percentiles are of, at most."""


@dataclass(frozen=True)
class Anomalous:
    """A slice into which an anomaly may be drawn: image (X, Y), and mask (X, Y) bool of the anomaly."""

    image: NDArray
    mask: NDArray

    @property
    def label(self) -> int:
        """1 if an anomaly was drawn, else 0."""
        return int(self.mask.any())


def run(context: Context) -> None:
    """Write a data set in KiTS's layout: of every case the slices of healthy kidneys, stacked, with anomalies.

    A slice counts if it shows enough kidney and no tumour; a cyst is as normal as it is for ``labels``. Cases with
    fewer than three such slices are left out. Cases are numbered anew, ``cases.csv`` says which is which. Made data
    stay marked.

    Raises:
        WeaksegError: no case has enough slices that count.
    """
    index = context.folder("index")
    cases = read_cases(index)
    cases = cases[cases["role_f0"] != "shift"]
    images: dict[str, dict[str, str]] = json.loads((index / "images.json").read_text())
    sources = [(case, Path(images[case]["ct"])) for case in cases["case"]]
    looked_at = context.map_cases_resumably(_look_at, sources, "healthy-slices")
    found = [
        (source, positions)
        for source, (positions, _) in zip(sources, looked_at, strict=True)
        if len(positions) >= MIN_SLICES
    ]
    if not found:
        raise WeaksegError("anomalies: no case has three slices with kidney and no tumour; set studies.coin to null")
    low, high = np.percentile(np.concatenate([sample for _, sample in looked_at]), RANGE)
    items = [(f"case_{number:05d}", *source, positions) for number, (source, positions) in enumerate(found)]
    drawing = {"ends": (float(low), float(high)), "data_seed": context.params["data_seed"]}
    write = partial(_write_case, out=context.out, anatomy=context.folder("anatomy"), **drawing)
    context.map_cases(write, items, "anomalies")
    rows = [(name, case, len(positions)) for name, case, _, positions in items]
    pd.DataFrame(rows, columns=["case", "of", "slices"]).to_csv(context.out / "cases.csv", index=False)
    context.count("slices", sum(len(positions) for _, positions in found))
    if (cases["source"] == "phantom").any():
        marker = {"phantom": "abdomen_ct with anomalies", "data_seed": context.params["data_seed"]}
        write_json(context.out / MARKER, marker)


def _look_at(context: Context, source: tuple[str, Path]) -> tuple[NDArray, NDArray]:
    """Positions along Z of a case's slices of healthy kidneys, and HU of some kidney voxels."""
    case, path = source
    hu, affine = nifti.read(path)
    kidneys = _kidneys(context.folder("anatomy"), case)
    tumours, _ = open_lesion(context, context.folder("truth"), case, "anomalies", "tumour")
    area = kidneys.sum(axis=(0, 1)) * pixel_area(affine)
    healthy = (area > LEAST_KIDNEY_MM2) & ~tumours.any(axis=(0, 1))
    inside = hu[kidneys]
    return np.flatnonzero(healthy), inside[:: max(len(inside) // SAMPLES, 1)]


def _kidneys(anatomy: Path, case: str) -> NDArray:
    inside: NDArray = nifti.read(organ_file(anatomy, case), np.uint8)[0] > 0
    return inside


def _write_case(
    item: tuple[str, str, Path, NDArray], out: Path, anatomy: Path, ends: tuple[float, float], data_seed: int
) -> None:
    """Write the slices of a case, of which those with room get their anomaly by chance."""
    name, case, path, positions = item
    hu, affine = nifti.read(path)
    kidneys = _kidneys(anatomy, case)[..., positions]
    low, high = ends
    image = (hu[..., positions] - low) / (high - low)
    labels = np.where(kidneys, KIDNEY, 0).astype(np.uint8)
    x, y, _ = nifti.spacing_of(affine)
    for place, position in enumerate(positions):
        generator = rng(data_seed, "anomaly", f"{case}/{position}")
        drawn = add_anomaly(image[..., place], kidneys[..., place], (x, y), generator)
        image[..., place] = drawn.image
        labels[drawn.mask, place] = ANOMALY
    nifti.write(out / name / "imaging.nii.gz", np.rint(low + image * (high - low)).astype(np.int16), affine)
    nifti.write(out / name / "segmentation.nii.gz", labels, affine)


def add_anomaly(
    image: NDArray, kidneys: NDArray, spacing: tuple[float, float], generator: np.random.Generator
) -> Anomalous:
    """Draw an anomaly into a slice with the probability :data:`CHANCE`, if a kidney is large enough.

    Args:
        image: (X, Y), scaled so that tissue lies in [0, 1]; it stays as it is.
        kidneys: (X, Y) bool.
        spacing: of a pixel in mm.
        generator: decides whether, where and how.
    """
    parts = large_kidneys(kidneys, spacing)
    if not parts or generator.random() >= CHANCE:
        return Anomalous(image, np.zeros(image.shape, bool))
    part = parts[generator.integers(len(parts))]
    drawn = blob(image.shape, draw_centre(part, generator), spacing, generator)
    # What is brighter than the range already, such as bone, stays as bright as it is.
    bright = np.minimum(image + STRENGTH * drawn, np.maximum(image, 1))
    return Anomalous(bright.astype(image.dtype), drawn > EDGE)


def large_kidneys(kidneys: NDArray, spacing: tuple[float, float]) -> list[NDArray]:
    """Those of the largest connected parts of a mask (X, Y) that an anomaly fits into, each (X, Y) bool."""
    labels, count = ndimage.label(kidneys)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:KIDNEYS]
    boxes = ndimage.find_objects(labels)
    return [labels == 1 + part for part in largest if _area(boxes[part], spacing) > LEAST_BOX_MM2]


def _area(box: tuple[slice, ...], spacing: tuple[float, float]) -> float:
    return float(np.prod([(side.stop - side.start) * size for side, size in zip(box, spacing, strict=True)]))


def draw_centre(part: NDArray, generator: np.random.Generator) -> NDArray:
    """A random pixel (2,) of a connected part (X, Y) bool that is not near the sides of its bounding box."""
    pixels = np.argwhere(part)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    room = MARGIN * (high + 1 - low)
    inner = pixels[((pixels >= low + room) & (pixels <= high - room)).all(axis=1)]
    chosen: NDArray = inner[generator.integers(len(inner))]
    return chosen


def blob(
    shape: tuple[int, ...], centre: NDArray, spacing: tuple[float, float], generator: np.random.Generator
) -> NDArray:
    """A blob (X, Y) in [0, 1] about a pixel (2,): a Gaussian shrunk, bent, turned at random; 0 outside its window."""
    angle = generator.uniform(-np.pi / 2, np.pi / 2)
    size = HALF_WIDTH_MM * (1 - generator.uniform(0, SHRINK))
    middle = generator.uniform(-BEND, BEND, 2)
    x, y = ((axis - at) * mm for axis, at, mm in zip(np.indices(shape), centre, spacing, strict=True))
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    # Each half of the window is stretched or squeezed until the Gaussian's centre is where it is to be.
    u, v = (np.interp(axis / size, [-1, at, 1], [-1, 0, 1]) for axis, at in zip(turned, middle, strict=True))
    inside = (np.abs(turned) <= size).all(axis=0)
    return np.where(inside, np.exp(-(u**2 + v**2) / (2 * SIGMA**2)), 0)
