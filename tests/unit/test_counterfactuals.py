"""What judges say of counterfactuals: of a generator that removes a blob exactly, and tables summed up by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from weakseg.data.labels import LESION, NORMAL, UNLABELLED
from weakseg.evaluation import counterfactual_summary
from weakseg.evaluation.counterfactual_summary import Features, summarise
from weakseg.evaluation.counterfactuals import Asked, Slices, features_of, measure
from weakseg.evaluation.faithfulness import baseline
from weakseg.evaluation.frechet import frechet_distance, kernel_distance
from weakseg.maps.judge import Judge
from weakseg.networks import freeze
from weakseg.randomness import rng

SIZE = (32, 32)
HEIGHT = 3.0
"""Of a blob, in the classifier's units."""
COUNT = 24


class Contrast(nn.Module):
    """Its features are the means of what exceeds 1, in each of two channels; its logit weighs the first alone."""

    def __init__(self, weight):
        super().__init__()
        self.last = nn.Linear(2, 1, bias=False)
        self.last.weight.data = torch.tensor([[weight, 0.0]])

    def forward(self, images):
        return self.last((images - 1).relu().flatten(2).mean(2))


class Eraser(nn.Module):
    """Takes blobs away under condition 0, and nothing else; puts one in the middle under condition 1."""

    def __init__(self):
        super().__init__()
        self.low, self.high = torch.tensor([-1.0, -1.0]), torch.tensor([3.0, 1.0])

    def forward(self, images, condition, foreground):
        change = torch.zeros_like(images)
        change[:, 0] = -HEIGHT * (images[:, 0] > 1.5)
        change[condition == 1, 0] = HEIGHT * torch.from_numpy(disc(15.5, 15.5, 4)).float()
        return torch.where(foreground, change / (self.high - self.low)[:, None, None], 0)

    def changed(self, images, change):
        return images + change * (self.high - self.low)[:, None, None]


class Idle(Eraser):
    def forward(self, images, condition, foreground):
        return torch.zeros_like(images)


def disc(i, j, radius):
    x, y = np.indices(SIZE)
    return (x - i) ** 2 + (y - j) ** 2 <= radius**2


JUDGES = {
    "classifier": Judge(freeze(Contrast(90.0), "cpu"), 4.0),
    "evaluator": Judge(freeze(Contrast(180.0), "cpu"), 8.0),
}
GENERATORS = {"eraser": Eraser(), "flipping": Eraser(), "idle": Idle()}
ASKED = Asked(JUDGES, GENERATORS, frozenset({"flipping"}), "cpu")


@pytest.fixture(scope="module")
def slices():
    """Noise in a disc; every other slice has a blob in the first channel."""
    draws = rng(0, "blobs")
    lesion = np.stack([disc(*draws.uniform(9, 23, 2), 4) * (unit % 2 == 0) for unit in range(COUNT)]).astype(bool)
    foreground = np.broadcast_to(disc(15.5, 15.5, 15), lesion.shape).copy()
    noise = draws.normal(0, 0.2, (COUNT, 2, *SIZE))
    noise[:, 0] += HEIGHT * lesion
    images = (noise * foreground[:, None]).astype(np.float32)
    blank = baseline("blur", images, foreground, (4, 4), draws)
    return Slices(images, foreground, lesion, blank, draws.random(COUNT))


