"""Which cases there are, who tests them, and all faults of the raw data before any work begins."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import catalogue
from weakseg.data.checks import check_case, compare_cases
from weakseg.data.layouts import RawCase, find_cases
from weakseg.data.phantoms.writing import MARKER
from weakseg.data.splits import split
from weakseg.errors import DataFaults
from weakseg.execution import Context


def run(context: Context) -> None:
    """Write ``cases.csv`` (case, patient, grade, source, role_f0, ...), ``images.json`` and ``masks.json``.

    The roles are train, val, test, or shift for all cases of the second root. The files of the masks stand apart, since
    the stage ``truth`` alone may read them.

    Raises:
        DataFaults: everything that is wrong with layout, files, cases and split.
    """
    params = context.params
    roots = [Path(root) for root in params.get("roots", context.upstream["phantom"])]
    layout = catalogue.DATASETS[params["dataset"]].layout
    found = [find_cases(layout, root, params["modalities"]) for root in roots]
    faults = [fault for _, broken in found for fault in broken]
    cases = [case for some, _ in found for case in some]
    checked = context.map_cases(partial(check_case, coding=params["label_coding"]), cases, "index")
    faults += [fault for one in checked for fault in one.faults]
    n_main = len(found[0][0])
    faults += compare_cases(checked[:n_main], checked[n_main:])
    rows = [_row(case, root) for root, (some, _) in zip(roots, found, strict=True) for case in some]
    table = pd.DataFrame(rows, columns=["case", "patient", "grade", "source"])
    if n_main:
        roles, unsplit = split(table[:n_main], **params["split"], data_seed=params["data_seed"])
        table = table.join(roles).fillna(dict.fromkeys(roles, "shift"))
        faults += unsplit
    if faults:
        raise DataFaults(" and ".join(map(str, roots)), faults)
    table.sort_values("case").to_csv(context.out / "cases.csv", index=False)
    _write(context.out / "images.json", {case.case: _texts(case.images) for case in cases})
    _write(context.out / "masks.json", {case.case: str(case.mask) for case in cases if case.mask})
    context.count("cases", len(cases))


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
