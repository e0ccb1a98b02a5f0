import numpy as np
import pandas as pd
import pytest

from weakseg.evaluation.values import COLUMNS
from weakseg.studies.faithfulness import _readable, summarise

LEVEL = {"layercam": 2.0, "centre": 0.5, "random": 1.0}
SETTING = {"dataset": "brats", "source": "phantom", "view": "slice", "classifier": "resnet", "gate": "classifier"}


def values(metric="deletion", variant="zero"):
    """Two seeds of four patients; the last has two visits, of which one seed's gate let none of the second through."""
    rows = []
    for number, (patient, case) in enumerate([("a", "a1"), ("b", "b1"), ("c", "c1"), ("d", "d1"), ("d", "d2")]):
        for seed in ("0", "1"):
            if (case, seed) == ("d2", "0"):
                continue
            for method, level in LEVEL.items():
                value = level + 0.1 * number + (0.2 if seed == "1" else 0)
                row = {**SETTING, "run": "0123abcd", "seed": seed, "patient": patient, "case": case}
                rows.append({**row, "method": method, "metric": metric, "variant": variant, "value": value})
    return pd.DataFrame(rows)[COLUMNS]


def only(table, method):
    (row,) = table[table["method"] == method].to_dict("records")
    return row


def test_seeds_are_averaged_by_case_and_visits_by_patient():
    row = only(summarise(values(), 0, 200), "layercam")
    assert row["n_patients"] == 4
    last = ((2.3 + 2.5) / 2 + 2.6) / 2
    assert row["mean"] == pytest.approx(np.mean([2.1, 2.2, 2.3, last]))
    assert 2.1 <= row["low"] < row["mean"] < row["high"] <= last
    assert row["better"] == "higher"


def test_difference_to_random_is_paired():
    table = summarise(values(), 0, 200)
    for method, difference in (("layercam", 1), ("centre", -0.5), ("random", 0)):
        row = only(table, method)
        for name in ("minus_random", "minus_random_low", "minus_random_high"):
            assert row[name] == pytest.approx(difference)


def test_a_view_may_lack_a_method():
    other = values().assign(view="volume")
    table = summarise(pd.concat([values(), other[other["method"] != "centre"]]), 0, 200)
    assert not table.isna().any(axis=None)
    assert set(table.loc[table["view"] == "volume", "method"]) == {"layercam", "random"}
    assert set(table.loc[table["view"] == "slice", "method"]) == set(LEVEL)


def test_order_of_rows_makes_no_difference():
    table = values()
    pd.testing.assert_frame_equal(summarise(table.sample(frac=1, random_state=1), 0, 200), summarise(table, 0, 200))


def test_readable_marks_what_is_better_than_random_in_the_direction_of_the_metric():
    both = pd.concat([values(), values("randomised_spearman", "all")])
    readable = _readable(summarise(both, 0, 200)).set_index("method")
    assert list(readable.columns[5:]) == ["deletion, zero ↑", "random weights: rank correlation, all ↓"]
    marked = readable.iloc[:, 5:].map(lambda text: text.endswith("*"))
    deletion, randomised = (marked[heading].to_dict() for heading in marked)
    assert deletion == {"layercam": True, "random": False, "centre": False}
    assert randomised == {
        "layercam": False,
        "random": False,
        "centre": True,
    }


def test_without_any_value_there_is_an_empty_table():
    table = summarise(values().iloc[:0], 0, 200)
    assert table.empty
    assert _readable(table).empty
