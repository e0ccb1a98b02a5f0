"""The study's figures: counterfactuals of a few tested slices, and how the generators were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from safetensors.torch import load_file

from weakseg import catalogue
from weakseg.data.labels import NORMAL, read_labels
from weakseg.data.truth import open_lesion
from weakseg.data.views import read_units
from weakseg.evaluation.published import cut_change
from weakseg.execution import Context
from weakseg.maps.counterfactual import changes, read_generator
from weakseg.report import style

SHOWN = {"best": 0.0, "a quarter down": 0.25, "median": 0.5, "three quarters down": 0.75}
"""Tested slices with a lesion, by the share of such slices whose IoU by COIN is higher."""
CURVES = {
    "flips": "validation slices called lesion\nthat the selector calls normal after",
    "positive": "mean |change| of slices called lesion",
    "negative": "mean |change| of slices called normal",
    "discriminator": "loss of the discriminator",
    "consistency": "classifier consistency",
}
"""What of a training's history is drawn, and how it is titled."""
GROUPS = {
    "table_3": "anomalies: Table 3",
    "losses": "anomalies: COIN\nless a loss",
    "lengths": "anomalies: COIN\nfor longer",
    "both": "tumours",
}
"""What the tables of the study are called."""
CHANGE_SHOWN = 0.6
"""The largest change that has a colour of its own, in units of the range."""


@dataclass(frozen=True)
class Shown:
    """A slice (X, Y), its lesion, and by method its counterfactual and |change| with the mask of the paper's cut."""

    title: str
    image: NDArray
    lesion: NDArray
    made: dict[str, tuple[NDArray, NDArray, NDArray]]
    aspect: float


