"""The finished results of a configuration, for those who look at them from outside: each record is read once."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from weakseg import catalogue
from weakseg.data.grid import foreground_file, preprocessed_cases
from weakseg.data.index import read_cases
from weakseg.data.truth import LESION_FREE
from weakseg.errors import WeaksegError
from weakseg.execution import read_record
from weakseg.references.masks import masks_by_method
from weakseg.runs import Plan, Run


class Results:
    """Runs of the benchmark and of the studies that were run, their records, and the published tables.

    Args:
        plans: of one configuration, by target; ``all`` is the benchmark.

    Raises:
        WeaksegError: something of the benchmark is not run or not published yet.
    """

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self.plan = plans["all"]
        table, board = self.plan.destination / "scores.parquet", self.plan.destination / "tables" / "leaderboard.csv"
        for path in (*(run.record for run in self.plan.runs.values()), table, board):
            if not path.exists():
                raise WeaksegError(f"{path}: not there yet; run snakemake with this configuration first")
        every = {key: run for plan in plans.values() for key, run in plan.runs.items()}
        self.runs = {key: run for key, run in every.items() if run.record.exists()}
        self.records = {key: read_record(run.folder) for key, run in self.runs.items()}
        self.scores = pd.read_parquet(table)
        self.board = pd.read_csv(board)
        self._used: dict[str, frozenset[str]] = {}

    def upstream(self, run: Run, role: str) -> list[Run]:
        """The runs of a role that a run reads."""
        return [self.runs[key] for key in run.upstream[role]]

    def cases(self, run: Run) -> pd.DataFrame:
        """The index that a run reads, by case."""
        (index,) = [run] if run.stage == "index" else self.upstream(run, "index")
        return read_cases(index.folder).set_index("case", drop=False)

    def lesion_free(self, run: Run) -> set[str]:
        """Cases that are known to be free of lesions, so that nobody drew their mask; masks are not opened."""
        (truth,), (preprocess,) = self.upstream(run, "truth"), self.upstream(run, "preprocess")
        cases = preprocessed_cases(preprocess.folder)
        raw = truth.folder / LESION_FREE / "raw"
        return {case for case in cases if (raw / foreground_file(preprocess.folder, case).name).exists()}

    def opened(self, run: Run, purpose: str) -> set[str]:
        """Cases whose masks a run logged for a purpose."""
        return set(self.records[run.key]["truth_opened"].get(purpose, ()))

    def masks_used(self, run: Run) -> frozenset[str]:
        """Cases whose masks a run needed, or any before it, by their logs; those for free purposes do not count."""
        if run.key not in self._used:
            purposes = self.records[run.key]["truth_opened"]
            own = [self.opened(run, purpose) for purpose in purposes if purpose not in catalogue.FREE_PURPOSES]
            before = [self.masks_used(above) for role in run.upstream for above in self.upstream(run, role)]
            self._used[run.key] = frozenset().union(*own, *before)
        return self._used[run.key]

    def masks_behind(self, maps: Run, method: str) -> frozenset[str]:
        """Cases whose masks the maps of a method were made with; references of one run have masks of their own."""
        if maps.stage != "references":
            return self.masks_used(maps)
        return frozenset(masks_by_method(maps.folder).get(method, ()))
