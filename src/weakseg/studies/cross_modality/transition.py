"""The stage that trains a CycleGAN on the images of a fold's training cases. It opens no mask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg import nifti
from weakseg.data.grid import read_foreground
from weakseg.data.index import read_cases
from weakseg.execution import Context
from weakseg.networks import freeze, reproducible, save_weights
from weakseg.references.cmft import Cycle, fit_cycle
from weakseg.references.patches import MODALITIES, order_of, predict, read_volume

GENERATORS = "generators.safetensors"


def run(context: Context) -> None:
    """Write ``generators.safetensors``, ``history.csv``, and of a few test cases ``translation.csv``, how good each
    modality is when it is made from others, and ``translated/<case>.nii.gz``, those made, in the order of
    :data:`MODALITIES`."""
    params, preprocessed = context.params, context.folder("preprocess")
    reproducible(context.threads, context.device)
    roles = read_cases(context.folder("index")).set_index("case")[f"role_f{params['fold']}"].sort_index()
    order = order_of(context.record("preprocess")["params"]["channels"])
    training = [read_volume(preprocessed, order, case) for case in roles.index[roles == "train"]]
    cycle, history = fit_cycle(training, params, params["seed"], context.state, context.device)
    save_weights(context.out / GENERATORS, cycle.generators)
    pd.DataFrame(history).to_csv(context.out / "history.csv", index=False)
    freeze(cycle.generators, context.device)
    rows: list[dict[str, Any]] = []
    for case in roles.index[roles == "test"][: params["translated"]]:
        translated, found = _translate(context, cycle, preprocessed, order, case)
        nifti.write(context.out / "translated" / f"{case}.nii.gz", translated, read_foreground(preprocessed, case)[1])
        rows += found
    pd.DataFrame(rows).to_csv(context.out / "translation.csv", index=False)


def _translate(
    context: Context, cycle: Cycle, preprocessed: Path, order: list[int], case: str
) -> tuple[NDArray, Iterator[dict[str, Any]]]:
    """Every modality (4, X, Y, Z) of a case as it is made from a pair, 0 outside the foreground, and how good each is.

    Measured in the foreground, in units of the z-scored images: the mean absolute error of what is made of a modality,
    of the source in the same place of its pair, left as it is, and of the way there and back; and Pearson's correlation
    of the first two.
    """
    volume = read_volume(preprocessed, order, case)
    foreground, _ = read_foreground(preprocessed, case)

    def there(windows: Tensor) -> Tensor:
        made: list[Tensor] = [windows, windows]
        for pair, image in enumerate(windows.split(2, dim=1)):
            made[cycle.targets[pair]] = cycle.translate(pair, image)
        return torch.cat(made, dim=1)

    made, back = (
        np.where(foreground, predict(network, volume, context.params["patch"], 4, context.device), 0)
        for network in (there, lambda windows: there(there(windows)))
    )
    image = np.zeros_like(made)
    image[:, *volume.box] = np.stack(volume.image)
    real, fake, again = (channels[:, foreground].astype(np.float64) for channels in (image, made, back))
    # Both transitions are their own inverse: a pair is made from its target.
    sources = [2 * cycle.targets[channel // 2] + channel % 2 for channel in range(len(MODALITIES))]
    rows = (
        {
            "case": case,
            "modality": name,
            "made_from": MODALITIES[source],
            "mae": float(np.abs(fake[channel] - real[channel]).mean()),
            "mae_source": float(np.abs(real[source] - real[channel]).mean()),
            "mae_cycle": float(np.abs(again[channel] - real[channel]).mean()),
            "correlation": float(np.corrcoef(fake[channel], real[channel])[0, 1]),
            "correlation_source": float(np.corrcoef(real[source], real[channel])[0, 1]),
        }
        for channel, (name, source) in enumerate(zip(MODALITIES, sources, strict=True))
    )
    return made, rows
