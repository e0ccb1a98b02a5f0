"""The study's tables: regions by row and number of labelled cases, paired differences, training, translation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import nifti
from weakseg.data.grid import read_foreground, resample
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.evaluation.segmentation import compare_surfaces, overlap
from weakseg.evaluation.statistics import bootstrap_interval
from weakseg.execution import Context, read_record
from weakseg.randomness import rng
from weakseg.references.cmff import OUTPUTS
from weakseg.references.regions import REGIONS, postprocess, region_of, specificity
from weakseg.report.tables import write_table
from weakseg.studies.comparisons import compare
from weakseg.studies.cross_modality.figures import draw_cases, draw_curve
from weakseg.studies.cross_modality.rows import PROPOSED, PUBLISHED_TRAINING_DICE, ROWS, SCRATCH

METRICS = ["dice", "sensitivity", "specificity", "hd95_mm", "dice_unprocessed"]
MEAN = "mean"
"""The three regions together: the mean of their scores in each case."""
PUBLISHED = "published, BraTS 2018 training set (Fig. 8)"
KEY = ["row", "labelled"]


def run(context: Context) -> None:
    """Write four tables and two figures, ``cross_modality*``; what each holds: ``docs/explanation/studies.md``."""
    cases = read_cases(context.folder("index")).set_index("case")
    placed: dict[str, list[tuple[Path, str]]] = {}
    for folder in context.upstream["trained"]:
        for part, case in pd.read_csv(folder / "cases.csv").itertuples(index=False, name=None):
            placed.setdefault(case, []).append((folder, part))
    found = context.map_cases_resumably(_score_case, sorted(placed.items()), "scores")
    scores = pd.concat(found, ignore_index=True)
    scores = scores.merge(_runs(context), on="folder").drop(columns="folder")
    scores["patient"] = scores["case"].map(cases["patient"])
    tested = scores[scores["part"] == "test"]
    origin = {
        "dataset": context.record("index")["params"]["dataset"],
        "source": "/".join(sorted(cases.loc[tested["case"].unique(), "source"].unique())),
    }
    settings = (context.params["data_seed"], context.params["bootstrap"])
    board = pd.DataFrame(_rows(scores, *settings))
    differences = pd.DataFrame(_differences(tested, *settings))
    published = {"title": PUBLISHED, "region": MEAN, "dice_training": PUBLISHED_TRAINING_DICE, "source": "real"}
    tables = {
        "cross_modality": pd.concat([board.assign(**origin), pd.DataFrame([published])], ignore_index=True),
        "cross_modality_differences": differences.assign(**origin),
        "cross_modality_training": pd.DataFrame(_training(context)).assign(**origin),
        "cross_modality_translation": _translation(context).assign(**origin),
    }
    counts = [name for name in ("labelled", "mask_budget", "n_patients", "n_absent") if name in board]
    tables["cross_modality"][counts] = tables["cross_modality"][counts].astype("Int64")
    for name, table in tables.items():
        write_table(table, context.out / "tables", name)
    sentence = verdict(differences)
    draw_curve(board, sentence, origin, context.out / "figures" / "cross_modality_curve")
    draw_cases(context, sorted(tested["case"].unique()), origin, context.out / "figures" / "cross_modality")
    print(sentence)


def _score_case(context: Context, placed: tuple[str, list[tuple[Path, str]]]) -> pd.DataFrame:
    """Scores of every network's classes of a case, by region; the truth is opened once for all.

    Classes are post-processed on the case's grid and brought to the publisher's, where they are scored.
    """
    case, folders = placed
    foreground, grid = read_foreground(context.folder("preprocess"), case)
    voxel_mm3 = float(np.prod(nifti.spacing_of(grid)))
    opened = {region: open_lesion(context, context.folder("truth"), case, "scores", region) for region in REGIONS}
    rows = []
    for folder, part in folders:
        stored, _ = nifti.read(folder / "classes" / f"{case}.nii.gz", np.uint8)
        for region, (truth, affine) in opened.items():
            final, plain = (
                region_of(resample(classes, grid, truth.shape, affine, "nearest"), region)
                for classes in (postprocess(stored, foreground, voxel_mm3), stored)
            )
            shared = overlap(final, truth)
            record: dict[str, Any] = {"folder": folder.name, "part": part, "case": case, "region": region}
            record |= {name: shared[name] for name in ("dice", "sensitivity")}
            record["specificity"] = specificity(final, truth)
            record["hd95_mm"] = compare_surfaces(final, truth, nifti.spacing_of(affine))["hd95_mm"]
            record["dice_unprocessed"] = overlap(plain, truth)["dice"]
            rows.append({**record, "absent": not truth.any()})
    table = pd.DataFrame(rows)
    together = table.groupby(["folder", "part", "case"], sort=False)[METRICS].mean().reset_index()
    return pd.concat([table, together.assign(region=MEAN, absent=False)], ignore_index=True)


def _runs(context: Context) -> pd.DataFrame:
    """What each trained network is: ``row``, ``seed``, and ``labelled``, the masks that it was trained on."""
    records = [(folder, read_record(folder)) for folder in context.upstream["trained"]]
    return pd.DataFrame(
        {
            "folder": folder.name,
            "row": record["params"]["row"],
            "seed": record["params"]["seed"],
            "labelled": len(record["masks_used"]),
        }
        for folder, record in records
    )


def _rows(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """A row for each network, number of labelled cases and region: means over patients, of seeds first.

    ``dice_training`` is of cases that were learnt from; all else is of the tested ones.
    """
    for labelled in sorted(scores["labelled"].unique(), reverse=True):
        for name, row in ROWS.items():
            chosen = scores[(scores["row"] == name) & (scores["labelled"] == labelled)]
            for region, of_region in chosen.groupby("region", sort=False):
                parts = {part: by_patient(rows) for part, rows in of_region.groupby("part")}
                tested = parts["test"]
                generator = rng(seed, "bootstrap", f"{name}/{labelled}/{region}")
                low, high = bootstrap_interval(tested["dice"], generator, resamples)
                absent = of_region[(of_region["part"] == "test") & of_region["absent"]]
                yield {
                    "row": name,
                    "title": row.title,
                    "labelled": labelled,
                    "mask_budget": labelled,
                    "region": region,
                    "dice_training": parts["training"]["dice"].mean(),
                    "dice": tested["dice"].mean(),
                    "dice_low": low,
                    "dice_high": high,
                    **tested[METRICS[1:]].mean(),
                    "n_patients": len(tested),
                    "n_absent": absent["patient"].nunique(),
                }


def by_patient(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores of each patient: over seeds, then over visits."""
    return scores.groupby(["patient", "case"])[METRICS].mean().groupby("patient").mean()


