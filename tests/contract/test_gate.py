"""The gate, through the whole stage `maps`."""

from __future__ import annotations

import itertools
import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tests.maps_factory import (
    ARCHITECTURE,
    DEFAULTS,
    MODALITIES,
    POSITIONS,
    explain_of,
    explained,
    network,
    supervoxels,
    units,
)

from weakseg import catalogue, nifti
from weakseg.counterfactual.networks import Generator
from weakseg.counterfactual.variants import variant_of
from weakseg.maps import base, counterfactual, optimal
from weakseg.networks import freeze, resnet, save_weights

CASES = {"a": "test", "b": "test", "c": "shift", "d": "train", "e": "val"}
LOGITS = {"a": [-1, 2, 0.5, 3, -2], "b": [-1, -1, -1, -1, -1], "c": [4, 4, 4, 4, 4], "e": [-3, 1, 1, 0, 0]}
PASSING = {"a": [1, 2, 3], "b": [], "c": [0, 1, 2, 3, 4], "e": [1, 2]}
"""At the threshold 0.5, which one logit equals."""


@pytest.fixture
def upstream(tmp_path):
    """Results of index, preprocess, supervoxels, classifier and map_fit, made by hand."""
    folders = {role: tmp_path / role for role in ("index", "preprocess", "supervoxels", "classifier", "fitted")}
    for folder in folders.values():
        folder.mkdir()
    columns = {"case": list(CASES), "patient": list(CASES), "grade": "HGG", "source": "phantom"}
    pd.DataFrame({**columns, "role_f0": list(CASES.values())}).to_csv(folders["index"] / "cases.csv", index=False)
    (folders["preprocess"] / "run.json").write_text(json.dumps({"params": {"channels": MODALITIES}}))
    made = units()
    for case in CASES:
        image, foreground = np.zeros((4, *made.shape), np.float32), np.zeros(made.shape, np.uint8)
        image[..., POSITIONS] = np.moveaxis(made.image, 0, 3)
        foreground[..., POSITIONS] = np.moveaxis(made.foreground, 0, 2)
        nifti.write(folders["preprocess"] / f"images/{case}.nii", image, made.affine)
        nifti.write(folders["preprocess"] / f"foreground/{case}.nii.gz", foreground, made.affine)
        labels = np.zeros(made.shape, np.int32)
        labels[..., POSITIONS] = np.moveaxis(supervoxels(), 0, 2)
        nifti.write(folders["supervoxels"] / f"{case}.nii.gz", labels, made.affine)
    rows = [
        {"case": case, "position": position, "role": CASES[case], "label": 0, "logit": logit}
        for case, logits in LOGITS.items()
        for position, logit in zip(POSITIONS, logits, strict=True)
    ]
    pd.DataFrame(rows).to_csv(folders["classifier"] / "predictions.csv", index=False)
    (folders["classifier"] / "metrics.json").write_text(json.dumps({"threshold": 0.5, "roles": {}}))
    (folders["classifier"] / "run.json").write_text(json.dumps({"params": ARCHITECTURE}))
    save_weights(folders["classifier"] / "weights.safetensors", network())
    return folders


def learnt_by(family):
    """Weights that a family might have learnt."""
    if family == "optimal":
        return optimal.FieldNetwork(4, DEFAULTS["optimal_perturbation"]["width"], 0, 2)
    names = [
        name
        for name, method in catalogue.METHODS.items()
        if method.family == family and name in DEFAULTS and not method.fitted_as
    ]
    generators = {name: Generator(4, DEFAULTS[name]["width"], variant_of(DEFAULTS[name]), 0) for name in names}
    for generator in generators.values():
        # Both directions in every slice: one method reads one of them alone.
        torch.nn.init.normal_(generator.decoder.last.weight, generator=torch.Generator().manual_seed(0))
    return torch.nn.ModuleDict(generators)


