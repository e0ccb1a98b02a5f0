"""Are the maps of classifiers that differ in their seed alone alike? The stage ``repeatability``. It reads no mask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

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
    folders = {
        read_record(folder)["key"]: folder for role in ("index", "preprocess") for folder in context.upstream[role]
    }
    by_fold: dict[tuple[Path, Path, int], dict[str, list[Path]]] = {}
    for folder in context.upstream["maps"]:
        record = read_record(folder)
        index, preprocessed = (folders[record["upstream"][role][0]] for role in ("index", "preprocess"))
        for method in record["params"]["methods"]:
            of_fold = by_fold.setdefault((index, preprocessed, record["params"]["fold"]), {})
            of_fold.setdefault(method, []).append(folder / method)
    values: list[dict[str, Any]] = []
    for (index, preprocessed, fold), methods in sorted(by_fold.items()):
        dataset, cases = read_record(index)["params"]["dataset"], read_cases(index).set_index("case")
        tested = cases.index[cases[f"role_f{fold}"] == "test"]
        work = partial(_compare, methods=methods, preprocessed=preprocessed)
        found = context.map_cases(work, tested, dataset)
        for case, of_case in zip(tested, found, strict=True):
            values += rows_of(context, dataset, cases.loc[case], case, "all", of_case)
    write_values(context.out, values)


def _compare(case: str, methods: dict[str, list[Path]], preprocessed: Path) -> list[Value]:
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
