"""Scores of anybody's maps or masks, by the same protocol and in the same tables as those of the benchmark.

Files are laid out for a moment as the runs that the stage `scores` reads, and that stage scores them: so no number can
come about in another way.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.catalogue import Purpose
from weakseg.data.grid import foreground_file, read_foreground, resample
from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.data.truth import open_lesion
from weakseg.errors import WeaksegError, nearest
from weakseg.evaluation import scores as stage
from weakseg.evaluation.points import draw_validation
from weakseg.evaluation.protocol import PAPER
from weakseg.evaluation.recompute import Place, places
from weakseg.execution import Context, require, write_json
from weakseg.keys import package_versions
from weakseg.report.tables import write_table
from weakseg.runs import Plan, Run
from weakseg.studies.leaderboard import leaderboard

CHAINS = {"threshold": "threshold", "components": "threshold"}
"""What is done to them: nothing, or masks are cleaned at the end."""

ROLES = ("val", "test", "shift")
"""Whose maps are looked at."""

NOT_KNOWN = ["rank", "effect", "p_holm", "beats_null"]
"""Columns of the leaderboard that need other rows beside one's own."""


@dataclass(frozen=True)
class Own:
    """What somebody brings.

    Attributes:
        name: how tables call it.
        folders: of files ``<case>.nii.gz`` or ``<case>.nii``: one for each fold, or one for all.
        masks: they are masks of 0 and 1, not maps.
        masks_used: number of masks that they were made with, for the budget.
        labels_used: number of slice labels.
    """

    name: str
    folders: Sequence[Path]
    masks: bool
    masks_used: int
    labels_used: int


def score(plan: Plan, dataset: str, own: Own, out: Path, threads: int = 1) -> pd.DataFrame:
    """Write ``scores.parquet``, ``histograms.parquet``, ``left_out.csv``, ``leaderboard.{csv,md}`` and ``run.json``.

    All tested cases are needed. Without all validation cases that draws take there is no `val-k`, without all shift
    cases no shift. Masks are scored at `fixed` alone, as any other point cuts them alike.

    Args:
        plan: of the configuration.
        dataset: one of its data sets; its stages up to ``labels`` have to be done.
        own: what is scored.
        out: folder to write, by one rename; it must not be there yet.
        threads: cases at a time.

    Returns:
        The leaderboard.

    Raises:
        WeaksegError: bad input, named with what to do; then nothing is written.
    """
    named = re.fullmatch(r"\w[\w.-]*", own.name) is not None
    require(named, f"--name {own.name}: use letters, digits, points, - and _ only, as files are named after it")
    require(not out.exists(), f"{out}: already there; remove it, or name another folder with --out")
    upstream, params = _planned(plan, dataset)
    params |= {"chains": CHAINS, "seed": 0} | dict.fromkeys(("view", "classifier", "gate"), "own")
    points = ["fixed"] if own.masks else params["operating_points"]
    # That one is of the methods of papers, whatever an own map is called.
    params["operating_points"] = [point for point in points if point != PAPER]
    cases = read_cases(upstream["index"].folder).set_index("case", drop=False)
    files = _without_optional(_files(_needed(cases, params, upstream["labels"]), own.folders), params)
    looked_at = {case for _, _, case in files}
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        staged = Path(temporary)
        folds = sorted({fold for _, fold, _ in files})
        context = _context(staged, upstream, params, folds, threads)
        _write_index(staged, cases, looked_at)
        _write_records(context, own, folds)
        context.map_cases(
            partial(_stage, context, own, files, upstream["preprocess"].folder), sorted(looked_at), "maps"
        )
        stage.run(context)
        board = _write_board(context.out, plan)
        write_json(context.out / "run.json", _record(context, own))
        context.out.rename(out)
    return board


