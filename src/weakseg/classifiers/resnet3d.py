"""Volume classifier: a 3D ResNet that learns from one grade per case whether a glioma is of high or of low grade."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from weakseg import nifti
from weakseg.catalogue import GRADES
from weakseg.classifiers import learning
from weakseg.data.index import read_cases
from weakseg.data.labels import UNLABELLED
from weakseg.data.views import Volume, volume_units
from weakseg.evaluation.classification import balanced_log_likelihood
from weakseg.execution import Context
from weakseg.training import augment_volumes

PERCENTILES = (50, 95, 99, 99.8)
"""Of each channel in the foreground: what a classifier has to beat."""


def run(context: Context) -> None:
    """Train, choose and write as :func:`weakseg.classifiers.learning.run`; predictions are by case.

    A case without a grade is predicted, and neither trains nor counts for the AUC. The epoch is chosen by likelihood:
    with as few cases as validate, the AUC is soon 1, before the classifier is at its best.

    Raises:
        WeaksegError: the fold's training or validation cases are all of one grade.
    """
    images = VolumeImages(context.folder("preprocess"), context.params["least_mm"])
    channels = context.record("preprocess")["params"]["channels"]
    plain = partial(plain_statistics, images=images, channels=channels)
    learning.run(context, read_graded(context), images, plain, balanced_log_likelihood)


def read_graded(context: Context) -> pd.DataFrame:
    """Every case with its role in this fold, and its grade as label: 1 is HGG, 0 LGG."""
    cases = read_cases(context.folder("index"))
    label = cases["grade"].map(GRADES).fillna(UNLABELLED).astype(int)
    return pd.DataFrame({"case": cases["case"], "role": cases[f"role_f{context.params['fold']}"], "label": label})


class VolumeImages:
    """Preprocessed cases in their boxes, read when asked for.

    Args:
        preprocessed: result of the stage ``preprocess``.
        least_mm: see :func:`weakseg.data.views.foreground_box`.
    """

    together = 1  # boxes differ in size, and what pads one to another's would count for it

    def __init__(self, preprocessed: Path, least_mm: tuple[float, float, float]) -> None:
        self.open = lambda case: volume_units(preprocessed, case, least_mm)

    def channels(self, rows: pd.DataFrame) -> int:
        return int(self.open(rows["case"].iloc[0]).image.shape[1])

    def batch(self, rows: pd.DataFrame) -> NDArray:
        """Volumes (N, C, X, Y, Z) float32 of the rows' cases, padded with 0 to the largest box among them."""
        images = [self.open(case).image[0] for case in rows["case"]]
        shape = np.max([image.shape for image in images], axis=0)
        return np.stack([_pad(image, shape) for image in images])

    def augment(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        return augment_volumes(images, generator.random((len(images), 12 + 2 * images.shape[1])))


def _pad(image: NDArray, shape: NDArray) -> NDArray:
    missing = shape - image.shape
    return np.pad(image, [(width // 2, width - width // 2) for width in missing])


def plain_statistics(rows: pd.DataFrame, images: VolumeImages, channels: list[str]) -> pd.DataFrame:
    """Of each case what needs no learning: the foreground's volume in ml, and each channel's percentiles in it."""
    return pd.DataFrame([_plain(images.open(case), channels) for case in rows["case"]], index=rows.index)


def _plain(case: Volume, channels: list[str]) -> dict[str, float]:
    voxels = case.image[0][:, case.foreground[0]]
    record = {"foreground_ml": voxels.shape[1] * float(np.prod(nifti.spacing_of(case.affine))) / 1000}
    for percent in PERCENTILES:
        for channel, value in zip(channels, np.percentile(voxels, percent, axis=1), strict=True):
            record[f"{channel}_p{percent:g}"] = value
    return record
