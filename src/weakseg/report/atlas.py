"""The figures ``failures-<data set>-<view>``: the worst cases of every method, with the reason.

Where a view has both gates, that of maps without one ends in ``-ungated``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from weakseg import catalogue, nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context, read_record
from weakseg.report import style
from weakseg.report.overlays import fold_of_tested, folders_of, lesion_of, reading, shown_channel
from weakseg.studies.failures import WORST

BESIDE = 2
"""Methods that share a line."""


class Failure(NamedTuple):
    """The slice (X, Y) of a case with most lesion, with the mask of a method."""

    method: str
    place: int
    title: str
    image: NDArray
    lesion: NDArray
    mask: NDArray
    aspect: float


def draw_atlas(context: Context, index: Path, worst: pd.DataFrame, out: Path) -> None:
    """Draw a figure for each view of a data set: a method's worst cases side by side, by maps of the first seed.

    Args:
        context: of the stage ``figures``.
        index: of the data set.
        worst: of :func:`weakseg.studies.failures.worst`.
        out: folder to write to.
    """
    dataset = read_record(index)["params"]["dataset"]
    maps = {folder: read_record(folder)["params"] for folder in reading(context.upstream["maps"], _key(index))}
    kinds = {(facts["view"], facts["gate"]) for facts in maps.values()}
    for view, gate in sorted(kinds):
        keys = {"dataset": dataset, "view": view, "gate": gate}
        rows = worst[(worst[list(keys)] == list(keys.values())).all(axis=1)]
        rows = rows[~rows["method"].map(style.is_null)]
        failures = list(_read(context, index, rows, maps))
        first = rows.iloc[0]
        title = style.title_of_panel(dataset, first["source"], view, gate).replace("\n", ", ")
        name = f"failures-{dataset}-{view}{'-ungated' if gate == 'none' and (view, 'classifier') in kinds else ''}"
        _draw(failures, f"{title}: the worst cases of each method at {first['operating_point']}", out / name)


def _draw(failures: list[Failure], title: str, path: Path) -> None:
    methods = [name for name in catalogue.METHODS if any(failure.method == name for failure in failures)]
    high = -(-len(methods) // BESIDE)
    figure, axes = plt.subplots(high, BESIDE * WORST, figsize=(9.2, 1.85 * high + 0.9), squeeze=False)
    for axis in axes.flat:
        style.bare(axis)
    for failure in failures:
        line, side = divmod(methods.index(failure.method), BESIDE)
        axis = axes[line, side * WORST + failure.place - 1]
        style.show_image(axis, failure.image, failure.aspect)
        style.outline(axis, failure.lesion, style.TRUTH)
        style.outline(axis, failure.mask, style.PREDICTION)
        axis.set_title(failure.title, fontsize=6)
        if failure.place == 1:
            axis.set_ylabel(style.title_of(failure.method), fontsize=7)
    style.mask_legend(figure, "mask of the first seed's map, cut at the mean threshold")
    figure.suptitle(title)
    style.save_figure(figure, path)


def _read(context: Context, index: Path, rows: pd.DataFrame, maps: dict[Path, dict[str, Any]]) -> Iterator[Failure]:
    (preprocessed,), (truth,) = (reading(context.upstream[role], _key(index)) for role in ("preprocess", "truth"))
    channels = read_record(preprocessed)["params"]["channels"]
    tested = fold_of_tested(read_cases(index).set_index("case"), maps.values())
    for row in rows.to_dict("records"):
        case, method = row["case"], row["method"]
        foreground, affine = read_foreground(preprocessed, case)
        lesion = lesion_of(context, truth, row["dataset"], case)
        position = int(lesion.sum(axis=(0, 1)).argmax())
        image = nifti.open_channels(image_file(preprocessed, case))[channels.index(shown_channel(channels))]
        folder = folders_of(maps, tested[case], row["view"], row["gate"])[method]
        mask = normalise(nifti.read(folder / f"{case}.nii.gz")[0], foreground) > row["threshold"]
        spacing = nifti.spacing_of(affine)
        yield Failure(
            method,
            row["place"],
            f"{row['reason']}, Dice {row['dice']:.2f}\n{case}",
            np.asarray(image[..., position]),
            lesion[..., position],
            mask[..., position],
            spacing[1] / spacing[0],
        )


def _key(index: Path) -> str:
    key: str = read_record(index)["key"]
    return key
