"""Run keys: what a result depends on, as eight hex digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any

from weakseg.catalogue import KEYED_PACKAGES


def canonical(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    return versions_of(KEYED_PACKAGES)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages, without importing them; builds (`+cpu`) are no versions."""
    return {name: version(name).split("+")[0] for name in packages}


def run_key(stage: str, stage_version: int, params: dict[str, Any], upstream: dict[str, list[str]]) -> str:
    """First 8 hex digits of the SHA-256 over everything that decides a run's result."""
    content = {
        "stage": stage,
        "version": stage_version,
        "params": params,
        "upstream": upstream,
        "packages": package_versions(),
    }
    return digest_of(content)


def digest_of(value: Any) -> str:
    """First 8 hex digits of the SHA-256 over a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]
