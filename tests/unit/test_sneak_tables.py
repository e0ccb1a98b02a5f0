"""AUCs, verdicts and Dice of the sneak attack, on made-up numbers."""

import numpy as np
import pandas as pd
import pytest

from weakseg.evaluation.classification import auc, resampled_aucs
from weakseg.evaluation.statistics import resample_counts
from weakseg.randomness import rng
from weakseg.studies.sneak_attack.dice import Curves, _points, summarise
from weakseg.studies.sneak_attack.tables import auc_table
from weakseg.studies.sneak_attack.verdicts import verdicts

KEYS = [
    ("foreground", "hard"),
    ("truth", "hard"),
    ("truth", "inverse"),
    ("truth-area", "inverse"),
    ("cam", "inverse"),
    ("cam", "soft"),
]


def judged(original=0.95, truth=0.94, without=0.6, control=0.9, dark=0.8, alone=0.6, width=0.05, added_width=0.05):
    """Verdicts on AUCs with symmetric intervals."""
    values = pd.Series([original, truth, without, control, dark, 0.9], index=pd.MultiIndex.from_tuples(KEYS))
    aucs = pd.DataFrame({"auc": values, "low": values - width, "high": values + width, "alone": alone})
    aucs["added"] = aucs["auc"] - aucs["alone"]
    aucs["added_low"], aucs["added_high"] = aucs["added"] - added_width, aucs["added"] + added_width
    lesion, dark_regions = verdicts(aucs)
    return lesion, dark_regions


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({}, "yes"),
        ({"truth": 0.9301}, "yes"),
        ({"truth": 0.9299}, "no"),
        ({"without": 0.85}, "no"),  # intervals overlap
        ({"without": 0.85, "width": 0.02}, "yes"),
        ({"without": 0.95, "control": 0.6}, "no"),
    ],
)
def test_predictions_depend_on_the_lesion(numbers, verdict):
    assert judged(**numbers)[0]["verdict"] == verdict


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({}, "yes"),
        ({"dark": 0.54, "alone": 0.2}, "no"),  # its interval holds 0.5
        ({"alone": 0.76}, "no"),  # the interval of what it adds holds 0
        ({"alone": 0.76, "added_width": 0.03}, "yes"),
        ({"alone": 0.9}, "no"),
    ],
)
def test_dark_regions_contribute(numbers, verdict):
    assert judged(**numbers)[1]["verdict"] == verdict


def test_a_filter_that_adds_nothing_is_cautioned_of():
    assert judged()[0]["caution"] == ""
    assert "alone reaches 0.940: it adds nothing" in judged(alone=0.94)[0]["caution"]


def slices(patients=7, each=9):
    generator = rng(0, "slices")
    labels = generator.integers(0, 2, patients * each)
    scores = np.round(generator.normal(size=len(labels)) + labels, 1)
    return scores, labels, np.repeat([f"p{number}" for number in range(patients)], each)


def test_auc_of_resamples_is_that_of_the_slices_drawn():
    scores, labels, patients = slices()
    counts = resample_counts(7, rng(0, "counts"), 20)
    have = resampled_aucs(scores, labels, patients, counts)
    for count, value in zip(counts, have, strict=True):
        times = count[np.unique(patients, return_inverse=True)[1]]
        assert value == pytest.approx(auc(np.repeat(scores, times), np.repeat(labels, times)), abs=1e-12)


def test_resample_without_a_class_has_no_auc():
    have = resampled_aucs([0, 1, 2], [0, 0, 1], ["a", "a", "b"], np.array([[1, 1], [2, 0]]))
    assert have[0] == 1
    assert np.isnan(have[1])


def predictions():
    scores, labels, patients = slices()
    frame = pd.DataFrame({"case": patients, "patient": patients, "label": labels})
    frame["position"] = frame.groupby("case").cumcount()
    frame = frame.assign(architecture="resnet", filter="truth", kept="hard")
    noise = [rng(seed, "noise").normal(size=len(frame)) for seed in range(4)]
    shown = [("image", 0, scores), ("image", 1, noise[1]), ("filter", 0, noise[2]), ("filter", 1, noise[3])]
    return pd.concat(
        frame.assign(shown=name, seed=seed, logit=logits, logit_on_originals=-logits) for name, seed, logits in shown
    )


def test_auc_table_averages_seeds_and_says_what_the_image_adds():
    table = auc_table(predictions(), resample_counts(7, rng(0, "counts"), 200))
    (row,) = table.to_dict("records")
    scores, labels, _ = slices()
    noise = [auc(rng(seed, "noise").normal(size=len(labels)), labels) for seed in range(4)]
    image, alone = (auc(scores, labels) + noise[1]) / 2, (noise[2] + noise[3]) / 2
    assert row["auc"] == pytest.approx(image)
    assert row["alone"] == pytest.approx(alone)
    assert row["added"] == pytest.approx(image - alone)
    assert row["on_originals"] == pytest.approx(1 - image)
    assert row["low"] < row["auc"] < row["high"]
    assert (row["n_slices"], row["n_patients"], row["n_seeds"]) == (63, 7, 2)


def curves(patients, peak):
    """Dice of 1 at one threshold for each slice, and of 0 at all others."""
    dice = np.zeros((len(patients), 1000))
    dice[np.arange(len(patients)), peak] = 1
    return Curves(np.array(patients), dice, np.full(len(patients), 0.3))


def test_points_cut_where_they_say():
    val, test = curves(["a", "b", "b"], [400, 400, 700]), curves(["c", "d", "d"], [300, 300, 700])
    settings = {"thresholds": [0.3, 0.7], "val_patients": 2, "draws": 3, "data_seed": 0}
    points = {
        name: (threshold, budget, dice.tolist()) for name, threshold, budget, dice in _points(val, test, settings)
    }
    assert points == {
        "0.3": (0.3, 0, [1, 1, 0]),
        "0.7": (0.7, 0, [0, 0, 1]),
        "label-free": (pytest.approx(0.3), 0, [1, 1, 0]),
        "val-2": (pytest.approx(0.4), 2, [0, 0, 0]),
        "oracle-set": (0.3, 2, [1, 1, 0]),
    }
    assert "val-3" not in [name for name, *_ in _points(val, test, {**settings, "val_patients": 3})]


def test_mean_dice_is_over_slices():
    table = pd.DataFrame({"patient": ["a", "b", "b"], "slice": [0, 1, 2], "dice": [0.0, 0.6, 0.9]})
    table = table.assign(
        architecture="resnet", method="cam", operating_point="0.5", threshold=0.5, mask_budget=0, seed=0
    )
    (row,) = summarise(table, 0, 100).to_dict("records")
    assert row["dice"] == pytest.approx(0.5)
    assert (row["low"], row["high"]) == (0, 0.75)
    assert (row["n_slices"], row["n_patients"], row["n_seeds"]) == (3, 2, 1)
