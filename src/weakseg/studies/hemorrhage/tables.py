"""The study's tables: steps of the method, differences, classifiers, variants, lesion volumes, costs; its figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from weakseg.data.index import read_cases
from weakseg.data.labels import UNLABELLED, read_labels
from weakseg.evaluation.classification import auc, resampled_aucs
from weakseg.evaluation.lesions import BANDS_ML
from weakseg.evaluation.protocol import in_order
from weakseg.evaluation.statistics import bootstrap_interval, resample_counts
from weakseg.evaluation.summary import UPPER_BOUND, lesion_bearing
from weakseg.execution import Context
from weakseg.randomness import rng
from weakseg.report.tables import write_table
from weakseg.studies.comparisons import compare
from weakseg.studies.hemorrhage.figure import draw
from weakseg.studies.hemorrhage.paper import NOT_COMPARABLE, PUBLISHED_DICE

ARM = ["classifier", "gate", "slices", "share"]
ROW = [*ARM, "method", "refinement", "operating_point"]
STEPS = {
    ("gradcam", "threshold"): "CAM only",
    ("gradcam", "components"): "CAM only, components",
    ("gradcam", "clusters"): "both",
    ("gradcam", "clusters+components"): "both, components",
    ("gradcam", "clusters+student"): "student",
    ("gradcam", "clusters+student+components"): "student, components",
    ("intensity", "threshold"): "gated intensity",
    ("intensity", "components"): "gated intensity, components",
    ("intensity", "clusters"): "pseudo-mask only",
    ("intensity", "clusters+components"): "pseudo-mask only, components",
}
"""What a row is of the method: both is clusters that agree with the CAM, and the student learns from these.

Pseudo-masks alone are clusters that agree with brightness: the brightest, in slices that the classifier calls lesion.
"""
FULL = ("both, components", "student, components")
OTHERS = ("CAM only, components", "pseudo-mask only, components", "gated intensity, components")
"""What the full method is compared with, after the same cleaning."""
MEANS = ["dice", "hd_mm", "relative_volume_error", "nsd", "auprc"]
"""The challenge's four, and one that needs no cut."""
FAILED = 0.1
"""A case below this Dice counts as failed."""


def run(context: Context) -> None:
    """Write six tables and a figure, ``hemorrhage*``; what each holds: ``docs/explanation/studies.md``."""
    params = context.params
    cases = read_cases(context.folder("index")).set_index("case")
    tested = cases[cases[f"role_f{params['fold']}"] == "test"]
    origin = {
        "dataset": context.record("index")["params"]["dataset"],
        "source": "/".join(sorted(tested["source"].unique())),
    }
    scores = pd.concat(list(_scores(context)), ignore_index=True)
    compared = scores[scores["compared"]]
    settings = (params["data_seed"], params["bootstrap"])
    ours = pd.DataFrame(_rows(compared, *settings)).assign(origin="ours", comparable="", **origin)
    published = [
        {"step": name, "dice": dice, "origin": "published", "comparable": NOT_COMPARABLE, "source": "real"}
        | {"dataset": origin["dataset"]}
        for name, dice in PUBLISHED_DICE.items()
    ]
    differences = pd.DataFrame(_differences(compared, *settings)).assign(**origin)
    classifiers = pd.DataFrame(_classifiers(context, cases, *settings)).assign(**origin)
    tables = {
        "hemorrhage": pd.concat([ours, pd.DataFrame(published)], ignore_index=True),
        "hemorrhage_differences": differences,
        "hemorrhage_classifiers": classifiers,
        "hemorrhage_variants": _variants(scores, classifiers, params["arms"][params["shown"]]["seed"], *settings),
        "hemorrhage_volumes": pd.DataFrame(_volumes(compared)).assign(**origin),
        "hemorrhage_costs": pd.read_csv(context.folder("costs") / "costs.csv").assign(**origin),
    }
    tables["hemorrhage_variants"] = tables["hemorrhage_variants"].assign(**origin)
    for name, table in tables.items():
        numbers = [name for name in table if name in ("n", "slices", "mask_budget") or name.startswith("n_")]
        write_table(table.astype(dict.fromkeys(numbers, "Int64")), context.out / "tables", name)
    shown = params["arms"][params["shown"]]
    draw(context, compared[(compared[list(shown)] == pd.Series(shown)).all(axis=1)], origin)
    print(differences[differences["seed"] == "all"].to_string(index=False))


def _scores(context: Context) -> Iterator[pd.DataFrame]:
    """Tested cases with a lesion, with what tells their arm from others, and the ``step`` of the method."""
    for folder, arm in zip(context.upstream["scores"], context.params["arms"], strict=True):
        rows = lesion_bearing(pd.read_parquet(folder / "scores.parquet"), "test").assign(**arm)
        rows["step"] = [STEPS.get(pair, "") for pair in zip(rows["method"], rows["refinement"], strict=True)]
        yield rows


def _patients(rows: pd.DataFrame) -> pd.DataFrame:
    """Means by patient: over seeds first."""
    return rows.groupby(["patient", "case"])[MEANS].mean().groupby("patient").mean()


def _means(rows: pd.DataFrame, seed: int, resamples: int) -> dict[str, Any]:
    patients = _patients(rows)
    low, high = bootstrap_interval(patients["dice"], rng(seed, "bootstrap", "hemorrhage"), resamples)
    means = {name: float(value) for name, value in patients.mean().items()}
    dice = {"dice": means.pop("dice"), "dice_low": low, "dice_high": high}
    return {**dice, **means, "n": len(patients), "mask_budget": int(rows["mask_budget"].max())}


