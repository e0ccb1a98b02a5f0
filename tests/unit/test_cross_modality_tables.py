"""What the study of cross-modality learning says of its differences."""

import typing

import numpy as np
import pandas as pd
import pytest

from weakseg.config_studies import RowName
from weakseg.studies.cross_modality.rows import ROWS
from weakseg.studies.cross_modality.tables import MEAN, by_patient, verdict


def differences(**changed):
    row = {
        "labelled": 48,
        "region": MEAN,
        "method": "cmff_cmft",
        "other": "cmff_default",
        "seed": "all",
        "n_patients": 16,
        "median_difference": 0.031,
        "low": 0.01,
        "high": 0.05,
        "p": 0.004,
    }
    fewer = {**row, "labelled": 4, "median_difference": -0.5}
    other = {**row, "other": "cmff_normal", "median_difference": 0.9}
    region = {**row, "region": "whole_tumour", "median_difference": 0.9}
    single = {**row, "seed": "0", "median_difference": 0.9}
    return pd.DataFrame([fewer, other, region, single, {**row, **changed}])


def test_sentence_is_about_default_weights_and_all_labelled_cases():
    assert verdict(differences()) == (
        "With 48 labelled cases CMFT → CMFF is better than CMFF with PyTorch's default initial weights: median paired "
        "difference of mean Dice +0.031 [+0.010, +0.050], 16 patients, p = 0.004 by Wilcoxon's test."
    )


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"median_difference": -0.02, "low": -0.04, "high": -0.01}, "worse than"),
        ({"p": 0.2}, "not told apart from"),
        ({"median_difference": -0.02, "p": 0.051}, "not told apart from"),
        ({"p": np.nan}, "better than"),
        ({"p": np.nan, "low": -0.01}, "not told apart from"),
        ({"p": np.nan, "median_difference": -0.02, "low": -0.04, "high": -0.01}, "worse than"),
    ],
)
def test_sentence_falls_whichever_way_the_test_does(changed, finding):
    sentence = verdict(differences(**changed))
    assert f"CMFF is {finding} CMFF" in sentence
    assert ("too few patients" in sentence) == (np.isnan(changed.get("p", 0)))


def test_small_p_is_not_nought():
    assert verdict(differences(p=0.00003)).endswith("16 patients, p < 0.001 by Wilcoxon's test.")


def test_patients_count_once_whatever_their_visits_and_seeds():
    names = ["dice", "sensitivity", "specificity", "hd95_mm", "dice_unprocessed"]
    rows = [("one", "a", 0, 0.2), ("one", "a", 1, 0.4), ("one", "b", 0, 0.9), ("two", "c", 0, 0.5)]
    scores = pd.DataFrame(
        [
            {"patient": patient, "case": case, "seed": seed, **dict.fromkeys(names, dice)}
            for patient, case, seed, dice in rows
        ]
    )
    assert by_patient(scores)["dice"].to_dict() == pytest.approx({"one": 0.6, "two": 0.5})


def test_configuration_names_every_row():
    assert list(typing.get_args(RowName)) == list(ROWS)
