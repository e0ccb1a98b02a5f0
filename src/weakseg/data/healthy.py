"""Healthy kidneys beside KiTS, whose patients all have a tumour: the cases of TotalSegmentator that may stand for them.

A case is healthy if the table says that no pathology was found in it, anywhere, and if its masks show both kidneys,
whole, without a cyst. Every other case is left out with the reason.
"""

from __future__ import annotations

import re
from pathlib import Path

from weakseg.data.checks import Checked, check_case
from weakseg.data.layouts import RawCase, find_cases
from weakseg.data.layouts.totalsegmentator import read_pathologies
from weakseg.data.slabs import open_volume, read_mask
from weakseg.errors import WeaksegError

GRADE = "healthy"

_NONE_FOUND = "no pathology"
_UNKNOWN = ("", "unclear", "unknown", "nan")
_CYSTS = ("kidney_cyst_left", "kidney_cyst_right")


def find_healthy(root: Path) -> tuple[list[RawCase], dict[str, str], list[str]]:
    """Find the cases of a TotalSegmentator folder that its table calls free of pathology.

    Returns:
        The cases, with the grade :data:`GRADE`; the others, each with why it is left out; and all faults.
    """
    cases, faults = find_cases("totalsegmentator", root, ["ct"])
    if not cases:
        return [], {}, faults
    said, more = read_pathologies(cases)
    healthy, left_out = [], {}
    for case in cases:
        pathology = re.sub(r"[\s_-]+", " ", said.get(case.case, "")).lower()
        if pathology == _NONE_FOUND:
            healthy.append(RawCase(case.case, case.patient, GRADE, case.images, None, case.organs))
        else:
            left_out[case.case] = "pathology not known" if pathology in _UNKNOWN else f"pathology {pathology}"
    return healthy, left_out, faults + more


def check_healthy(case: RawCase) -> tuple[Checked | None, str | None]:
    """Check the files of a case, or say why its kidneys are no example of two healthy ones.

    A case that is left out costs no reading of its image, and its other faults do not matter.
    """
    try:
        reason = _unfit(case)
    except WeaksegError:
        reason = None  # a mask cannot be read: the check says so
    return (None, reason) if reason else (check_case(case, "kits"), None)


def _unfit(case: RawCase) -> str | None:
    volumes = [open_volume(path) for path in case.organs]
    extents = [read_mask(volume).extent for volume in volumes]
    if not any(extents):
        return "no kidney in the scan"
    if None in extents:
        return "one kidney only"
    if any(extent and {0, v.shape[2] - 1} & set(extent) for extent, v in zip(extents, volumes, strict=True)):
        return "a kidney cut off by the end of the scan"
    folder = case.organs[0].parent
    cysts = [path for stem in _CYSTS for path in sorted(folder.glob(f"{stem}.nii*"))]
    return "with a kidney cyst" if any(read_mask(open_volume(path)).extent for path in cysts) else None
