"""Does the code of a stage still compute what its version says?"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

from weakseg import catalogue
from weakseg.errors import WeaksegError
from weakseg.execution import write_json

PACKAGE = Path(__file__).parent
RECORD = PACKAGE.parents[1] / "schemas" / "stage_versions.json"


def code_hash(stage: str) -> str:
    """SHA-256 over the syntax trees of a stage's modules; comments, docstrings and layout make no difference."""
    trees = [_code(_source(module)) for module in catalogue.STAGES[stage].modules]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:16]


def _source(module: str) -> str:
    path = PACKAGE.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def _code(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def changed_without_version() -> list[str]:
    """Stages whose code differs from the record while their version does not."""
    recorded = json.loads(RECORD.read_text())
    return [
        name
        for name, stage in catalogue.STAGES.items()
        if recorded.get(name, {}).get("version") == stage.version and recorded[name]["code"] != code_hash(name)
    ]


def record() -> None:
    """Write the versions and hashes of all stages down.

    Raises:
        WeaksegError: code changed and its version did not.
    """
    changed = changed_without_version() if RECORD.exists() else []
    if changed:
        raise WeaksegError(f"{', '.join(changed)}: code changed; raise the version in src/weakseg/catalogue.py")
    content = {name: {"version": stage.version, "code": code_hash(name)} for name, stage in catalogue.STAGES.items()}
    write_json(RECORD, content)
