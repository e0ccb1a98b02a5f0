"""Which volumes the page shows."""

import pandas as pd

from weakseg.report import viewer

DICE = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.9}


def rows(**methods):
    """Rows of a data set: Dice of each method by case, in the order of the stage."""
    where = {"dataset": "brats", "view": "slice", "gate": "classifier"}
    pairs = [(name, case, value) for name, of_method in methods.items() for case, value in of_method.items()]
    table = pd.DataFrame(pairs, columns=["method", "case", "dice"]).assign(**where)
    return table.sort_values([*viewer.MAP, "dice", "case"], ignore_index=True)


def named(table, numbers):
    return [(table.loc[number, "method"], table.loc[number, "case"]) for number in numbers]


def test_worst_typical_and_best_of_each_method():
    table = rows(cam=DICE, rise={case: 1 - value for case, value in DICE.items()})
    places = {(table.loc[n, "method"], place): table.loc[n, "case"] for place, n in viewer._of_methods(table)}
    assert places == {
        ("cam", "worst"): "a",
        ("cam", "typical"): "c",
        ("cam", "best"): "e",
        ("rise", "worst"): "e",
        ("rise", "typical"): "c",
        ("rise", "best"): "a",
    }


def test_cases_that_are_hard_for_all_come_first_with_every_method():
    table = rows(cam=DICE, rise=DICE | {"e": 0.35})
    turns = named(table, dict.fromkeys(viewer._in_turn(table)))
    # Worst, typical and best by the mean over methods, then what is rise's own.
    assert turns == [(method, case) for case in "ace" for method in ("cam", "rise")] + [("rise", "d")]


def test_with_one_case_it_is_everything():
    table = rows(cam={"a": 0.5})
    assert named(table, dict.fromkeys(viewer._in_turn(table))) == [("cam", "a")]