def _planned(plan: Plan, dataset: str) -> tuple[dict[str, Run], dict[str, Any]]:
    """The data set's runs that scores read, by stage, and the parameters of its scores."""
    known = plan.config.datasets
    require(dataset in known, f"--dataset {dataset}: the configuration has no such data set{nearest(dataset, known)}")
    run = next(run for run in plan.of_stage("scores") if run.params["dataset"] == dataset)
    upstream = {role: plan.runs[run.upstream[role][0]] for role in ("index", "preprocess", "truth", "labels")}
    for needed in upstream.values():
        last = upstream["labels"].record
        require(needed.record.exists(), f"{needed.record}: not there yet; run `snakemake {last}` first")
    return upstream, dict(run.params)


def _needed(cases: pd.DataFrame, params: dict[str, Any], labels: Run) -> set[Place]:
    """Whose maps the protocol looks at."""
    folds = range(sum(column.startswith("role_f") for column in cases))
    sizes = params["val_k"] if "val-k" in params["operating_points"] else []
    draws, _ = draw_validation(cases, read_labels(labels.folder), folds, sizes, params["draws"], params["data_seed"])
    return places(cases, draws)


def _files(needed: set[Place], folders: Sequence[Path]) -> dict[Place, Path | None]:
    """The file of each place, None where there is none.

    Raises:
        WeaksegError: a folder is missing or matches no case, the number of folders is wrong, a case has two files.
    """
    folds = max(fold for _, fold, _ in needed) + 1
    require(
        len(folders) in (1, folds),
        f"--maps: {len(folders)} folders; name one for all folds, or one for each of the {folds} folds",
    )
    for folder in folders:
        require(folder.is_dir(), f"{folder}: no such folder; name the one with your files with --maps")
    files = {place: _file(folders[place[1] % len(folders)], place[2]) for place in sorted(needed)}
    for folder in folders:
        of_folder = [place for place in sorted(needed) if folders[place[1] % len(folders)] == folder]
        some = next(case for role, _, case in of_folder if role == "test")
        found = any(path is not None and path.parent == folder for path in files.values())
        require(found, f"{folder}: no file is named after a case; name them as {some}.nii.gz or {some}.nii")
    return files


def _file(folder: Path, case: str) -> Path | None:
    found = [path for suffix in (".nii.gz", ".nii") if (path := folder / f"{case}{suffix}").is_file()]
    require(len(found) < 2, f"{folder}: both {case}.nii.gz and {case}.nii; remove one")
    return found[0] if found else None


def _without_optional(files: dict[Place, Path | None], params: dict[str, Any]) -> dict[Place, Path]:
    """The files, without validation or shift cases if some of them lack; `val-k` then goes from the parameters.

    Raises:
        WeaksegError: a tested case has none.
    """
    lacking = {role: [case for of, _, case in files if of == role and files[of, _, case] is None] for role in ROLES}
    if lacking["test"]:
        case, number = lacking["test"][0], len(lacking["test"])
        raise WeaksegError(f"{case}.nii.gz: not there, as {number} of the tested cases; all are needed, so add them")
    for role, what in (("val", "val-k is left out"), ("shift", "the shift cases are left out")):
        if lacking[role]:
            print(f"score: {what}: no file for {len(lacking[role])} cases, such as {lacking[role][0]}", file=sys.stderr)
    if lacking["val"]:
        params["operating_points"] = [point for point in params["operating_points"] if point != "val-k"]
    return {place: path for place, path in files.items() if path is not None and not lacking[place[0]]}


def _context(
    staged: Path, upstream: dict[str, Run], params: dict[str, Any], folds: Sequence[int], threads: int
) -> Context:
    folders = {role: [run.folder] for role, run in upstream.items()} | {
        "index": [staged / "index"],
        "preprocess": [staged / "preprocess"],
        "classifiers": [staged / "classifier" for _ in folds],
        "maps": [staged / f"maps-{fold}" for fold in folds],
        "refinements": [],
    }
    result = staged / "result"
    result.mkdir()
    return Context("scores", "own", params, folders, result, staged / "state", threads)


def _write_index(staged: Path, cases: pd.DataFrame, looked_at: set[str]) -> None:
    """Leave out the shift cases that are not scored; all others stay, for draws are made among them."""
    shift = (cases.filter(like="role_f") == "shift").any(axis=1)
    (staged / "index").mkdir()
    cases[~shift | cases.index.isin(looked_at)].to_csv(staged / "index" / "cases.csv", index=False)


