"""Who trains, validates and tests in each fold: by patient, stratified by grade."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import pairwise

import pandas as pd

from weakseg.randomness import rng


def split(
    cases: pd.DataFrame, *, folds: int, test: float, val: float, train_only: Sequence[str], data_seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Give every case a role in every fold; the order of the rows changes nothing.

    The testable patients stand in a circle in which the grades alternate in proportion, so that every stretch of it
    has about the same grades. A fold tests one stretch and validates on the next.

    Args:
        cases: columns ``case``, ``patient`` and ``grade`` (empty if unknown).
        folds: 1 tests the share ``test``; more test every testable patient once.
        test: share of the testable patients.
        val: share of the testable patients; with several folds, of those that the fold does not test.
        train_only: patterns of case names; their patients train in every fold.
        data_seed: seed of the data set.

    Returns:
        Columns ``role_f0``, ``role_f1``, ... of train, val or test on the index of ``cases``; and one line per
        pattern without a case and per fold without a patient in some role.
    """
    names = cases["case"]
    faults = [
        f"split.train_only: {pattern} matches no case; correct or remove it"
        for pattern in train_only
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    fixed = names.map(lambda name: any(fnmatchcase(name, pattern) for pattern in train_only)).astype(bool)
    testable = cases[~cases["patient"].isin(set(cases["patient"][fixed]))]
    circle = _interleave(testable, data_seed)
    roles = pd.DataFrame(index=cases.index)
    for fold, (start, stop) in enumerate(_stretches(len(circle), folds, test)):
        turned = circle[start:] + circle[:start]
        tested, rest = turned[: stop - start], turned[stop - start :]
        n_val = max(1, _round(val * (len(circle) if folds == 1 else len(rest))))
        role = dict.fromkeys(tested, "test") | dict.fromkeys(rest[:n_val], "val")
        roles[f"role_f{fold}"] = cases["patient"].map(lambda patient, role=role: role.get(patient, "train"))
        lacking = [name for name in ("train", "val", "test") if name not in set(roles[f"role_f{fold}"])]
        if lacking:
            faults.append(
                f"split: fold {fold} has no {' and no '.join(lacking)} patient ({cases['patient'].nunique()} patients, "
                f"{len(circle)} of them testable); add cases, or lower split.folds, split.test or split.val"
            )
    return roles, faults


def _interleave(cases: pd.DataFrame, data_seed: int) -> list[str]:
    """Patients in random order within their grade, grades in proportion along the list."""
    grades = cases.sort_values("case").drop_duplicates("patient").set_index("patient")["grade"]
    generator = rng(data_seed, "split")
    placed: list[tuple[float, str, str]] = []
    for grade in sorted(set(grades)):
        patients = list(grades.index[grades == grade])
        order = generator.permutation(len(patients))
        placed += [((place + 0.5) / len(patients), grade, patients[index]) for place, index in enumerate(order)]
    return [patient for _, _, patient in sorted(placed)]


def _stretches(patients: int, folds: int, test: float) -> list[tuple[int, int]]:
    """First and last (excluded) place of each fold's test patients."""
    if folds == 1:
        return [(0, max(1, _round(test * patients)))]
    bounds = [_round(fold * patients / folds) for fold in range(folds + 1)]
    return list(pairwise(bounds))


def _round(number: float) -> int:
    return int(number + 0.5)
