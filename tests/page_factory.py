"""A finished benchmark as the page sees it, made up in a moment: no image, no training, and names that mean harm."""

import csv
import json

import numpy as np
from tests.runner import REPOSITORY

from weakseg import catalogue
from weakseg.evaluation.metrics import SCORES
from weakseg.report import viewer
from weakseg.studies.plans import build_all
from weakseg.workflow import read_config

HARM = "<script>document.title='harmed'</script>"
SMOKE = REPOSITORY / "config" / "smoke.yaml"
METHODS = ("layercam", "gradcam", "intensity", "unet")
POINTS = ("val-3", "label-free", "oracle-set")
SHAPE = (20, 24, 16)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="90"><path fill="#fff" d="M0 0h300v90H0z"/>{}</svg>'


def make(directory):
    """Write what runs leave behind below a folder, which must be the working directory; returns the plans."""
    plans = build_all(read_config([SMOKE]))
    plan = plans["all"]
    for run in (*plan.runs.values(), *plans["sneak_attack"].published_runs):
        _record(directory, run)
    (board,) = plan.of_stage("leaderboard")
    write_csv(directory / board.folder / "tables" / "leaderboard.csv", board_rows())
    (figures,) = plan.of_stage("figures")
    (directory / figures.folder / "figures").mkdir()
    line = '<polyline points="10,80 150,20 290,40" fill="none" stroke="#0072b2" stroke-width="3"/>'
    (directory / figures.folder / "figures" / "dice.svg").write_text(SVG.format(line))
    (index,) = plan.of_stage("index")
    cases = [{"case": HARM, "patient": "p1", "source": "phantom", "role_f0": "test"}]
    write_csv(directory / index.folder / "cases.csv", cases)
    (volumes,) = plan.of_stage("viewer")
    (directory / volumes.folder / "viewer.json").write_text(json.dumps(packed()))
    published = {"method": "COIN", "origin": "published", "dice": 0.5, "comparable": f"other patients {HARM}"}
    rows = [{"method": "COIN", "origin": "ours", "dice": 0.123456, "comparable": ""}, published]
    for run in plans["sneak_attack"].published_runs:
        write_csv(directory / run.folder / "tables" / "sneak_attack.csv", rows)
    (maps, *_) = plan.of_stage("maps")
    failure = {"stage": maps.stage, "label": maps.label, "params": maps.params, "error": f"no memory {HARM}"}
    path = directory / "results" / "failures" / f"{maps.key}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**failure, "traceback": "Traceback: here"}))
    return plans


def _record(directory, run):
    folder = directory / run.folder
    folder.mkdir(parents=True)
    packages = {"torch": "2.0"}
    facts = {"seconds": 2.0, "peak_memory_mib": 100, "packages": packages, "python": "3.11", "device": "cpu"}
    (folder / "run.json").write_text(json.dumps({"stage": run.stage, **facts}))


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def board_rows():
    """Rows of a leaderboard; Dice falls with the row, so that ranks and names are in other orders."""
    rows = []
    for number, (point, method) in enumerate((point, method) for point in POINTS for method in METHODS):
        reference = method in catalogue.REFERENCES
        dice = 0.9 - 0.05 * number
        metrics = {name: dice for name in SCORES} | {"hd95_mm": 10.0 + number}
        rows.append(
            {
                **{"dataset": "brats", "source": "phantom", "region": "whole_tumour", "gate": "classifier"},
                **{"view": "supervised" if reference else "slice", "classifier": "resnet", "method": method},
                **{"refinement": "threshold", "operating_point": "fixed" if reference else point},
                "headline": "yes" if point == POINTS[0] else "no",
                "rank": "" if reference else number + 1,
                **{"n_cases": 6, "n_empty": 1, "mask_budget": 3, "label_budget": 200},
                **metrics,
                **{"dice_low": dice - 0.1, "dice_high": dice + 0.05, "beats_null": "no" if number else "yes"},
            }
        )
    return rows


def packed():
    """What the stage `viewer` writes: two cases, one with a name that means harm, and maps of each method."""
    grid = np.indices(SHAPE).astype(float)

    def ball(centre, radius):
        return np.sqrt(sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True))) < radius

    def encode(volume):
        return viewer.encode(volume, np.diag([4.0, 4.0, 4.0, 1.0]))

    cases, maps = [], []
    for name, centre in ((HARM, (8, 10, 7)), ("case-2", (12, 14, 9))):
        image = np.where(ball((10, 12, 8), 9), 90, 0).astype(np.uint8)
        truth = ball(centre, 4)
        cases.append(
            {
                **{"dataset": "brats", "source": "phantom", "case": name, "channel": "flair", "step": 1},
                **{"lesion_ml": 12.3, "image": encode(image), "truth": encode(truth.astype(np.uint8))},
            }
        )
        for number, method in enumerate(METHODS):
            relevance = np.where(ball((8 + number, 12, 8), 5), 0.9, 0.1)
            where = {"dataset": "brats", "view": "slice", "gate": "classifier", "method": method, "case": name}
            said = {"point": "label-free", "dice": 0.5 + number / 10, "cut": viewer.cut_level(0.5), "place": "worst"}
            maps.append({**where, **said, "map": encode(viewer.in_bytes(relevance, 0.5))})
    return {"cases": cases, "maps": maps, "left_out": 0}
