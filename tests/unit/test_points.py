"""Which patients are drawn, and where their masks cut a map."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from weakseg.data.labels import LESION, NORMAL
from weakseg.evaluation.histogram import histogram
from weakseg.evaluation.points import cut_by_case, cut_by_draws, cut_by_set, draw_validation
from weakseg.evaluation.protocol import draw_masks, in_order

PATIENTS = [f"p{number:02}" for number in range(16)]


@pytest.mark.parametrize("draw", range(5))
def test_draws_are_nested(draw):
    draws = [draw_masks(PATIENTS, k, draw, 7) for k in (1, 5, 10, 16)]
    for smaller, larger in pairwise(draws):
        assert set(smaller) < set(larger)
    assert [len(set(drawn)) for drawn in draws] == [1, 5, 10, 16]


def test_draws_depend_on_draw_and_seed_alone():
    assert draw_masks(PATIENTS, 5, 0, 7) == draw_masks(PATIENTS[::-1] * 2, 5, 0, 7)
    assert len({tuple(draw_masks(PATIENTS, 5, draw, 7)) for draw in range(20)}) == 20
    assert draw_masks(PATIENTS, 5, 0, 7) != draw_masks(PATIENTS, 5, 0, 8)


def test_every_patient_is_drawn_alike():
    drawn = [draw_masks(PATIENTS, 1, draw, 7)[0] for draw in range(1600)]
    counts = [drawn.count(patient) for patient in PATIENTS]
    assert min(counts) > 60
    assert max(counts) < 140


def test_more_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="17 patients cannot be drawn from 16"):
        draw_masks(PATIENTS, 17, 0, 7)


def test_headline_stands_first_and_the_bound_last():
    points = ["oracle-set", "val-5", "fixed", "val-20", "val-10", "label-free", "val-5"]
    assert in_order(points) == ["val-10", "fixed", "label-free", "val-5", "val-20", "oracle-set"]


def index():
    """Two folds: four, or three, validation patients, of whom `d` has two cases and `n` no lesion."""
    rows = [("a", "a", "val", "val"), ("b", "b", "val", "test"), ("n", "n", "val", "val"), ("t", "t", "test", "train")]
    rows += [
        ("d1", "d", "val", "val"),
        ("d2", "d", "val", "val"),
        ("d3", "d", "val", "val"),
        ("x", "x", "train", "val"),
    ]
    table = pd.DataFrame(rows, columns=["case", "patient", "role_f0", "role_f1"])
    labels = {case: NORMAL if case in ("n", "d3", "x") else LESION for case in table["case"]}
    slices = [(case, place, label) for case, lesion in labels.items() for place, label in enumerate((NORMAL, lesion))]
    return table, pd.DataFrame(slices, columns=["case", "position", "label"])


def test_cases_of_patients_with_a_lesion_are_drawn():
    draws, left_out = draw_validation(*index(), [0], [1, 3, 4], 6, 7)
    assert left_out == {"val-4": "fold 0 has 3 validation patients with a lesion"}
    assert set(draws[0]) == {"val-1", "val-3"}
    assert {tuple(drawn) for drawn in draws[0]["val-1"]} == {("a",), ("b",), ("d1", "d2")}
    assert {tuple(sorted(drawn)) for drawn in draws[0]["val-3"]} == {("a", "b", "d1", "d2")}


def test_a_point_that_is_too_large_for_one_fold_is_left_out_of_all():
    draws, left_out = draw_validation(*index(), [0, 1], [2, 3], 2, 7)
    assert left_out == {"val-3": "fold 1 has 2 validation patients with a lesion"}
    assert [set(of_fold) for of_fold in draws.values()] == [{"val-2"}, {"val-2"}]


def counts(lesion, others):
    """The counts of a map with these values in and out of the lesion."""
    relevance = np.array([*lesion, *others], np.float32).reshape(1, 1, -1)
    inside = np.arange(relevance.size).reshape(1, 1, -1) < len(lesion)
    return histogram(relevance, inside, np.ones_like(inside), 1.0)


# Their best thresholds, 0.02 apart, are the largest value outside the lesion.
VALIDATION = {"a": counts([0.9, 0.8], [0.2, 0.1]), "b": counts([0.9, 0.6], [0.5, 0.3]), "c": counts([0.7], [0.4])}


def test_threshold_of_a_draw_is_the_best_of_its_cases():
    draws = {"val-1": [["a"], ["b"], ["a"]], "val-2": [["a", "b"], ["c", "a"]]}
    cuts = cut_by_draws(draws, VALIDATION, {"a", "b"})
    assert cuts["val-1"].thresholds == [0.2, 0.5, 0.2]
    assert cuts["val-2"].thresholds == [0.5, 0.4]
    assert cuts["val-1"].masks == [{"a"}, {"b"}, {"a"}]
    # A mask that nobody drew is not opened, and not counted.
    assert cuts["val-2"].masks == [{"a", "b"}, {"a"}]


def test_thresholds_of_draws_lie_on_a_coarse_grid():
    between = {"a": counts([0.9], [0.1234])}
    assert cut_by_draws({"val-1": [["a"]]}, between, {"a"})["val-1"].thresholds == [0.14]
    assert cut_by_set(between, {"a"})["oracle-set"].thresholds == [0.124]


def test_blind_points_need_no_masks():
    cuts = dict(cut_by_case(["label-free", "val-k", "fixed", "oracle-set"], VALIDATION["a"]))
    assert set(cuts) == {"fixed", "label-free"}
    assert cuts["fixed"].thresholds == [0.5]
    assert 0.2 <= cuts["label-free"].thresholds[0] < 0.8
    assert cuts["fixed"].masks == cuts["label-free"].masks == [frozenset()]
