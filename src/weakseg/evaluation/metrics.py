"""What the numbers in tables mean: tables and figures take their headings from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→0"}


@dataclass(frozen=True)
class Metric:
    """What a number in a table means.

    Attributes:
        title: how tables and figures call it.
        direction: which is better; ``zero`` where a value may be off to both sides.
        range: values it can take, and their unit.
        edge: what happens where it would be undefined.
    """

    title: str
    direction: Literal["higher", "lower", "zero"]
    range: str
    edge: str

    @property
    def heading(self) -> str:
        """The title with an arrow that says which is better."""
        return f"{self.title} {ARROWS[self.direction]}"


_OVERLAP = "0 if the prediction is empty"
_MAP = "of the map, without a cut"
_BOX = "threshold that is best for the tested set: an upper bound"

SCORES: dict[str, Metric] = {
    "dice": Metric("Dice", "higher", "0 to 1", _OVERLAP),
    "iou": Metric("IoU", "higher", "0 to 1", _OVERLAP),
    "sensitivity": Metric("sensitivity", "higher", "0 to 1", _OVERLAP),
    "precision": Metric("precision", "higher", "0 to 1", _OVERLAP),
    "nsd": Metric("NSD at 2 mm", "higher", "0 to 1", _OVERLAP),
    "nsd_voxel": Metric("NSD at one voxel", "higher", "0 to 1", _OVERLAP),
    "hd95_mm": Metric("HD95 (mm)", "lower", "mm, from 0", "the diagonal of the volume if the prediction is empty"),
    "volume_error_ml": Metric(
        "volume error (ml)", "zero", "ml, too much is positive", "less the lesion if it is missed"
    ),
    "absolute_volume_error_ml": Metric(
        "absolute volume error (ml)", "lower", "ml, from 0", "the lesion if it is missed"
    ),
    "relative_volume_error": Metric("relative volume error", "lower", "share of the lesion, from 0", "1 if missed"),
    "lesion_recall": Metric("lesion recall", "higher", "0 to 1", "a lesion is found from IoU 0.1 on"),
    "lesion_precision": Metric("lesion precision", "higher", "0 to 1", _OVERLAP),
    "lesion_f1": Metric("lesion F1", "higher", "0 to 1", _OVERLAP),
    "false_positive_ml": Metric(
        "predicted in lesion-free slices (ml)", "lower", "ml, from 0", "of cases with a lesion"
    ),
    "share_touched": Metric("lesion-free slices touched", "lower", "0 to 1", "without such a slice left out"),
    "auprc": Metric("AUPRC", "higher", "0 to 1, prevalence by chance", _MAP),
    "pointing_game": Metric("pointing game", "higher", "0 to 1", _MAP),
    "mass_accuracy": Metric("relevance mass", "higher", "0 to 1", _MAP),
    "rank_accuracy": Metric("relevance rank", "higher", "0 to 1", _MAP),
    "box_30": Metric("box at IoU 0.3", "higher", "0 to 1", _BOX),
    "box_50": Metric("box at IoU 0.5", "higher", "0 to 1", _BOX),
    "box_70": Metric("box at IoU 0.7", "higher", "0 to 1", _BOX),
}
"""The scores of a case with a lesion, by their column in ``scores.parquet``."""
