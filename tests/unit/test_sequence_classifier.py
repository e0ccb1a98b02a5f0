"""The sequence classifier: its windows and batches, training that resumes, and predictions."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch
from tests.sequences_factory import LSTM

from weakseg import nifti
from weakseg.classifiers import resnet_lstm
from weakseg.classifiers.resnet_lstm import SequenceImages, WindowBatches, predict_in_windows
from weakseg.data.labels import UNLABELLED
from weakseg.networks import classifier_network, freeze, load_weights
from weakseg.randomness import rng

ROLES = {"a": "train", "b": "train", "c": "val", "d": "test"}
SPACING = {"a": 5.0, "b": 2.5, "c": 5.0, "d": 5.0}
SLICES = {"a": 5, "b": 6, "c": 5, "d": 4}
"""Slices of a case; the first has none of the foreground."""
TRAINING = {
    "epochs": 3,
    "patience": 9,
    "least_steps": 0,
    "batch_size": 6,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "averaging": 0.5,
    "augmentation": True,
}
PARAMS = {
    **{**LSTM, "architecture": "resnet_lstm", "blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 2},
    **{"window": {"slices": 3, "distance_mm": 5.0}, "seed": 0, "fold": 0, "training": TRAINING},
}


@pytest.fixture
def folders(tmp_path):
    """Results of index, preprocess and labels: every second slice shows a bright square, one has no label."""
    made = {role: tmp_path / role for role in ("index", "preprocess", "labels")}
    for folder in made.values():
        folder.mkdir()
    table = pd.DataFrame({"case": list(ROLES), "patient": list(ROLES), "grade": "", "source": "phantom"})
    table.assign(role_f0=list(ROLES.values())).to_csv(made["index"] / "cases.csv", index=False)
    (made["preprocess"] / "run.json").write_text(json.dumps({"params": {"channels": ["brain", "bone"]}}))
    rows = []
    for case, count in SLICES.items():
        affine = np.diag([1.0, 1.0, SPACING[case], 1.0])
        image = rng(0, "image", case).normal(size=(2, 32, 32, count)).astype(np.float32)
        foreground = np.ones((32, 32, count), np.uint8)
        foreground[..., 0], image[..., 0] = 0, 0
        for position in range(1, count):
            image[0, 8:20, 8:20, position] += 3 * (position % 2)
            rows.append({"case": case, "position": position, "label": position % 2})
        nifti.write(made["preprocess"] / f"images/{case}.nii", image, affine)
        nifti.write(made["preprocess"] / f"foreground/{case}.nii.gz", foreground, affine)
    slices = pd.DataFrame(rows)
    slices.loc[(slices["case"] == "a") & (slices["position"] == 2), "label"] = UNLABELLED
    slices.to_csv(made["labels"] / "slices.csv", index=False)
    return made


@pytest.fixture
def slices(folders):
    return pd.read_csv(folders["labels"] / "slices.csv")


@pytest.fixture
def images(folders, slices):
    # Out of order, as a table may come.
    return SequenceImages(folders["preprocess"], slices.iloc[::-1], 3, 5.0)


def positions(images, windows):
    return [[tuple(images.units.loc[place, ["case", "position"]]) for place in window] for window in windows]


def test_windows_stay_in_their_case_and_keep_their_height(images, slices):
    chosen = slices[slices["position"].isin([1, 3])]
    found = dict(zip(zip(chosen["case"], chosen["position"], strict=True), images.windows_of(chosen), strict=True))
    assert positions(images, [found["a", 1], found["a", 3]]) == [
        [("a", 1), ("a", 1), ("a", 2)],
        [("a", 2), ("a", 3), ("a", 4)],
    ]
    # Slices of 2.5 mm, so every second one.
    assert positions(images, [found["b", 3]]) == [[("b", 1), ("b", 3), ("b", 5)]]
    # The last of its case.
    assert positions(images, [found["d", 3]]) == [[("d", 2), ("d", 3), ("d", 3)]]


def test_batches_are_whole_windows_and_as_many_slices_as_without(images, slices):
    rows = slices[slices["case"].isin(["a", "b"]) & (slices["label"] != UNLABELLED)].reset_index(drop=True)
    batches = WindowBatches(images, rows, PARAMS)
    # Eight slices with a label: windows of three of them, two a step.
    assert (len(rows), batches.windows, batches.steps) == (8, 3, 2)
    order = rng(0, "order").permutation(8)
    found = list(batches.batches(order))
    assert [len(batch) for batch in found] == [6, 3]
    together = pd.concat(found)
    expected = images.units.iloc[images.windows_of(rows.iloc[order[:3]]).ravel()]
    pd.testing.assert_frame_equal(together, expected)
    inputs, labels = next(batches(0))
    assert inputs.shape == (6, 2, 32, 32)
    assert labels.shape == (6,)
    again, _ = next(WindowBatches(images, rows, PARAMS)(0))
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, next(batches(1))[0])


def test_a_batch_of_fewer_slices_than_a_window_is_one_window(images, slices):
    rows = slices[slices["case"] == "b"].reset_index(drop=True)
    batches = WindowBatches(images, rows, {**PARAMS, "training": {**TRAINING, "batch_size": 2}})
    assert [len(batch) for batch in batches.batches(np.arange(5))] == [3, 3]


class Draws:
    """A generator that moves, gains and offsets windows, but adds no noise."""

    def random(self, size):
        draws = np.full(size, 0.5)
        draws[:, [0, 7]] = 0.9
        draws[1, 0] = 0.1  # the second window is flipped along X
        draws[:, 6] = 0
        draws[1, [8, 10]] = 1, 0  # gain and offset of its first channel
        return draws


def test_slices_of_a_window_are_augmented_alike(images):
    shown = torch.from_numpy(rng(0, "shown").normal(1, 0.1, size=(6, 2, 32, 32)).astype(np.float32))
    changed = images.augment(shown, Draws())
    torch.testing.assert_close(changed[:3], shown[:3], rtol=0, atol=1e-4)
    expected = shown[3:].flip(2)
    torch.testing.assert_close(changed[3:, 1], expected[:, 1], rtol=0, atol=1e-4)
    torch.testing.assert_close(changed[3:, 0], expected[:, 0] * 1.15 - 0.15, rtol=0, atol=1e-4)


def test_predictions_are_of_the_middle_in_the_order_of_the_rows(images, slices):
    model = freeze(classifier_network(2, PARAMS, 0), "cpu")
    seen = []
    model.resnet.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    rows = slices[slices["case"].isin(["a", "b"])].sample(frac=1, random_state=0)
    logits = predict_in_windows(model, images, rows, "cpu")
    assert sorted(seen) == [4, 5]
    assert logits.dtype == np.float32
    for logit, row, window in zip(logits, rows.itertuples(), images.windows_of(rows), strict=True):
        (alone,) = predict_in_windows(model, images, rows.loc[[row.Index]], "cpu")
        whole = model(torch.from_numpy(images.batch(images.units.iloc[window])))
        assert logit == pytest.approx(alone, abs=1e-5) == pytest.approx(whole[1, 0].item(), abs=1e-5)
    assert np.ptp(logits) > 1e-4


@pytest.fixture
def start(context, folders):
    """Make the context of the stage, as often as it is started."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield lambda **changes: context("sequence_classifier", {**PARAMS, **changes}, **folders)
    torch.use_deterministic_algorithms(deterministic)


