"""The contract of supervised references, and the stage that trains a family of them on the masks of a fold.

A family is a module of this package with one function, ``fit``. It is given the images and masks that one method may
see, and returns a network that segments. The masks of each method are opened for it alone and written down beside its
probabilities, so that its budget is what was opened; a U-Net of one mask is given one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from weakseg import catalogue, nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.evaluation.reading import LEFT_OUT
from weakseg.execution import Context, require, write_json
from weakseg.networks import reproducible, save_weights
from weakseg.references.examples import Example, read_example
from weakseg.references.masks import OPENED, Allowed, allowed


@dataclass(frozen=True)
class Task:
    """What a family is given to train one method.

    Attributes:
        name: of the method.
        params: of the method.
        channels: C of the images.
        train: examples to learn from.
        val: examples that may choose between checkpoints; none if the last one is to be kept.
        seed: repetition.
        state: folder that survives a kill.
        device: where the network is to be trained.
    """

    name: str
    params: dict[str, Any]
    channels: int
    train: list[Example]
    val: list[Example]
    seed: int
    state: Path
    device: str


@dataclass(frozen=True)
class Fitted:
    """What a family returns.

    Attributes:
        network: frozen.
        segment: an image (C, X, Y, Z) to the probability of the lesion, (X, Y, Z) float32 in [0, 1].
        history: a record for each checkpoint.
    """

    network: nn.Module
    segment: Callable[[NDArray], NDArray]
    history: list[dict[str, float]]


class Fit(Protocol):
    """``fit(task)``: train one method."""

    def __call__(self, task: Task) -> Fitted: ...


def run(context: Context) -> None:
    """Write ``<method>/<case>.nii.gz``, the probability of the lesion (X, Y, Z) on the case's grid.

    Of the fold's cases that have one of the ``roles``. Beside it ``weights/<method>.safetensors``,
    ``history/<method>.csv``, ``opened.json`` and ``left_out.csv``: the methods that the data set is too small for.
    """
    params = context.params
    reproducible(context.threads, context.device)
    cases = read_cases(context.folder("index")).set_index("case", drop=False)
    labels = read_labels(context.folder("labels"))
    masks: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for name, method in params["methods"].items():
        may = allowed(method, cases, labels, params["fold"], params["draw"], params["data_seed"])
        if isinstance(may, str):
            left_out[name] = may
            continue
        masks[name] = _train(context, name, method, may, segmented_cases(cases, params))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    require(bool(masks), f"references: {params['dataset']} is too small for all of them ({reasons}); name others")
    write_json(context.out / OPENED, masks)
    rows = [(params["dataset"], name, reason) for name, reason in left_out.items()]
    pd.DataFrame(rows, columns=LEFT_OUT).to_csv(context.out / "left_out.csv", index=False)


def segmented_cases(cases: pd.DataFrame, params: dict[str, Any]) -> list[str]:
    """The cases that are segmented in a fold; shift cases are the same in every fold, so in the first alone."""
    roles = [role for role in params["roles"] if role != "shift" or params["fold"] == 0]
    return list(cases.index[cases[f"role_f{params['fold']}"].isin(roles)])


def _train(context: Context, name: str, method: dict[str, Any], may: Allowed, segmented: Iterable[str]) -> list[str]:
    """Train a method and let it segment; the cases whose masks were opened for it."""
    params, preprocessed = context.params, context.folder("preprocess")
    # A log of its own, so that what is opened for one method is no other's.
    alone = replace(context, truth_opened={})
    train, val = (
        [read_example(alone, case, method.get("regions", [params["region"]])) for case in of_role]
        for of_role in (may.train, may.val)
    )
    family = import_module(f"weakseg.references.{catalogue.REFERENCES[name].family}")
    channels = len(context.record("preprocess")["params"]["channels"])
    fit: Fit = family.fit
    fitted = fit(Task(name, method, channels, train, val, params["seed"], context.state / name, context.device))
    for case in segmented:
        image = nifti.open_channels(image_file(preprocessed, case))
        foreground, affine = read_foreground(preprocessed, case)
        probability = np.where(foreground, fitted.segment(image), 0)
        nifti.write_map(context.out / name / f"{case}.nii.gz", probability, affine)
    (context.out / "weights").mkdir(exist_ok=True)
    save_weights(context.out / "weights" / f"{name}.safetensors", fitted.network)
    (context.out / "history").mkdir(exist_ok=True)
    pd.DataFrame(fitted.history).to_csv(context.out / "history" / f"{name}.csv", index=False)
    opened = alone.truth_opened.get("references", set())
    context.truth_opened.setdefault("references", set()).update(opened)
    return sorted(opened)
