"""Which of the checkpoints of a training is kept. Nothing here looks at a mask, or at the second judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def chosen(history: Sequence[Mapping[str, float]], least_flips: float) -> int:
    """The place of the checkpoint to keep: of those that flip enough, the one that changes least.

    Args:
        history: of each checkpoint ``flips``, the share of validation slices called lesion that the selector calls
            normal after the change, and ``positive`` and ``negative``, the mean absolute change of slices that are
            called lesion and of the others, in units of the range.
        least_flips: share from which on a checkpoint flips enough. If none does, the one that flips most is kept. Ties
            go to the earlier one.
    """

    def order(place: int) -> tuple[bool, float, float]:
        record = history[place]
        enough = record["flips"] >= least_flips
        change = (record["positive"] + record["negative"]) / 2
        return not enough, 0.0 if enough else -record["flips"], change

    return min(range(len(history)), key=order)
