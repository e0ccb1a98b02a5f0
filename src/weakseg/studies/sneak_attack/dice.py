"""Heat maps as segmentations: Dice of lesion slices at fixed thresholds, Otsu's, and ones chosen on masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.classifiers.learning import labelled
from weakseg.classifiers.resnet import read_slices
from weakseg.data.grid import read_foreground
from weakseg.data.labels import LESION
from weakseg.evaluation.histogram import CUT_ALL, STEPS, THRESHOLDS, histogram, otsu
from weakseg.evaluation.protocol import draw_masks
from weakseg.evaluation.statistics import resample_counts
from weakseg.execution import Context, read_record
from weakseg.randomness import rng

SETTING = ["architecture", "method", "operating_point"]


@dataclass(frozen=True, eq=False)
class Curves:
    """Dice of the lesion slices of one role.

    Attributes:
        patients: (slices,) patient of each slice.
        dice: (slices, STEPS) at each of :data:`weakseg.evaluation.histogram.THRESHOLDS`.
        otsu: (slices,) Otsu's threshold of each slice.
    """

    patients: NDArray
    dice: NDArray
    otsu: NDArray


def dice_table(context: Context, patients: pd.Series) -> pd.DataFrame:
    """A row per architecture, method and operating point: the mean Dice over lesion-bearing test slices and seeds.

    ``threshold`` is the mean one; ``low`` and ``high`` hold 95 % of the resamples of patients; ``mask_budget`` is the
    number of patients whose masks chose the threshold. ``val-k`` is left out if there are fewer validation patients
    than k. ``oracle-set`` is chosen on the test slices: an upper bound.

    Args:
        context: of the running stage.
        patients: the patient of each case, by case.
    """
    params = context.params
    parts = []
    for folder in context.upstream["maps"]:
        record = read_record(folder)
        architecture = record["label"].split("-")[2]
        for method in record["params"]["methods"]:
            val, test = (_curves(context, folder / method, role, patients) for role in ("val", "test"))
            for point, threshold, budget, dice in _points(val, test, params):
                parts.append(
                    pd.DataFrame(
                        {
                            "architecture": architecture,
                            "method": method,
                            "operating_point": point,
                            "seed": record["params"]["seed"],
                            "patient": test.patients,
                            "slice": np.arange(len(dice)),
                            "dice": dice,
                            "threshold": threshold,
                            "mask_budget": budget,
                        }
                    )
                )
    return summarise(pd.concat(parts, ignore_index=True), params["data_seed"], params["bootstrap"])


def _curves(context: Context, maps: Path, role: str, patients: pd.Series) -> Curves:
    slices = labelled(read_slices(context), role)
    names, dice, cuts = [], [], []
    for case, rows in slices[slices["label"] == LESION].groupby("case"):
        relevance, _ = nifti.read(maps / f"{case}.nii.gz")
        lesion = nifti.read(context.folder("masks") / "masks" / f"{case}.nii.gz", np.uint8)[0] > 0
        foreground, affine = read_foreground(context.folder("preprocess"), str(case))
        voxel_ml = float(np.prod(nifti.spacing_of(affine))) / 1000
        for position in rows["position"]:
            counts = histogram(relevance[..., position], lesion[..., position], foreground[..., position], voxel_ml)
            names.append(patients[case])
            dice.append(counts.dice)
            cuts.append(otsu(counts))
    return Curves(np.array(names), np.array(dice), np.array(cuts))


def _points(val: Curves, test: Curves, params: dict[str, Any]) -> Iterator[tuple[str, float, int, NDArray]]:
    """Each operating point: its name, mean threshold, mask budget, and the Dice of every test slice."""
    for threshold in params["thresholds"]:
        yield f"{threshold:g}", threshold, 0, test.dice[:, round(threshold * STEPS)]
    # A map of one value has no threshold: nothing is cut out of it.
    steps = np.minimum(np.rint(test.otsu * STEPS).astype(int), STEPS - 1)
    dice = np.where(test.otsu < CUT_ALL, test.dice[np.arange(len(steps)), steps], 0)
    yield "label-free", float(test.otsu.mean()), 0, dice
    k = params["val_patients"]
    if len(set(val.patients)) >= k:
        drawn = [draw_masks(val.patients, k, draw, params["data_seed"]) for draw in range(params["draws"])]
        chosen = [_best(val.dice[np.isin(val.patients, names)]) for names in drawn]
        yield f"val-{k}", float(THRESHOLDS[chosen].mean()), k, test.dice[:, chosen].mean(axis=1)
    best = _best(test.dice)
    yield "oracle-set", float(THRESHOLDS[best]), len(set(test.patients)), test.dice[:, best]


def _best(dice: NDArray) -> int:
    """The step with the best mean Dice, the lowest of equal ones."""
    return int(np.argmax(dice.mean(axis=0)))


def summarise(slices: pd.DataFrame, data_seed: int, resamples: int) -> pd.DataFrame:
    """Means over slices and seeds, with intervals over resamples of patients who bring all their slices.

    Args:
        slices: one row per setting, seed and test slice: ``patient``, ``slice``, ``dice``, ``threshold``,
            ``mask_budget``.
        data_seed: seed of the resamples, which are the same for all settings.
        resamples: how many.
    """
    counts = resample_counts(slices["patient"].nunique(), rng(data_seed, "bootstrap", "sneak_attack"), resamples)
    records = []
    for key, rows in slices.groupby(SETTING, sort=False):
        dice = rows.groupby("patient")["dice"].agg(["sum", "size"])
        low, high = np.percentile((counts @ dice["sum"]) / (counts @ dice["size"]), [2.5, 97.5])
        record = dict(zip(SETTING, key, strict=True))
        record |= {"threshold": rows["threshold"].mean(), "dice": rows["dice"].mean(), "low": low, "high": high}
        record |= {
            "mask_budget": rows["mask_budget"].max(),
            "n_slices": rows["slice"].nunique(),
            "n_patients": rows["patient"].nunique(),
            "n_seeds": rows["seed"].nunique(),
        }
        records.append(record)
    return pd.DataFrame(records)
