"""What the page is to tell of, as a file whose name changes with it: so Snakemake knows when to write the page anew."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from weakseg.config import Config
from weakseg.keys import canonical
from weakseg.runs import STATE, Plan

MARK_BYTES = 4096
"""A page may have tens of megabytes; its mark, a line of the names of a few targets, lies in these last ones."""


def write_page_spec(plans: Mapping[str, Plan]) -> Path:
    """Write the configuration behind the plans to ``page-<digest>.json``; the digest is also of all that is planned."""
    config = plans["all"].config.model_dump(mode="json")
    planned = {target: [run.key for run in plan.published_runs] for target, plan in plans.items()}
    digest = hashlib.sha256(canonical({"config": config, "planned": planned}).encode()).hexdigest()[:8]
    path = STATE / "specs" / f"page-{digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # As it is: the order of windows is that of the channels.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(config, indent=1) + "\n")
        temporary.replace(path)
    return path


def read_page_spec(path: Path) -> Config:
    """The configuration that :func:`write_page_spec` wrote."""
    return Config.model_validate(json.loads(path.read_text()))


def mark_of(plans: Iterable[Plan]) -> str:
    """The end of a page about some targets: it names what was published of each."""
    return f"<!-- made of: {' '.join(plan.manifest.stem for plan in plans)} -->\n"


def is_made_of(page: Path, plans: Iterable[Plan]) -> bool:
    """Does a page tell of these very runs of these targets?"""
    if not page.exists():
        return False
    with page.open("rb") as file:
        file.seek(max(0, page.stat().st_size - MARK_BYTES))
        last = file.read().decode(errors="replace").rstrip().rsplit("\n", 1)[-1]
    return last.startswith("<!-- made of: ") and {plan.manifest.stem for plan in plans} <= set(last.split())


def is_there(plan: Plan) -> bool:
    """Are all results of a target there?"""
    return bool(plan.published_runs) and all(run.record.exists() for run in plan.published_runs)