def _rows(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """A row for each classifier, step and operating point; at each point the best Dice first."""
    points = in_order(set(scores["operating_point"]))
    found = [
        {**dict(zip(ROW, key, strict=True)), "step": rows["step"].iloc[0], **_means(rows, seed, resamples)}
        for key, rows in scores.groupby(ROW)
    ]
    yield from sorted(found, key=lambda row: (points.index(row["operating_point"]), -row["dice"]))


def _differences(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """The full method less its parts and the plain threshold; and each step of one classifier less the other's."""
    for (classifier, point), rows in scores.groupby(["classifier", "operating_point"]):
        pairs = [(step, other) for step in FULL for other in OTHERS]
        named = rows.assign(method=rows["step"])
        for row in compare(named, pairs, f"hemorrhage/{classifier}/{point}", seed, resamples):
            yield {"operating_point": point, "classifier": classifier, **row}
    sequences, slices = (scores["classifier"] == name for name in ("resnet_lstm", "resnet"))
    for (step, point), rows in scores[sequences | slices].groupby(["step", "operating_point"]):
        named = rows.assign(method=rows["classifier"])
        name = f"hemorrhage/{step}/{point}"
        for row in compare(named, [("resnet_lstm", "resnet")], name, seed, resamples):
            yield {"operating_point": point, "classifier": "", "step": step, **row}


def _classifiers(context: Context, cases: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """A row for each classifier: slice AUC of tested patients with its interval; and, by seed and over all, the gap.

    ``auc`` of the rows `resnet_lstm less resnet` is the difference; ``non_inferior`` says whether the lower end of its
    95 % interval lies above the margin. All resamples draw the same patients.
    """
    params = context.params
    tested = cases.index[cases[f"role_f{params['fold']}"] == "test"]
    counts = resample_counts(cases.loc[tested, "patient"].nunique(), rng(seed, "bootstrap", "hemorrhage"), resamples)
    labels = read_labels(context.folder("labels"))
    labels = labels[labels["case"].isin(set(tested)) & (labels["label"] != UNLABELLED)]
    found: dict[tuple[str, int], tuple[float, np.ndarray]] = {}
    for folder, arm in zip(context.upstream["classifiers"], params["arms"], strict=True):
        if arm["gate"] == "none":
            continue
        predictions = pd.read_csv(folder / "predictions.csv", dtype={"case": str})
        slices = labels.merge(predictions, on=["case", "position"], validate="one_to_one")
        patients = slices["case"].map(cases["patient"])
        value = auc(slices["logit"], slices["label"])
        drawn = resampled_aucs(slices["logit"], slices["label"], patients, counts)
        if arm["compared"]:
            found[arm["classifier"], arm["seed"]] = value, drawn
        low, high = np.nanquantile(drawn, (0.025, 0.975))
        facts = {name: arm[name] for name in ("classifier", "slices", "share")}
        yield {**facts, "seed": str(arm["seed"]), "auc": value, "low": low, "high": high}
    seeds = sorted({at for _, at in found})
    for name, chosen in [*((str(at), [at]) for at in seeds), ("all", seeds)]:
        gaps = [
            (found["resnet_lstm", at][0] - found["resnet", at][0], found["resnet_lstm", at][1] - found["resnet", at][1])
            for at in chosen
        ]
        low, high = np.nanquantile(np.mean([drawn for _, drawn in gaps], axis=0), (0.025, 0.975))
        yield {
            "classifier": "resnet_lstm less resnet",
            "seed": name,
            "auc": float(np.mean([gap for gap, _ in gaps])),
            "low": low,
            "high": high,
            "margin": params["margin"],
            "non_inferior": "yes" if low > -params["margin"] else "no",
        }


def _variants(scores: pd.DataFrame, classifiers: pd.DataFrame, first: int, seed: int, resamples: int) -> pd.DataFrame:
    """Other lengths, fewer training patients and no gate, each with the first seed, beside the study's own."""
    chosen = scores.query("seed == @first and classifier == 'resnet_lstm' and method == 'gradcam'")
    rows = [
        {**dict(zip(ROW, key, strict=True)), "step": of_row["step"].iloc[0], **_means(of_row, seed, resamples)}
        for key, of_row in chosen.groupby(ROW)
    ]
    aucs = classifiers[classifiers["seed"] == str(first)][["classifier", "slices", "share", "auc"]]
    return pd.DataFrame(rows).merge(aucs, on=["classifier", "slices", "share"], how="left")


def _volumes(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """By the volume of all lesions of a case: Dice, failures, and cases in which nothing was hit."""
    edges = [0, *BANDS_ML, np.inf]
    names = [f"<{BANDS_ML[0]:g}", f"{BANDS_ML[0]:g}-{BANDS_ML[1]:g}", f">={BANDS_ML[1]:g}"]
    banded = scores.assign(band_ml=pd.cut(scores["lesion_ml"], edges, right=False, labels=names))
    banded = banded[banded["operating_point"] != UPPER_BOUND]
    for key, rows in banded.groupby([*ROW, "band_ml"], observed=True):
        by_case = rows.groupby("case")["dice"].mean()
        yield {
            **dict(zip([*ROW, "band_ml"], key, strict=True)),
            "step": rows["step"].iloc[0],
            "n_cases": len(by_case),
            "dice": by_case.mean(),
            "share_failed": float((by_case < FAILED).mean()),
            "share_missed": float((by_case == 0).mean()),
        }
