"""What the page says, as plain values for its template: nothing here is HTML, so all of it is escaped there."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.metrics import SCORES
from weakseg.evaluation.summary import GROUP, UPPER_BOUND, supervised, weak
from weakseg.execution import read_record
from weakseg.report.style import title_of, title_of_data
from weakseg.runs import RESULTS, Plan, Run

METRICS = ("nsd", "hd95_mm", "lesion_f1", "auprc", "false_positive_ml")
MOST_ROWS = 400
"""Longer tables are cut on the page; their file has all."""
LINKS = re.compile(r"arXiv (\d{4}\.\d{4,5})|(10\.\d{4,9}/[^\s;,]+)")

STUDIES = {
    "sneak_attack": ("Sneak attack", "Guan & Loew 2022, arXiv 2201.02771"),
    "coin": ("Counterfactual inpainting", "Shvetsov et al. 2024, arXiv 2404.12832"),
    "hemorrhage": ("Haemorrhage", "Ramananda & Sundaresan 2023, arXiv 2309.16627"),
    "refinements": ("Refinements", "weakseg"),
    "relevance_maps": ("Relevance maps", "Rajapaksa & Khalvati 2022, 10.3389/fradi.2022.1061402"),
    "cross_modality": ("Cross-modality learning", "Zhang et al. 2021, arXiv 2201.02356"),
}
"""Title and source of each target that is a study."""


def board_rows(board: pd.DataFrame) -> list[dict[str, Any]]:
    """The leaderboard's rows with what marks them: null, reference or upper bound, and what they learnt from."""
    rows = []
    for row in board.to_dict("records"):
        mark = _mark(row)
        rows.append(
            {
                **{name: row[name] for name in ("dataset", "source", "region", "view", "method", "refinement", "gate")},
                "point": row["operating_point"],
                "headline": row["headline"] == "yes",
                "mark": mark,
                "title": title_of(row["method"]).removeprefix("null: "),
                "data": row["dataset"],
                "supervision": supervision_of(row["method"], row["view"]),
                "rank": number(row["rank"], 0),
                "dice": number(row["dice"]),
                "low": number(row["dice_low"]),
                "high": number(row["dice_high"]),
                "metrics": [number(row[name], 3 if name != "hd95_mm" else 1) for name in METRICS],
                "masks": int(row["mask_budget"]),
                "labels": int(row["label_budget"]),
                "beats": row["beats_null"] if isinstance(row["beats_null"], str) else "",
            }
        )
    return rows


def _mark(row: Mapping[str, Any]) -> str:
    if row["method"] in catalogue.REFERENCES:
        return "reference"
    if row["operating_point"] == UPPER_BOUND:
        return "upper bound"
    return "null" if catalogue.METHODS[row["method"]].null else ""


def supervision_of(method: str, view: str) -> str:
    """What a row's network learnt from; masks that only choose a threshold are counted beside."""
    if method in catalogue.REFERENCES:
        return "masks"
    return "grades" if view == "volume" else "slice labels"


def at_a_glance(board: pd.DataFrame) -> list[dict[str, Any]]:
    """For each data set: the best method, the best null and the references at the headline."""
    found = []
    for _, rows in board[board["headline"] == "yes"].groupby(GROUP):
        first, maps, references = rows.iloc[0], weak(rows), rows[supervised(rows)]
        is_null = maps["method"].map(lambda name: catalogue.METHODS[name].null)
        lines = [("best method", maps[~is_null]), ("best null", maps[is_null])]
        lines += [("reference", of) for _, of in references.groupby("method", sort=False)]
        found.append(
            {
                "title": title_of_data(first["dataset"], first["source"]),
                "source": first["source"],
                "region": first["region"].replace("_", " "),
                "cases": int(first["n_cases"]),
                "point": first["operating_point"] if maps.empty else maps.iloc[0]["operating_point"],
                "lines": [_line(what, of) for what, of in lines if len(of)],
            }
        )
    return found


def _line(what: str, rows: pd.DataFrame) -> dict[str, Any]:
    best = rows.loc[rows["dice"].idxmax()]
    refined = "" if best["refinement"] == "threshold" else best["refinement"]
    return {
        "what": what,
        "title": title_of(best["method"]).removeprefix("null: "),
        "refined": refined,
        "dice": number(best["dice"]),
        "low": number(best["dice_low"]),
        "high": number(best["dice_high"]),
        "masks": int(best["mask_budget"]),
        "beats": best["beats_null"] if isinstance(best["beats_null"], str) else "",
    }


def method_cards(board: pd.DataFrame | None) -> list[dict[str, Any]]:
    """A card for each method and reference of the catalogue, with its best Dice at the headline of each data set."""
    best: dict[str, dict[str, str]] = defaultdict(dict)
    if board is not None:
        rows = board[board["headline"] == "yes"].sort_values("dice", ascending=False)
        for row in rows.drop_duplicates(["method", "dataset", "source"]).to_dict("records"):
            best[row["method"]][title_of_data(row["dataset"], row["source"])] = number(row["dice"])
    cards = [_card(facts, "null" if facts.null else "method") for facts in catalogue.METHODS.values()]
    cards += [_card(facts, "reference") for facts in catalogue.REFERENCES.values()]
    return [card | {"best": best.get(card["name"], {})} for card in cards]


def _card(facts: catalogue.Method | catalogue.Reference, kind: str) -> dict[str, Any]:
    is_method = isinstance(facts, catalogue.Method)
    return {
        "name": facts.name,
        "title": facts.title,
        "kind": kind,
        "citation": cited(facts.citation),
        "fidelity": facts.fidelity,
        "module": f"{'maps' if is_method else 'references'}/{facts.family}.py",
        "views": ", ".join(facts.views) if isinstance(facts, catalogue.Method) else "",
    }


