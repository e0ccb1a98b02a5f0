"""Slice classifier: a 2D network (a ResNet, but for studies) that learns from labels whether a slice shows a lesion."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from weakseg import nifti
from weakseg.classifiers import learning
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.data.views import pixel_area
from weakseg.execution import Context
from weakseg.training import augment


def run(context: Context) -> None:
    """Train, choose and write as :func:`weakseg.classifiers.learning.run`; predictions are by case and position.

    Raises:
        WeaksegError: the fold's training or validation slices are all of one class.
    """
    preprocessed = context.folder("preprocess")
    channels = context.record("preprocess")["params"]["channels"]
    images = SliceImages(preprocessed)
    plain = partial(plain_statistics, preprocessed=preprocessed, images=images, channels=channels)
    learning.run(context, read_slices(context), images, plain)


def read_slices(context: Context) -> pd.DataFrame:
    """Every slice unit with its label and its role in this fold."""
    cases = read_cases(context.folder("index"))
    role = f"role_f{context.params['fold']}"
    slices = read_labels(context.folder("labels")).merge(cases[["case", role]], on="case", validate="many_to_one")
    return slices.rename(columns={role: "role"})


class SliceImages:
    """Slices of preprocessed cases, read from memory maps when asked for."""

    together = 64

    def __init__(self, preprocessed: Path) -> None:
        self.open = cache(lambda case: nifti.open_channels(image_file(preprocessed, case)))

    def channels(self, rows: pd.DataFrame) -> int:
        return int(self.open(rows["case"].iloc[0]).shape[0])

    def batch(self, rows: pd.DataFrame) -> NDArray:
        """Slices (N, C, X, Y) float32 of the rows' cases and positions."""
        pairs = zip(rows["case"], rows["position"], strict=True)
        return np.stack([self.open(case)[..., position] for case, position in pairs]).astype(np.float32)

    def augment(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        return augment(images, generator.random((len(images), 8 + 2 * images.shape[1])))


def plain_statistics(rows: pd.DataFrame, preprocessed: Path, images: SliceImages, channels: list[str]) -> pd.DataFrame:
    """Of each slice what needs no learning: position, foreground area, and percentiles of each channel.

    Low ones and the median too, since kidney tumours are dark.
    """
    records: dict[int, dict[str, float]] = {}
    for case, group in rows.groupby("case"):
        foreground, affine = read_foreground(preprocessed, str(case))
        occupied = np.flatnonzero(foreground.any(axis=(0, 1)))
        for row, position in group["position"].items():
            inside = foreground[..., position]
            relative = (position - occupied[0]) / max(int(np.ptp(occupied)), 1)
            record = {
                "position": relative,
                "distance_to_middle": abs(relative - 0.5),
                "foreground_area": inside.sum() * pixel_area(affine),
            }
            voxels = images.open(case)[..., position][:, inside]
            for percent in (5, 50, 95, 99):
                for channel, value in zip(channels, np.percentile(voxels, percent, axis=1), strict=True):
                    record[f"{channel}_p{percent}"] = value
            records[row] = record
    return pd.DataFrame.from_dict(records, orient="index").loc[rows.index]
