"""Splits by patient, stratified by grade."""

from __future__ import annotations

import pandas as pd
import pytest

from weakseg.data.splits import split


def _cases(high: int, low: int, visits: int = 1) -> pd.DataFrame:
    rows = [
        (f"P{number:03}_{visit}", f"P{number:03}", "HGG" if number < high else "LGG")
        for number in range(high + low)
        for visit in range(1, visits + 1)
    ]
    return pd.DataFrame(rows, columns=["case", "patient", "grade"])


def _split(cases: pd.DataFrame, **changes: object) -> pd.DataFrame:
    options = {"folds": 1, "test": 0.2, "val": 0.2, "train_only": [], "data_seed": 0} | changes
    roles, faults = split(cases, **options)
    assert faults == []
    return cases.join(roles)


def _faults(cases: pd.DataFrame, **changes: object) -> list[str]:
    options = {"folds": 1, "test": 0.2, "val": 0.2, "train_only": [], "data_seed": 0} | changes
    return split(cases, **options)[1]


def test_hold_out_has_exact_shares_in_the_proportion_of_the_grades() -> None:
    table = _split(_cases(52, 28))
    counts = pd.crosstab(table["role_f0"], table["grade"])
    assert table["role_f0"].value_counts().to_dict() == {"train": 48, "val": 16, "test": 16}
    assert counts.loc["test"].to_dict() == {"HGG": 10, "LGG": 6}
    assert abs(counts.loc["val", "HGG"] - 10.4) <= 1


@pytest.mark.parametrize("high", [40, 63, 79])
def test_hold_out_shares_do_not_depend_on_the_grades(high: int) -> None:
    assert _split(_cases(high, 80 - high))["role_f0"].value_counts().to_dict() == {"train": 48, "val": 16, "test": 16}


def test_cross_validation_tests_every_patient_once_and_balances_grades() -> None:
    table = _split(_cases(31, 12), folds=5)
    roles = table.filter(like="role_f")
    assert ((roles == "test").sum(axis=1) == 1).all()
    for fold in range(5):
        tested = table[table[f"role_f{fold}"] == "test"]
        assert len(tested) in (8, 9)
        assert (tested["grade"] == "LGG").sum() in (2, 3)
        assert (table[f"role_f{fold}"] == "val").sum() == 7  # a fifth of the 34 or 35 not tested


def test_two_folds_have_both_grades() -> None:
    table = _split(_cases(10, 10), folds=2)
    assert (table[table["role_f0"] == "test"]["grade"] == "HGG").sum() == 5


def test_visits_of_a_patient_stay_together() -> None:
    table = _split(_cases(6, 4, visits=3), folds=3)
    for fold in range(3):
        assert (table.groupby("patient")[f"role_f{fold}"].nunique() == 1).all()


def test_order_of_the_rows_changes_nothing() -> None:
    cases = _cases(20, 10, visits=2)
    shuffled = cases.sample(frac=1, random_state=1).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        _split(cases, folds=3), _split(shuffled, folds=3).sort_values("case", ignore_index=True)
    )


def test_seed_decides_the_split() -> None:
    cases = _cases(20, 10)
    assert _split(cases).equals(_split(cases))
    assert not _split(cases).equals(_split(cases, data_seed=1))


def test_train_only_patients_train_in_every_fold_with_all_their_visits() -> None:
    cases = _cases(8, 2, visits=2)
    table = _split(cases, folds=4, train_only=["P000_1", "P009_*"]).set_index("case")
    roles = table.filter(like="role_f")
    assert (roles.loc[["P000_1", "P000_2", "P009_1", "P009_2"]] == "train").all(axis=None)
    assert ((roles.drop(["P000_1", "P000_2", "P009_1", "P009_2"]) == "test").sum(axis=1) == 1).all()


def test_shares_are_of_the_testable_patients() -> None:
    table = _split(_cases(20, 0), test=0.3, val=0.1, train_only=["P00*"])
    assert table["role_f0"].value_counts().to_dict() == {"train": 16, "test": 3, "val": 1}


def test_unknown_grades_are_one_stratum() -> None:
    table = _split(_cases(10, 0).assign(grade=""))
    assert table["role_f0"].value_counts().to_dict() == {"train": 6, "val": 2, "test": 2}


def test_at_least_one_patient_validates() -> None:
    table = _split(_cases(3, 0), folds=3, val=0.01)
    assert all((table[f"role_f{fold}"] == "val").sum() == 1 for fold in range(3))


def test_pattern_without_a_case_is_a_fault() -> None:
    assert _faults(_cases(10, 0), train_only=["TCGA-*"]) == [
        "split.train_only: TCGA-* matches no case; correct or remove it"
    ]


def test_too_few_patients_to_train() -> None:
    (fault,) = _faults(_cases(2, 0, visits=5))
    assert fault.startswith("split: fold 0 has no train patient (2 patients, 2 of them testable); add cases, or lower")


def test_more_folds_than_testable_patients() -> None:
    faults = _faults(_cases(6, 0), folds=4, train_only=["P000_1", "P001_1", "P002_1"])
    assert len(faults) == 1
    assert "has no test patient (6 patients, 3 of them testable)" in faults[0]


def test_all_patients_train_only() -> None:
    assert "no val and no test patient (5 patients, 0 of them testable)" in _faults(_cases(5, 0), train_only=["*"])[0]
