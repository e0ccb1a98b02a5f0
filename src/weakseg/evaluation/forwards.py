"""What maps cost: forwards of a network per case."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from weakseg import catalogue
from weakseg.execution import read_record

COUNTED = ["dataset", "view", "gate", "method"]
"""What forwards are counted by: slices or volumes per case."""


def forwards_per_case(maps: Iterable[Path]) -> pd.DataFrame:
    """Units that each method passes through a network per case: COUNTED and ``forwards``.

    A family shares its forwards, so each of its methods is given all of them, as it would need them alone too; methods
    that ask no network have 0. Means over seeds and folds. Backward passes, and the one forward per unit by which the
    gate decides (the same for all), are not counted, nor is what a method learns before, in the stage ``map_fit``.

    Args:
        maps: finished runs of the stage ``maps``.
    """
    records = []
    for folder in maps:
        record = read_record(folder)
        for method in record["params"]["methods"]:
            cases = sum(1 for _ in (folder / method).glob("*.nii.gz"))
            asked = record["counts"]["forwards"] if catalogue.METHODS[method].asks_network else 0
            dataset = record["label"].split("-")[0]
            records.append((dataset, record["params"]["view"], record["params"]["gate"], method, asked / cases))
    table = pd.DataFrame(records, columns=[*COUNTED, "forwards"])
    return table.groupby(COUNTED)["forwards"].mean().reset_index()
