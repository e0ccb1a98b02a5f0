"""The study's figure: maps of a few tested cases in three planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from weakseg import catalogue, nifti
from weakseg.catalogue import GRADES
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.truth import open_lesion
from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context, read_record
from weakseg.report import style

PLANES = ("sagittal", "coronal", "axial")
"""By the axis that is cut."""


class Column(NamedTuple):
    """What a column shows of a case: a volume (X, Y, Z) in grey, or a map in colours with its mask, and its title."""

    title: str
    volume: NDArray
    mask: NDArray | None


def draw(
    context: Context,
    tested: Sequence[str],
    grades: pd.Series,
    wrong: set[tuple[int, str]],
    origin: dict[str, str],
    path: Path,
) -> None:
    """Draw the first case of each kind (right about HGG, right about LGG, wrong) of the first seed, by name.

    Planes go through the middle of the lesion. White is the truth, the other line the map cut by Otsu's threshold.

    Args:
        context: of the running stage.
        tested: names of the tested cases.
        grades: by case.
        wrong: seeds and cases whose predicted grade is wrong.
        origin: ``dataset`` and ``source`` of all cases.
        path: of the figure, without suffix.
    """
    seed = context.params["seeds"][0]
    chosen = list(_first_of_each_kind(tested, grades, {case for at, case in wrong if at == seed}))
    cases = [(title, case, *_columns(context, case, seed)) for title, case in chosen]
    width = len(cases[0][2])
    figure, axes = plt.subplots(
        3 * len(cases), width, figsize=(1.35 * width + 0.6, 1.4 * 3 * len(cases) + 0.8), squeeze=False
    )
    for number, (title, case, columns, lesion, spacing) in enumerate(cases):
        middle = np.argwhere(lesion).mean(axis=0).round().astype(int)
        for axis, plane in enumerate(PLANES):
            line = axes[3 * number + axis]
            for panel, column in zip(line, columns, strict=True):
                _show(panel, column, lesion, axis, int(middle[axis]), spacing)
            line[0].set_ylabel(f"{title}\n{case}\n{plane}" if axis == 1 else plane, fontsize=6)
    for panel, column in zip(axes[0], cases[0][2], strict=True):
        panel.set_title(column.title)
    figure.suptitle(
        f"Evidence for the predicted grade, {style.title_of_data(**origin)}; white: truth, blue: map cut by Otsu"
    )
    style.save_figure(figure, path)


def _first_of_each_kind(tested: Sequence[str], grades: pd.Series, wrong: set[str]) -> Iterator[tuple[str, str]]:
    for grade in GRADES:
        found = sorted(case for case in tested if grades[case] == grade and case not in wrong)
        yield from [(f"{grade}, called so", case) for case in found[:1]]
    yield from [(f"{grades[case]}, called otherwise", case) for case in sorted(wrong)[:1]]


def _columns(context: Context, case: str, seed: int) -> tuple[list[Column], NDArray, tuple[float, float, float]]:
    """The case's columns, its lesion (X, Y, Z) bool and its voxel size in mm."""
    preprocessed = context.folder("preprocess")
    lesion, affine = open_lesion(context, context.folder("truth"), case, "scores", context.params["region"], "grid")
    foreground, _ = read_foreground(preprocessed, case)
    spacing = nifti.spacing_of(affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    names = context.record("preprocess")["params"]["channels"]
    image = nifti.open_channels(image_file(preprocessed, case))
    columns = [Column(name, np.asarray(image[names.index(name)]), None) for name in ("flair", "t1ce") if name in names]
    for folder in context.upstream["maps"]:
        params = read_record(folder)["params"]
        if params["seed"] != seed:
            continue
        for method in (name for name in params["methods"] if not catalogue.METHODS[name].null):
            relevance = normalise(nifti.read(folder / method / f"{case}.nii.gz")[0], foreground)
            cut = otsu(histogram(relevance, lesion, foreground, voxel_ml))
            columns.append(Column(style.title_of(method), relevance, relevance > cut))
    return columns, lesion, spacing


def _show(
    panel: Axes, column: Column, lesion: NDArray, axis: int, position: int, spacing: tuple[float, float, float]
) -> None:
    def plane(volume: NDArray) -> NDArray:
        flat = volume.take(position, axis)
        # The patient's left is on the right, as radiologists look; noses point to the left.
        return flat[::-1].T

    across, up = (size for number, size in enumerate(spacing) if number != axis)
    if column.mask is None:
        low, high = np.percentile(column.volume[column.volume != 0], (1, 99.5))
        options = {"cmap": "gray", "vmin": low, "vmax": high}
    else:
        options = {"cmap": style.HEAT, "vmin": 0, "vmax": 1}
    panel.imshow(plane(column.volume), origin="lower", aspect=up / across, **options)
    outlines = [(column.mask, style.PREDICTION), (lesion, style.TRUTH)]
    for mask, colour in outlines:
        if mask is not None and plane(mask).any():
            panel.contour(plane(mask).astype(float), levels=[0.5], colors=colour, linewidths=0.8)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
