"""The volume classifier's labels, images and batches, and the negated network."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tests.maps_factory import network, state_of, units

from weakseg import nifti
from weakseg.classifiers.learning import TrainingBatches, predict
from weakseg.classifiers.resnet3d import VolumeImages, plain_statistics, read_graded
from weakseg.maps.base import cases_called_low
from weakseg.networks import classifier_network, freeze, negated
from weakseg.randomness import rng

SIZES = {"a": 5, "b": 6, "c": 8, "d": 8, "e": 7}
PARAMS = {"architecture": "resnet3d", "blocks": [1, 1, 1, 1], "width": 2, "stem_stride": 1}
LEAST_MM = (12.0, 12.0, 12.0)


@pytest.fixture
def images(tmp_path):
    """Cubes of noise of several sizes in 2 mm voxels; a least size of 6 voxels."""
    for case, size in SIZES.items():
        foreground = np.zeros((12, 11, 10), np.uint8)
        foreground[1 : 1 + size, 2 : 2 + size, 1 : 1 + size] = 1
        image = rng(0, "image", case).normal(size=(2, *foreground.shape)).astype(np.float32) * foreground
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        nifti.write(tmp_path / f"images/{case}.nii", image, affine)
        nifti.write(tmp_path / f"foreground/{case}.nii.gz", foreground, affine)
    return VolumeImages(tmp_path, LEAST_MM)


def rows(cases):
    return pd.DataFrame({"case": list(cases), "label": [case in "ac" for case in cases]}).astype({"label": int})


def test_grade_is_the_label_and_an_unknown_one_is_none(context, tmp_path):
    table = {"case": ["a", "b", "c"], "patient": ["a", "b", "c"], "grade": ["HGG", "LGG", ""], "source": "real"}
    pd.DataFrame({**table, "role_f0": "train", "role_f1": "test"}).to_csv(tmp_path / "cases.csv", index=False)
    graded = read_graded(context("volume_classifier", {"fold": 1}, index=tmp_path))
    assert graded["label"].tolist() == [1, 0, -1]
    assert set(graded["role"]) == {"test"}


def test_batches_pad_to_the_largest_box(images):
    batch = images.batch(rows("abc"))
    assert batch.shape == (3, 2, 8, 8, 8)
    np.testing.assert_array_equal(batch[0, :, 1:7, 1:7, 1:7], images.open("a").image[0])
    assert batch[0].sum() == pytest.approx(images.open("a").image.sum(), abs=1e-3)


def test_logits_do_not_depend_on_the_others(images):
    model = freeze(classifier_network(2, PARAMS, 0), "cpu")
    with torch.inference_mode():
        together = predict(model, images, rows("abcde"), "cpu")
        alone = [predict(model, images, rows(case), "cpu")[0] for case in "abcde"]
    np.testing.assert_array_equal(together, alone)


def test_batches_follow_from_seed_and_epoch(images):
    def batches(seed, epoch):
        params = {"seed": seed, "training": {"batch_size": 3, "augmentation": True}}
        return [inputs for inputs, _ in TrainingBatches(images, rows("abcde"), params)(epoch)]

    first = batches(0, 1)
    assert [len(batch) for batch in first] == [3, 2]
    for one, other in zip(first, batches(0, 1), strict=True):
        assert torch.equal(one, other)
    for other in (batches(0, 2), batches(1, 1)):
        assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_plain_statistics_are_of_the_foreground(images):
    table = plain_statistics(rows("ba").set_axis([7, 3]), images, ["t1", "t1ce"])
    assert table.index.tolist() == [7, 3]
    assert table.loc[3, "foreground_ml"] == pytest.approx(125 * 8 / 1000)
    values = images.open("b").image[0, 1]
    assert table.loc[7, "t1ce_p95"] == pytest.approx(np.percentile(values[values != 0], 95), rel=1e-5)


def test_negated_network_is_the_same_but_for_the_sign():
    model = network()
    before = state_of(model)
    other = negated(model)
    inputs = torch.from_numpy(units().image)
    assert torch.equal(other(inputs), -model(inputs))
    assert model(inputs).abs().min() > 0
    assert {name for name, _ in other.named_modules()} == {name for name, _ in model.named_modules()}
    assert all(torch.equal(tensor, state_of(model)[0][name]) for name, tensor in before[0].items())


def test_low_grade_is_called_below_the_threshold(tmp_path):
    table = {"case": ["001", "b", "c"], "role": ["test", "val", "shift"], "logit": [0.4, 0.5, -1.0]}
    pd.DataFrame(table).to_csv(tmp_path / "predictions.csv", index=False)
    (tmp_path / "metrics.json").write_text(json.dumps({"threshold": 0.5}))
    assert cases_called_low(tmp_path) == {"001", "c"}
