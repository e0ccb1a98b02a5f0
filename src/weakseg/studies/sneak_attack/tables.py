"""The study's tables and figure: AUC behind every filter, verdicts, and heat maps as segmentations."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg.classifiers.learning import labelled
from weakseg.classifiers.resnet import read_slices
from weakseg.data.index import read_cases
from weakseg.evaluation.classification import resampled_aucs
from weakseg.evaluation.statistics import resample_counts
from weakseg.execution import Context, read_record
from weakseg.randomness import rng
from weakseg.report.tables import write_table
from weakseg.studies.sneak_attack.dice import dice_table
from weakseg.studies.sneak_attack.figure import draw
from weakseg.studies.sneak_attack.verdicts import verdicts

FILTER = ["filter", "kept"]


def run(context: Context) -> None:
    """Write ``tables/sneak_attack{,_verdicts,_dice}.{csv,md}`` and ``figures/sneak_attack.png``."""
    params = context.params
    cases = read_cases(context.folder("index")).set_index("case")
    slices = labelled(read_slices(context), "test")
    slices["patient"] = slices["case"].map(cases["patient"])
    counts = resample_counts(
        slices["patient"].nunique(), rng(params["data_seed"], "bootstrap", "sneak_attack"), params["bootstrap"]
    )
    aucs = auc_table(_predictions(context).merge(slices, on=["case", "position"], validate="many_to_one"), counts)
    judged = pd.DataFrame(
        {"architecture": architecture, **verdict}
        for architecture, rows in aucs.groupby("architecture", sort=False)
        for verdict in verdicts(rows.set_index(FILTER))
    )
    dice = dice_table(context, cases["patient"])
    tested = cases[f"role_f{params['fold']}"] == "test"
    origin = {
        "dataset": context.record("index")["params"]["dataset"],
        "source": "/".join(sorted(cases.loc[tested, "source"].unique())),
    }
    tables = context.out / "tables"
    for name, table in (("sneak_attack", aucs), ("sneak_attack_verdicts", judged), ("sneak_attack_dice", dice)):
        write_table(table.assign(**origin), tables, name)
    draw(aucs, dice, origin, context.out / "figures" / "sneak_attack")
    print(judged.to_string(index=False))


def _predictions(context: Context) -> pd.DataFrame:
    """Logits of every classifier for every labelled test slice, with what it was shown."""
    frames = []
    for folder in context.upstream["classifiers"]:
        params = read_record(folder)["params"]
        frame = pd.read_csv(folder / "predictions.csv", dtype={"case": str})
        frame = frame[frame["role"] == "test"].drop(columns="role")
        # The original's test images are the originals.
        frame = frame.assign(filter="foreground", kept="hard", shown="image", logit_on_originals=frame["logit"])
        frames.append(frame.assign(architecture=params["architecture"], seed=params["seed"]))
    for folder in context.upstream["retrained"]:
        params = read_record(folder)["params"]
        named = {name: params[name] for name in ("filter", "kept", "shown", "architecture", "seed")}
        frames.append(pd.read_csv(folder / "predictions.csv", dtype={"case": str}).assign(**named))
    return pd.concat(frames, ignore_index=True)


def auc_table(predictions: pd.DataFrame, counts: NDArray) -> pd.DataFrame:
    """A row for each architecture and filter, AUC over test slices, the mean over seeds, with 95 % intervals.

    Args:
        predictions: one row per test slice, classifier and seed: ``architecture``, ``seed``, ``filter``, ``kept``,
            ``shown`` (image or filter), ``patient``, ``label``, ``logit`` and ``logit_on_originals``.
        counts: (resamples, patients), the same resamples of patients for all rows.

    Returns:
        ``auc`` on test images behind the same filter, ``alone`` of the classifier that is shown the filter alone,
        ``added`` the first less the second, and ``on_originals`` the first classifier on unfiltered test images.
    """
    records = []
    for key, rows in predictions.groupby(["architecture", *FILTER], sort=False):
        image, alone = rows[rows["shown"] == "image"], rows[rows["shown"] == "filter"]
        readings = {
            "auc": _aucs(image, "logit", counts),
            "alone": _aucs(alone, "logit", counts),
            "on_originals": _aucs(image, "logit_on_originals", counts),
        }
        readings["added"] = readings["auc"] - readings["alone"]
        record = dict(zip(["architecture", *FILTER], key, strict=True))
        for name, values in readings.items():
            low, high = np.nanpercentile(values[1:], [2.5, 97.5])
            prefix = "" if name == "auc" else f"{name}_"
            record |= {name: values[0], f"{prefix}low": low, f"{prefix}high": high}
        record |= {
            "n_slices": len(rows[["case", "position"]].drop_duplicates()),
            "n_patients": rows["patient"].nunique(),
            "n_seeds": rows["seed"].nunique(),
        }
        records.append(record)
    return pd.DataFrame(records)


def _aucs(rows: pd.DataFrame, column: str, counts: NDArray) -> NDArray:
    """AUC of all patients, then of each resample, (1 + resamples,): the mean over seeds."""
    everyone = np.vstack([np.ones_like(counts[:1]), counts])
    return np.mean(
        [
            resampled_aucs(of_seed[column], of_seed["label"], of_seed["patient"], everyone)
            for _, of_seed in rows.groupby("seed")
        ],
        axis=0,
    )
