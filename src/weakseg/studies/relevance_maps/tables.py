"""The study's tables: scores by region and grade, paired differences, variants, classifiers; and its figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weakseg import catalogue, nifti
from weakseg.catalogue import GRADES
from weakseg.data.grid import read_foreground
from weakseg.data.index import read_cases
from weakseg.data.truth import open_lesion
from weakseg.evaluation.forwards import forwards_per_case
from weakseg.evaluation.protocol import in_order
from weakseg.evaluation.segmentation import compare_surfaces, overlap
from weakseg.evaluation.statistics import bootstrap_interval
from weakseg.evaluation.summary import lesion_bearing
from weakseg.execution import Context, read_record
from weakseg.maps.base import cases_called_low
from weakseg.randomness import rng
from weakseg.report.tables import write_table
from weakseg.studies.classifiers import classifier_rows
from weakseg.studies.comparisons import compare
from weakseg.studies.relevance_maps.figure import draw
from weakseg.supervoxels import read_supervoxels

ROW = ["region", "method", "refinement", "operating_point"]
PROPOSED, PEERS = ("relevance_map", "optimal_perturbation"), ("gradcam", "layercam")
CEILING = "evidence_ceiling"
"""Truth of a part, scored as if it were the map of the whole: evidence for a grade need not cover oedema."""
PARTS = ("tumour_core", "enhancing_tumour")
MEANS = ["dice", "hd95_mm", "nsd", "nsd_voxel"]
PUBLISHED = "published, precursor arXiv 2111.14953"
PUBLISHED_DICE = {"relevance_map": 0.44, "gradcam": 0.11}
"""Mean Dice in the abstract of the precursor, on real BraTS cases."""


def run(context: Context) -> None:
    """Write four tables and a figure, ``relevance_maps*``; what each holds: ``docs/explanation/studies.md``."""
    params = context.params
    cases = read_cases(context.folder("index")).set_index("case")
    tested = cases.index[cases[f"role_f{params['fold']}"] == "test"]
    wrong = misclassified(context, cases.loc[tested, "grade"])
    scores = pd.concat(_scores(context, "scores"), ignore_index=True)
    snapped = scores[scores["refinement"] == params["refinement"]]
    ceilings = pd.concat([_ceilings(context, case) for case in tested], ignore_index=True)
    ceilings["patient"] = ceilings["case"].map(cases["patient"])
    everything = pd.concat([scores, ceilings], ignore_index=True)
    everything["grade"] = everything["case"].map(cases["grade"])
    everything["misclassified"] = [pair in wrong for pair in zip(everything["seed"], everything["case"], strict=True)]
    settings = (params["data_seed"], params["bootstrap"])
    table = pd.DataFrame(_rows(everything, *settings))
    forwards = forwards_per_case(context.upstream["maps"]).set_index("method")["forwards"]
    table["forwards"] = table["method"].map(forwards)
    table["cell_mm"] = table["method"].map(cell_mm(context, tested))
    table["origin"] = table["method"].map(_origin)
    published = [
        {"region": "whole_tumour", "method": method, "dice": dice, "origin": PUBLISHED}
        for method, dice in PUBLISHED_DICE.items()
    ]
    table = pd.concat([table, pd.DataFrame(published)], ignore_index=True)
    numbers = [name for name in table if name == "n" or name.startswith("n_")]
    table[numbers] = table[numbers].astype("Int64")
    origin = {
        "dataset": context.record("index")["params"]["dataset"],
        "source": "/".join(sorted(cases.loc[tested, "source"].unique())),
    }
    classifiers = pd.DataFrame(classifier_rows(context.upstream["classifiers"]))
    classifiers = classifiers[classifiers["role"] != "shift"]
    shown = ["seed", "role", "units", "positive", "auc", "sensitivity", "specificity", "best_plain", "best_plain_auc"]
    tables = {
        "relevance_maps": table.assign(source=np.where(table["origin"] == PUBLISHED, "real", origin["source"])),
        "relevance_maps_differences": pd.DataFrame(_differences(snapped, *settings)).assign(**origin),
        "relevance_maps_variants": _variants(context, snapped).assign(**origin),
        "relevance_maps_classifiers": classifiers[shown].assign(**origin),
    }
    for name, of_name in tables.items():
        write_table(of_name, context.out / "tables", name)
    draw(context, tested, cases["grade"], wrong, origin, context.out / "figures" / "relevance_maps")
    print(tables["relevance_maps_differences"].query("seed == 'all'").to_string(index=False))


def _origin(method: str) -> str:
    if method == CEILING:
        return "truth of a part: upper bound"
    facts = catalogue.METHODS[method]
    return "null" if facts.null else facts.fidelity


def misclassified(context: Context, grades: pd.Series) -> set[tuple[int, str]]:
    """Seeds and cases whose predicted grade is not the case's; grades by case, gaps count as right."""
    wrong: set[tuple[int, str]] = set()
    for folder in context.upstream["classifiers"]:
        called_low = cases_called_low(folder)
        seed = read_record(folder)["params"]["seed"]
        wrong |= {
            (seed, case)
            for case, grade in grades.items()
            if grade in GRADES and (grade == "LGG") != (case in called_low)
        }
    return wrong


def _scores(context: Context, role: str) -> Iterator[pd.DataFrame]:
    for folder in context.upstream[role]:
        yield lesion_bearing(pd.read_parquet(folder / "scores.parquet"), "test")


