"""The stage `map_fit`, on a classifier that calls some slices lesion and others not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tests.maps_factory import ARCHITECTURE, DEFAULTS, MODALITIES, POSITIONS, explained, network, supervoxels, units

from weakseg import nifti
from weakseg.counterfactual.networks import Generator
from weakseg.counterfactual.variants import variant_of
from weakseg.data.views import read_units
from weakseg.errors import WeaksegError
from weakseg.evaluation import explanations
from weakseg.feeding import laid_out
from weakseg.maps import counterfactual, fit, optimal
from weakseg.networks import load_weights, save_weights
from weakseg.randomness import rng

ROLES = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "shift"}


def scan(case):
    """Five slices of noise whose strength rises, so that the classifier tells them apart."""
    made = units(case)
    strength = np.linspace(0.2, 3, 5, dtype=np.float32)[:, None, None, None]
    noise = rng(0, "scan", case).normal(size=made.image.shape).astype(np.float32)
    return replace(made, image=noise * strength * made.foreground[:, None])


def logits_of(case):
    with torch.inference_mode():
        return network()(torch.from_numpy(scan(case).image))[:, 0].numpy()


THRESHOLD = float(np.median(np.concatenate([logits_of(case) for case in ("a", "b", "c")])))


@pytest.fixture
def running(context, tmp_path):
    folders = {role: tmp_path / role for role in ("index", "preprocess", "supervoxels", "classifier")}
    for folder in folders.values():
        folder.mkdir()
    table = pd.DataFrame({"case": list(ROLES), "patient": list(ROLES), "grade": "", "source": "phantom"})
    table.assign(role_f0=list(ROLES.values())).to_csv(folders["index"] / "cases.csv", index=False)
    (folders["preprocess"] / "run.json").write_text(json.dumps({"params": {"channels": MODALITIES}}))
    for case in ROLES:
        made = scan(case)
        image, foreground, labels = (np.zeros((*lead, *made.shape), np.float32) for lead in ((4,), (), ()))
        image[..., POSITIONS] = np.moveaxis(made.image, 0, 3)
        foreground[..., POSITIONS] = np.moveaxis(made.foreground, 0, 2)
        labels[..., POSITIONS] = np.moveaxis(supervoxels(), 0, 2)
        nifti.write(folders["preprocess"] / f"images/{case}.nii", image, made.affine)
        nifti.write(folders["preprocess"] / f"foreground/{case}.nii.gz", foreground.astype(np.uint8), made.affine)
        nifti.write(folders["supervoxels"] / f"{case}.nii.gz", labels.astype(np.int32), made.affine)
    (folders["classifier"] / "metrics.json").write_text(json.dumps({"threshold": THRESHOLD}))
    (folders["classifier"] / "run.json").write_text(json.dumps({"params": ARCHITECTURE}))
    save_weights(folders["classifier"] / "weights.safetensors", network())
    method = {**DEFAULTS["optimal_perturbation"], "width": 4}
    method["training"] = {**method["training"], "epochs": 2}
    params = {
        "methods": {"optimal_perturbation": method},
        "seed": 0,
        "fold": 0,
        "view": "slice",
        "min_foreground_mm2": 10,
    }
    yield context("map_fit", params, **folders)
    torch.use_deterministic_algorithms(False)


def test_weights_and_what_they_reached_are_written(running):
    fit.run(running)
    learnt = optimal.FieldNetwork(4, 4, 0, 2)
    before = {name: tensor.clone() for name, tensor in learnt.state_dict().items()}
    load_weights(running.out / "weights.safetensors", learnt)
    assert any(not torch.equal(before[name], tensor) for name, tensor in learnt.state_dict().items())
    history = pd.read_csv(running.out / "history.csv")
    assert list(history["epoch"]) == [0, 1]
    metrics = json.loads((running.out / "metrics.json").read_text())
    params = running.params["methods"]["optimal_perturbation"]
    total = metrics["drop"] - params["area"] * metrics["area"] - params["smoothness"] * metrics["smoothness"]
    assert history["score"].max() == pytest.approx(total)
    assert 0 < metrics["area"] < 1
    assert running.truth_opened == {}


def test_slices_that_the_classifier_calls_lesion_of_training_and_validation_cases_alone(running, monkeypatch):
    opened, seen = set(), {}
    plain = optimal.target_of

    def opening(folder, case, view):
        opened.add(case)
        return read_units(folder, case, view)

    def spying(task, chosen, params):
        seen.setdefault(task.units.case, set()).update(chosen)
        return plain(task, chosen, params)

    monkeypatch.setattr(fit, "read_units", opening)
    monkeypatch.setattr(optimal, "target_of", spying)
    fit.run(running)
    assert opened == {"a", "b", "c"}
    expected = {case: set(np.flatnonzero(logits_of(case) >= THRESHOLD)) for case in "abc"}
    assert seen == expected
    assert 0 < sum(map(len, expected.values())) < 15
    assert running.counts["training_units"] == len(expected["a"]) + len(expected["b"])


def test_drops_are_in_deviations_of_validation_logits(running, monkeypatch):
    found = []
    plain = optimal.fit
    monkeypatch.setattr(optimal, "fit", lambda examples, methods: found.append(examples) or plain(examples, methods))
    fit.run(running)
    assert found[0].scale == pytest.approx(logits_of("c").std(), rel=1e-5)
    assert found[0].threshold is None


def test_a_classifier_that_sees_nothing_is_an_error(running):
    (running.folder("classifier") / "metrics.json").write_text(json.dumps({"threshold": 1e6}))
    with pytest.raises(WeaksegError, match="calls no slice of the train cases lesion"):
        fit.run(running)


def test_what_is_fitted_is_not_asked_about_random_weights():
    """It would have to be fitted to each of them first."""
    drawn = explanations.Drawn(units(), np.arange(5))
    families = {"folder": {"optimal_perturbation": DEFAULTS["optimal_perturbation"]}}
    assert not list(explanations._randomisation(None, network(), {"all": network(1)}, network(1), families, drawn))


JUDGED = {name: DEFAULTS[name] for name in ("coin", "singla")}


@pytest.fixture
def judged(running, tmp_path):
    """The stage for methods that another classifier judges."""
    folder = tmp_path / "selector"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"threshold": 0.0}))
    (folder / "run.json").write_text(json.dumps({"params": {**ARCHITECTURE, "seed": 1}}))
    save_weights(folder / "weights.safetensors", network(1))
    running.upstream["selector"] = [folder]
    del running.upstream["supervoxels"]
    running.params["methods"] = JUDGED
    return running


def generators():
    return torch.nn.ModuleDict(
        {name: Generator(4, JUDGED[name]["width"], variant_of(JUDGED[name]), 0) for name in JUDGED}
    )


def test_each_generator_is_written_with_what_it_reached(judged):
    fit.run(judged)
    learnt, start = generators(), generators().state_dict()
    load_weights(judged.out / "weights.safetensors", learnt)
    history = pd.read_csv(judged.out / "history.csv")
    assert list(history["method"]) == ["coin", "singla"]
    metrics = json.loads((judged.out / "metrics.json").read_text())
    reports = ("positive", "negative", "flips_classifier", "flips_selector", "step")
    assert set(metrics) == {f"{name}.{report}" for name in JUDGED for report in reports}
    for name in JUDGED:
        weight = f"{name}.encoder.stem.weight"
        assert not torch.equal(learnt.state_dict()[weight], start[weight])
        of_method = history[history["method"] == name].iloc[-1]
        assert metrics[f"{name}.positive"] == pytest.approx(of_method["positive"])
        assert metrics[f"{name}.flips_selector"] == pytest.approx(of_method["flips"])
        assert torch.equal(learnt[name].low, learnt["coin"].low)
    inside = scan("a").foreground
    values = [np.concatenate([scan(case).image[:, channel][inside] for case in "ab"]) for channel in range(4)]
    np.testing.assert_allclose(learnt["coin"].high, [np.percentile(of, 99.5) for of in values], rtol=1e-5)
    assert judged.truth_opened == {}


def test_signed_reading_keeps_what_was_brighter_in_one_channel():
    learnt = generators()
    for generator in learnt.values():
        torch.nn.init.normal_(generator.decoder.last.weight, generator=torch.Generator().manual_seed(0))
    task = explained(fitted=learnt.state_dict())
    signed = DEFAULTS["coin_signed"]
    assert (signed["channel"], signed["sign"]) == ("flair", 1)
    methods = {"coin": DEFAULTS["coin"], "coin_signed": signed}
    maps = counterfactual.explain(task, methods)
    images, foreground = torch.from_numpy(task.units.image), torch.from_numpy(task.units.foreground[:, None])
    with torch.no_grad():
        # Laid out as the one that is read: sums in another order differ by more than the tolerance.
        change = laid_out(learnt["coin"].eval(), "cpu")(images, torch.zeros(5, dtype=torch.int64), foreground).numpy()
    np.testing.assert_allclose(maps["coin"], np.abs(change).mean(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(maps["coin_signed"], np.maximum(-change[:, 3:], 0), atol=1e-6)
    assert maps["coin_signed"].max() > 0
    darker = counterfactual.explain(task, {"coin_signed": {**signed, "sign": -1}})["coin_signed"]
    np.testing.assert_allclose(maps["coin_signed"] - darker, -change[:, 3:], atol=1e-6)
    # One generator made all of it, once a call.
    assert task.forwards == 2 * len(images)


def test_slices_of_both_kinds_of_all_training_and_validation_cases(judged, monkeypatch):
    seen = []
    plain = counterfactual.train
    monkeypatch.setattr(counterfactual, "train", lambda *given: seen.append(given[1:3]) or plain(*given))
    judged.params["methods"] = {"coin": {**JUDGED["coin"], "training": {**JUDGED["coin"]["training"], "slices": 4}}}
    fit.run(judged)
    (pools,) = seen
    for slices, cases in zip(pools, ("ab", "c"), strict=True):
        assert len(slices.images) == 4 * len(cases)
        assert slices.organ is None
        logits = np.concatenate([logits_of(case) for case in cases])
        assert 0 < slices.called.sum() <= (logits >= THRESHOLD).sum()
        probability = 1 / (1 + np.exp(THRESHOLD - logits))
        assert all(np.abs(probability - one).min() < 1e-5 for one in slices.probability.numpy())


def test_organ_is_cut_as_the_units_are(judged, monkeypatch, tmp_path):
    folder, made = tmp_path / "anatomy", scan("a")
    organ = np.zeros(made.shape, np.uint8)
    organ[5:12, 8:15] = 1
    for case in "abc":
        nifti.write(folder / f"{case}.nii.gz", organ, made.affine)
    judged.upstream["anatomy"] = [folder]
    judged.params["methods"] = {"coin": {**JUDGED["coin"], "carl": True}}
    seen = []
    plain = counterfactual.train
    monkeypatch.setattr(counterfactual, "train", lambda *given: seen.append(given[1]) or plain(*given))
    fit.run(judged)
    assert seen[0].organ.shape == (10, 1, *organ.shape[:2])
    np.testing.assert_array_equal(seen[0].organ[3, 0], organ[..., 0] > 0)
