"""The catalogue as people read it: ``docs/reference/methods.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weakseg import catalogue
from weakseg.catalogue import Method, Reference

HEAD = """\
# Methods, references and refinements

Made by `make schemas` from `src/weakseg/catalogue.py`. *In the manner of* means that something had to be chosen that
the source leaves open, or was made smaller; `docs/explanation/studies.md` says what. Parameters: `config/README.md`.
"""
STEPS = {
    "threshold": "the map as it is",
    "supervoxel": "each voxel becomes the mean of its supervoxel",
    "clusters": "clusters of intensity that the map agrees with, as a mask",
    "random_walker": "random walks between seeds that the map gives (Grady 2006, 10.1109/TPAMI.2006.233)",
    "crf": "a dense CRF with the map as unary term",
    "student": "a U-Net that learns from the masks that maps of training cases are cut into",
    "components": "opening, closing and least volume of the mask, after the cut",
}
"""What each refinement does, in few words."""


def methods_text() -> str:
    """Every method, null, reference, refinement and architecture, as Markdown."""
    maps = [method for method in catalogue.METHODS.values() if not method.null]
    nulls = [method for method in catalogue.METHODS.values() if method.null]
    heading = ["name", "title", "family", "explains", "needs", "source", "fidelity"]
    parts = [
        HEAD,
        "## Map methods\n",
        _table(heading, map(_method, maps)),
        "\n## Nulls\n\nThey explain nothing, and are there to be beaten.\n",
        _table(heading, map(_method, nulls)),
        "\n## Supervised references\n\nThey learn from masks, and are never ranked among the maps.\n",
        _table(
            ["name", "title", "masks", "data sets", "source", "fidelity"],
            map(_reference, catalogue.REFERENCES.values()),
        ),
        "\n## Refinements\n\nSteps of a chain, joined by `+`.\n",
        _table(["name", "what"], ([f"`{name}`", STEPS[name]] for name in catalogue.REFINEMENTS)),
        "\n## Classifiers\n",
        _table(
            ["name", "title", "dimensions", "source"],
            (
                [f"`{name}`", facts.title, str(facts.spatial_dims), facts.citation]
                for name, facts in catalogue.ARCHITECTURES.items()
            ),
        ),
    ]
    return "\n".join(parts)


def _method(method: Method) -> Sequence[str]:
    needs = [
        *(["forwards"] if method.asks_network else []),
        *(["supervoxels"] if method.needs_supervoxels else []),
        *(["learns first"] if method.fits and method.fitted_as is None else []),
        *([f"what `{method.fitted_as}` learnt"] if method.fitted_as else []),
        *(["training masks"] if method.family == "mean_mask" else []),
    ]
    views = ", ".join(f"{view}s" for view in method.views)
    source = "this benchmark" if method.citation == "weakseg" else method.citation
    return [f"`{method.name}`", method.title, f"`{method.family}`", views, ", ".join(needs), source, method.fidelity]


def _reference(reference: Reference) -> Sequence[str]:
    masks = "all for training, validation ones to choose" if reference.k is None else f"{reference.k}"
    datasets = ", ".join(reference.datasets)
    return [f"`{reference.name}`", reference.title, masks, datasets, reference.citation, reference.fidelity]


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
