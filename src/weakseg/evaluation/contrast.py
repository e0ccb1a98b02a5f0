"""How well a lesion can be seen: its contrast to the rest of the foreground."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.truth import open_lesion
from weakseg.execution import Context, read_record


def contrast(image: NDArray, lesion: NDArray, foreground: NDArray) -> float:
    """Difference of the means in and around a lesion, in standard deviations of what is around; the largest channel's.

    The contrast-to-noise ratio of image quality assurance, with the whole foreground as background. From 0; NaN where
    no lesion, or nothing else, lies in the foreground.

    Args:
        image: (C, X, Y, Z).
        lesion, foreground: (X, Y, Z) bool.
    """
    inside, around = lesion & foreground, foreground & ~lesion
    if not inside.any() or not around.any():
        return float("nan")
    ratios = []
    for channel in image:
        background = np.asarray(channel[around], dtype=float)
        spread = background.std()
        ratios.append(abs(np.mean(channel[inside], dtype=float) - background.mean()) / spread if spread else 0.0)
    return float(max(ratios))


def contrast_rows(context: Context, scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each case with a lesion: ``dataset``, ``case`` and its ``contrast``.

    Args:
        context: of the running stage: ``regions`` by data set, folders of ``preprocess`` and ``truth``.
        scores: the long table, which says what the cases are.
    """
    truths = _by_dataset(context.upstream["truth"])
    for dataset, preprocessed in _by_dataset(context.upstream["preprocess"]).items():
        bearing = scores[(scores["dataset"] == dataset) & (scores["lesion_ml"] > 0)]
        for case in sorted(bearing["case"].unique()):
            region = context.params["regions"][dataset]
            lesion, _ = open_lesion(context, truths[dataset], case, "scores", region, "grid")
            foreground, _ = read_foreground(preprocessed, case)
            image = nifti.open_channels(image_file(preprocessed, case))
            yield {"dataset": dataset, "case": case, "contrast": contrast(image, lesion, foreground)}


def _by_dataset(folders: list[Path]) -> dict[str, Path]:
    return {read_record(folder)["label"]: folder for folder in folders}
