"""Figures of images: truth, maps and masks of a few tested cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from weakseg import catalogue, nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context, read_record
from weakseg.report import style


@dataclass(frozen=True)
class Picture:
    """The slice of a case with the largest lesion: (X, Y) arrays, and the maps of a view by method."""

    dataset: str
    source: str
    view: str
    gate: str
    case: str
    image: NDArray
    channel: str
    lesion: NDArray
    maps: dict[str, NDArray]
    cuts: dict[str, float]
    aspect: float


def draw_overlays(pictures: list[Picture], path: Path) -> None:
    """Image with truth, then each map with its label-free mask, for tested cases from small to large lesions."""
    methods = [name for name in catalogue.METHODS if any(name in picture.maps for picture in pictures)]
    columns = 1 + len(methods)
    figure, axes = plt.subplots(
        len(pictures), columns, figsize=(1.55 * columns, 1.65 * len(pictures) + 0.9), squeeze=False
    )
    for line, picture in zip(axes, pictures, strict=True):
        _draw_picture(line, picture, methods)
    axes[0][0].set_title("image and truth")
    for axis, method in zip(axes[0][1:], methods, strict=True):
        axis.set_title(style.title_of(method).replace(": ", ":\n").replace("of an ", "of an\n"), fontsize=7)
    style.mask_legend(figure, "map cut by Otsu (label-free)")
    figure.suptitle("Maps of the first seed, each case scaled once; radiological view, patient's left on the right")
    style.save_figure(figure, path)


def _draw_picture(line: Any, picture: Picture, methods: list[str]) -> None:
    for axis, name in zip(line, [None, *methods], strict=True):
        style.bare(axis)
        if name is None:
            style.show_image(axis, picture.image, picture.aspect)
        elif name in picture.maps:
            style.show_slice(axis, picture.maps[name], picture.aspect, cmap=style.HEAT, vmin=0, vmax=1)
            style.outline(axis, picture.maps[name] > picture.cuts[name], style.PREDICTION)
        style.outline(axis, picture.lesion, style.TRUTH)
    line[0].set_ylabel(
        f"{style.title_of_panel(picture.dataset, picture.source, picture.view, picture.gate)}\n"
        f"{picture.case}\n{picture.channel}",
        fontsize=6,
    )


def pictures_of(context: Context, index: Path) -> list[Picture]:
    key = read_record(index)["key"]
    (preprocessed,) = reading(context.upstream["preprocess"], key)
    (truth,) = reading(context.upstream["truth"], key)
    maps = {folder: read_record(folder)["params"] for folder in reading(context.upstream["maps"], key)}
    params = read_record(index)["params"]
    channels = read_record(preprocessed)["params"]["channels"]
    channel = shown_channel(channels)
    cases = read_cases(index).set_index("case")
    tested = fold_of_tested(cases, maps.values())
    kinds = sorted({(facts["view"], facts["gate"]) for facts in maps.values()})
    sizes = {case: np.count_nonzero(lesion_of(context, truth, params["dataset"], case)) for case in tested}
    ordered = sorted(tested, key=lambda case: (sizes[case], case))
    places = np.linspace(0, len(ordered) - 1, min(context.params["cases"], len(ordered))).round().astype(int)
    pictures = []
    for case in (ordered[place] for place in places):
        foreground, affine = read_foreground(preprocessed, case)
        lesion = lesion_of(context, truth, params["dataset"], case)
        # The slice with most lesion, or without any, with most foreground.
        position = int(np.argmax((lesion if lesion.any() else foreground).sum(axis=(0, 1))))
        image = nifti.open_channels(image_file(preprocessed, case))[channels.index(channel), ..., position]
        spacing = nifti.spacing_of(affine)
        voxel_ml = float(np.prod(spacing)) / 1000
        for view, gate in kinds:
            volumes = {
                name: normalise(nifti.read(folder / f"{case}.nii.gz")[0], foreground)
                for name, folder in folders_of(maps, tested[case], view, gate).items()
            }
            pictures.append(
                Picture(
                    params["dataset"],
                    str(cases.loc[case, "source"]),
                    view,
                    gate,
                    case,
                    np.asarray(image),
                    channel,
                    lesion[..., position],
                    {name: volume[..., position] for name, volume in volumes.items()},
                    {name: otsu(histogram(volume, lesion, foreground, voxel_ml)) for name, volume in volumes.items()},
                    spacing[1] / spacing[0],
                )
            )
    return pictures


def lesion_of(context: Context, truth: Path, dataset: str, case: str) -> NDArray:
    """The lesion on the case's grid, (X, Y, Z) bool."""
    return open_lesion(context, truth, case, "scores", context.params["regions"][dataset], "grid")[0]


def shown_channel(channels: list[str]) -> str:
    """The channel that stands for an image."""
    return "flair" if "flair" in channels else channels[0]


def reading(folders: list[Path], index_key: str) -> list[Path]:
    """The runs that read a given index."""
    return [folder for folder in folders if read_record(folder)["upstream"]["index"] == [index_key]]


def fold_of_tested(cases: pd.DataFrame, maps: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The fold of each case that is tested in one of the maps' folds; in others its map may choose thresholds."""
    folds = sorted({facts["fold"] for facts in maps})
    return {case: fold for fold in folds for case in cases.index[cases[f"role_f{fold}"] == "test"]}


def folders_of(maps: dict[Path, dict[str, Any]], fold: int, view: str, gate: str) -> dict[str, Path]:
    """Where each method's maps of a fold, view and gate are, given the parameters of runs of maps."""
    wanted = (fold, view, gate)
    return {
        name: folder / name
        for folder, facts in maps.items()
        if (facts["fold"], facts["view"], facts["gate"]) == wanted
        for name in facts["methods"]
    }