def _write_records(context: Context, own: Own, folds: Sequence[int]) -> None:
    """What the stage asks of the runs behind the maps: folds and budgets."""
    budget = [f"mask {number} behind {own.name}" for number in range(own.masks_used)]
    for fold, folder in zip(folds, context.upstream["maps"], strict=True):
        folder.mkdir()
        params = {"fold": fold, "methods": {own.name: {}}}
        write_json(folder / "run.json", {"key": folder.name, "params": params, "masks_used": budget})
    (classifier, *_) = context.upstream["classifiers"]
    classifier.mkdir()
    write_json(classifier / "run.json", {"counts": {"labels_used": own.labels_used}})


def _stage(context: Context, own: Own, files: dict[Place, Path], preprocessed: Path, case: str) -> None:
    """Write a case's maps, and its foreground on the same grid: the case's, or else the publisher's."""
    foreground, affine = read_foreground(preprocessed, case)
    maps = {place: _read(path, own.masks) for place, path in files.items() if place[2] == case}
    for place, (volume, own_affine) in maps.items():
        shared = resample(foreground, affine, volume.shape, own_affine, "nearest")
        require(bool(shared.any()), f"{files[place]}: lies outside the foreground of {case}; correct its affine")
    if not all(_same_grid(*one, foreground, affine) for one in maps.values()):
        # The mask says what the publisher's grid is; the stage opens it anyway, and logs it.
        purpose: Purpose = "val-k" if next(iter(maps))[0] == "val" else "scores"
        lesion, raw = open_lesion(context, context.folder("truth"), case, purpose, context.params["region"])
        foreground, affine = resample(foreground, affine, lesion.shape, raw, "nearest") > 0, raw
    mode: Literal["nearest", "linear"] = "nearest" if own.masks else "linear"
    for (_, fold, _), (volume, own_affine) in maps.items():
        on_grid = resample(volume, own_affine, foreground.shape, affine, mode)
        nifti.write(context.out.parent / f"maps-{fold}" / own.name / f"{case}.nii.gz", on_grid, affine)
    nifti.write(foreground_file(context.folder("preprocess"), case), foreground.astype(np.uint8), affine)


def _read(path: Path, masks: bool) -> tuple[NDArray, NDArray]:
    """A map or mask (X, Y, Z) float32 with its affine.

    Raises:
        WeaksegError: it has more than three dimensions, holds NaN or infinity, or is no mask and should be.
    """
    volume, affine = nifti.read(path)
    require(volume.ndim == 3, f"{path}: {volume.ndim} dimensions; save one volume of 3 per case")
    require(
        bool(np.isfinite(volume).all()), f"{path}: holds NaN or infinity; replace them, by 0 where nothing is known"
    )
    binary = not masks or bool(np.isin(volume, (0, 1)).all())
    require(binary, f"{path}: holds other values than 0 and 1; leave out --masks if it is a map, or make it a mask")
    return volume, affine


def _same_grid(volume: NDArray, affine: NDArray, other: NDArray, other_affine: NDArray) -> bool:
    return volume.shape == other.shape and np.allclose(affine, other_affine, atol=1e-4)


def _write_board(folder: Path, plan: Plan) -> pd.DataFrame:
    scores, config = pd.read_parquet(folder / "scores.parquet"), plan.config
    board = leaderboard(scores, pd.DataFrame(), config.data_seed, config.protocol.bootstrap).drop(columns=NOT_KNOWN)
    write_table(board, folder, "leaderboard", ("csv", "md"))
    return board


def _record(context: Context, own: Own) -> dict[str, Any]:
    opened = {purpose: sorted(cases) for purpose, cases in sorted(context.truth_opened.items())}
    brought = {**asdict(own), "folders": [str(folder.absolute()) for folder in own.folders]}
    return {"own": brought, "params": context.params, "truth_opened": opened, "packages": package_versions()}
