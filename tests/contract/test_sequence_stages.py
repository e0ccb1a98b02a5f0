"""The stages `maps`, `faithfulness` and `map_fit` on slices beside their neighbours."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tests.maps_factory import BY_VIEW, MODALITIES, POSITIONS, explain, supervoxels, units
from tests.sequences_factory import ARCHITECTURE, explained, network, windowed

from weakseg import catalogue, nifti
from weakseg.evaluation import explanations
from weakseg.evaluation.faithfulness import CASCADE, baseline, deletion_insertion, randomised
from weakseg.maps import base, fit, optimal
from weakseg.networks import save_weights
from weakseg.randomness import rng
from weakseg.sequences import middle_logits

CASES = {"a": "test", "e": "val", "d": "train"}
PASSING = {"a": [1, 2, 4], "e": []}
VIEW = {"view": "sequence", "min_foreground_mm2": 10, "window": ARCHITECTURE["window"], "seed": 0, "fold": 0}
THRESHOLD = float(np.median(middle_logits(network(), windowed().image, windowed().windows, "cpu")))


@pytest.fixture
def folders(tmp_path):
    """Results of index, preprocess, supervoxels and sequence_classifier; all cases have the same image."""
    made = {role: tmp_path / role for role in ("index", "preprocess", "supervoxels", "classifier")}
    for folder in made.values():
        folder.mkdir()
    columns = {"case": list(CASES), "patient": list(CASES), "grade": "", "source": "phantom"}
    pd.DataFrame({**columns, "role_f0": list(CASES.values())}).to_csv(made["index"] / "cases.csv", index=False)
    (made["preprocess"] / "run.json").write_text(json.dumps({"params": {"channels": MODALITIES}}))
    slices = units()
    for case in CASES:
        for name, values in (("image", slices.image), ("foreground", slices.foreground), ("labels", supervoxels())):
            volume = np.zeros((*values.shape[1:], slices.shape[2]), values.dtype)
            volume[..., POSITIONS] = np.moveaxis(values, 0, -1)
            path = {
                "image": made["preprocess"] / f"images/{case}.nii",
                "foreground": made["preprocess"] / f"foreground/{case}.nii.gz",
                "labels": made["supervoxels"] / f"{case}.nii.gz",
            }[name]
            nifti.write(path, volume.astype(np.uint8) if name == "foreground" else volume, slices.affine)
    rows = [
        {"case": case, "position": position, "role": CASES[case], "logit": float(unit in PASSING[case]) + 0.01 * unit}
        for case in PASSING
        for unit, position in enumerate(POSITIONS)
    ]
    pd.DataFrame(rows).to_csv(made["classifier"] / "predictions.csv", index=False)
    (made["classifier"] / "metrics.json").write_text(json.dumps({"threshold": 0.5}))
    record = {"key": "89abcdef", "params": {**ARCHITECTURE, "seed": 0}}
    (made["classifier"] / "run.json").write_text(json.dumps(record))
    save_weights(made["classifier"] / "weights.safetensors", network())
    yield made
    torch.use_deterministic_algorithms(False)


def methods_of(family):
    methods = BY_VIEW["sequence"]
    return {name: methods[name] for name in methods if catalogue.METHODS[name].family == family}


@pytest.fixture
def run_maps(context, folders):
    def run(family, gate="classifier"):
        params = {**VIEW, "methods": methods_of(family), "gate": gate, "roles": ["test", "val", "shift"]}
        running = context("maps", params, **folders)
        base.run(running)
        return running

    return run


@pytest.mark.parametrize("family", ["cam", "nulls"])
def test_maps_are_volumes_of_slice_maps_behind_the_gate(run_maps, family):
    running = run_maps(family)
    expected = explain(explained(PASSING["a"]), running.params["methods"])
    for name in running.params["methods"]:
        volume, affine = nifti.read(running.out / name / "a.nii.gz")
        np.testing.assert_array_equal(affine, units().affine)
        assert volume.shape == units().shape
        assert np.flatnonzero(volume.any((0, 1))).tolist() == POSITIONS[PASSING["a"]].tolist()
        found = np.moveaxis(volume[..., POSITIONS[PASSING["a"]]], 2, 0)
        if name != "untrained":  # The stage draws another network than the tests.
            np.testing.assert_allclose(found, expected[name][:, 0], atol=1e-4 * np.abs(expected[name]).max())
        assert not nifti.read(running.out / name / "e.nii.gz")[0].any()
    assert running.counts["units_gated"] == 2 + 5
    assert running.truth_opened == {}


def test_without_a_gate_every_slice_is_explained(run_maps):
    running = run_maps("cam", "none")
    # Neighbours' features and each slice once more, of two cases.
    assert running.counts["forwards"] == 2 * (5 + 5)
    assert nifti.read(running.out / "gradcam" / "e.nii.gz")[0].any((0, 1)).sum() == 5


def test_faithfulness_asks_about_a_slice_beside_its_neighbours(run_maps, context, folders):
    made = run_maps("cam")
    maps = made.out.rename(made.out.with_name("finished"))
    (maps / "run.json").write_text(json.dumps({"params": made.params, "upstream": {"classifier": ["89abcdef"]}}))
    params = {**VIEW, "dataset": "brats", "classifier": "resnet_lstm", "gate": "classifier", "data_seed": 0}
    del params["seed"]
    params |= {"slices": 2, "steps": 4, "baselines": ["zero"], "blur_mm": 3, "randomised_cases": 1}
    running = context("faithfulness", params, **folders, maps=maps)
    explanations.run(running)
    values = pd.read_parquet(running.out / "values.parquet")
    chosen = np.sort(rng(0, "faithfulness", "a").choice(PASSING["a"], 2, replace=False))
    drawn = explanations.Drawn(windowed(), chosen)
    tops = explanations._tops(drawn, maps / "layercam" / "a.nii.gz", 4, rng(0, "layercam", "a"))
    expected = [areas_of(drawn, place, tops[place]) for place in range(2)]
    logits = pd.read_csv(folders["classifier"] / "predictions.csv").query("role == 'val'")["logit"]
    found = values[values["method"] == "layercam"].set_index("metric")["value"]
    for metric, areas in zip(("deletion", "insertion"), np.transpose(expected), strict=True):
        assert found[metric] == pytest.approx(areas.mean() / logits.std(ddof=0), rel=1e-3, abs=1e-5)
    alike = values[values["metric"] == "randomised_spearman"]
    assert set(alike["variant"]) == set(CASCADE)
    assert alike.loc[alike["variant"] == "all", "value"].max() < 0.99


def areas_of(drawn, place, tops):
    """Areas of deletion and insertion of one slice, by forwards of whole windows."""
    model, window = network(), drawn.units.windows[drawn.selected[place]]
    own = torch.from_numpy(window == drawn.selected[place])

    def middle(images):
        logits = []
        for image in images:
            shown = torch.from_numpy(drawn.units.image[window])
            shown[own] = image
            logits.append(model(shown)[1:2])
        return torch.cat(logits)

    image, foreground = drawn.image[place : place + 1], drawn.foreground[place : place + 1]
    blank = baseline("zero", image, foreground, (1, 1), rng(0, ""))
    return [area.item() for area in deletion_insertion(middle, image, blank, foreground, tops[None, None])]


def test_random_weights_reach_up_to_the_level():
    one, other = (network(seed).state_dict() for seed in (0, 1))
    changed = {
        level: {name.split(".")[0] for name in one if one[name] is not randomised(one, other, level)[name]}
        for level in CASCADE
    }
    assert changed == {
        "logit": {"head", "linear"},
        "layer4": {"resnet", "lstm", "head", "linear"},
        "all": {"resnet", "lstm", "head", "linear"},
    }
    below = [name for name in one if name.startswith("resnet.layer3")]
    assert all(randomised(one, other, "layer4")[name] is one[name] for name in below)


def test_what_is_learnt_is_learnt_from_slices_that_are_called_lesion_beside_their_neighbours(
    context, folders, monkeypatch
):
    (folders["classifier"] / "metrics.json").write_text(json.dumps({"threshold": THRESHOLD}))
    running = context("map_fit", {**VIEW, "methods": methods_of("optimal")}, **folders)
    given = []

    def spying(examples, methods):
        given.append(examples)
        raise InterruptedError

    monkeypatch.setattr(optimal, "fit", spying)
    with pytest.raises(InterruptedError):
        fit.run(running)
    (examples,) = given
    made, model = windowed(), network()
    logits = middle_logits(model, made.image, made.windows, "cpu")
    assert examples.open("d").selected.tolist() == np.flatnonzero(logits >= THRESHOLD).tolist()
    assert examples.scale == pytest.approx(logits.std(), rel=1e-4)
    assert examples.threshold is None
    # What it is fitted to sees a slice alone, as its own neighbour.
    image = torch.from_numpy(made.image[:1])
    expected = model(image.expand(3, -1, -1, -1))[1:2]
    torch.testing.assert_close(examples.network(image), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        examples.judges["classifier"].margins(image), expected[:, 0] - THRESHOLD, rtol=1e-4, atol=1e-5
    )
