"""The draw of masks that may be looked at, in one place."""

from __future__ import annotations

from collections.abc import Iterable

from weakseg.randomness import rng


def draw_masks(patients: Iterable[str], k: int, draw: int, data_seed: int) -> list[str]:
    """The k patients of one of many random draws; nested: a draw of fewer is the beginning of a draw of more.

    Args:
        patients: validation patients of a fold; their order makes no difference.
        k: how many; all if there are fewer.
        draw: number of the draw.
        data_seed: seed of phantoms, folds and draws.
    """
    ordered = sorted(set(patients))
    order = rng(data_seed, "val-k", str(draw)).permutation(len(ordered))
    return [ordered[place] for place in order[:k]]
