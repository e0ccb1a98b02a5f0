"""A chain of refinements: steps from map to map, from left to right."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from weakseg.refinements.case import Case, NotRefinedError


def refine_map(
    relevance: NDArray, case: Case, steps: list[str], settings: dict[str, dict[str, Any]]
) -> tuple[NDArray, list[str]]:
    """Send a map through a chain.

    A step that cannot refine a map hands it on as it came. A map that says nothing ends the chain, as it is.

    Args:
        relevance: (X, Y, Z) in [0, 1], 0 outside the foreground.
        case: what steps may look at.
        steps: names of the modules here, in order.
        settings: of each step that has any.

    Returns:
        The refined map (X, Y, Z) float32 in [0, 1]; and a word for each fault, as ``run.json`` counts them:
        ``empty_foreground``, ``empty_map``, ``constant_map``, and ``<step>_<reason>`` of a step that was left out.
    """
    faults: list[str] = []
    for step in steps:
        nothing = _says_nothing(relevance, case.foreground)
        if nothing:
            return relevance, [*faults, nothing]
        try:
            relevance = import_module(f"weakseg.refinements.{step}").refine(relevance, case, **settings.get(step, {}))
        except NotRefinedError as reason:
            faults.append(f"{step}_{reason}")
    return relevance, faults


def _says_nothing(relevance: NDArray, foreground: NDArray) -> str | None:
    if not foreground.any():
        return "empty_foreground"
    inside = relevance[foreground]
    if inside.max() <= 0:
        return "empty_map"
    return "constant_map" if inside.min() == inside.max() else None
