"""The look that all figures share."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from weakseg import catalogue

TRUTH, PREDICTION = "#ffffff", "#00e5ff"
"""Colours of outlines on images."""
HEAT = "inferno"
PANEL = ["dataset", "source", "view", "gate"]
"""Rows with these in common share a panel."""
REFINEMENT_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f4f24")
"""Okabe and Ito's colours and a brown, told apart by everyone."""
BOUND = "#8c8c8c"
"""Grey is for upper bounds, which are never ranked."""

plt.rcParams.update(
    {
        "figure.dpi": 150,
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


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without date or version, so that equal figures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
