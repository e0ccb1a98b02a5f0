"""Are the maps of classifiers that differ in their seed alone alike? The stage ``repeatability``. It reads no mask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import read_foreground
from weakseg.data.index import read_cases
from weakseg.evaluation.faithfulness import spearman
from weakseg.evaluation.histogram import histogram, otsu
from weakseg.evaluation.protocol import normalise
from weakseg.evaluation.segmentation import overlap
from weakseg.evaluation.values import Value, rows_of, write_values
from weakseg.execution import Context, read_record


def run(context: Context) -> None:
    """Write ``values.parquet``: per tested case and method, the mean agreement over all pairs of seeds.

    Maps are raw ones on the case's grid, whole volumes: slices that a seed's gate stopped are 0, so a gate that decides
    otherwise counts as disagreement.
    """
    cases = read_cases(context.folder("index")).set_index("case")
    by_fold: dict[int, dict[str, list[Path]]] = {}
    for folder in context.upstream["maps"]:
        params = read_record(folder)["params"]
        for method in params["methods"]:
            by_fold.setdefault(params["fold"], {}).setdefault(method, []).append(folder / method)
    tested = [
        (case, methods)
        for fold, methods in sorted(by_fold.items())
        for case in cases.index[cases[f"role_f{fold}"] == "test"]
    ]
    work = partial(_compare, preprocessed=context.folder("preprocess"))
    found = context.map_cases(work, tested, "repeatability")
    values = [
        row
        for (case, _), of_case in zip(tested, found, strict=True)
        for row in rows_of(context, cases.loc[case], case, "all", of_case)
    ]
    write_values(context.out, values)


def _compare(item: tuple[str, dict[str, list[Path]]], preprocessed: Path) -> list[Value]:
    case, methods = item
    foreground, _ = read_foreground(preprocessed, case)
    return [
        (metric, "seeds", method, value)
        for method, folders in methods.items()
        for metric, value in agreement([nifti.read(path / f"{case}.nii.gz")[0] for path in folders], foreground)
    ]


def agreement(maps: list[NDArray], foreground: NDArray) -> Iterator[tuple[str, float]]:
    """Mean rank correlation, and Dice of the label-free masks, over all pairs of raw maps of a case; 1 if all agree.

    Args:
        maps: two or more, (X, Y, Z).
        foreground: (X, Y, Z) bool.
    """
    values = [relevance[foreground] for relevance in maps]
    masks = [_label_free(relevance, foreground) for relevance in maps]
    yield "repeated_spearman", float(np.mean([spearman(*pair) for pair in combinations(values, 2)]))
    yield "repeated_dice", float(np.mean([overlap(*pair)["dice"] for pair in combinations(masks, 2)]))


def _label_free(raw: NDArray, foreground: NDArray) -> NDArray:
    """The mask (X, Y, Z) of the operating point `label-free`, on the case's grid; Otsu's threshold needs no lesion."""
    relevance = normalise(raw, foreground)
    none = np.zeros_like(foreground)
    mask: NDArray = relevance > otsu(histogram(relevance, none, foreground, 1.0))
    return mask