def digest(folder):
    names = ("weights.safetensors", "predictions.csv")
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_killed_training_resumes_to_the_same_bytes(start, monkeypatch, tmp_path):
    running = start()
    resnet_lstm.run(running)
    straight = digest(running.out)
    epochs = len(pd.read_csv(running.out / "history.csv"))
    assert epochs == 3
    running.state = tmp_path / "killed"
    calls = []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict_in_windows(*arguments)

    monkeypatch.setattr(resnet_lstm, "predict_in_windows", dies)
    with pytest.raises(KeyboardInterrupt):
        resnet_lstm.run(running)
    (running.out / "weights.safetensors").unlink()
    resnet_lstm.run(running)
    # Of three epochs the last was left, and then the predictions.
    assert len(calls) == 3 + 2
    assert digest(running.out) == straight


def test_what_is_written(start):
    running = start()
    resnet_lstm.run(running)
    predictions = pd.read_csv(running.out / "predictions.csv")
    assert list(predictions.columns) == ["case", "position", "role", "logit"]
    assert dict(predictions.groupby("role").size()) == {"test": 3, "val": 4}
    # Of two training cases with 4 and 5 slices one has no label; four of a validation case.
    assert running.counts == {"training_units": 8, "labels_used": 12}
    metrics = json.loads((running.out / "metrics.json").read_text())
    assert set(metrics["roles"]) == {"val", "test"}
    model = classifier_network(2, PARAMS, 5)
    load_weights(running.out / "weights.safetensors", model)
    images = SequenceImages(running.folder("preprocess"), resnet_lstm.read_slices(running), 3, 5.0)
    logits = predict_in_windows(freeze(model, "cpu"), images, predictions, "cpu")
    np.testing.assert_allclose(predictions["logit"], logits, rtol=1e-5)
    assert running.truth_opened == {}


def test_both_logits_learn_from_slices_with_a_label_alone(start, monkeypatch):
    """The first loss by hand: of the LSTM and the ResNet's own head, without the slice that has no label."""
    settings = {**TRAINING, "epochs": 1, "batch_size": 99, "augmentation": False}
    running = start(training=settings)
    shown = []
    batches = WindowBatches.batches
    monkeypatch.setattr(WindowBatches, "batches", lambda self, order: shown.extend(batches(self, order)) or iter(shown))
    resnet_lstm.run(running)
    (rows,) = shown
    assert UNLABELLED in set(rows["label"])
    images = SequenceImages(running.folder("preprocess"), resnet_lstm.read_slices(running), 3, 5.0)
    model = classifier_network(2, PARAMS, 0).train()
    logits = model(torch.from_numpy(images.batch(rows))).detach().double().numpy()
    labels = rows["label"].to_numpy()
    logits, labels = logits[labels != UNLABELLED], labels[labels != UNLABELLED, None]
    # Of eight training slices with a label five show a lesion.
    weight = 3 / 5
    expected = (labels * weight * np.log1p(np.exp(-logits)) + (1 - labels) * np.log1p(np.exp(logits))).mean()
    assert pd.read_csv(running.out / "history.csv")["loss"][0] == pytest.approx(expected, rel=1e-5)
