"""Which cases there are, who tests them, and all faults of the raw data before any work begins."""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import catalogue
from weakseg.data.checks import Checked, check_case, compare_cases
from weakseg.data.healthy import check_healthy, find_healthy
from weakseg.data.layouts import RawCase, find_cases
from weakseg.data.phantoms.writing import MARKER
from weakseg.data.splits import split
from weakseg.errors import DataFaults
from weakseg.execution import Context


def run(context: Context) -> None:
    """Write ``cases.csv`` (case, patient, grade, source, role_f0, ...) and the files of each case by kind.

    The roles are train, val, test, or shift for all cases of the second root. ``images.json``, ``masks.json`` and
    ``organs.json`` stand apart: lesion masks (null for a case that is known to have no lesion) are for the stage
    ``truth`` alone, organ masks for ``anatomy``. With a folder of healthy cases, ``left_out.csv`` (case, reason) lists
    those of its cases that do not count as healthy.

    Raises:
        DataFaults: everything that is wrong with layout, files, cases and split.
    """
    params = context.params
    roots = [Path(root) for root in params.get("roots", context.upstream["phantom"])]
    faults: list[str] = []
    found = [(root, _check(context, root, faults)) for root in roots]
    main, shift = found[:1], found[1:]
    if "healthy_root" in params:
        root = Path(params["healthy_root"])
        main.append((root, _check_healthy(context, root, faults)))
    first, second = ([one for _, some in half for one in some] for half in (main, shift))
    faults += [fault for one in first + second for fault in one.faults]
    faults += compare_cases(first, second)
    cases = [one.case for one in first + second]
    rows = [_row(one.case, root) for root, some in main + shift for one in some]
    table = pd.DataFrame(rows, columns=["case", "patient", "grade", "source"])
    if first:
        roles, unsplit = split(table[: len(first)], **params["split"], data_seed=params["data_seed"])
        table = table.join(roles).fillna(dict.fromkeys(roles, "shift"))
        faults += unsplit
    if faults:
        raise DataFaults(" and ".join(str(root) for root, _ in main + shift), faults)
    table.sort_values("case").to_csv(context.out / "cases.csv", index=False)
    _write(context.out / "images.json", {case.case: _texts(case.images) for case in cases})
    _write(context.out / "masks.json", {case.case: str(case.mask) if case.mask else None for case in cases})
    _write(context.out / "organs.json", {case.case: list(map(str, case.organs)) for case in cases if case.organs})
    context.count("cases", len(cases))


def _check(context: Context, root: Path, faults: list[str]) -> list[Checked]:
    """Find and check the cases of a folder; faults of its layout are added to the list."""
    params = context.params
    cases, broken = find_cases(catalogue.DATASETS[params["dataset"]].layout, root, params["modalities"])
    faults += broken
    return context.map_cases(partial(check_case, coding=params["label_coding"]), cases, "index")


def _check_healthy(context: Context, root: Path, faults: list[str]) -> list[Checked]:
    """Find and check the healthy cases of a folder, and say which of its cases are left out, and why."""
    cases, left_out, broken = find_healthy(root)
    judged = context.map_cases(check_healthy, cases, "healthy")
    left_out |= {case.case: reason for case, (_, reason) in zip(cases, judged, strict=True) if reason}
    checked = [one for one, _ in judged if one is not None]
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(left_out.values()).most_common())
    faults += broken
    if not checked and not broken:
        faults.append(f"{root}: no case with healthy kidneys ({reasons}); set healthy_path to another folder or null")
    print(f"index: {root}: {len(checked)} healthy cases; left out: {reasons or 'none'}", file=sys.stderr)
    pd.DataFrame(sorted(left_out.items()), columns=["case", "reason"]).to_csv(context.out / "left_out.csv", index=False)
    context.count("healthy", len(checked))
    context.count("left_out", len(left_out))
    return checked


def read_cases(folder: Path) -> pd.DataFrame:
    """The table of an index run, sorted by case; every column is text and an unknown grade is empty."""
    table = pd.read_csv(folder / "cases.csv", dtype=str, keep_default_na=False)
    return table.sort_values("case", ignore_index=True)


def _row(case: RawCase, root: Path) -> tuple[str, str, str, str]:
    """Case, patient, grade and source: ``phantom`` if a folder from the root down to the case is marked as made."""
    folders = [folder for folder in case.folder.parents if folder.is_relative_to(root)]
    made = any((folder / MARKER).is_file() for folder in folders)
    return case.case, case.patient, case.grade or "", "phantom" if made else "real"


def _texts(paths: dict[str, Path]) -> dict[str, str]:
    return {modality: str(path) for modality, path in paths.items()}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that keeps the order of the keys, which is the order of the channels."""
    path.write_text(json.dumps(content, indent=1) + "\n")
