"""From what runs ask for to seconds and bytes: rates that finished runs tell, of this machine before those we ship.

A run takes ``start`` seconds, ``io`` seconds for each megavoxel that it reads or writes, and what its networks take by
measurement times a factor of its group: for the data that have to be made for them, and down where the count is an
upper bound. Groups without networks have a factor in seconds a megavoxel, and those without either in seconds a run.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg.estimate.asks import Asked
from weakseg.execution import write_json
from weakseg.runs import PHANTOMS, RESULTS, Run

if TYPE_CHECKING:
    from weakseg.estimate.timing import Timer

SHIPPED = Path(__file__).with_name("rates.json")
LEAST_SECONDS = 0.1


@dataclass
class Rates:
    """What turns :class:`weakseg.estimate.asks.Asked` into seconds and bytes.

    Attributes:
        start: seconds that a run takes before it does anything.
        io: seconds a megavoxel, of runs with networks.
        groups: by the name of :attr:`Asked.rate`.
        bytes: a megavoxel, or of a whole run that keeps none, by stage.
        runs: how many finished runs each group was told by.
    """

    start: float
    io: float
    groups: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, float] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)

    def seconds(self, asked: Asked, timer: Timer) -> float:
        """That a run takes; of a group that nobody has ever run, its networks or its start alone."""
        factor = self.groups.get(asked.rate)
        if asked.passes:
            networks = sum(map(timer.seconds, asked.passes))
            return self.start + self.io * asked.megavoxels + (1 if factor is None else factor) * networks
        if asked.megavoxels:
            return self.start + (self.io if factor is None else factor) * asked.megavoxels
        return self.start + (factor or 0)

    def size(self, asked: Asked, timer: Timer | None = None) -> float:
        """Bytes that a run leaves on the disk; without a timer to build networks, those beside their weights."""
        stage = asked.rate.split("/")[0]
        weights = sum(timer.of(passes).weights for passes in asked.weights) if timer else 0
        return weights + self.bytes.get(stage, 0) * (asked.kept or 1 - bool(asked.weights))


def shipped() -> Rates:
    """The rates of the machine that weakseg is developed on."""
    return Rates(**json.loads(SHIPPED.read_text()))


def finished_runs() -> dict[str, Run]:
    """The runs whose results lie here, by key."""
    paths = [*RESULTS.glob("runs/*/*/run.json"), *PHANTOMS.glob("*/run.json")]
    records = (json.loads(path.read_text()) for path in paths)
    return {
        record["key"]: Run(record["stage"], record["label"], record["params"], record["upstream"], record["key"])
        for record in records
    }


def cpu_seconds(run: Run) -> float:
    """Processor seconds that a finished run took, or the nearest to it that was written down."""
    record = json.loads(run.record.read_text())
    if "cpu_seconds" in record:
        return float(record["cpu_seconds"])
    path = RESULTS / "benchmarks" / run.stage / f"{run.label}-{run.key}.tsv"
    if path.exists():
        with path.open() as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        # Snakemake looks every half minute, and misses what comes after.
        if float(row["s"]) > 60 and row["cpu_time"] not in ("NA", "-"):
            return float(row["cpu_time"])
    return float(record["seconds"])


def told_by(finished: Mapping[str, Run], asked: Mapping[str, Asked], timer: Timer, rates: Rates) -> Rates:
    """The rates with those groups replaced that finished runs tell.

    Args:
        finished: runs by key.
        asked: what each of them asked for.
        timer: of the machine and device that they ran on.
        rates: of all other groups, and ``start`` and ``io`` of all.
    """
    taken: dict[str, float] = defaultdict(float)
    work: dict[str, float] = defaultdict(float)
    runs: dict[str, int] = defaultdict(int)
    sizes: dict[str, float] = defaultdict(float)
    kept: dict[str, float] = defaultdict(float)
    for key, run in finished.items():
        one = asked[key]
        networks = sum(map(timer.seconds, one.passes))
        left = cpu_seconds(run) - rates.start - (rates.io * one.megavoxels if networks else 0)
        taken[one.rate] += max(left, LEAST_SECONDS)
        work[one.rate] += networks or one.megavoxels or 1
        runs[one.rate] += 1
        weights = sum(timer.of(passes).weights for passes in one.weights)
        stage = one.rate.split("/")[0]
        sizes[stage] += max(folder_bytes(run.folder) - weights, 0)
        kept[stage] += one.kept or 1 - bool(weights)
    groups = {group: taken[group] / work[group] for group in sorted(taken)}
    sized = {stage: sizes[stage] / kept[stage] for stage in sorted(kept) if kept[stage]}
    return Rates(rates.start, rates.io, rates.groups | groups, rates.bytes | sized, rates.runs | dict(runs))


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ship(rates: Rates) -> None:
    """Write rates to the file that weakseg ships."""
    write_json(SHIPPED, {name: _rounded(value) for name, value in asdict(rates).items()})


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value
