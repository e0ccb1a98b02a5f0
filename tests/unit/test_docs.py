"""What the documentation says of the code is so."""

import ast
import re

import pytest
from tests.runner import REPOSITORY

from weakseg import catalogue
from weakseg.catalogue_text import methods_text

DOCS = REPOSITORY / "docs"
FOREIGN = "(Snakemake's own)"


def text_of(node):
    """A string or f-string with … for each part that differs; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join("…" if isinstance(part, ast.FormattedValue) else str(part.value) for part in node.values)
    return None


@pytest.fixture(scope="module")
def written():
    """Every text in the package, once."""
    trees = (ast.parse(path.read_text()) for path in (REPOSITORY / "src").rglob("*.py"))
    return {text for tree in trees for node in ast.walk(tree) if (text := text_of(node))}


def quoted():
    """The messages that the page on troubleshooting explains: its lines in bold."""
    lines = (DOCS / "how-to" / "troubleshooting.md").read_text().splitlines()
    return [line.strip(" *`") for line in lines if line.startswith("**`") and FOREIGN not in line]


def is_said(message, texts):
    """Every part between two … stands in some text, in their order and all in the same one where there are several."""
    parts = [part.strip(" ;:") for part in message.split("…")]
    parts = [part for part in parts if len(part) > 2]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    if any(pattern.search(text) for text in texts):
        return True
    # A message may be put together of a few texts.
    return bool(parts) and all(any(part in text for text in texts) for part in parts)


def test_every_explained_message_is_one_of_the_package(written):
    messages = quoted()
    assert len(messages) > 25
    missing = [message for message in messages if not is_said(message, written)]
    assert not missing


def test_a_message_that_nobody_says_is_noticed(written):
    assert not is_said("…: no such sausage; buy one", written)


def test_reference_of_methods_has_not_drifted():
    text = (DOCS / "reference" / "methods.md").read_text()
    assert text == methods_text() + "\n", "run `make schemas`"
    for name in (*catalogue.METHODS, *catalogue.REFERENCES, *catalogue.REFINEMENTS, *catalogue.ARCHITECTURES):
        assert f"| `{name}` |" in text


def test_index_leads_to_every_page():
    index = DOCS / "README.md"
    linked = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", index.read_text())}
    assert {path for path in linked if not path.exists()} == set()
    assert {path.resolve() for path in DOCS.rglob("*.md")} - linked == {index.resolve()}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    """Paths of the repository; what a reader makes, or a run writes, is not in it."""
    named = re.findall(
        r"`((?:src|docs|config|profiles|tests|rules|schemas|envs|benchmarks)/[\w./-]+)`", page.read_text()
    )
    made = {"src/weakseg/refinements/guided.py", "src/weakseg/data/layouts/stroke.py"}
    assert [path for path in named if path not in made and not (REPOSITORY / path).exists()] == []
