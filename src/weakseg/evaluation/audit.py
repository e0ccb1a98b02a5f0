"""Does a finished benchmark keep the protocol? What its tables say is taken again from what lies beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from weakseg import catalogue
from weakseg.evaluation.collect import ROW_KEY
from weakseg.evaluation.duplicates import near_duplicates
from weakseg.evaluation.finished import Results
from weakseg.evaluation.histogram import best_threshold, load
from weakseg.evaluation.points import STEP
from weakseg.evaluation.recompute import MATCHED, allowed_again, draw_again, expected_rows, places
from weakseg.references.masks import masks_by_method
from weakseg.runs import Plan, Run

SAME = 1e-9
"""Thresholds and Dice further apart than this are not the same."""


@dataclass(frozen=True)
class Check:
    """One question about the results, and a line for each thing that is at fault."""

    name: str
    question: str
    faults: list[str]

    @property
    def verdict(self) -> str:
        return "fail" if self.faults else "pass"


def audit(plans: Mapping[str, Plan]) -> list[Check]:
    """Ask every question about the finished results of a configuration.

    Args:
        plans: of the configuration, by target; ``all`` is the benchmark.

    Raises:
        WeaksegError: something of the benchmark is not run or not published yet.
    """
    results = Results(plans)
    scores = results.plan.of_stage("scores")
    wrong_cases = {run.key: _wrong_cases(results, run) for run in scores}
    # Without the right histograms there is nothing to compare with.
    matched = {run.key: _match(results, run) for run in scores if not wrong_cases[run.key]}
    answers: list[tuple[str, str, Iterable[str]]] = [
        ("records", "were runs made with the planned parameters?", _changed_records(results)),
        ("patients", "has each patient one role in a fold, and is tested once?", _patients(results)),
        ("duplicates", "does no slice stand in two roles?", _duplicates(results)),
        ("openings", "were masks opened by those who may, and all of them logged?", _openings(results)),
        ("histograms", "do thresholds come from drawn validation cases?", _joined(wrong_cases.values())),
        ("thresholds", "do kept histograms give the thresholds and Dice again?", _thresholds(results, matched)),
        ("budgets", "do the logs give the budgets again?", _budgets(results, matched)),
        ("rows", "does each planned row stand once?", _row_faults(results, matched)),
    ]
    return [Check(name, question, list(faults)) for name, question, faults in answers]


def as_table(checks: Sequence[Check]) -> pd.DataFrame:
    """A row per fault, and one for each check without: ``check``, ``verdict``, ``question``, ``fault``."""
    rows = [(check.name, check.verdict, check.question, fault) for check in checks for fault in (check.faults or [""])]
    return pd.DataFrame(rows, columns=["check", "verdict", "question", "fault"])


def as_text(checks: Sequence[Check], most: int = 10) -> str:
    """A line per check, and below it its first faults."""
    lines = []
    for check in checks:
        lines.append(f"{check.verdict}  {check.name:<11} {check.question}")
        lines += [f"      {fault}" for fault in check.faults[:most]]
        if len(check.faults) > most:
            lines.append(f"      and {len(check.faults) - most} more; --out FILE lists all")
    return "\n".join(lines)


def _joined(lists: Iterable[Iterable[str]]) -> Iterator[str]:
    for faults in lists:
        yield from faults


def _changed_records(results: Results) -> Iterator[str]:
    for run in results.runs.values():
        record = results.records[run.key]
        version = catalogue.STAGES[run.stage].version
        planned = {"params": run.params, "upstream": run.upstream, "key": run.key, "stage_version": version}
        for name in (name for name, value in planned.items() if record[name] != value):
            yield f"{run.record}: its {name} is not the planned one"


def _patients(results: Results) -> Iterator[str]:
    for index in results.plan.of_stage("index"):
        cases = results.cases(index)
        folds = [column for column in cases if column.startswith("role_f")]
        for patient, rows in cases.groupby("patient"):
            for fold in folds:
                roles = sorted(set(rows[fold]))
                if len(roles) > 1:
                    where = f"{' and '.join(roles)} in fold {fold.removeprefix('role_f')}"
                    yield f"{index.label}: patient {patient} is {where} ({', '.join(rows.index)})"
            tested = [fold.removeprefix("role_f") for fold in folds if "test" in set(rows[fold])]
            if len(tested) > 1:
                yield f"{index.label}: patient {patient} is tested in folds {', '.join(tested)}"


def _duplicates(results: Results) -> Iterator[str]:
    least = results.plan.config.views.slice.min_foreground_mm2
    for run in results.plan.of_stage("preprocess"):
        for pair in near_duplicates(run.folder, results.cases(run), least):
            yield (
                f"{run.label}: slice {pair.position} of {pair.case} is slice {pair.other_position} of {pair.other}, "
                "who has another role"
            )


def _openings(results: Results) -> Iterator[str]:
    for run in results.runs.values():
        record, allowed = results.records[run.key], catalogue.STAGES[run.stage].purposes
        for purpose in record["truth_opened"]:
            if purpose not in allowed:
                yield f"{run.record}: {run.stage} opened masks for {purpose}; it must not"
        if set(record["masks_used"]) != results.masks_used(run):
            counted, logged = len(record["masks_used"]), len(results.masks_used(run))
            yield f"{run.record}: masks_used names {counted} masks, the logs up to it {logged}"
        if run.stage == "references":
            yield from _masks_of_others(results, run)
        for purpose, wanted in _to_open(results, run).items():
            for case in sorted(results.opened(run, purpose) - wanted):
                yield f"{run.record}: {purpose} opened the mask of {case}, which is none of its cases"
            for case in sorted(wanted - results.opened(run, purpose)):
                yield f"{run.record}: {purpose} needs the mask of {case}, which is not logged"


def _masks_of_others(results: Results, run: Run) -> Iterator[str]:
    """References that were made with other masks than those that they may see."""
    may = allowed_again(results, run)
    for method, cases in masks_by_method(run.folder).items():
        for case in sorted(set(cases) ^ may.get(method, set())):
            yield f"{run.record}: {method} was made {'with' if case in cases else 'without'} the mask of {case}; wrong"


def _to_open(results: Results, run: Run) -> dict[str, set[str]]:
    """Cases whose masks a run has to open, by purpose, for the stages whose masks cost something."""
    if run.stage == "mean_mask":
        roles = results.cases(run)[f"role_f{run.params['fold']}"]
        return {"mean-mask": set(roles.index[roles == "train"]) - results.lesion_free(run)}
    if run.stage == "references":
        return {"references": set().union(*allowed_again(results, run).values())}
    if run.stage != "scores":
        return {}
    looked_at, free = places(results.cases(run), draw_again(results, run)), results.lesion_free(run)
    validating = {case for role, _, case in looked_at if role == "val"}
    tested = {case for role, _, case in looked_at if role != "val"}
    by_set = tested if "oracle-set" in run.params["operating_points"] else set()
    wanted = {"val-k": validating, "oracle-set": by_set, "scores": tested}
    return {purpose: cases - free for purpose, cases in wanted.items()}


def _wrong_cases(results: Results, run: Run) -> list[str]:
    """Histograms of cases in a role that they do not have, and lacking ones."""
    keys, _ = load(run.folder / "histograms.parquet")
    path, wanted = run.folder / "histograms.parquet", places(results.cases(run), draw_again(results, run))
    faults = [f"{path}: {count} maps stand twice" for count in [int(keys.duplicated().sum())] if count]
    for (method, chain), rows in keys.groupby(["method", "refinement"]):
        kept = set(zip(rows["role"], rows["fold"], rows["case"], strict=True))
        for role, fold, case in sorted(kept - wanted):
            has = results.cases(run)[f"role_f{fold}"].get(case, "no case")
            faults.append(f"{path}: {method}/{chain}: counts {case} as {role} of fold {fold}, where it is {has}")
        faults += [
            f"{path}: {method}/{chain}: lacks {case}, {role} of fold {fold}"
            for role, fold, case in sorted(wanted - kept)
        ]
    return faults


def _match(results: Results, run: Run) -> pd.DataFrame:
    """A run's rows of the published table beside those expected (``..._again``); ``_merge`` says who has them."""
    rows = results.scores[results.scores["run"] == run.key]
    expected = expected_rows(results, run)
    return rows.merge(expected, on=MATCHED, how="outer", suffixes=("", "_again"), indicator=True)


