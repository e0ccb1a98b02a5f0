"""The figure ``dice.png``: a row stands at its method's name in every panel."""

import pandas as pd
import pytest

from weakseg.evaluation.collect import ROW_KEY
from weakseg.report import figures, style


@pytest.fixture
def drawn(monkeypatch):
    """The axes of a figure of three methods, of which one alone is cut as in its paper."""
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, path: kept.append(figure))
    names = ["random", "singla", "coin"]
    rows = [(name, "label-free", 0.1 * (1 + place)) for place, name in enumerate(names)] + [("singla", "paper", 0.15)]
    board = pd.DataFrame(rows, columns=["method", "operating_point", "dice"])
    fixed = {"dataset": "brats", "source": "phantom", "region": "whole_tumour", "view": "slice"}
    board = board.assign(**fixed, classifier="resnet", gate="classifier", refinement="threshold")
    board = board.assign(dice_low=board["dice"], dice_high=board["dice"])
    patients = board[[*ROW_KEY, "dice"]].assign(patient="p")
    figures.draw_dice(board, patients, "dice.png")
    return kept[0].axes, names


def test_rows_stand_at_their_methods_in_every_panel(drawn):
    (first, second), names = drawn
    assert [label.get_text() for label in first.get_yticklabels()] == [style.title_of(name) for name in names]
    assert first.get_ylim() == second.get_ylim()
    assert {float(line.get_ydata()[-1]) for line in second.lines} == {1.0}