def cited(citation: str) -> list[tuple[str, str]]:
    """A citation in parts: text, and the address it stands for or nothing."""
    parts, end = [], 0
    for found in LINKS.finditer(citation):
        parts.append((citation[end : found.start()], ""))
        arxiv, doi = found.groups()
        parts.append((found.group(), f"https://arxiv.org/abs/{arxiv}" if arxiv else f"https://doi.org/{doi}"))
        end = found.end()
    return [part for part in (*parts, (citation[end:], "")) if part[0]]


def read_tables(runs: Iterable[Run], names: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The tables of some runs, or those with some names, as text with three digits; published rows are marked."""
    found = []
    for path in sorted(path for run in runs for path in (run.folder / "tables").glob("*.csv")):
        if names is not None and path.stem not in names:
            continue
        table = pd.read_csv(path, dtype={"case": str})
        shown = table.dropna(axis="columns", how="all").head(MOST_ROWS)
        published = shown["origin"].eq("published") if "origin" in shown else pd.Series(False, index=shown.index)
        found.append(
            {
                "name": path.stem,
                "columns": [heading(name) for name in shown],
                "rows": [
                    {"published": bool(is_published), "cells": [cell(value) for value in row]}
                    for is_published, row in zip(published, shown.itertuples(index=False), strict=True)
                ],
                "published": int(published.sum()),
                "length": len(table),
            }
        )
    return found


def heading(name: str) -> str:
    """A column's heading: a metric's has an arrow that says which is better."""
    return SCORES[name].heading if name in SCORES else name.replace("_", " ")


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None or value != value:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number with some digits, fewer where it is large; nothing for none."""
    if value is None or value != value:
        return ""
    return f"{value:.{digits if abs(value) < 10 else min(digits, 1)}f}"


def cost_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Seconds and memory of finished runs, by stage and in all; also what they were computed with."""
    records = [read_record(run.folder) for run in runs if run.record.exists()]
    stages: dict[str, dict[str, Any]] = {}
    for record in records:
        of_stage = stages.setdefault(record["stage"], {"runs": 0, "seconds": 0.0, "memory": 0})
        of_stage["runs"] += 1
        of_stage["seconds"] += record["seconds"]
        of_stage["memory"] = max(of_stage["memory"], record["peak_memory_mib"])
    order = [name for name in catalogue.STAGES if name in stages]
    packages = {name: version for record in records for name, version in record["packages"].items()}
    return {
        "stages": [{"name": name, **stages[name], "took": duration(stages[name]["seconds"])} for name in order],
        "took": duration(sum(record["seconds"] for record in records)),
        "memory": max((record["peak_memory_mib"] for record in records), default=0),
        "packages": dict(sorted(packages.items())),
        "python": sorted({record["python"] for record in records}),
        "devices": sorted({record["device"] for record in records}),
        "done": len(records),
        "planned": len(runs),
    }


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def failures(plans: Mapping[str, Plan]) -> list[dict[str, Any]]:
    """Runs that failed and have no result, those of this configuration first: what, why, and whom it keeps waiting."""
    planned = {key: target for target, plan in reversed(list(plans.items())) for key in plan.runs}
    found = []
    for path in sorted((RESULTS / "failures").glob("*.json")):
        failure = json.loads(path.read_text())
        params = failure.get("params", {})
        found.append(
            {
                "stage": failure.get("stage", ""),
                "label": failure.get("label", path.stem),
                "key": path.stem,
                "target": planned.get(path.stem, ""),
                "error": failure.get("error", ""),
                "traceback": failure.get("traceback", ""),
                "methods": ", ".join(params["methods"]) if "methods" in params else "",
            }
        )
    return sorted(found, key=lambda failure: not failure["target"])


def misses(board: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the headline that left cases without any mask, or beat no null: the methods that failed."""
    rows = weak(board[board["headline"] == "yes"])
    rows = rows[~rows["method"].map(lambda name: catalogue.METHODS[name].null) & (rows["refinement"] == "threshold")]
    return [
        {
            "title": title_of(row["method"]),
            "data": title_of_data(row["dataset"], row["source"]),
            "view": row["view"],
            "cases": int(row["n_cases"]),
            "empty": int(row["n_empty"]),
            "dice": number(row["dice"]),
            "beats": row["beats_null"] if isinstance(row["beats_null"], str) else "",
        }
        for row in rows.sort_values("dice").to_dict("records")
        if row["n_empty"] or row["beats_null"] == "no"
    ]


def data_facts(plan: Plan) -> list[dict[str, Any]]:
    """Each data set of the benchmark: cases by role, what they are and the key that stands for their content."""
    found = []
    for run in plan.of_stage("index"):
        if not run.record.exists():
            continue
        cases = pd.read_csv(run.folder / "cases.csv", dtype=str, keep_default_na=False)
        sources = sorted(set(cases["source"]))
        roles = cases["role_f0"].value_counts()
        found.append(
            {
                "name": run.params["dataset"],
                "source": ", ".join(sources),
                "cases": len(cases),
                "patients": cases["patient"].nunique(),
                "roles": ", ".join(f"{count} {role}" for role, count in roles.items()),
                "folds": sum(name.startswith("role_f") for name in cases),
                "key": run.key,
            }
        )
    return found


def read_viewer(plan: Plan) -> dict[str, Any] | None:
    """The volumes of the page, with titles; None if they are not made or none was asked for."""
    for run in plan.of_stage("viewer"):
        path: Path = run.folder / "viewer.json"
        if run.record.exists() and path.exists():
            volumes = json.loads(path.read_text())
            for one in volumes["maps"]:
                one["title"] = title_of(one["method"])
            return volumes if volumes["maps"] else None
    return None
