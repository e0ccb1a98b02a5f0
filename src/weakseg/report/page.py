"""One page about everything that was run, in one file: it opens from disk and asks no network for anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from weakseg.errors import WeaksegError
from weakseg.evaluation.audit import audit
from weakseg.report import page_parts as parts
from weakseg.report.page_spec import is_there, mark_of
from weakseg.runs import Plan

MOST_BYTES = 25_000_000
"""A page that is larger is not written."""
LARGE_SVG = 1_500_000
"""From here on a picture of pixels is shown, if it is smaller."""

SHOWN = ("classifiers", "labels", "left_out", "statistics", "faithfulness")
"""Tables of the benchmark on the page beside the leaderboard; the others are files."""

CAPTIONS = {
    "dice": "Dice of every row: each patient, mean and 95 % interval; a column per operating point.",
    "masks": "What Dice costs in masks, and in an annotator's minutes.",
    "k_curve": "k masks for a map's threshold, or for a U-Net trained on them: where is the break-even?",
    "forwards": "What Dice costs in forwards of the network.",
    "overlays": "Images with truth, then each map and its label-free mask; cases from small to large lesions.",
}
"""What figures show, by the beginning of their names."""
PHOTOGRAPHS = ("overlays",)
"""Those of them that show images."""


def write_page(plans: Mapping[str, Plan]) -> Path:
    """Write ``report.html`` of what is there of a configuration, and return its path.

    Args:
        plans: by target; ``all`` is the benchmark.

    Raises:
        WeaksegError: the page would be too large.
    """
    there = {target: plan for target, plan in plans.items() if is_there(plan)}
    path = plans["all"].page
    html = render(_content(plans, there), parts.read_viewer(plans["all"]), path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(html.rstrip() + "\n" + mark_of(there.values()))
    temporary.replace(path)
    return path


def render(content: Mapping[str, Any], volumes: Mapping[str, Any] | None, path: Path) -> str:
    """The page as HTML, with as many volumes as there is room for.

    Args:
        content: what the template says.
        volumes: of :mod:`weakseg.report.viewer`, the most telling first, or None.
        path: how messages name the page.

    Raises:
        WeaksegError: it is too large even without volumes.
    """
    environment = Environment(
        loader=PackageLoader("weakseg.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    assets = {name: _asset(name) for name in ("page.css", "page.js")}
    bare = template.render(**content, assets=assets, volumes=None)
    if len(bare.encode()) > MOST_BYTES:
        raise WeaksegError(f"{path}: over {MOST_BYTES / 1e6:.0f} MB with its figures alone; lower report.overlay_cases")
    if volumes is None:
        return bare
    assets |= {name: _asset(name) for name in ("niivue.umd.js", "niivue.LICENSE", "viewer.js")}
    room = MOST_BYTES - len(bare.encode()) - sum(len(text.encode()) for text in assets.values())
    fitting = fit(volumes, room)
    html = template.render(**content, assets=assets, volumes=fitting)
    if len(html.encode()) > MOST_BYTES:
        raise WeaksegError(f"{path}: over {MOST_BYTES / 1e6:.0f} MB; lower report.viewer_mb")
    return html


def fit(volumes: Mapping[str, Any], room: int) -> dict[str, Any] | None:
    """The first maps that fit into a number of bytes, with their cases; None if not even one does."""
    cases = {(case["dataset"], case["case"]): case for case in volumes["cases"]}
    maps: list[dict[str, Any]] = []
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for one in volumes["maps"]:
        where = (one["dataset"], one["case"])
        added = [one] if where in kept else [one, cases[where]]
        # Quotes and brackets are more on a page: `<` and `&` are written as six characters.
        room -= sum(len(json.dumps(of)) + 100 for of in added)
        if room < 0:
            break
        kept[where] = cases[where]
        maps.append(one)
    left_out = volumes["left_out"] + len(volumes["maps"]) - len(maps)
    return {"cases": list(kept.values()), "maps": maps, "left_out": left_out} if maps else None


def _asset(name: str) -> str:
    """A file of this package, safe inside an element of a page."""
    text = resources.files("weakseg.report").joinpath("assets", name).read_text()
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _content(plans: Mapping[str, Plan], there: Mapping[str, Plan]) -> dict[str, Any]:
    """Everything the template says but the volumes."""
    plan = plans["all"]
    board = _board(there)
    every = {key: run for of_target in {**there, "all": plan}.values() for key, run in of_target.runs.items()}
    config = plan.config
    return {
        "name": config.name,
        "version": version("weakseg"),
        "destination": str(plan.destination),
        "overlay": config.name != "default",
        "seeds": config.seeds,
        "data_seed": config.data_seed,
        "config": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        "data": parts.data_facts(plan),
        "finished": "all" in there,
        "cost": parts.cost_of(list(every.values())),
        "keys": [
            {"target": target, "stage": run.stage, "label": run.label, "key": run.key}
            for target, of_target in there.items()
            for run in of_target.published_runs
        ],
        "glance": parts.at_a_glance(board) if board is not None else [],
        "metrics": [parts.heading(name) for name in parts.METRICS],
        "rows": parts.board_rows(board) if board is not None else [],
        "phantom": board is not None and bool((board["source"] == "phantom").any()),
        "figures": figures(there["all"]) if "all" in there else [],
        "studies": _studies(plans, there),
        "cards": parts.method_cards(board),
        "audit": _audit(plans) if "all" in there else None,
        "failures": parts.failures(plans),
        "misses": parts.misses(board) if board is not None else [],
        "tables": parts.read_tables(there["all"].published_runs, SHOWN) if "all" in there else [],
    }


def _board(there: Mapping[str, Plan]) -> pd.DataFrame | None:
    for run in there["all"].of_stage("leaderboard") if "all" in there else ():
        return pd.read_csv(run.folder / "tables" / "leaderboard.csv")
    return None


def _studies(plans: Mapping[str, Plan], there: Mapping[str, Plan]) -> list[dict[str, Any]]:
    """Every study that the configuration can ask: its tables and figures, or the command that makes them."""
    found = []
    for target, plan in plans.items():
        if target == "all" or not plan.published_runs:
            continue
        title, source = parts.STUDIES.get(target, (target.replace("_", " "), ""))
        done = target in there
        found.append(
            {
                "target": target,
                "title": title,
                "source": parts.cited(source),
                "done": done,
                "tables": parts.read_tables(plan.published_runs) if done else [],
                "figures": figures(plan) if done else [],
            }
        )
    return sorted(found, key=lambda study: not study["done"])


def _audit(plans: Mapping[str, Plan]) -> dict[str, Any]:
    """The verdict of every check, or why there is none."""
    try:
        checks = audit(plans)
    except WeaksegError as error:
        return {"error": str(error), "checks": []}
    return {"error": "", "checks": checks}


def figures(plan: Plan) -> list[dict[str, Any]]:
    """The figures that a target publishes, each as an address that holds it whole."""
    paths = sorted(path for run in plan.published_runs for path in (run.folder / "figures").glob("*"))
    by_name: dict[str, dict[str, Path]] = {}
    for path in paths:
        if path.suffix in (".svg", ".png"):
            by_name.setdefault(path.stem, {})[path.suffix] = path
    found = [_figure(name, forms) for name, forms in by_name.items()]
    order = list(CAPTIONS)
    return sorted(found, key=lambda one: (order.index(one["kind"]) if one["kind"] in order else 99, one["name"]))


def _figure(name: str, forms: Mapping[str, Path]) -> dict[str, Any]:
    kind = next((kind for kind in CAPTIONS if name.startswith(kind)), "")
    path = forms.get(".svg", forms.get(".png"))
    assert path is not None
    if path.suffix == ".svg" and ".png" in forms and forms[".png"].stat().st_size < path.stat().st_size > LARGE_SVG:
        path = forms[".png"]
    content = path.read_bytes()
    media = "image/svg+xml" if path.suffix == ".svg" else "image/png"
    return {
        "name": name,
        "kind": kind,
        "caption": CAPTIONS.get(kind, ""),
        # Drawings are turned dark with the page; photographs are not.
        "drawing": b"<image" not in content if path.suffix == ".svg" else bool(kind) and kind not in PHOTOGRAPHS,
        "address": f"data:{media};base64,{base64.b64encode(content).decode()}",
    }
