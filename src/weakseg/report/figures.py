"""The figures beside the leaderboard."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from weakseg import catalogue, nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import in_order, normalise
from weakseg.evaluation.summary import patient_means, supervised, weak
from weakseg.execution import Context, read_record
from weakseg.report import style
from weakseg.report.curves import Minutes, draw_budgets, draw_forwards, forwards_per_case
from weakseg.report.k_curve import draw_k_curve

LINES = ("-", "--", "-.", ":")
"""Of references in the panels of maps."""


def run(context: Context) -> None:
    """Write to ``figures``: ``overlays-<data set>-<view>``, ``dice``, ``masks``, ``k_curve`` and ``forwards``, PNG."""
    scores = pd.read_parquet(context.folder("collect") / "scores.parquet")
    board = pd.read_csv(context.folder("leaderboard") / "tables" / "leaderboard.csv", keep_default_na=False)
    figures, maps = context.out / "figures", weak(board)
    draw_dice(board, patient_means(scores, "test", ["dice"]), figures / "dice.png")
    minutes = Minutes(*(context.params[f"minutes_per_{what}"] for what in ("mask", "slice_label", "grade")))
    draw_budgets(maps, minutes, figures / "masks.png")
    draw_k_curve(board, figures / "k_curve.png")
    draw_forwards(maps, forwards_per_case(context.upstream["counted"]), figures / "forwards.png")
    for index in context.upstream["index"]:
        pictures = sorted(_pictures(context, index), key=lambda picture: picture.view)
        for view, of_view in itertools.groupby(pictures, key=lambda picture: picture.view):
            shown = list(of_view)
            draw_overlays(shown, figures / f"overlays-{shown[0].dataset}-{view}.png")


def draw_dice(board: pd.DataFrame, patients: pd.DataFrame, path: Path) -> None:
    """Dice of every row of the leaderboard: the mean with its 95 % interval, and each patient as a dot.

    Supervised references have a panel of their own, and their means are lines in the panels of their data set.

    Args:
        board: the leaderboard.
        patients: Dice by row key and patient.
        path: PNG to write.
    """
    points = in_order(board["operating_point"])
    chains = list(dict.fromkeys(sorted(board["refinement"], key=lambda chain: (chain != "threshold", chain))))
    colours = dict(zip(chains, itertools.cycle(style.REFINEMENT_COLOURS), strict=False))
    references = board[supervised(board)]
    names = [name for name in catalogue.REFERENCES if name in set(references["method"])]
    lines = dict(zip(names, itertools.cycle(LINES), strict=False))
    panels = list(board.groupby(style.PANEL))
    # A line for each refinement of a method, and one between methods.
    sizes = [len(rows.groupby(["method", "refinement"])) + rows["method"].nunique() for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        len(points),
        figsize=(3.2 * len(points) + 1, 0.1 * sum(sizes) + 0.8 * len(panels) + 1),
        height_ratios=sizes,
        squeeze=False,
    )
    for line, (key, rows) in zip(axes, panels, strict=True):
        shown = dict(zip(points, line, strict=True))
        if supervised(rows).all():
            # They are cut at one point alone, and stand in its column.
            for point in set(points) - set(rows["operating_point"]):
                shown.pop(point).set_visible(False)
        else:
            beside = references[(references[style.PANEL[:2]] == list(key[:2])).all(axis=1)]
            for axis, row in itertools.product(line, beside.itertuples()):
                axis.axvline(row.dice, color="k", ls=lines[row.method], lw=0.7, zorder=0)
        _draw_panel(shown, key, rows, patients, colours)
    handles = [
        Line2D([], [], marker="o", ls="", color=colour, label=f"refinement: {chain}")
        for chain, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color="k", ls=line, lw=0.7, label=f"mean of the reference {style.title_of(name)}")
        for name, line in lines.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(3, len(chains)))
    figure.suptitle("Dice of each tested patient, mean and 95 % interval")
    style.save(figure, path)


def _draw_panel(
    line: dict[str, Axes], key: tuple[str, ...], rows: pd.DataFrame, patients: pd.DataFrame, colours: dict[str, str]
) -> None:
    """Rows of one data set, view and gate, at each operating point that has an axis."""
    places = places_of(rows, list(colours))
    for point, axis in line.items():
        _draw_point(axis, rows[rows["operating_point"] == point], patients, places, colours)
        _label_point(axis, point)
        # Alike in all panels: a point may have rows of few methods.
        axis.set_ylim(max(places.values()) + 1, -1)
    first = next(iter(line.values()))
    middles = pd.Series(places).groupby(level=0, sort=False).mean()
    first.set_yticks(middles, [style.title_of(str(name)) for name in middles.index])
    first.set_ylabel(style.title_of_panel(*key))


def places_of(rows: pd.DataFrame, chains: list[str]) -> dict[tuple[str, str], int]:
    """The line of each method and refinement in a panel, counted from the top.

    Args:
        rows: of the panel, of all operating points.
        chains: refinements in the order in which those of a method stand.

    Returns:
        By method, the best one first, and refinement; a line is left free between methods.
    """
    best = rows.groupby("method")["dice"].max().sort_values(ascending=False)
    held = {name: set(of_method["refinement"]) for name, of_method in rows.groupby("method")}
    lines = [
        line for name in best.index for line in [*((name, chain) for chain in chains if chain in held[name]), None]
    ]
    return {line: number for number, line in enumerate(lines) if line is not None}


def _draw_point(
    axis: Axes,
    rows: pd.DataFrame,
    patients: pd.DataFrame,
    places: dict[tuple[str, str], int],
    colours: dict[str, str],
) -> None:
    for row in rows.to_dict("records"):
        dice = patients.loc[(patients[ROW_KEY] == pd.Series(row)[ROW_KEY]).all(axis=1), "dice"]
        at = places[row["method"], row["refinement"]]
        colour = colours[row["refinement"]]
        axis.plot(dice, np.full(len(dice), at), ".", color=colour, alpha=0.25, ms=2.5)
        axis.plot([row["dice_low"], row["dice_high"]], [at, at], color=colour, lw=1.5)
        axis.plot(row["dice"], at, marker=style.point_marker(row["operating_point"]), color=colour, ms=4)


def _label_point(axis: Axes, point: str) -> None:
    bound = point == "oracle-set"
    if bound:
        masks = "upper bound: cut on the test masks"
    elif point.startswith("val-"):
        masks = "cut on validation patients' masks"
    else:
        masks = "cut without masks"
    axis.set_title(f"{point}\n({masks})")
    if bound:
        axis.set_facecolor("#f2f2f2")
        axis.title.set_color(style.BOUND)
    axis.set_xlim(-0.02, 1)
    axis.set_yticks([])
    axis.set_xlabel("Dice")


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
    handles = [
        Line2D([], [], color=style.TRUTH, label="truth"),
        Line2D([], [], color=style.PREDICTION, label="map cut by Otsu (label-free)"),
    ]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor="white")
    legend.get_frame().set(facecolor="#444444", alpha=1)
    legend.set_frame_on(True)
    figure.suptitle("Maps of the first seed, each case scaled once; radiological view, patient's left on the right")
    style.save(figure, path)


def _draw_picture(line: Any, picture: Picture, methods: list[str]) -> None:
    def show(axis: Axes, values: NDArray, **options: Any) -> None:
        axis.imshow(values[::-1].T, origin="lower", aspect=picture.aspect, **options)

    def outline(axis: Axes, mask: NDArray, colour: str) -> None:
        if mask.any():
            axis.contour(mask[::-1].T.astype(float), levels=[0.5], colors=colour, linewidths=0.9)

    low, high = np.percentile(picture.image[picture.image != 0], (1, 99.5))
    grey = {"cmap": "gray", "vmin": low, "vmax": high}
    for axis, name in zip(line, [None, *methods], strict=True):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if name is None:
            show(axis, picture.image, **grey)
        elif name in picture.maps:
            show(axis, picture.maps[name], cmap=style.HEAT, vmin=0, vmax=1)
            outline(axis, picture.maps[name] > picture.cuts[name], style.PREDICTION)
        outline(axis, picture.lesion, style.TRUTH)
    line[0].set_ylabel(
        f"{style.title_of_panel(picture.dataset, picture.source, picture.view, picture.gate)}\n"
        f"{picture.case}\n{picture.channel}",
        fontsize=6,
    )


def _pictures(context: Context, index: Path) -> list[Picture]:
    key = read_record(index)["key"]
    (preprocessed,) = _reading(context.upstream["preprocess"], key)
    (truth,) = _reading(context.upstream["truth"], key)
    maps = {folder: read_record(folder)["params"] for folder in _reading(context.upstream["maps"], key)}
    params = read_record(index)["params"]
    channels = read_record(preprocessed)["params"]["channels"]
    channel = "flair" if "flair" in channels else channels[0]
    cases = read_cases(index).set_index("case")
    tested = {case: fold for fold, cases_ in _tested(cases, maps.values()).items() for case in cases_}
    kinds = sorted({(facts["view"], facts["gate"]) for facts in maps.values()})
    sizes = {case: np.count_nonzero(_lesion(context, truth, params["dataset"], case)) for case in tested}
    ordered = sorted(tested, key=lambda case: (sizes[case], case))
    places = np.linspace(0, len(ordered) - 1, min(context.params["cases"], len(ordered))).round().astype(int)
    pictures = []
    for case in (ordered[place] for place in places):
        foreground, affine = read_foreground(preprocessed, case)
        lesion = _lesion(context, truth, params["dataset"], case)
        # The slice with most lesion, or without any, with most foreground.
        position = int(np.argmax((lesion if lesion.any() else foreground).sum(axis=(0, 1))))
        image = nifti.open_channels(image_file(preprocessed, case))[channels.index(channel), ..., position]
        spacing = nifti.spacing_of(affine)
        voxel_ml = float(np.prod(spacing)) / 1000
        for view, gate in kinds:
            volumes = {
                name: normalise(nifti.read(folder / name / f"{case}.nii.gz")[0], foreground)
                for folder, facts in maps.items()
                if (facts["fold"], facts["view"]) == (tested[case], view)
                for name in facts["methods"]
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


def _lesion(context: Context, truth: Path, dataset: str, case: str) -> NDArray:
    """The lesion on the case's grid, (X, Y, Z) bool."""
    return open_lesion(context, truth, case, "scores", context.params["regions"][dataset], "grid")[0]


def _reading(folders: list[Path], index_key: str) -> list[Path]:
    """The runs that read a given index."""
    return [folder for folder in folders if read_record(folder)["upstream"]["index"] == [index_key]]


def _tested(cases: pd.DataFrame, maps: Iterable[dict[str, Any]]) -> dict[int, list[str]]:
    folds = {facts["fold"] for facts in maps}
    return {fold: cases.index[cases[f"role_f{fold}"] == "test"].tolist() for fold in sorted(folds)}