def _differences(tested: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """The proposed network less each other one with as many labelled cases, paired by patient, for each region."""
    for (labelled, region), rows in tested.groupby(["labelled", "region"], sort=False):
        methods = rows.assign(method=rows["row"])
        pairs = [(PROPOSED, name) for name in ROWS if name != PROPOSED]
        for found in compare(methods, pairs, f"cross_modality/{labelled}/{region}", seed, resamples):
            yield {"labelled": labelled, "region": region, **found}


def verdict(differences: pd.DataFrame) -> str:
    """One sentence: does CMFT help, against the same network from PyTorch's own initial weights?

    Of all labelled cases and the mean of the regions, at the 5 % level of the paired test; without a test, by the
    interval.
    """
    chosen = differences[(differences["other"] == SCRATCH) & (differences["region"] == MEAN)]
    pooled = chosen[chosen["seed"] == "all"]
    row = pooled.loc[pooled["labelled"].idxmax()]
    tested = not np.isnan(row["p"])
    clear = row["p"] < 0.05 if tested else row["low"] > 0 or row["high"] < 0
    direction = "better than" if row["median_difference"] > 0 else "worse than"
    finding = direction if clear else "not told apart from"
    interval = f"{row['median_difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    p = "p < 0.001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"
    test = f"{p} by Wilcoxon's test" if tested else "too few patients for a test"
    return (
        f"With {row['labelled']} labelled cases CMFT → CMFF is {finding} CMFF with PyTorch's default initial weights: "
        f"median paired difference of mean Dice {interval}, {row['n_patients']} patients, {test}."
    )


def _training(context: Context) -> Iterator[dict[str, Any]]:
    """Soft Dice of patches at the end of training, mean over the last sixth of the steps and over seeds, as the
    official logs have it; theirs beside it."""
    rows = []
    for folder in context.upstream["trained"]:
        record, history = read_record(folder), pd.read_csv(folder / "history.csv")
        last = history[history["step"] > 5 / 6 * record["params"]["steps"]]
        dice = {f"patch_{name}": last[name].mean() for name in OUTPUTS if name in last}
        rows.append({"row": record["params"]["row"], "labelled": len(record["masks_used"]), **dice})
    means = pd.DataFrame(rows).groupby(KEY).mean()
    largest = means.index.get_level_values("labelled").max()
    for name, row in ROWS.items():
        for labelled in sorted({count for found, count in means.index if found == name}, reverse=True):
            logged = row.logged if labelled == largest else None
            found = means.loc[(name, labelled)].to_dict()
            yield {"row": name, "title": row.title, "labelled": labelled, **found, "logged_patch_dice": logged}


def _translation(context: Context) -> pd.DataFrame:
    """How good translated modalities are: means over tested cases and seeds."""
    tables = [
        pd.read_csv(folder / "translation.csv").assign(transition=read_record(folder)["params"]["transition"])
        for folder in context.upstream["transitions"]
    ]
    if not tables:
        return pd.DataFrame(columns=["transition", "modality", "made_from"])
    keys = ["transition", "modality", "made_from"]
    return pd.concat(tables).drop(columns="case").groupby(keys, sort=False).mean().reset_index()
