"""The look that all figures share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from weakseg import catalogue
from weakseg.evaluation.protocol import RAW
from weakseg.runs import FIGURE_FORMATS

TRUTH, PREDICTION = "#ffffff", "#00e5ff"
"""Colours of outlines on images."""
HEAT = "inferno"
PANEL = ["dataset", "source", "view", "gate"]
"""Rows with these in common share a panel."""
REFINEMENT_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f4f24")
"""Okabe and Ito's colours and a brown, told apart by everyone."""
BOUND = "#8c8c8c"
"""Grey is for upper bounds, which are never ranked."""

CANVASES = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""By format: what would make equal figures other files."""

plt.rcParams.update(
    {
        "figure.dpi": 150,
        # Ids that depend on what is drawn alone; glyphs as outlines, which look the same everywhere.
        "svg.hashsalt": "weakseg",
        "pdf.fonttype": 42,
        "figure.constrained_layout.use": True,
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.grid.axis": "x",
        "grid.color": "#dddddd",
        "legend.frameon": False,
    }
)


Marker = str | tuple[int, Literal[1, 2], int]
MARKERS: list[Marker] = [*"oD^vP*Xph<>dH81234+x|_", (6, 1, 0), (8, 1, 0), (5, 2, 0), (4, 1, 0)]
"""One for each method: where refinements have the colours, nothing else tells methods apart."""
Looks = dict[str, tuple[str, Marker]]
"""Colour and marker by method."""


def in_order(chains: Iterable[str]) -> list[str]:
    """Refinements as figures show them, each once: maps as they are, then the others by name."""
    return sorted(set(chains), key=lambda chain: (chain != RAW, chain))


def colours_of(chains: Iterable[str]) -> dict[str, str]:
    """A colour for each refinement."""
    return dict(zip(chains, itertools.cycle(REFINEMENT_COLOURS), strict=False))


def looks_of(methods: Iterable[str]) -> Looks:
    """Colour and marker of each method, in the catalogue's order."""
    found = set(methods)
    names = [name for name in catalogue.METHODS if name in found]
    looks = zip(itertools.cycle([*REFINEMENT_COLOURS, "#000000"]), MARKERS, strict=False)
    return dict(zip(names, looks, strict=False))


def is_null(method: str) -> bool:
    """Does it explain nothing?"""
    return method in catalogue.METHODS and catalogue.METHODS[method].null


def line_of(method: str) -> str:
    """The dashes of a method's line: dots for nulls."""
    return ":" if is_null(method) else "-"


def handle_of(method: str, looks: Looks) -> Line2D:
    """A method's entry in a legend."""
    colour, marker = looks[method]
    return Line2D([], [], color=colour, marker=marker, ls=line_of(method), ms=4, label=title_of(method))


def point_marker(point: str) -> str:
    """The marker of an operating point; all `val-k` share one."""
    return {"fixed": "s", "label-free": "o", "paper": "v", "oracle-set": "D"}.get(point, "^")


def title_of(method: str) -> str:
    """How a figure calls a method or a reference; nulls say that they are nulls."""
    if method in catalogue.REFERENCES:
        return catalogue.REFERENCES[method].title
    facts = catalogue.METHODS[method]
    return f"null: {facts.title}" if facts.null else facts.title


def title_of_data(dataset: str, source: str) -> str:
    """How a figure calls a data set: a phantom is never shown as the real one."""
    return f"{dataset} phantom (made-up images)" if source == "phantom" else f"{dataset} (real)"


def title_of_panel(dataset: str, source: str, view: str, gate: str) -> str:
    """How a figure calls rows of one data set, view and gate; slices behind their gate need no word."""
    title = title_of_data(dataset, source)
    if view in ("volume", "supervised"):
        return f"{title}\n{'volumes' if view == 'volume' else 'supervised references'}"
    words = [*(["sequences"] if view == "sequence" else []), *(["no gate"] if gate == "none" else [])]
    return f"{title}\n{', '.join(words)}" if words else title


def bare(axis: Axes) -> None:
    """Leave an image without ticks and frame."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def show_slice(axis: Axes, values: NDArray, aspect: float, **options: Any) -> None:
    """Show a slice (X, Y) as radiologists look: the patient's left on the right."""
    axis.imshow(values[::-1].T, origin="lower", aspect=aspect, **options)


def show_image(axis: Axes, image: NDArray, aspect: float) -> None:
    """Show a slice (X, Y) of an image in grey, 0 being outside."""
    inside = image[image != 0]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0, 1)
    show_slice(axis, image, aspect, cmap="gray", vmin=low, vmax=high)


def outline(axis: Axes, mask: NDArray, colour: str) -> None:
    """Draw the border of a mask (X, Y) over a slice."""
    if mask.any():
        axis.contour(mask[::-1].T.astype(float), levels=[0.5], colors=colour, linewidths=0.9)


def mask_legend(figure: Figure, prediction: str) -> None:
    """Say below a figure of images what the outlines are.

    Args:
        figure: it.
        prediction: what the outline that is not the truth shows.
    """
    handles = [Line2D([], [], color=TRUTH, label="truth"), Line2D([], [], color=PREDICTION, label=prediction)]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor="white")
    legend.get_frame().set(facecolor="#444444", alpha=1)
    legend.set_frame_on(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``<path>.png``, ``.svg`` and ``.pdf`` without date or version, so that equal figures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Laid out once, so that all formats are alike; `savefig` would do so again for each.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for kind in FIGURE_FORMATS:
        draw = getattr(CANVASES[kind](figure), f"print_{kind}")
        draw(path.with_name(f"{path.name}.{kind}"), metadata=METADATA[kind])
    plt.close(figure)
