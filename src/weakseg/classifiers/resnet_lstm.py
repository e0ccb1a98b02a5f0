"""Sequence classifier: a ResNet-LSTM that learns from labels whether a slice shows a lesion, beside its neighbours.

A step of training shows whole windows, and each of their slices with a label counts: so the features of a slice serve K
logits' learning, and as many slices are shown in a step and an epoch as to a classifier of single slices. A prediction
is the logit of the slice in the middle of its window.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from weakseg import nifti
from weakseg.classifiers import learning
from weakseg.classifiers.resnet import SliceImages, plain_statistics, read_slices
from weakseg.data.grid import read_foreground
from weakseg.data.views import windows_of
from weakseg.execution import Context
from weakseg.sequences import ResNetLSTM, middle_logits
from weakseg.training import augment


def run(context: Context) -> None:
    """Train, choose and write as :func:`weakseg.classifiers.learning.run`; predictions are by case and position.

    Raises:
        WeaksegError: the fold's training or validation slices are all of one class.
    """
    preprocessed = context.folder("preprocess")
    channels = context.record("preprocess")["params"]["channels"]
    slices = read_slices(context)
    images = SequenceImages(preprocessed, slices, **context.params["window"])
    plain = partial(plain_statistics, preprocessed=preprocessed, images=images, channels=channels)
    learning.run(context, slices, images, plain, batches=WindowBatches, predict=predict_in_windows)


class SequenceImages(SliceImages):
    """Slices of preprocessed cases, and which of them stand in the window of each."""

    def __init__(self, preprocessed: Path, units: pd.DataFrame, slices: int, distance_mm: float | None) -> None:
        """
        Args:
            preprocessed: result of the stage ``preprocess``.
            units: every slice unit, ``case`` and ``position``; with ``label`` where windows are trained on.
            slices, distance_mm: see :func:`weakseg.data.views.windows_of`.
        """
        super().__init__(preprocessed)
        self.length = slices
        self.units = units.sort_values(["case", "position"], ignore_index=True)
        parts = []
        for case, rows in self.units.groupby("case"):
            spacing = nifti.spacing_of(read_foreground(preprocessed, str(case))[1])[2]
            parts.append(rows.index[0] + windows_of(rows["position"].to_numpy(), spacing, slices, distance_mm))
        # Of each of the units, the rows of its window among them.
        self.windows = np.concatenate(parts)

    def windows_of(self, rows: pd.DataFrame) -> NDArray:
        """Windows (N, K) of rows, as places in ``units``."""
        keys = ["case", "position"]
        places = pd.MultiIndex.from_frame(self.units[keys]).get_indexer(pd.MultiIndex.from_frame(rows[keys]))
        return self.windows[places]

    def augment(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """All slices of a window alike, for they are of one scan; images (N K, C, X, Y)."""
        channels = images.shape[1]
        draws = generator.random((len(images) // self.length, 8 + 2 * channels))
        moves, gains, offsets = np.split(draws, [8, 8 + channels], axis=1)
        windows = images.unflatten(0, (-1, self.length)).flatten(1, 2)
        repeated = np.concatenate([moves, np.tile(gains, self.length), np.tile(offsets, self.length)], axis=1)
        return augment(windows, repeated).unflatten(1, (self.length, -1)).flatten(0, 1)


class WindowBatches(learning.TrainingBatches):
    """Batches of whole windows, about as many slices as a batch of slices has; some hold a slice without a label.

    An epoch shows the windows of one in K of the slices with a label, others each time.
    """

    images: SequenceImages

    def __init__(self, images: SequenceImages, rows: pd.DataFrame, params: dict[str, Any]) -> None:
        super().__init__(images, rows, params)
        self.windows = -(-len(rows) // images.length)
        self.steps = -(-self.windows // max(1, params["training"]["batch_size"] // images.length))

    def batches(self, order: NDArray) -> Iterator[pd.DataFrame]:
        for chosen in np.array_split(order[: self.windows], self.steps):
            yield self.images.units.iloc[self.images.windows_of(self.rows.iloc[chosen]).ravel()]


def predict_in_windows(network: ResNetLSTM, images: SequenceImages, rows: pd.DataFrame, device: str) -> NDArray:
    """Logits (N,) of the rows' slices, each in the middle of its window; features of a slice are computed once."""
    logits = np.empty(len(rows), dtype=np.float32)
    for places in rows.reset_index(drop=True).groupby("case").groups.values():
        windows = images.windows_of(rows.iloc[places])
        first = windows.min()
        shown = images.batch(images.units.iloc[first : windows.max() + 1])
        logits[places] = middle_logits(network, shown, windows - first, device)
    return logits
