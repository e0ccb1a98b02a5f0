"""From rows of slices to one row per method: how valid counterfactuals are, how local, how faithful, how likely.

Columns of a method, with ``<judge>`` for ``classifier`` or ``evaluator``; what has no slices is NaN:

- ``validity_<judge>``: of the slices with a probability above 0.8, the share in which it changes by more than 0.8: the
  paper's CV at tau 0.8 for generators of normal slices (Shvetsov et al. 2024, arXiv 2404.12832), here of all methods.
  ``validity_<judge>_displaced`` and ``_blur``: after the two controls. ``validity_<judge>_normal``: were each slice
  replaced by each of those labelled normal in turn: what is sure of a lesion and of none, whatever makes it.
  ``sure_<judge>``: how many slices that is.
- ``validity_both_sides_<judge>``: of slices with a probability above 0.8 or below 0.2, after the change that is to flip
  the classifier's call: the paper's CV for methods with two conditions; NaN for the others.
- ``flips_evaluator``, and ``_displaced``, ``_blur``: of slices that both judges call lesion, the share that the
  evaluator calls normal afterwards.
- ``share_inside``: share of the absolute change inside the lesion; ``share_displaced``, ``share_blur``: the controls';
  ``lesion_share``: that of a change that is the same everywhere; ``over_displaced``, ``over_blur``: by how much the
  method's own share is larger than the control's on the same slices. Over slices with a lesion that the classifier
  calls lesion, averaged per patient first, with ``_low`` and ``_high`` of ``share_inside`` and of both differences:
  95 % bootstrap intervals over patients. ``patients``: how many.
- ``size_inside``, ``size_outside``: mean absolute change in the lesion and in the rest of the foreground, in units of
  the range, over the same slices.
- ``normal_size``, ``normal_kept_<judge>``: of slices labelled normal, the mean absolute change, and the share whose
  call stays what it is.
- ``fid_paper``: of called slices and their counterfactuals, as the paper has it: no change at all is best.
  ``fid_normal``, ``kid_normal``: of slices labelled normal and counterfactuals of called slices: how normal these look.
  ``kid_floor``: of two random halves of the normal slices, which no counterfactual can be expected to beat. Features
  are the evaluator's, not Inception's: see :mod:`weakseg.evaluation.frechet`.
- ``slices``, ``called``, ``normal``: how many there are, the classifier calls lesion, and are labelled normal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg.data.labels import NORMAL
from weakseg.evaluation.frechet import frechet_distance, kernel_distance
from weakseg.evaluation.statistics import mean_intervals
from weakseg.randomness import rng

JUDGES = ("classifier", "evaluator")
CHANGES = {"counterfactual": "", "displaced": "_displaced", "blur": "_blur"}
"""What is done to a slice, and what names of scores end in after it."""
CONTROLS = ("displaced", "blur")
CALL = 0.5
"""Judges call a lesion from this probability on."""
TAU = 0.8
"""Judges are sure from this probability on, and a call has changed if its probability changed by more than this."""


@dataclass(frozen=True)
class Features:
    """The evaluator's features of test slices: as they are, (N, F), and their counterfactuals by method."""

    real: NDArray
    made: Mapping[str, NDArray]


def summarise(slices: pd.DataFrame, features: Features, seed: int, resamples: int) -> pd.DataFrame:
    """A row per method.

    Args:
        slices: the rows of :func:`weakseg.evaluation.counterfactuals.measure` with ``patient`` and ``label``; those of
            a method are in the order of the features.
        features: of all slices.
        seed: of the halves of the normal slices and of the bootstrap, both the same for all methods.
        resamples: of the bootstrap.
    """
    of_methods = {name: slices[slices["method"] == name] for name in features.made}
    labels = next(iter(of_methods.values()))["label"].to_numpy()
    normal = features.real[labels == NORMAL]
    halves = np.array_split(rng(seed, "counterfactual-halves").permutation(len(normal)), 2)
    floor = kernel_distance(*(normal[half] for half in halves))
    return pd.DataFrame(
        [
            {
                "method": name,
                "slices": len(of_method),
                "normal": len(normal),
                **_validity(of_method),
                **_flips(of_method),
                **_places(of_method, rng(seed, "counterfactual-share"), resamples),
                **_identity(of_method[of_method["label"] == NORMAL]),
                **_distances(of_method, features.real, features.made[name]),
                "kid_floor": floor,
            }
            for name, of_method in of_methods.items()
        ]
    )


def _validity(slices: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for judge in JUDGES:
        before, flipped = slices[judge], slices[f"{judge}_flip"]
        sure, normal = before > TAU, slices["label"] == NORMAL
        found[f"sure_{judge}"] = int(sure.sum())
        for change, suffix in CHANGES.items():
            found[f"validity_{judge}{suffix}"] = _mean((before - slices[f"{judge}_{change}"])[sure].abs() > TAU)
        replaced = np.subtract.outer(before[sure].to_numpy(), before[normal].to_numpy())
        found[f"validity_{judge}_normal"] = _mean(pd.Series(replaced.ravel() > TAU))
        both = (sure | (before < 1 - TAU)) & flipped.notna()
        found[f"validity_both_sides_{judge}"] = _mean((before - flipped)[both].abs() > TAU)
    return found


def _flips(slices: pd.DataFrame) -> dict[str, float]:
    both = slices[(slices["classifier"] >= CALL) & (slices["evaluator"] >= CALL)]
    return {f"flips_evaluator{suffix}": _mean(both[f"evaluator_{change}"] < CALL) for change, suffix in CHANGES.items()}


def _places(slices: pd.DataFrame, generator: np.random.Generator, resamples: int) -> dict[str, float]:
    """Where the change lies, of slices with a lesion that the classifier calls lesion, and at least some change."""
    shares = {change: f"share_{change}" for change in CHANGES}
    looked_at = slices[slices["classifier"] >= CALL].dropna(subset=list(shares.values()))
    own = looked_at[shares["counterfactual"]]
    values = {
        "share_inside": own,
        **{f"share_{change}": looked_at[shares[change]] for change in CONTROLS},
        **{f"over_{change}": own - looked_at[shares[change]] for change in CONTROLS},
        **{name: looked_at[name] for name in ("lesion_share", "size_inside", "size_outside")},
    }
    patients = pd.DataFrame(values).groupby(looked_at["patient"]).mean()
    found: dict[str, float] = {"patients": len(patients)}
    empty = pd.DataFrame(np.nan, patients.columns, ["mean", "low", "high"])
    table = mean_intervals(patients, generator, resamples) if len(patients) else empty
    for name, row in table.iterrows():
        found[str(name)] = row["mean"]
        if name == "share_inside" or str(name).startswith("over_"):
            found |= {f"{name}_{end}": row[end] for end in ("low", "high")}
    return found


def _identity(normal: pd.DataFrame) -> dict[str, float]:
    kept = {
        f"normal_kept_{judge}": _mean((normal[judge] >= CALL) == (normal[f"{judge}_counterfactual"] >= CALL))
        for judge in JUDGES
    }
    return {"normal_size": _mean(normal["size"]), **kept}


def _distances(slices: pd.DataFrame, real: NDArray, made: NDArray) -> dict[str, float]:
    called, normal = (slices["classifier"] >= CALL).to_numpy(), (slices["label"] == NORMAL).to_numpy()
    return {
        "called": int(called.sum()),
        "fid_paper": frechet_distance(real[called], made[called]),
        "fid_normal": frechet_distance(real[normal], made[called]),
        "kid_normal": kernel_distance(real[normal], made[called]),
    }


def _mean(values: pd.Series) -> float:
    return float(values.astype(float).mean())
