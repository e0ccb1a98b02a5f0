"""Labels of a share of the training patients: what is left of the data set when fewer were labelled."""

from __future__ import annotations

import pandas as pd

from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.execution import Context
from weakseg.randomness import rng


def run(context: Context) -> None:
    """Write ``slices.csv`` as the stage ``labels``, without the slices of the training patients left out."""
    params = context.params
    cases = read_cases(context.folder("index"))
    kept = keep_share(cases, params["share"], params["fold"], params["data_seed"])
    slices = read_labels(context.folder("labels"))
    slices[slices["case"].isin(kept)].to_csv(context.out / "slices.csv", index=False)
    training = cases[cases["case"].isin(kept) & (cases[f"role_f{params['fold']}"] == "train")]
    context.count("training_patients", training["patient"].nunique())


def keep_share(cases: pd.DataFrame, share: float, fold: int, data_seed: int) -> set[str]:
    """The cases of a share of a fold's training patients, at least one, and all that do not train.

    Smaller shares lie within larger ones.

    Args:
        cases: of the index.
        share: in (0, 1].
        fold: its number.
        data_seed: of the data set.
    """
    training = cases[cases[f"role_f{fold}"] == "train"]
    patients = sorted(set(training["patient"]))
    order = rng(data_seed, "share", str(fold)).permutation(len(patients))
    chosen = {patients[place] for place in order[: max(1, round(share * len(patients)))]}
    return set(cases["case"]) - set(training.loc[~training["patient"].isin(chosen), "case"])
