"""The stage that trains a network of the study on labelled cases, and lets it segment regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from weakseg import nifti
from weakseg.data.grid import read_foreground
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.evaluation.protocol import draw_masks
from weakseg.execution import Context, require
from weakseg.networks import freeze, load_weights, reproducible, save_weights
from weakseg.references.cmff import build, fit_network, probabilities_of
from weakseg.references.cmft import blank_generators
from weakseg.references.patches import Volume, order_of, read_volume
from weakseg.references.regions import REGIONS, classes_of
from weakseg.studies.cross_modality.transition import GENERATORS


def run(context: Context) -> None:
    """Write ``classes/<case>.nii.gz``, the predicted classes (X, Y, Z) uint8 on the case's grid, before anything is
    done to them; ``cases.csv``, whether each is of the test set or was learnt from; the weights, and ``history.csv``.
    """
    params, preprocessed = context.params, context.folder("preprocess")
    reproducible(context.threads, context.device)
    cases = read_cases(context.folder("index")).set_index("case").sort_index()
    labelled, tested = labelled_cases(cases, params), cases.index[cases[f"role_f{params['fold']}"] == "test"]
    order = order_of(context.record("preprocess")["params"]["channels"])
    volumes = [read_volume(preprocessed, order, case) for case in labelled]
    targets = [_read_target(context, case, volume) for case, volume in zip(labelled, volumes, strict=True)]
    names = ("network", "guidance", "initial", "width", "seed")
    network = build(**{name: params[name] for name in names}, generators=_generators(context))
    history = fit_network(network, volumes, targets, params, params["seed"], context.state, context.device)
    save_weights(context.out / "weights.safetensors", network)
    pd.DataFrame(history).to_csv(context.out / "history.csv", index=False)
    freeze(network, context.device)
    segmented = [("training", case) for case in labelled[: params["scored"]]] + [("test", case) for case in tested]
    for _, case in segmented:
        volume, affine = read_volume(preprocessed, order, case), read_foreground(preprocessed, case)[1]
        classes = probabilities_of(network, volume, params["patch"], context.device).argmax(axis=0)
        nifti.write(context.out / "classes" / f"{case}.nii.gz", classes.astype(np.uint8), affine)
    pd.DataFrame(segmented, columns=["part", "case"]).to_csv(context.out / "cases.csv", index=False)


def labelled_cases(cases: pd.DataFrame, params: dict[str, Any]) -> list[str]:
    """Cases of the training patients whose masks may be seen: all, or those of a draw of so many patients.

    Each seed has a draw of its own, the same for all rows, and within that of any larger number.

    Args:
        cases: of the index, by case.
        params: ``labelled`` (a number of patients, or None for all), ``fold``, ``seed`` and ``data_seed``.

    Raises:
        WeaksegError: there are not so many training patients.
    """
    training = cases[cases[f"role_f{params['fold']}"] == "train"]
    patients, labelled = training["patient"].nunique(), params["labelled"]
    require(
        labelled is None or labelled <= patients,
        f"studies.cross_modality.labelled: {labelled}, but the fold has {patients} training patients; name fewer",
    )
    drawn = draw_masks(training["patient"], labelled or patients, params["seed"], params["data_seed"])
    return [case for patient in drawn for case in training.index[training["patient"] == patient]]


def _read_target(context: Context, case: str, volume: Volume) -> NDArray:
    """The classes (*box) of a labelled case; its mask is opened, and counted."""
    truth = context.folder("truth")
    masks = {region: open_lesion(context, truth, case, "references", region, "grid")[0] for region in REGIONS}
    return classes_of(masks)[volume.box]


def _generators(context: Context) -> list[nn.Module]:
    """The generators that the network is to begin with, or none."""
    if "transition" not in context.upstream:
        return []
    generators = blank_generators(context.params["width"])
    load_weights(context.folder("transition") / GENERATORS, generators)
    return list(generators)
