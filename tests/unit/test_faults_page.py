"""What the page of faults names is there."""

import ast
import re

from tests.dag.test_staleness import KNOBS, VERSIONS
from tests.runner import REPOSITORY
from tests.unit.test_fuzz import INPUTS

PAGE = (REPOSITORY / "docs" / "reference" / "faults.md").read_text()


def test_every_row_names_tests_that_exist():
    rows = [
        row for row in PAGE.splitlines() if row.startswith("| ") and not row.startswith(("| ---", "| what", "| fault"))
    ]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            tree = ast.parse((REPOSITORY / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, name)


def test_every_test_of_faults_is_on_the_page():
    for file in ("tests/end_to_end/test_faults.py", "tests/system/test_drills.py", "tests/dag/test_staleness.py"):
        tree = ast.parse((REPOSITORY / file).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
        assert {name for name in names if name not in PAGE} <= {"test_every_stage_of_the_benchmark_has_a_row"}


def test_numbers_on_the_page_are_those_of_the_tests():
    assert f"{INPUTS:,} NIfTI files" in PAGE
    assert f"{INPUTS:,} configurations" in PAGE
    assert f"any of the {len(VERSIONS)} stages" in PAGE


def test_every_setting_that_is_tried_is_on_the_page():
    listed = re.search(r"a parameter of ([\w, ]+) \|", PAGE).group(1).strip().split(", ")
    assert {*listed, "seed", "data seed"} == set(KNOBS)
