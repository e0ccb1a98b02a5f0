"""The rule that tells how a case failed, and the tables that follow."""

import pandas as pd
import pytest

from weakseg.evaluation.collect import ROW_KEY
from weakseg.studies.failures import KINDS, WORST, reason, shares, told, worst


@pytest.mark.parametrize(
    ("sensitivity", "precision", "predicted_ml", "expected"),
    [
        (0.0, 0.0, 0.0, "missed"),
        (0.09, 0.9, 1.0, "missed"),
        (0.09, 0.1, 9.0, "wrong place"),
        (0.0, 0.0, 5.0, "wrong place"),
        (0.9, 0.49, 18.0, "over-segmented"),
        (0.49, 0.9, 5.0, "under-segmented"),
        (0.3, 0.3, 10.0, "partly off"),
        (0.5, 0.5, 10.0, "found"),
    ],
)
def test_rule(sensitivity, precision, predicted_ml, expected):
    assert reason(sensitivity, precision, 10.0, predicted_ml) == expected


@pytest.fixture
def scores():
    """Five cases by a map and a reference, two seeds; case 0 is missed by the map, and case 4 has no lesion."""
    rows = []
    for method, points in (("gradcam", ("val-10", "fixed")), ("unet", ("fixed",))):
        for point in points:
            for chain in ("threshold", "supervoxel") if method == "gradcam" else ("threshold",):
                for case in range(5):
                    for seed in (0, 1):
                        missed = method == "gradcam" and point == "val-10" and case == 0
                        rows.append(
                            dict.fromkeys(ROW_KEY, "same")
                            | {"method": method, "refinement": chain, "operating_point": point, "role": "test"}
                            | {"case": str(case), "seed": seed, "lesion_ml": 10.0 * (case < 4), "threshold": 0.4}
                            | {"dice": 0.0 if missed else 0.5 + 0.1 * case + 0.02 * seed}
                            | dict.fromkeys(("sensitivity", "precision"), 0.0 if missed else 0.8)
                            | {"predicted_ml": 0.0 if missed else 10.0}
                        )
    return pd.DataFrame(rows)


def test_cases_are_told_at_the_headline_once_and_with_seeds_averaged(scores):
    cases = told(scores)
    assert set(zip(cases["method"], cases["operating_point"], strict=True)) == {
        ("gradcam", "val-10"),
        ("unet", "fixed"),
    }
    assert set(cases["refinement"]) == {"threshold"}
    of_map = cases[cases["method"] == "gradcam"].set_index("case")
    assert of_map["reason"].to_dict() == {"0": "missed", "1": "found", "2": "found", "3": "found"}
    assert of_map.loc["2", "dice"] == pytest.approx(0.71)


def test_worst_come_first(scores):
    listed = worst(told(scores)).query("method == 'gradcam'")
    assert listed["place"].tolist() == list(range(1, WORST + 1))
    assert listed["case"].tolist() == ["0", "1", "2"]
    assert listed["reason"].tolist() == ["missed", "found", "found"]


def test_shares_count_every_case(scores):
    table = shares(told(scores)).set_index("method")
    assert table["n_cases"].to_dict() == {"gradcam": 4, "unet": 4}
    assert table.loc["gradcam", list(KINDS)].tolist() == [1, 0, 0, 0, 0, 3]