def draw_training(entries: Sequence[Mapping[str, Any]], folders: Sequence[Path], path: Path) -> None:
    """Curves of every generator at its checkpoints, a line of panels for each table of the study.

    Args:
        entries: those of generators: ``table``, ``row`` and ``methods``.
        folders: their runs of ``map_fit``.
        path: of the figure, without suffix.
    """
    groups: dict[str, dict[str, pd.DataFrame]] = {}
    for entry, folder in zip(entries, folders, strict=True):
        for method, history in pd.read_csv(folder / "history.csv").groupby("method"):
            groups.setdefault(GROUPS[entry["table"]], {})[entry["row"] or style.title_of(str(method))] = history
    figure, axes = plt.subplots(
        len(groups), len(CURVES), figsize=(2.6 * len(CURVES) + 1.4, 2.1 * len(groups) + 0.5), squeeze=False
    )
    for line, (kind, rows) in zip(axes, groups.items(), strict=True):
        for axis, name in zip(line, CURVES, strict=True):
            for number, (row, history) in enumerate(rows.items()):
                colour = style.REFINEMENT_COLOURS[number % len(style.REFINEMENT_COLOURS)]
                dashes = ("-", "--")[number // len(style.REFINEMENT_COLOURS) % 2]
                axis.plot(history["step"], history[name], dashes, marker=".", ms=3, lw=1, color=colour, label=row)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("step")
        line[0].set_ylabel(kind)
        line[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=6)
    for axis, title in zip(axes[0], CURVES.values(), strict=True):
        axis.set_title(title, fontsize=7)
    figure.suptitle("Training of the generators, at every checkpoint")
    style.save_figure(figure, path)


def draw_counterfactuals(context: Context, readouts: pd.DataFrame, source: str, path: Path) -> None:
    """COIN and Singla et al. on tested slices of both parts: the best, three between, and one without a lesion.

    Args:
        context: of the running stage.
        readouts: rows of the stage ``coin_readout`` with ``part`` and ``table``.
        source: of all cases, ``phantom`` or ``real``.
        path: of the figure, without suffix.
    """
    shown = [
        one for place, part in enumerate(context.params["parts"]) for one in _of_part(context, readouts, place, part)
    ]
    heights = [1.6 * one.image.shape[1] * one.aspect / one.image.shape[0] for one in shown]
    figure, axes = plt.subplots(
        len(shown), 5, figsize=(8.6, sum(heights) + 0.12 * len(shown) + 0.9), height_ratios=heights, squeeze=False
    )
    for line, one in zip(axes, shown, strict=True):
        _draw(line, one)
    for axis, title in zip(axes[0], _titles(), strict=True):
        axis.set_title(title, fontsize=7)
    figure.suptitle(
        f"Counterfactual inpainting, {style.title_of_data('kits', source)}; white: truth, blue: |change| cut as in the "
        "paper",
        fontsize=8,
    )
    style.save_figure(figure, path)


def _titles() -> list[str]:
    titles = ["image"]
    for method in ("coin", "singla"):
        titles += [f"{style.title_of(method)}:\ncounterfactual", f"{style.title_of(method)}:\n|change|"]
    return titles


def _draw(line: Sequence[Axes], one: Shown) -> None:
    def show(axis: Axes, values: NDArray, **options: Any) -> None:
        axis.imshow(values[::-1].T, origin="lower", aspect=one.aspect, **options)

    def outline(axis: Axes, mask: NDArray, colour: str) -> None:
        if mask.any():
            axis.contour(mask[::-1].T.astype(float), levels=[0.5], colors=colour, linewidths=0.9)

    low, high = np.percentile(one.image[one.image != 0], (0.5, 99.8))
    grey = {"cmap": "gray", "vmin": low, "vmax": high}
    show(line[0], one.image, **grey)
    outline(line[0], one.lesion, style.TRUTH)
    for number, (image, change, mask) in enumerate(one.made.values()):
        show(line[1 + 2 * number], image, **grey)
        show(line[2 + 2 * number], change, cmap=style.HEAT, vmin=0, vmax=CHANGE_SHOWN)
        outline(line[2 + 2 * number], mask, style.PREDICTION)
        outline(line[2 + 2 * number], one.lesion, style.TRUTH)
    for axis in line:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    line[0].set_ylabel(one.title, fontsize=6, rotation=0, ha="right", va="center")


def _of_part(context: Context, readouts: pd.DataFrame, place: int, part: str) -> list[Shown]:
    """The slices of a part that are shown, by IoU of COIN, and one that is labelled normal and changed most."""
    coin = readouts[(readouts["part"] == part) & (readouts["method"] == "coin") & (readouts["row"].isin(["COIN", ""]))]
    union = coin["predicted"] + coin["lesion"] - coin["both"]
    ordered = coin.assign(iou=coin["both"] / union).sort_values(
        ["iou", "case", "position"], ascending=[False, True, True]
    )
    chosen = [
        (f"{part}: {name}, IoU {row.iou:.2f}", str(row.case), int(row.position))
        for name, share in SHOWN.items()
        for row in [ordered.iloc[round(share * (len(ordered) - 1))]]
    ]
    labels = read_labels(context.upstream["labels"][place])
    tested = labels[(labels["label"] == NORMAL) & labels["case"].isin(set(coin["case"]))]
    if len(tested):
        middle = tested.sort_values(["case", "position"]).iloc[len(tested) // 2]
        chosen.append((f"{part}: no lesion", str(middle["case"]), int(middle["position"])))
    return [_read(context, place, part, *one) for one in chosen]


def _read(context: Context, place: int, part: str, title: str, case: str, position: int) -> Shown:
    params = context.params
    folder = {role: context.upstream[role][place] for role in ("preprocess", "truth")}
    units = read_units(folder["preprocess"], case, params)
    (at,) = np.flatnonzero(units.positions == position)
    lesion, affine = open_lesion(context, folder["truth"], case, "scores", params["region"], "grid")
    image = torch.from_numpy(units.image[at : at + 1])
    foreground = torch.from_numpy(units.foreground[at : at + 1, None])
    learnt = [entry for entry in params["entries"] if entry["methods"]]
    made = {}
    for entry, fitted in zip(learnt, context.upstream["fitted"], strict=True):
        if entry["part"] != part or entry["row"] not in ("COIN", "H", ""):
            continue
        weights = load_file(fitted / "weights.safetensors")
        for method, settings in entry["methods"].items():
            cut = catalogue.METHODS[method].published_cut or 0.0
            generator = read_generator(weights, method, settings, context.device)
            change = changes(generator, image, torch.zeros(1, dtype=torch.int64), foreground, context.device)
            after = generator.changed(image.to(context.device), change.to(context.device)).cpu().numpy()[0, 0]
            size = np.abs(change.numpy()[0]).mean(axis=0)
            made[method] = (after, size, cut_change(size[..., None], cut)[..., 0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    made = {method: made[method] for method in ("coin", "singla")}
    return Shown(
        f"{title}\n{case}, slice {position}", units.image[at, 0], lesion[..., position], made, spacing[1] / spacing[0]
    )
