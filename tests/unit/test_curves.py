"""Forwards per method, and figures that are the same however the board is sorted."""

import json

import pandas as pd
import pytest

from weakseg import catalogue
from weakseg.evaluation.forwards import forwards_per_case
from weakseg.report import style
from weakseg.report.curves import Minutes, draw_budgets, draw_forwards


def folder(path, methods, forwards, cases, seed):
    for method in methods:
        (path / method).mkdir(parents=True)
        for case in range(cases):
            (path / method / f"{case}.nii.gz").touch()
    params = {"view": "slice", "gate": "classifier", "methods": {method: {} for method in methods}, "seed": seed}
    (path / "run.json").write_text(
        json.dumps({"label": "brats-slice-any", "params": params, "counts": {"forwards": forwards}})
    )
    return path


def test_forwards_are_those_of_the_family_and_none_without_a_network(tmp_path):
    runs = [
        folder(tmp_path / "a", ["gradcam", "layercam"], 40, 4, 0),
        folder(tmp_path / "b", ["gradcam", "layercam"], 80, 4, 1),
        folder(tmp_path / "c", ["random", "untrained"], 20, 4, 0),
    ]
    table = forwards_per_case(runs).set_index("method")["forwards"]
    assert table.to_dict() == {"gradcam": 15, "layercam": 15, "random": 0, "untrained": 5}


@pytest.fixture
def board():
    return pd.DataFrame(
        {
            "dataset": "brats",
            "source": "phantom",
            "view": view,
            "gate": "none" if view == "volume" else "classifier",
            "method": method,
            "refinement": chain,
            "operating_point": point,
            "headline": "yes" if point == "val-10" else "no",
            "dice": dice + 0.01 * budget,
            "dice_low": dice - 0.1,
            "dice_high": dice + 0.2,
            "mask_budget": budget,
            "label_budget": 100,
        }
        for view in ("slice", "volume")
        for method, dice in (("gradcam", 0.5), ("random", 0.2))
        for chain in ("threshold", "supervoxel")
        for point, budget in (("fixed", 0), ("label-free", 0), ("val-1", 1), ("val-10", 10))
    )


def test_figures_do_not_depend_on_the_order_of_rows(board, tmp_path):
    counted = {"dataset": ["brats"], "view": ["slice"], "gate": ["classifier"], "method": ["gradcam"]}
    forwards = pd.DataFrame({**counted, "forwards": [15.0]})
    for name, table in (("as", board), ("reversed", board[::-1])):
        draw_budgets(table, Minutes(30, 0.1, 1), tmp_path / f"{name}-masks")
        draw_forwards(table, forwards, tmp_path / f"{name}-forwards")
    for figure in ("masks", "forwards"):
        drawn = (tmp_path / f"as-{figure}.png").read_bytes()
        assert drawn == (tmp_path / f"reversed-{figure}.png").read_bytes()
        assert len(drawn) > 10_000


def test_each_row_is_one_marker_whatever_its_shape(board, tmp_path, monkeypatch):
    many = pd.concat([board[board["method"] == "gradcam"].assign(method=name) for name in catalogue.METHODS])
    forwards = pd.DataFrame({"dataset": ["brats"], "view": ["slice"], "gate": ["classifier"], "method": ["gradcam"]})
    figures = []
    monkeypatch.setattr(style, "save_figure", lambda figure, _: figures.append(figure))
    draw_forwards(many, forwards.assign(forwards=15.0), tmp_path / "forwards")
    lines = [line for axis in figures[0].axes for line in axis.lines if line.get_linestyle() == "None"]
    assert len(lines) == len(many[many["headline"] == "yes"])
    assert all(len(line.get_xdata()) == 1 for line in lines)


def test_each_method_has_a_marker_of_its_own():
    assert len(set(style.MARKERS)) == len(style.MARKERS) >= len(catalogue.METHODS)
