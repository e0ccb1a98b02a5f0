"""The figure ``dice.png``: a row stands at its method's name in every panel."""

import pandas as pd
import pytest

from weakseg.evaluation.collect import ROW_KEY
from weakseg.report import dice, style


@pytest.fixture
def drawn(monkeypatch):
    """The axes of a figure of three methods, of which one alone is cut as in its paper."""
    kept = []
    monkeypatch.setattr(style, "save_figure", lambda figure, path: kept.append(figure))
    names = ["random", "singla", "coin"]
    rows = [(name, "label-free", 0.1 * (1 + place)) for place, name in enumerate(names)] + [("singla", "paper", 0.15)]
    board = pd.DataFrame(rows, columns=["method", "operating_point", "dice"])
    fixed = {"dataset": "brats", "source": "phantom", "region": "whole_tumour", "view": "slice"}
    board = board.assign(**fixed, classifier="resnet", gate="classifier", refinement="threshold")
    board = board.assign(dice_low=board["dice"], dice_high=board["dice"])
    patients = board[[*ROW_KEY, "dice"]].assign(patient="p")
    dice.draw_dice(board, patients, "dice")
    return kept[0].axes, names


def test_rows_stand_at_their_methods_in_every_panel(drawn):
    (first, second), names = drawn
    assert [label.get_text() for label in first.get_yticklabels()] == [style.title_of(name) for name in names[::-1]]
    assert first.get_ylim() == second.get_ylim()
    (singla,) = {float(line.get_ydata()[-1]) for line in second.lines}
    assert singla == first.get_yticks()[1]


def test_refinements_of_a_method_stand_around_its_name():
    """However many some other method has; all of them within the panel."""
    chains = ["threshold", "clusters", "crf", "random_walker", "student", "supervoxel"]
    rows = [("layercam", chain, 0.5) for chain in chains] + [("coin", "threshold", 0.8), ("coin", "supervoxel", 0.7)]
    places = dice.places_of(pd.DataFrame(rows, columns=["method", "refinement", "dice"]), chains)
    coin, layercam = ({chain: at for (name, chain), at in places.items() if name == of} for of in ("coin", "layercam"))
    assert coin == {"threshold": 0, "supervoxel": 1}
    assert layercam == {chain: 3 + number for number, chain in enumerate(chains)}