def _thresholds(results: Results, matched: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    for key, table in matched.items():
        both = table[table["_merge"] == "both"]
        for name in ("threshold", "dice"):
            again = both[f"{name}_again"]
            wrong = both[again.notna() & ~np.isclose(both[name], again, rtol=0, atol=SAME)]
            for row, rows in wrong.groupby(["method", "refinement", "operating_point"]):
                first = rows.iloc[0]
                line = f"{results.runs[key].label}: {'/'.join(row)}: {name} {first[name]:.4g} of {first['case']}"
                line += f" ({len(rows)} cases); the histograms give {first[f'{name}_again']:.4g}"
                if name == "threshold" and _is_of_tested(results.runs[key], first):
                    line += "; it is what the masks of the tested cases give"
                yield line


def _is_of_tested(run: Run, row: pd.Series) -> bool:
    """Is a row's threshold the best one of the cases that it is tested on?"""
    keys, histograms = load(run.folder / "histograms.parquet")
    chain = run.params["chains"][row["refinement"]]
    alike = (keys["role"] == row["role"]) & (keys["method"] == row["method"]) & (keys["refinement"] == chain)
    of_fold = alike & (keys["fold"] == row["fold"])
    sets = [[histograms[place] for place in keys.index[chosen]] for chosen in (alike, of_fold)]
    best = [best_threshold(tested, step) for tested in sets for step in (1, STEP)]
    return bool(np.isclose(best, row["threshold"], rtol=0, atol=SAME).any())


def _budgets(results: Results, matched: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    for key, table in matched.items():
        both = table[table["_merge"] == "both"]
        for name in ("mask_budget", "label_budget"):
            wrong = both[both[name] != both[f"{name}_again"]]
            for row, rows in wrong.groupby(["method", "refinement", "operating_point"]):
                says, logged = rows.iloc[0][[name, f"{name}_again"]].astype(int)
                yield f"{results.runs[key].label}: {'/'.join(row)}: {name} {says}, by the logs it is {logged}"
    tested = results.scores[results.scores["role"] == "test"]
    budgets = tested.groupby(ROW_KEY)[["mask_budget", "label_budget"]].max()
    for key, row in results.board.set_index(ROW_KEY)[budgets.columns].iterrows():
        if key not in budgets.index or (budgets.loc[key] != row).any():
            yield f"leaderboard.csv: {'/'.join(key)}: budgets {row.tolist()} are not those of its scores"


def _row_faults(results: Results, matched: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    scores = results.scores
    table = results.plan.destination / "scores.parquet"
    keys = [*ROW_KEY, "role", "case", "seed", "run"]
    without = scores[scores[keys].isna().any(axis=1) | (scores[keys] == "").any(axis=1)]
    if len(without):
        yield f"{table}: {len(without)} rows without a key"
    twice = scores[scores.duplicated([name for name in keys if name != "run"])]
    for row, rows in twice.groupby(["method", "refinement", "operating_point"]):
        yield f"{table}: {'/'.join(row)}: {len(rows)} rows stand twice"
    planned = {run.key for run in results.plan.of_stage("scores")}
    for key in sorted(set(scores["run"].dropna()) - planned):
        yield f"{table}: run {key} is not planned"
    for key, rows in matched.items():
        for side, what in (("left_only", "has a row that is not planned"), ("right_only", "lacks a row")):
            for row in rows[rows["_merge"] == side][MATCHED].itertuples(index=False):
                yield f"{table}: run {results.runs[key].label} {what}: {'/'.join(map(str, row))}"
