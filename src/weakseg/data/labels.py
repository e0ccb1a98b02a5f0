"""Slice labels: the only rule that turns masks into labels, and the only one that training ever sees."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from weakseg.data.grid import preprocessed_cases, read_foreground
from weakseg.data.truth import open_lesion
from weakseg.data.views import pixel_area, unit_positions
from weakseg.errors import WeaksegError
from weakseg.execution import Context, write_json

LESION, NORMAL, UNLABELLED = 1, 0, -1


def run(context: Context) -> None:
    """Write ``slices.csv`` (case, position, label) and ``summary.json``.

    A slice is LESION from ``min_lesion_mm2`` on, NORMAL without any lesion, and UNLABELLED in between: left out of
    training and of the classifier's AUC, never out of maps or scores.

    Raises:
        WeaksegError: more than ``max_dropped`` of the slices with a lesion are UNLABELLED.
    """
    params, preprocessed = context.params, context.folder("preprocess")
    frames = []
    for case in preprocessed_cases(preprocessed):
        foreground, affine = read_foreground(preprocessed, case)
        lesion, _ = open_lesion(context, context.folder("truth"), case, "labels", params["region"], "grid")
        positions = unit_positions(foreground, affine, params["min_foreground_mm2"])
        area = lesion[..., positions].sum(axis=(0, 1)) * pixel_area(affine)
        frames.append(pd.DataFrame({"case": case, "position": positions, "area": area}))
    slices = pd.concat(frames, ignore_index=True)
    slices["label"] = UNLABELLED
    slices.loc[slices["area"] == 0, "label"] = NORMAL
    slices.loc[(slices["area"] > 0) & (slices["area"] >= params["min_lesion_mm2"]), "label"] = LESION
    summary = summarise(slices["label"])
    if summary["dropped"] > params["max_dropped"]:
        raise WeaksegError(
            f"labels: {summary['dropped']:.0%} of the slices with a lesion are below min_lesion_mm2 = "
            f"{params['min_lesion_mm2']} (max_dropped is {params['max_dropped']:.0%}); lower data.*.min_lesion_mm2"
        )
    slices[["case", "position", "label"]].to_csv(context.out / "slices.csv", index=False)
    write_json(context.out / "summary.json", summary)


def summarise(labels: pd.Series) -> dict[str, float]:
    """Counts of slices and the share of slices with a lesion that got no label."""
    lesion, normal, unlabelled = ((labels == value).sum() for value in (LESION, NORMAL, UNLABELLED))
    with_lesion = lesion + unlabelled
    return {
        "slices": len(labels),
        "lesion": int(lesion),
        "normal": int(normal),
        "too_small": int(unlabelled),
        "dropped": float(unlabelled / with_lesion) if with_lesion else 0.0,
    }


def read_labels(folder: Path) -> pd.DataFrame:
    """Read ``slices.csv``: case, position along Z, label."""
    return pd.read_csv(folder / "slices.csv", dtype={"case": str})
