"""The rows of the study: what is trained, and what is published of it. Free of torch.

Published numbers are of the paper's Fig. 8 and of the training logs in its public code (lixiaopang221/2m_re1); the
cells of its tables are not known to us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """A network and how it begins.

    Attributes:
        name: the row key in the study's tables.
        title: how tables and figures call it.
        network: ``cmff``, ``early_fusion``, ``first_pair`` or ``second_pair``.
        guidance: as of :class:`weakseg.references.branches.CMFF`.
        initial: ``cmft`` and ``self`` are generators, of pair to pair or of pair to itself; the others are draws.
        logged: soft Dice of training patches in the official logs, of the output that is judged; None without one.
        curve: it is trained with fewer labelled cases as well.
    """

    name: str
    title: str
    network: Literal["cmff", "early_fusion", "first_pair", "second_pair"]
    guidance: Literal["mask", "none", "attention"]
    initial: Literal["cmft", "self", "default", "kaiming", "normal"]
    logged: float | None = None
    curve: bool = False


PROPOSED, SCRATCH = "cmff_cmft", "cmff_default"
"""What the paper proposes, and the same network without what it learnt before."""

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(PROPOSED, "CMFT → CMFF", "cmff", "mask", "cmft", 0.851, curve=True),
        Row(SCRATCH, "CMFF, default init", "cmff", "mask", "default", curve=True),
        Row("cmff_kaiming", "CMFF, Kaiming init", "cmff", "mask", "kaiming", 0.851),
        Row("cmff_normal", "CMFF, N(0,1) init", "cmff", "mask", "normal", 0.807),
        Row("cmff_self", "self-transition → CMFF", "cmff", "mask", "self", 0.832),
        Row("cmff_cmft_plain", "CMFT → CMFF without mask guidance", "cmff", "none", "cmft", 0.850),
        Row("cmff_cmft_attention", "CMFT → CMFF with attention", "cmff", "attention", "cmft", 0.838),
        Row("early_fusion", "early fusion, default init", "early_fusion", "none", "default", 0.842, curve=True),
        Row("first_pair_cmft", "T1 + T1c only, CMFT", "first_pair", "none", "cmft", 0.813),
        Row("second_pair_cmft", "T2 + FLAIR only, CMFT", "second_pair", "none", "cmft", 0.751),
    )
}

PUBLISHED_TRAINING_DICE = 0.886
"""Average Dice on the BraTS 2018 training set, in the caption of the paper's Fig. 8."""
