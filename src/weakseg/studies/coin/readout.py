"""The stage ``coin_readout``: maps cut as the paper cuts them, against the truth of tested slices with a lesion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from weakseg import catalogue, nifti
from weakseg.data.index import read_cases
from weakseg.data.labels import LESION, read_labels
from weakseg.data.truth import open_lesion
from weakseg.evaluation.published import cut_change, cut_saliency
from weakseg.execution import Context, read_record


def run(context: Context) -> None:
    """Write ``readout.parquet``: a row per method, tested case and slice that is labelled lesion.

    ``predicted``, ``lesion`` and ``both`` count pixels of the case's grid in the mask, the truth and their overlap.
    """
    params = context.params
    cases = read_cases(context.folder("index"))
    tested = cases[cases[f"role_f{params['fold']}"] == "test"]
    labels = read_labels(context.folder("labels"))
    positions = labels[labels["label"] == LESION].groupby("case")["position"].apply(list).to_dict()
    items = [(case, positions[case]) for case in tested["case"] if case in positions]
    found = context.map_cases_resumably(_read_case, items, "readout")
    columns = ["method", "case", "position", "predicted", "lesion", "both"]
    table = pd.DataFrame([row for rows in found for row in rows], columns=columns)
    table["patient"] = table["case"].map(cases.set_index("case")["patient"])
    table.to_parquet(context.out / "readout.parquet", index=False)


def _read_case(context: Context, item: tuple[str, list[int]]) -> list[tuple[Any, ...]]:
    case, positions = item
    truth, _ = open_lesion(context, context.folder("truth"), case, "scores", context.params["region"], "grid")
    lesion = truth[..., positions]
    rows = []
    for folder in context.upstream["maps"]:
        for method in read_record(folder)["params"]["methods"]:
            relevance = nifti.read(folder / method / f"{case}.nii.gz")[0][..., positions]
            published = catalogue.METHODS[method].published_cut
            mask = cut_saliency(relevance) if published is None else cut_change(relevance, published)
            counts = [np.count_nonzero(each, axis=(0, 1)) for each in (mask, lesion, mask & lesion)]
            rows += [(method, case, *row) for row in zip(positions, *counts, strict=True)]
    return rows