@pytest.fixture(scope="module")
def measured(slices):
    rows, features = measure(slices, ASKED)
    label = np.where(rows["unit"] % 2 == 0, LESION, NORMAL)
    return rows.assign(label=label, patient=(rows["unit"] // 4).astype(str)), features


def of(table, name):
    return table[table["method"] == name].reset_index(drop=True)


class TestMeasure:
    def test_probabilities_are_of_margins(self, slices, measured):
        rows = of(measured[0], "eraser")
        for role, weight, threshold in (("classifier", 90, 4), ("evaluator", 180, 8)):
            logit = weight * np.maximum(slices.images[:, 0].astype(float) - 1, 0).mean(axis=(1, 2))
            np.testing.assert_allclose(rows[role], 1 / (1 + np.exp(threshold - logit)), rtol=1e-4)
            # Without a blob nothing exceeds 1, so the logit is 0.
            np.testing.assert_allclose(rows[f"{role}_counterfactual"], 1 / (1 + np.exp(threshold)), rtol=1e-4)
        assert list(rows["classifier"] > 0.5) == [unit % 2 == 0 for unit in range(COUNT)]

    def test_change_of_a_blob_lies_in_the_lesion(self, slices, measured):
        rows, blobs = of(measured[0], "eraser"), np.arange(COUNT) % 2 == 0
        area, whole = slices.lesion.sum(axis=(1, 2)), slices.foreground.sum(axis=(1, 2))
        # One channel of two, in units of a range of 4.
        np.testing.assert_allclose(rows["size"], HEIGHT / 4 / 2 * area / whole, rtol=1e-5)
        np.testing.assert_allclose(rows["size_inside"][blobs], HEIGHT / 4 / 2, rtol=1e-5)
        assert (rows["size_outside"] == 0).all()
        np.testing.assert_allclose(rows["share_counterfactual"][blobs], 1)
        np.testing.assert_allclose(rows["lesion_share"], area / whole)
        assert (rows["share_displaced"][blobs] < 1).all()
        assert (rows["share_blur"][blobs] < 0.9).all()
        shares = rows[["share_counterfactual", "share_displaced", "share_blur", "size_inside"]]
        assert shares[~blobs].isna().all(axis=None)

    def test_controls_leave_the_blob(self, slices, measured):
        rows = of(measured[0], "eraser")[::2]
        assert (rows["classifier_counterfactual"] < 0.05).all()
        assert (rows["classifier_displaced"] > 0.5).mean() > 0.8
        assert (rows["classifier_blur"] > 0.5).all()
        # The mean over channels, with ranges of 4 and 2, of how far the blurred slice is.
        whole = (np.abs(slices.blank - slices.images)[::2] / [[[4]], [[2]]]).mean(1).sum((1, 2))
        size = whole / slices.foreground[::2].sum((1, 2)) * rows["blur_strength"]
        np.testing.assert_allclose(size, rows["size"], rtol=1e-4)
        assert rows["blur_strength"].between(0.05, 0.95).all()

    def test_controls_change_the_image_as_much(self, slices, measured, monkeypatch):
        """What judges are shown differs from the slice by the same mean absolute change, whatever was done to it."""
        shown = []
        plain = Eraser.changed
        monkeypatch.setattr(Eraser, "changed", lambda self, *given: shown.append(plain(self, *given)) or shown[-1])
        measure(slices, Asked(JUDGES, {"eraser": Eraser()}, frozenset(), "cpu"))
        assert len(shown) == 3
        area = slices.foreground.sum(axis=(1, 2))
        for after in shown:
            difference = np.abs(after.numpy() - slices.images).astype(float) / [[[4]], [[2]]]
            size = difference.mean(axis=1).sum(axis=(1, 2)) / area
            np.testing.assert_allclose(size, of(measured[0], "eraser")["size"], rtol=1e-5, atol=1e-9)

    def test_flips_are_both_ways_where_there_are_two_conditions(self, measured):
        rows, one = of(measured[0], "flipping"), of(measured[0], "eraser")
        assert list(rows["classifier_flip"] > 0.5) == [unit % 2 == 1 for unit in range(COUNT)]
        assert list(rows["evaluator_flip"] > 0.5) == [unit % 2 == 1 for unit in range(COUNT)]
        assert one[["classifier_flip", "evaluator_flip"]].isna().all(axis=None)
        pd.testing.assert_series_equal(rows["classifier_counterfactual"], one["classifier_counterfactual"])

    def test_features_are_what_the_evaluators_last_layer_is_given(self, slices, measured):
        expected = np.maximum(slices.images.astype(float) - 1, 0).mean(axis=(2, 3))
        _, features = measured
        np.testing.assert_allclose(features.real, expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(features.made["eraser"], expected * [0, 1], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(features.made["idle"], features.real)
        judge = JUDGES["evaluator"]
        margins, _ = features_of(judge, torch.from_numpy(slices.images), "cpu")
        np.testing.assert_allclose(margins, expected[:, 0] * 180 - 8, rtol=1e-4, atol=1e-4)
        assert not judge.network.last._forward_pre_hooks


class TestKnownAnswer:
    def test_eraser_is_valid_and_its_controls_are_not(self, measured):
        table = summarise(*measured, 0, 500).set_index("method")
        eraser = table.loc["eraser"]
        assert eraser["validity_classifier"] == eraser["validity_evaluator"] == eraser["flips_evaluator"] == 1
        for control in ("displaced", "blur"):
            assert eraser[f"validity_evaluator_{control}"] < 0.3
            assert eraser[f"flips_evaluator_{control}"] < 0.3
            assert 0 < eraser[f"over_{control}_low"] < eraser[f"over_{control}"] < eraser[f"over_{control}_high"] < 1
        assert eraser["share_inside"] == eraser["share_inside_low"] == pytest.approx(1)
        assert eraser["normal_size"] == 0
        assert eraser["normal_kept_classifier"] == eraser["normal_kept_evaluator"] == 1
        assert np.isnan(eraser["validity_both_sides_classifier"])
        assert table.loc["flipping", "validity_both_sides_classifier"] == 1
        # 12 slices are too few for a Fréchet distance.
        assert table[["fid_paper", "fid_normal"]].isna().all(axis=None)
        assert (table["patients"].to_dict(), table["called"].to_dict()) == (
            {"eraser": 6, "flipping": 6, "idle": 0},
            {"eraser": 12, "flipping": 12, "idle": 12},
        )

    def test_idle_does_nothing(self, measured):
        idle = summarise(*measured, 0, 500).set_index("method").loc["idle"]
        assert idle["validity_classifier"] == idle["flips_evaluator"] == 0
        assert np.isnan(idle["share_inside"])
        assert np.isnan(idle["over_blur_low"])
        assert idle["normal_kept_evaluator"] == 1


def by_hand():
    """Slices a to f of three patients."""
    return pd.DataFrame(
        {
            "method": "m",
            "patient": list("uuvvww"),
            "label": [LESION, LESION, UNLABELLED, LESION, NORMAL, NORMAL],
            "classifier": [0.95, 0.85, 0.90, 0.4, 0.1, 0.6],
            "classifier_counterfactual": [0.05, 0.10, 0.05, 0.3, 0.1, 0.2],
            "classifier_displaced": [0.95, 0.01, 0.90, 0.4, 0.1, 0.6],
            "classifier_blur": [0.95, 0.85, 0.90, 0.4, 0.1, 0.6],
            "classifier_flip": [0.05, 0.10, 0.05, 0.9, 0.95, 0.2],
            "evaluator": [0.9, 0.7, 0.4, 0.9, 0.2, 0.7],
            "evaluator_counterfactual": [0.05, 0.3, 0.1, 0.3, 0.2, 0.7],
            "evaluator_displaced": [0.9, 0.3, 0.4, 0.9, 0.2, 0.7],
            "evaluator_blur": [0.01, 0.3, 0.4, 0.9, 0.2, 0.4],
            "evaluator_flip": [0.05, 0.3, 0.1, 0.3, 0.9, 0.7],
            "size": [0.1, 0.1, 0.1, 0.1, 0.02, 0.04],
            "size_inside": [0.4, 0.2, 0.6, 9, np.nan, np.nan],
            "size_outside": [0.1, 0.1, 0.0, 9, 0.02, 0.04],
            "share_counterfactual": [0.8, 0.6, 0.9, 0, np.nan, np.nan],
            "share_displaced": [0.2, 0.4, 0.1, 0, np.nan, np.nan],
            "share_blur": [0.3, 0.3, 0.5, 0, np.nan, np.nan],
            "lesion_share": [0.1, 0.3, 0.4, 0.9, 0, 0],
        }
    )


class TestSummary:
    def test_by_hand(self):
        features = Features(np.arange(12.0).reshape(6, 2), {"m": np.ones((6, 2))})
        (row,) = summarise(by_hand(), features, 0, 300).to_dict("records")
        expected = {
            "slices": 6,
            "called": 4,
            "normal": 2,
            "sure_classifier": 3,
            "sure_evaluator": 2,
            # Of the three changes 0.9, 0.75 and 0.85 two are large enough.
            "validity_classifier": 2 / 3,
            "validity_classifier_displaced": 1 / 3,
            "validity_classifier_blur": 0,
            # Of six pairs with a normal slice, 0.95 and 0.1 alone are so far apart.
            "validity_classifier_normal": 1 / 6,
            "validity_evaluator_normal": 0,
            "validity_evaluator": 1 / 2,
            "validity_evaluator_displaced": 0,
            "validity_evaluator_blur": 1 / 2,
            "validity_both_sides_classifier": 3 / 4,
            "validity_both_sides_evaluator": 1 / 2,
            # Both judges call the first, the second and the last.
            "flips_evaluator": 2 / 3,
            "flips_evaluator_displaced": 1 / 3,
            "flips_evaluator_blur": 1,
            # Patients u (two slices) and v (one); the slice that is not called does not count.
            "patients": 2,
            "share_inside": (0.7 + 0.9) / 2,
            "share_displaced": (0.3 + 0.1) / 2,
            "share_blur": (0.3 + 0.5) / 2,
            "over_displaced": (0.4 + 0.8) / 2,
            "over_blur": 0.4,
            "lesion_share": (0.2 + 0.4) / 2,
            "size_inside": (0.3 + 0.6) / 2,
            "size_outside": (0.1 + 0.0) / 2,
            "share_inside_low": 0.7,
            "share_inside_high": 0.9,
            "over_displaced_low": 0.4,
            "over_displaced_high": 0.8,
            "over_blur_low": 0.4,
            "over_blur_high": 0.4,
            "normal_size": 0.03,
            "normal_kept_classifier": 1 / 2,
            "normal_kept_evaluator": 1,
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        others = {"method", "fid_paper", "fid_normal", "kid_normal", "kid_floor"}
        assert set(row) == others | set(expected)

    def test_distances_are_of_called_and_normal_slices(self, monkeypatch):
        monkeypatch.setattr("weakseg.evaluation.frechet.LEAST", 10)
        draws, table = rng(0, "features"), pd.concat([by_hand()] * 10, ignore_index=True)
        real, made = draws.normal(size=(60, 3)), draws.normal(1, 2, (60, 3))
        (row,) = summarise(table, Features(real, {"m": made}), 0, 300).to_dict("records")
        called, normal = (np.tile(places, 10).astype(bool) for places in ([1, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 1]))
        assert row["fid_paper"] == frechet_distance(real[called], made[called])
        assert row["fid_normal"] == frechet_distance(real[normal], made[called])
        assert row["kid_normal"] == kernel_distance(real[normal], made[called])

    def test_floor_is_of_two_halves_of_the_normal_slices(self, monkeypatch):
        pairs = []
        monkeypatch.setattr(counterfactual_summary, "kernel_distance", lambda *sets: pairs.append(sets) or 7.0)
        table = pd.concat([by_hand()] * 3, ignore_index=True)
        other = table.assign(method="n")
        real = np.arange(36.0).reshape(18, 2)
        found = summarise(pd.concat([table, other]), Features(real, {"m": real, "n": real}), 0, 300)
        assert list(found["kid_floor"]) == [7, 7]
        one, two = pairs[0]
        assert len(one) == len(two) == 3
        np.testing.assert_array_equal(np.sort(np.concatenate([one, two]), 0), real[table["label"] == NORMAL])
