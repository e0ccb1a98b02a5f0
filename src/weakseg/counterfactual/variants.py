"""COIN, Singla et al. and all that lies between them: one thing, told apart by parameters. Free of torch.

Source of the values: Shvetsov et al. 2024 (COIN, arXiv 2404.12832) and its public configurations for synthetic
anomalies. Which row of its Table 3 is which set of parameters is inferred from the table's columns; rows A to G have
the weights of Singla et al.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

SKIPS = 4
"""Most skip connections."""


@dataclass(frozen=True)
class Variant:
    """What a generator of counterfactuals is made of, and what it is trained for.

    Attributes:
        skips: how many features of the encoder, from the coarsest on, reach the decoder: 0 to 4.
        perturbation: the generator's output is added to the image, instead of taking its place.
        conditions: 1: every image becomes normal. 2: the call of every image flips, as in Singla et al.
        carl: reconstruction is measured in the organ and in the rest by themselves, and added up; needs organ masks.
        adversarial, consistency, reconstruction, variation: weights of the loss's terms.
    """

    skips: int
    perturbation: bool
    conditions: Literal[1, 2]
    carl: bool
    adversarial: float
    consistency: float
    reconstruction: float
    variation: float

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term of the generator's loss by its name."""
        names = ("adversarial", "consistency", "reconstruction", "variation")
        return {name: getattr(self, name) for name in names}


COIN = Variant(
    skips=SKIPS,
    perturbation=True,
    conditions=1,
    carl=False,
    adversarial=1,
    consistency=5,
    reconstruction=1,
    variation=0.05,
)

SINGLA = Variant(
    skips=SKIPS,
    perturbation=False,
    conditions=2,
    carl=False,
    adversarial=1,
    consistency=1,
    reconstruction=1,
    variation=0,
)
"""Singla et al. as the paper modifies it: with skip connections, and without masks."""

_A = replace(SINGLA, skips=0, carl=True)
_F = replace(_A, perturbation=True, skips=4)

TABLE_3: dict[str, Variant] = {
    "A": _A,
    "B": replace(_A, perturbation=True),
    "C": replace(_F, skips=1),
    "D": replace(_F, skips=2),
    "E": replace(_F, skips=3),
    "F": _F,
    "G": replace(_F, carl=False),
    "H": SINGLA,
    "COIN": COIN,
}
"""The rows of the paper's Table 3, from Singla et al. to COIN in small steps."""


def variant_of(params: dict[str, Any]) -> Variant:
    """The variant that parameters of a map method name."""
    return Variant(**{field.name: params[field.name] for field in fields(Variant)})
