"""Heat maps of every labelled slice that the study's classifiers are trained, validated or tested on."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from weakseg import catalogue, nifti
from weakseg.classifiers.resnet import read_slices
from weakseg.data.labels import UNLABELLED
from weakseg.data.views import slice_units
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context
from weakseg.maps.base import Explain, Explained, Methods, read_networks
from weakseg.networks import reproducible
from weakseg.studies.sneak_attack.masks import ROLES


def run(context: Context) -> None:
    """Write ``<method>/<case>.nii.gz``, (X, Y, Z) on the case's grid in [0, 1].

    No gate: a slice without a map could not be filtered. Each slice is scaled by itself, as the paper looks at images.
    """
    params, preprocessed = context.params, context.folder("preprocess")
    reproducible(context.threads, context.device)
    trained, untrained = read_networks(context)
    channels = context.record("preprocess")["params"]["channels"]
    slices = read_slices(context)
    slices = slices[slices["role"].isin(ROLES) & (slices["label"] != UNLABELLED)]
    families: dict[str, Methods] = {}
    for name, method in params["methods"].items():
        families.setdefault(catalogue.METHODS[name].family, {})[name] = method
    for case, rows in slices.groupby("case"):
        units = slice_units(preprocessed, str(case), params["min_foreground_mm2"])
        selected = np.flatnonzero(np.isin(units.positions, rows["position"]))
        explained = Explained(units, selected, trained, untrained, channels, params["seed"], context.device)
        for family, methods in families.items():
            explain: Explain = import_module(f"weakseg.maps.{family}").explain
            for name, maps in explain(explained, methods).items():
                volume = np.zeros(units.foreground.shape, dtype=np.float32)
                for unit, raw in zip(selected, maps[:, 0], strict=True):
                    volume[unit] = normalise(raw, units.foreground[unit])
                nifti.write_map(context.out / name / f"{case}.nii.gz", units.stack(volume), units.affine)
        context.count("forwards", explained.forwards)
