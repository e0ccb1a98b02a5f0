"""Which run's map of a case figures show, where there are several folds and gates."""

from pathlib import Path

import pandas as pd

from weakseg.report.overlays import fold_of_tested, folders_of

MAPS = {
    Path(f"{family}-f{fold}-{gate}"): {"fold": fold, "view": "slice", "gate": gate, "methods": {method: {}}}
    for fold in (0, 1)
    for gate in ("classifier", "none")
    for family, method in (("cam", "gradcam"), ("nulls", "random"))
}


def test_a_case_is_shown_by_the_fold_that_tests_it_though_others_explain_it_too():
    roles = {"role_f0": ["test", "val", "train"], "role_f1": ["val", "test", "train"]}
    cases = pd.DataFrame(roles, index=["a", "b", "only trains"])
    assert fold_of_tested(cases, MAPS.values()) == {"a": 0, "b": 1}


def test_maps_are_those_of_the_fold_and_the_gate():
    for fold in (0, 1):
        for gate in ("classifier", "none"):
            found = folders_of(MAPS, fold, "slice", gate)
            places = {"gradcam": Path(f"cam-f{fold}-{gate}/gradcam"), "random": Path(f"nulls-f{fold}-{gate}/random")}
            assert found == places
    assert not folders_of(MAPS, 1, "volume", "none")
