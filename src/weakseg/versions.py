"""Does the code of a stage still compute what its version says?"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from weakseg import catalogue
from weakseg.errors import WeaksegError
from weakseg.execution import write_json

PACKAGE = Path(__file__).parent
RECORD = PACKAGE.parents[1] / "schemas" / "stage_versions.json"


PLUMBING = {
    "catalogue",
    "config",
    "config_classifiers",
    "config_cmff",
    "config_data",
    "config_maps",
    "config_references",
    "config_refinements",
    "config_studies",
    "device",
    "errors",
    "execution",
    "integrity",
    "keys",
    "plan",
    "plan_counterfactuals",
    "plan_partial",
    "plan_references",
    "plan_refinements",
    "plan_views",
    "resuming",
    "runs",
}
"""Modules of the package that decide how a stage is run, not what it computes."""


def code_hash(stage: str) -> str:
    """SHA-256 over the syntax trees of all modules that a stage imports, directly or not, and of its plugins.

    Comments, docstrings and layout make no difference.
    """
    facts = catalogue.STAGES[stage]
    modules: dict[str, str] = {}
    waiting = [facts.entry.split(":")[0], *facts.plugins]
    while waiting:
        module = waiting.pop()
        if module not in modules:
            modules[module] = _source(module)
            waiting += _imports(modules[module])
    trees = [_code(modules[module]) for module in sorted(modules)]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:16]


def _path(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")[1:])


def _source(module: str) -> str:
    path = _path(module)
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


@cache
def _imports(source: str) -> list[str]:
    """Modules of this package that a source imports, without the plumbing."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "weakseg":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if _is_module(name) else node.module for name in names]
    return [name for name in found if name.split(".")[-1] not in PLUMBING and name != "weakseg"]


def _is_module(name: str) -> bool:
    return _path(name).with_suffix(".py").is_file() or (_path(name) / "__init__.py").is_file()


@cache
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