@pytest.fixture
def run_maps(context, upstream):
    def run(family, gate="classifier"):
        methods = {name: DEFAULTS[name] for name in DEFAULTS if catalogue.METHODS[name].family == family}
        params = {
            "methods": methods,
            "gate": gate,
            "seed": 0,
            "fold": 0,
            "roles": ["test", "val", "shift"],
            "view": "slice",
            "min_foreground_mm2": 10,
        }
        read = dict(upstream)
        if any(catalogue.METHODS[name].fits for name in methods):
            save_weights(read["fitted"] / "weights.safetensors", learnt_by(family))
        else:
            del read["fitted"]
        running = context("maps", params, **read)
        deterministic = torch.are_deterministic_algorithms_enabled()
        base.run(running)
        torch.use_deterministic_algorithms(deterministic)
        return running

    return run


def nonzero_units(folder, name, case):
    volume, _ = nifti.read(folder / name / f"{case}.nii.gz")
    assert volume.shape == units().shape
    filled = np.flatnonzero(volume.any(axis=(0, 1)))
    assert np.isin(filled, POSITIONS).all()
    return list(np.searchsorted(POSITIONS, filled))


METHODS = [method for name, method in catalogue.METHODS.items() if name in DEFAULTS]
FAMILIES = sorted({method.family for method in METHODS if not method.needs_supervoxels})


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_do_not_pass_get_zero_maps(run_maps, family):
    running = run_maps(family)
    for name, (case, passing) in itertools.product(running.params["methods"], PASSING.items()):
        assert nonzero_units(running.out, name, case) == passing, (name, case)
    assert running.counts["units"] == 20
    assert running.counts["units_gated"] == 10
    assert running.truth_opened == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_gate_every_unit_is_explained(run_maps, family):
    running = run_maps(family, "none")
    for name, case in itertools.product(running.params["methods"], PASSING):
        assert nonzero_units(running.out, name, case) == [0, 1, 2, 3, 4]
    assert running.counts["units_gated"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_do_not_pass_cost_no_forwards(run_maps, monkeypatch, family):
    seen = []
    for module in (base, optimal, counterfactual):
        monkeypatch.setattr(module, "freeze", lambda model, device: counted(freeze(model, device), seen))
    running = run_maps(family)
    gated = running.counts["forwards"]
    passed = sum(seen)
    seen.clear()
    ungated = run_maps(family, "none").counts["forwards"]
    assert gated == passed
    assert ungated == sum(seen)
    path = running.upstream["fitted"][0] / "weights.safetensors" if "fitted" in running.upstream else None
    fitted = load_file(path) if path else None
    alone = [forwards_alone(family, case, unit, fitted) for case, units in PASSING.items() for unit in units]
    assert gated == sum(alone)


def forwards_alone(family, case, unit, fitted):
    """What it costs to explain one unit."""
    methods = {name: DEFAULTS[name] for name in DEFAULTS if catalogue.METHODS[name].family == family}
    task = explained((unit,), units=units(case), fitted=fitted)
    import_module(f"weakseg.maps.{family}").explain(task, methods)
    return task.forwards


def counted(model, seen):
    model.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    return model


def test_tested_and_validation_cases_are_mapped(run_maps):
    running = run_maps("cam")
    for name in running.params["methods"]:
        assert sorted(path.name for path in (running.out / name).iterdir()) == [f"{case}.nii.gz" for case in "abce"]


def test_maps_are_those_of_the_trained_network(run_maps):
    running = run_maps("cam")
    expected = explain_of("gradcam")(explained(PASSING["a"]))[:, 0]
    volume, affine = nifti.read(running.out / "gradcam/a.nii.gz")
    np.testing.assert_allclose(
        np.moveaxis(volume[..., POSITIONS[PASSING["a"]]], 2, 0), expected, atol=1e-4 * expected.max()
    )
    np.testing.assert_array_equal(affine, units().affine)


def test_untrained_null_is_another_network(run_maps):
    """Not the initial weights of the classifier, which a short training hardly moves."""
    running = run_maps("nulls", "none")
    start = explain_of("untrained")(explained(untrained=freeze(resnet(4, ARCHITECTURE, 0), "cpu")))[:, 0]
    volume, _ = nifti.read(running.out / "untrained/a.nii.gz")
    have = np.moveaxis(volume[..., POSITIONS], 2, 0)
    assert np.abs(have - start).max() > 0.1 * start.max()