def _ceilings(context: Context, case: str) -> pd.DataFrame:
    """Scores of the truth of each part as a mask of the study's region, a row for each part and seed."""
    region, truth = context.params["region"], context.folder("truth")
    lesion, affine = open_lesion(context, truth, case, "scores", region)
    rows = []
    for part in (part for part in PARTS if part != region):
        mask, _ = open_lesion(context, truth, case, "scores", part)
        found = {**overlap(mask, lesion), **compare_surfaces(mask, lesion, nifti.spacing_of(affine))}
        row = {"region": region, "method": CEILING, "refinement": part, "operating_point": "truth", "case": case}
        rows += [{**row, **found, "seed": seed} for seed in context.params["seeds"]]
    return pd.DataFrame(rows)


def _rows(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """A row for each region, method, refinement and operating point, best Dice first at each point.

    Means over patients: over seeds first, then over cases. ``dice_hgg``, ``dice_lgg`` and ``dice_misclassified`` are
    over the patients of a grade, or of those whose grade a seed's classifier got wrong; ``n_`` counts patients.
    """
    regions = list(dict.fromkeys(scores["region"]))
    points = ["truth", *in_order(set(scores["operating_point"]) - {"truth"})]
    found = []
    for key, rows in scores.groupby(ROW):
        patients = _by_patient(rows)
        low, high = bootstrap_interval(patients["dice"], rng(seed, "bootstrap", "relevance_maps"), resamples)
        means = patients[MEANS].mean()
        record = {**dict(zip(ROW, key, strict=True)), "dice": means["dice"], "dice_low": low, "dice_high": high}
        record |= {**means, "n": len(patients)}
        parts = {grade.lower(): rows["grade"] == grade for grade in GRADES} | {"misclassified": rows["misclassified"]}
        for name, chosen in parts.items():
            of_part = _by_patient(rows[chosen])
            record |= {f"dice_{name}": of_part["dice"].mean(), f"n_{name}": len(of_part)}
        found.append(record)
    yield from sorted(
        found,
        key=lambda row: (regions.index(row["region"]), points.index(row["operating_point"]), -row["dice"]),
    )


def _by_patient(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(["patient", "case"])[MEANS].mean().groupby("patient").mean()


def _differences(scores: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict[str, Any]]:
    """The paper's methods less their peers, after the same snapping to supervoxels."""
    for (region, point), rows in scores.groupby(["region", "operating_point"]):
        pairs = [(method, peer) for method in PROPOSED for peer in PEERS]
        for row in compare(rows, pairs, f"relevance_maps/{region}/{point}", seed, resamples):
            yield {"region": region, "operating_point": point, **row}


def _variants(context: Context, scores: pd.DataFrame) -> pd.DataFrame:
    """Dice of each variant and of the study's own maps of the same seed, and how far each is above its peers."""
    params = context.params
    first = scores[(scores["seed"] == params["seeds"][0]) & (scores["region"] == params["region"])]
    own = {"method": "", "change": "none", "value": ""}
    frames = [(own | {"method": method}, first[first["method"] == method]) for method in (*PROPOSED, *PEERS)]
    frames += list(zip(params["tried"], _scores(context, "variants"), strict=True))
    peers = first[first["method"].isin(PEERS)]
    records = []
    for tried, frame in frames:
        for point, rows in frame[frame["refinement"] == params["refinement"]].groupby("operating_point"):
            record = {**tried, "operating_point": point, "dice": _by_patient(rows)["dice"].mean()}
            same = peers[peers["operating_point"] == point]
            for peer in PEERS if tried["method"] in PROPOSED else ():
                both = pd.concat([rows, same[same["method"] == peer]])
                name = "/".join(["relevance_maps", *tried.values(), str(point)])
                compared = compare(both, [(tried["method"], peer)], name, params["data_seed"], params["bootstrap"])
                first_row = next(compared)
                record |= {
                    f"over_{peer}": first_row["median_difference"],
                    f"over_{peer}_low": first_row["low"],
                    f"over_{peer}_high": first_row["high"],
                }
            records.append(record)
    return pd.DataFrame(records)


def cell_mm(context: Context, tested: Sequence[str]) -> dict[str, float]:
    """Edge of a method's native cell in mm, before any refinement: what it can resolve.

    Of a CAM it is a pixel of its layer, of a method on supervoxels the edge of a cube of their mean volume, of noise
    and of intensities a voxel; `centre` has none.
    """
    edges, sides = [], []
    for case in tested:
        foreground, affine = read_foreground(context.folder("preprocess"), case)
        voxel = float(np.prod(nifti.spacing_of(affine)))
        count = int(read_supervoxels(context.folder("supervoxels"), case).max())
        edges.append(voxel ** (1 / 3))
        sides.append((voxel * np.count_nonzero(foreground) / count) ** (1 / 3))
    edge, side = float(np.mean(edges)), float(np.mean(sides))
    cells: dict[str, float] = {"random": edge, "intensity": edge}
    for folder in context.upstream["maps"]:
        record = read_record(folder)
        for method, settings in record["params"]["methods"].items():
            if catalogue.METHODS[method].needs_supervoxels:
                cells[method] = side
            elif "layer" in settings:
                layers = settings["layer"] if isinstance(settings["layer"], list) else [settings["layer"]]
                names = list(catalogue.ARCHITECTURES["resnet3d"].layers.values())
                finest = min(names.index(layer) for layer in layers)
                cells[method] = edge * 2 * context.params["stem_stride"] * 2**finest
    return cells
