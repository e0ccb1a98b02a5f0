"""The study's figure: the steps of the method on a good, a typical and a failed case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.truth import open_lesion
from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.evaluation.summary import headline_point
from weakseg.execution import Context
from weakseg.report import style

SHOWN = {"best": 1.0, "typical": 0.5, "worst": 0.0}
"""Tested cases, by the share of cases that have a lower Dice."""
STEPS = {"threshold": "CAM", "clusters": "pseudo-mask that\nagrees with it", "clusters+student": "student"}


class Shown(NamedTuple):
    """The slice (X, Y) of a case with most lesion: image, lesion, and by step the map with its mask."""

    title: str
    image: NDArray
    lesion: NDArray
    maps: dict[str, tuple[NDArray, NDArray]]
    aspect: float


def draw(context: Context, scores: pd.DataFrame, origin: dict[str, str]) -> None:
    """Draw ``figures/hemorrhage.png``; white is the truth, the other line the map cut by Otsu's threshold.

    Args:
        context: of the running stage.
        scores: of the shown classifier and seed.
        origin: ``dataset`` and ``source`` of all cases.
    """
    cases = [_read(context, title, case) for title, case in _chosen(scores)]
    figure, axes = plt.subplots(
        len(cases), len(STEPS) + 1, figsize=(1.9 * (len(STEPS) + 1) + 1, 2 * len(cases) + 0.8), squeeze=False
    )
    for line, shown in zip(axes, cases, strict=True):
        low, high = np.percentile(shown.image, (0.5, 99.8))
        _show(line[0], shown, shown.image, None, cmap="gray", vmin=low, vmax=high)
        for axis, (relevance, mask) in zip(line[1:], shown.maps.values(), strict=True):
            _show(axis, shown, relevance, mask, cmap=style.HEAT, vmin=0, vmax=1)
        line[0].set_ylabel(shown.title, fontsize=6)
    for axis, title in zip(axes[0], ["image", *STEPS.values()], strict=True):
        axis.set_title(title, fontsize=7)
    figure.suptitle(f"Steps of the method, {style.title_of_data(**origin)}; white: truth, blue: map cut by Otsu")
    style.save_figure(figure, context.out / "figures" / "hemorrhage")


def _chosen(scores: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Cases by Dice of pseudo-masks that agree with the CAM, at the headline."""
    point = headline_point(set(scores["operating_point"]))
    rows = scores[(scores["operating_point"] == point) & (scores["method"] == "gradcam")]
    ordered = rows[rows["refinement"] == "clusters"].sort_values(["dice", "case"])
    for name, share in SHOWN.items():
        row = ordered.iloc[round(share * (len(ordered) - 1))]
        yield f"{name}: Dice {row['dice']:.2f} at {point}\n{row['case']}, {row['lesion_ml']:.1f} ml", str(row["case"])


def _read(context: Context, title: str, case: str) -> Shown:
    params, preprocessed = context.params, context.folder("preprocess")
    lesion, affine = open_lesion(context, context.folder("truth"), case, "scores", params["region"], "grid")
    foreground, _ = read_foreground(preprocessed, case)
    spacing = nifti.spacing_of(affine)
    position = int(lesion.sum(axis=(0, 1)).argmax())
    channel = context.record("preprocess")["params"]["channels"].index(params["channel"])
    image = np.asarray(nifti.open_channels(image_file(preprocessed, case))[channel, ..., position])
    maps = {}
    for chain in STEPS:
        folder = context.folder("maps") if chain == "threshold" else context.folder("refinement") / chain
        stored = nifti.read(folder / params["method"] / f"{case}.nii.gz")[0]
        relevance = normalise(stored, foreground) if chain == "threshold" else stored
        cut = otsu(histogram(relevance, lesion, foreground, 1.0))
        maps[chain] = relevance[..., position], relevance[..., position] > cut
    return Shown(title, image, lesion[..., position], maps, spacing[1] / spacing[0])


def _show(axis: Axes, shown: Shown, values: NDArray, mask: NDArray | None, **options: object) -> None:
    # The patient's left is on the right, as radiologists look.
    axis.imshow(values[::-1].T, origin="lower", aspect=shown.aspect, **options)  # type: ignore[arg-type]
    for outline, colour in ((mask, style.PREDICTION), (shown.lesion, style.TRUTH)):
        if outline is not None and outline.any():
            axis.contour(outline[::-1].T.astype(float), levels=[0.5], colors=colour, linewidths=0.9)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
