"""Tables and figures as files: three formats each, the same bytes for the same content."""

import hashlib
import subprocess
import sys

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from weakseg.report import style
from weakseg.report.tables import PAGE, write_table
from weakseg.runs import FIGURE_FORMATS

DRAW = """
import sys
from pathlib import Path
from matplotlib import pyplot as plt
from weakseg.report import style
figure, axis = plt.subplots()
axis.plot([0, 1], [0, 1], "o", clip_on=True)
axis.set_title("Dice")
style.save_figure(figure, Path(sys.argv[1]) / "one")
"""


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_equal_figures_are_equal_files(tmp_path):
    """In other processes too, whose hashes differ."""
    for name in ("first", "second"):
        subprocess.run([sys.executable, "-c", DRAW, str(tmp_path / name)], check=True)
    first, second = digests(tmp_path / "first"), digests(tmp_path / "second")
    assert first == second
    assert set(first) == {f"one.{kind}" for kind in FIGURE_FORMATS}


@pytest.fixture
def drawn(tmp_path):
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.set_title("Dice, patients")
    style.save_figure(figure, tmp_path / "figures" / "some.name")
    return tmp_path / "figures"


def test_each_format_is_what_it_is_called(drawn):
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for kind, start in starts.items():
        assert (drawn / f"some.name.{kind}").read_bytes().startswith(start)
    assert plt.imread(drawn / "some.name.png").shape == (450, 600, 4)
    for kind in ("svg", "pdf"):
        assert b"2026" not in (drawn / f"some.name.{kind}").read_bytes()


def test_tables_in_three_formats(tmp_path):
    table = pd.DataFrame({"method": ["a_b", "c & d"], "Dice ↑": [0.123456789, float("nan")], "masks": [3, 10]})
    write_table(table, tmp_path, "one")
    assert (tmp_path / "one.csv").read_text() == "method,Dice ↑,masks\na_b,0.123457,3\nc & d,,10\n"
    assert "| a_b      | 0.123    | 3       |" in (tmp_path / "one.md").read_text()
    latex = (tmp_path / "one.tex").read_text()
    assert r"\toprule" in latex
    assert r"method & Dice $\uparrow$ & masks \\" in latex
    assert r"c \& d &  & 10 \\" in latex


def test_long_tables_go_over_pages(tmp_path):
    for rows, environment in ((PAGE, "tabular"), (PAGE + 1, "longtable")):
        write_table(pd.DataFrame({"place": range(rows)}), tmp_path, "some", ("tex",))
        assert (tmp_path / "some.tex").read_text().startswith(rf"\begin{{{environment}}}")
    assert not (tmp_path / "some.csv").exists()
