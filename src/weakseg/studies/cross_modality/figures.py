"""The study's figures: Dice by number of labelled cases, and translated and segmented cases."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.truth import open_lesion
from weakseg.execution import Context, read_record
from weakseg.references.patches import MODALITIES, order_of
from weakseg.references.regions import REGIONS, classes_of, postprocess
from weakseg.report import style
from weakseg.studies.cross_modality.rows import PROPOSED, ROWS, SCRATCH

SHOWN = (PROPOSED, SCRATCH, "early_fusion")
"""Rows whose segmentations are drawn."""
CASES = 2
COLOURS = ListedColormap(["#009e73", "#d55e00", "#f0e442"])
"""Of oedema, core and enhancing tumour."""
TITLES = {"t1": "T1", "t1ce": "T1c", "t2": "T2", "flair": "FLAIR"}


def draw_curve(board: pd.DataFrame, sentence: str, origin: dict[str, str], path: Path) -> None:
    """Held-out Dice of each row by the number of labelled cases, with 95 % intervals; dots are training-set Dice.

    Args:
        board: rows of the study's table that are ours.
        sentence: the caption's verdict.
        origin: ``dataset`` and ``source``.
        path: of the figure, without suffix.
    """
    regions = list(dict.fromkeys(board["region"]))
    figure, axes = plt.subplots(1, len(regions), figsize=(2.9 * len(regions) + 1.5, 4.2), sharey=True, squeeze=False)
    for axis, region in zip(axes[0], regions, strict=True):
        of_region = board[board["region"] == region]
        for number, (name, row) in enumerate(ROWS.items()):
            found = of_region[of_region["row"] == name].sort_values("labelled")
            if found.empty:
                continue
            # A little to the side, so that intervals do not cover each other.
            place = found["labelled"] * 1.02 ** (number - len(ROWS) / 2)
            errors = [found["dice"] - found["dice_low"], found["dice_high"] - found["dice"]]
            colour = plt.get_cmap("tab10")(number)
            axis.errorbar(
                place, found["dice"], errors, color=colour, marker="o", ms=4, lw=1.2, elinewidth=0.8, label=row.title
            )
            axis.scatter(place, found["dice_training"], color=colour, marker="x", s=14, lw=0.8)
        axis.set(title=region.replace("_", " "), xlabel="labelled training cases", xscale="log")
        ticks = sorted(board["labelled"].unique())
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
        axis.minorticks_off()
        axis.grid(axis="y")
    axes[0][0].set(ylabel="Dice (x: of the training set)", ylim=(0, 1))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=7)
    figure.suptitle(f"Held-out Dice by labelled cases, {style.title_of_data(**origin)}")
    figure.supxlabel("\n".join(textwrap.wrap(sentence, 150)), fontsize=8)
    style.save_figure(figure, path)


class Panel(NamedTuple):
    """An image (X, Y, Z) in grey, with classes (X, Y, Z) over it or none."""

    title: str
    image: NDArray
    classes: NDArray | None = None


def draw_cases(context: Context, tested: Sequence[str], origin: dict[str, str], path: Path) -> None:
    """Draw the first tested cases of the first seed, by name: modalities as they are and as they are made from the
    other pair, then the truth and what networks of all labelled cases segment, in the slice with most of the tumour.
    """
    cases = [_panels(context, case) for case in tested[:CASES]]
    width = max(len(line) for lines, _ in cases for line in lines)
    figure, axes = plt.subplots(
        2 * len(cases), width, figsize=(1.5 * width + 0.4, 3.3 * len(cases) + 0.6), squeeze=False
    )
    for axis in axes.ravel():
        axis.axis("off")
    for number, (lines, spacing) in enumerate(cases):
        truth = lines[1][0].classes
        assert truth is not None
        position = int(np.count_nonzero(truth, axis=(0, 1)).argmax())
        for line, panels in enumerate(lines):
            for axis, panel in zip(axes[2 * number + line], panels, strict=False):
                _show(axis, panel, position, spacing[1] / spacing[0])
    figure.suptitle(
        f"{', '.join(tested[:CASES])}, {style.title_of_data(**origin)}; "
        "green: oedema, red: core, yellow: enhancing tumour"
    )
    style.save_figure(figure, path)


def _panels(context: Context, case: str) -> tuple[tuple[list[Panel], list[Panel]], tuple[float, float, float]]:
    """Two lines of panels of a case, translations and segmentations, and its voxel size in mm."""
    preprocessed = context.folder("preprocess")
    foreground, affine = read_foreground(preprocessed, case)
    spacing = nifti.spacing_of(affine)
    image = nifti.open_channels(image_file(preprocessed, case))
    order = order_of(context.record("preprocess")["params"]["channels"])
    real = {name: np.asarray(image[place]) for name, place in zip(MODALITIES, order, strict=True)}
    first = [Panel(TITLES[name], volume) for name, volume in real.items()]
    for folder in context.upstream["transitions"]:
        made = folder / "translated" / f"{case}.nii.gz"
        if read_record(folder)["params"]["transition"] == "cross" and made.exists():
            volumes, _ = nifti.read(made)
            first += [
                Panel(f"{TITLES[name]} made of the other pair", volume)
                for name, volume in zip(MODALITIES, volumes, strict=True)
            ]
            break
    truth = context.folder("truth")
    masks = {region: open_lesion(context, truth, case, "scores", region, "grid")[0] for region in REGIONS}
    second = [Panel("truth", real["flair"], classes_of(masks))]
    for name in SHOWN:
        folders = [folder for folder in context.upstream["trained"] if _is_shown(folder, name)]
        if folders:
            stored, _ = nifti.read(folders[0] / "classes" / f"{case}.nii.gz", np.uint8)
            classes = postprocess(stored, foreground, float(np.prod(spacing)))
            second.append(Panel(ROWS[name].title, real["flair"], classes))
    return (first, second), spacing


def _is_shown(folder: Path, row: str) -> bool:
    params = read_record(folder)["params"]
    return params["row"] == row and params["labelled"] is None


def _show(axis: Axes, panel: Panel, position: int, aspect: float) -> None:
    flat = panel.image[:, :, position]
    inside = flat[flat != 0]
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0, 1)
    # The patient's left is on the right, as radiologists look.
    axis.imshow(flat[::-1].T, origin="lower", cmap="gray", vmin=low, vmax=high, aspect=aspect)
    if panel.classes is not None:
        classes = panel.classes[:, :, position][::-1].T.astype(float)
        axis.imshow(
            np.ma.masked_equal(classes, 0),
            origin="lower",
            cmap=COLOURS,
            vmin=1,
            vmax=3,
            alpha=0.6,
            aspect=aspect,
            interpolation="nearest",
        )
    axis.set_title("\n".join(textwrap.wrap(panel.title, 18)), fontsize=6)
