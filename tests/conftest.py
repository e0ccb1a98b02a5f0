"""Fixtures that several test files share."""

from __future__ import annotations

import pytest

from weakseg.execution import Context


@pytest.fixture
def context(tmp_path):
    """Make the context of a stage: its parameters, and one upstream folder for each role."""

    def make(stage, params=None, **upstream):
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        folders = {role: [folder] for role, folder in upstream.items()}
        return Context(stage, "0123abcd", params or {}, folders, out, tmp_path / "state")

    return make
