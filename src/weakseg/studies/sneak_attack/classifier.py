"""The classifier re-trained on filtered images: same network, initial weights, schedule and order of slices."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.classifiers.learning import fit, labelled, predict
from weakseg.classifiers.resnet import SliceImages, read_slices
from weakseg.data.grid import read_foreground
from weakseg.execution import Context
from weakseg.randomness import rng
from weakseg.studies.sneak_attack.filters import filter_weights, ranks, share_of


def run(context: Context) -> None:
    """Train, validate and test on slices filtered in the same way; as a cross-test, test on the originals too.

    Writes ``predictions.csv`` (case, position, logit, logit_on_originals; the latter not for a classifier that is shown
    filters alone) and ``history.csv``.
    """
    preprocessed, slices = context.folder("preprocess"), read_slices(context)
    images = FilteredImages(preprocessed, _volumes(context), context.params)
    network = fit(context, slices, images)
    tested = labelled(slices, "test")[["case", "position"]]
    with torch.inference_mode():
        logits = {"logit": predict(network, images, tested, context.device)}
        if context.params["shown"] == "image":
            logits["logit_on_originals"] = predict(network, SliceImages(preprocessed), tested, context.device)
    tested.assign(**logits).to_csv(context.out / "predictions.csv", index=False)


def _volumes(context: Context) -> Path | None:
    """The folder of the volumes that a filter is made from: heat maps or masks by case."""
    if "maps" in context.upstream:
        return context.folder("maps") / context.params["filter"]
    return context.folder("masks") / "masks" if "masks" in context.upstream else None


class FilteredImages(SliceImages):
    """Slices of preprocessed cases behind a filter.

    Args:
        preprocessed: the result of the stage ``preprocess``.
        volumes: a folder of ``<case>.nii.gz``, heat maps or masks; None if the filter needs none.
        params: ``filter`` and ``kept``, see :mod:`weakseg.studies.sneak_attack.filters`; ``keep``, the share of the
            foreground; ``shown``, ``image`` or ``filter``, which shows the weights alone in every channel; ``seed``.
    """

    def __init__(self, preprocessed: Path, volumes: Path | None, params: dict[str, Any]) -> None:
        super().__init__(preprocessed)
        self.preprocessed, self.volumes, self.params = preprocessed, volumes, params
        self.weights = cache(self._weights)

    def batch(self, rows: pd.DataFrame) -> NDArray:
        """Filtered slices (N, C, X, Y) float32 of the rows' cases and positions."""
        pairs = zip(rows["case"], rows["position"], strict=True)
        weights = np.stack([self.weights(case)[..., position] for case, position in pairs])[:, None]
        images = super().batch(rows)
        return (images if self.params["shown"] == "image" else np.ones_like(images)) * weights

    def _weights(self, case: str) -> NDArray:
        """Weights of a case's slices, (X, Y, Z); in half precision, for they stay in memory."""
        foreground, _ = read_foreground(self.preprocessed, case)
        volume = np.zeros(foreground.shape) if self.volumes is None else nifti.read(self.volumes / f"{case}.nii.gz")[0]
        weights = np.zeros(foreground.shape, dtype=np.float16)
        for position in np.flatnonzero(foreground.any(axis=(0, 1))):
            # Named without `kept`: a filter and its inverse are about the same place.
            generator = rng(self.params["seed"], f"filter-{self.params['filter']}", f"{case}/{position}")
            shown = foreground[..., position], volume[..., position]
            weights[..., position] = slice_weights(*shown, self.params, generator)
        return weights


def slice_weights(
    foreground: NDArray, volume: NDArray, params: dict[str, Any], generator: np.random.Generator
) -> NDArray:
    """Weights of a slice, (X, Y) in [0, 1], as its filter's parameters say.

    Args:
        foreground: (X, Y) bool.
        volume: (X, Y), the slice's heat map or mask; zeros for filters that need none.
        params: ``filter``, ``kept`` and ``keep``.
        generator: draws what is random.
    """
    name = params["filter"]
    if name in ("truth", "truth-area"):
        count = max(1, int(np.count_nonzero(volume)))
    else:
        count = share_of(foreground, 1 if name == "foreground" else params["keep"])
    relevance = np.zeros_like(volume) if name == "truth-area" else volume
    return filter_weights(ranks(relevance, foreground, generator), count, params["kept"])
