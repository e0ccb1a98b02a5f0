"""Which of the checkpoints of a training is kept. Nothing here looks at a mask, or at the second judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def chosen(history: Sequence[Mapping[str, float]], least_flips: float, slices: int) -> int:
    """The place of the checkpoint to keep: of those that flip enough, the one that changes least.

    One is kept or replaced as soon as it is there, so what was replaced does not come back.

    Args:
        history: of each checkpoint ``flips``, the share of validation slices called lesion that the selector calls
            normal after the change, and ``positive`` and ``negative``, the mean absolute change of slices that are
            called lesion and of the others, in units of the range.
        least_flips: share from which on a checkpoint flips enough. As long as none does, those flip enough that are
            within a standard error of the largest share so far. Ties go to the earlier one.
        slices: number of validation slices called lesion.
    """
    kept, most = 0, 0.0
    for place, record in enumerate(history):
        most = max(most, record["flips"])
        enough = least_flips if most >= least_flips else most - math.sqrt(most * (1 - most) / max(slices, 1))
        less = _change(record) < _change(history[kept])
        if history[kept]["flips"] < enough or (record["flips"] >= enough and less):
            kept = place
    return kept


def _change(record: Mapping[str, float]) -> float:
    return (record["positive"] + record["negative"]) / 2
