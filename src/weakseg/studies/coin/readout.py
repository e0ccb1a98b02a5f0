"""Maps cut as the paper cuts them, against the truth of tested slices with a lesion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import catalogue, nifti
from weakseg.data.index import read_cases
from weakseg.data.labels import LESION, read_labels
from weakseg.data.truth import open_lesion
from weakseg.evaluation.published import cut_change, cut_saliency
from weakseg.execution import Context, read_record


def read_out(context: Context, part: str, entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Pixels of every map of a part of the study, tested case and slice that is labelled lesion.

    Args:
        context: of the running stage, which reads the part's ``index``, ``labels`` and ``truth``.
        part: its name.
        entries: of the part: ``table``, ``row`` and the ``folders`` of its maps.

    Returns:
        ``part``, ``table``, ``row``, ``method``, ``case``, ``patient``, ``position``, and on the case's grid the
        numbers of pixels that are ``predicted``, ``lesion``, and ``both``.
    """
    place = context.params["parts"].index(part)
    cases = read_cases(context.upstream["index"][place]).set_index("case")
    tested = cases.index[cases[f"role_f{context.params['fold']}"] == "test"]
    labels = read_labels(context.upstream["labels"][place])
    positions = labels[labels["label"] == LESION].groupby("case")["position"].apply(list).to_dict()
    truth = context.upstream["truth"][place]
    rows = [
        {"part": part, "patient": cases.loc[case, "patient"], **row}
        for case in tested
        if case in positions
        for row in _rows(context, truth, case, positions[case], entries)
    ]
    return pd.DataFrame(rows)


def _rows(
    context: Context, truth: Path, case: str, positions: list[int], entries: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    lesion = open_lesion(context, truth, case, "scores", context.params["region"], "grid")[0][..., positions]
    for entry in entries:
        for folder in entry["folders"]:
            for method in read_record(folder)["params"]["methods"]:
                relevance = nifti.read(folder / method / f"{case}.nii.gz")[0][..., positions]
                published = catalogue.METHODS[method].published_cut
                mask = cut_saliency(relevance) if published is None else cut_change(relevance, published)
                named = {"table": entry["table"], "row": entry["row"], "method": method, "case": case}
                pixels = [np.count_nonzero(each, axis=(0, 1)) for each in (mask, lesion, mask & lesion)]
                for position, predicted, inside, both in zip(positions, *pixels, strict=True):
                    yield {**named, "position": position, "predicted": predicted, "lesion": inside, "both": both}
