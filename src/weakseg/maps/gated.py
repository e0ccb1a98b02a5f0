"""Maps of the units that the gate lets through, whatever makes them; no network is needed here."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.index import read_cases
from weakseg.data.views import Units, read_units
from weakseg.execution import Context

Maps = dict[str, NDArray]


def write_maps(context: Context, explain_units: Callable[[Units, NDArray], Maps]) -> None:
    """Write the maps of every case that has one of the ``roles`` in the fold, behind the gate.

    Args:
        context: of a stage with the parameters of a family of maps.
        explain_units: raw maps by method, (M, 1, *spatial), of the (M,) units of a case that are named.
    """
    params, preprocessed = context.params, context.folder("preprocess")
    cases = read_cases(context.folder("index"))
    # Shift cases are the same in every fold: the first fold's classifier explains them.
    roles = [role for role in params["roles"] if role != "shift" or params["fold"] == 0]
    gate = Gate(context) if params["gate"] == "classifier" else None
    # Cases share one process: networks are read once, and each case fills a batch by itself.
    for case in cases[cases[f"role_f{params['fold']}"].isin(roles)]["case"]:
        units = read_units(preprocessed, case, params)
        selected = gate.passing(units) if gate else np.arange(len(units.positions))
        maps = explain_units(units, selected) if len(selected) else {}
        context.count("units", len(units.positions))
        context.count("units_gated", len(units.positions) - len(selected))
        for name in params["methods"]:
            volume = np.zeros((len(units.positions), *units.image.shape[2:]), dtype=np.float32)
            if len(selected):
                volume[selected] = maps[name][:, 0]
            nifti.write_map(context.out / name / f"{case}.nii.gz", units.stack(volume), units.affine)


class Gate:
    """Lets through the units that the classifier calls lesion, by Youden's J on validation labels."""

    def __init__(self, context: Context) -> None:
        folder = context.folder("classifier")
        predictions = pd.read_csv(folder / "predictions.csv", dtype={"case": str})
        threshold = json.loads((folder / "metrics.json").read_text())["threshold"]
        called = predictions[predictions["logit"] >= threshold]
        self.called = {case: set(group["position"]) for case, group in called.groupby("case")}

    def passing(self, units: Units) -> NDArray:
        """Indices of the units that pass."""
        called = self.called.get(units.case, set())
        return np.flatnonzero([position in called for position in units.positions])
