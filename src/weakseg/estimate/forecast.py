"""What a configuration will cost: runs, processor or GPU hours and bytes, by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from weakseg import catalogue
from weakseg.config import Config
from weakseg.estimate.asks import Asked, asked_of
from weakseg.estimate.extent import extents_of
from weakseg.estimate.rates import Rates, finished_runs, told_by
from weakseg.estimate.timing import Timer
from weakseg.runs import Run


@dataclass(frozen=True)
class Forecast:
    """Of the runs of a configuration.

    Attributes:
        runs: a row each: ``stage``, ``label``, ``key``, ``done``, ``seconds``, ``bytes``.
        device: on which networks were measured.
        finished: number of finished runs of this machine that told rates.
    """

    runs: pd.DataFrame
    device: str
    finished: int


def what_is_asked(runs: Mapping[str, Run], config: Config | None) -> dict[str, Asked]:
    """What each run asks for, by key."""
    extents = extents_of(runs, config)
    return {key: asked_of(run, runs, extents[key]) for key, run in runs.items()}


def forecast(runs: Mapping[str, Run], config: Config, rates: Rates, timer: Timer) -> Forecast:
    """Seconds and bytes of planned runs; the rates are corrected by what has finished here on the same device.

    Raises:
        WeaksegError: a data folder tells no size.
    """
    finished = _whole(finished_runs())
    of_finished = what_is_asked(finished, None)
    if timer.device == "cuda":
        finished = {key: run for key, run in finished.items() if run.stage not in catalogue.NETWORK_STAGES}
    rates = told_by(finished, of_finished, timer, rates)
    asked = what_is_asked(runs, config)
    rows = [
        {
            "stage": run.stage,
            "label": run.label,
            "key": key,
            "done": run.record.exists(),
            "seconds": rates.seconds(asked[key], timer),
            "bytes": rates.size(asked[key], timer),
        }
        for key, run in runs.items()
    ]
    return Forecast(pd.DataFrame(rows), timer.device, len(finished))


def _whole(finished: Mapping[str, Run]) -> dict[str, Run]:
    """Finished runs of which everything they were made from is still there, but for phantoms."""
    return {
        key: run
        for key, run in finished.items()
        if all(above in finished for role, keys in run.upstream.items() if role != "phantom" for above in keys)
    }


def as_text(found: Forecast) -> str:
    """The forecast as a table of stages, with what is left to do."""
    runs = found.runs.assign(left=(~found.runs["done"]).astype(int))
    runs["hours"] = runs["seconds"] / 3600 * runs["left"]
    runs["GB"] = runs["bytes"] / 1e9 * runs["left"]
    table = runs.groupby("stage", sort=False).agg(
        runs=("key", "size"), left=("left", "sum"), hours=("hours", "sum"), GB=("GB", "sum")
    )
    order = [stage for stage in catalogue.STAGES if stage in table.index]
    table = table.loc[order]
    on_gpu = found.device == "cuda"
    networks = table.index.isin(catalogue.NETWORK_STAGES) & on_gpu
    hours = {"GPU": table["hours"][networks].sum(), "processor": table["hours"][~networks].sum()}
    table.loc["all"] = table.sum()
    table = table.astype({"runs": int, "left": int})
    longest = runs[runs["left"] > 0].nlargest(1, "seconds")
    lines = [table.reset_index().to_string(index=False, float_format=lambda value: f"{value:.2f}"), ""]
    lines += [f"{value:.1f} {name} hours are left" for name, value in hours.items() if name == "processor" or on_gpu]
    if len(longest):
        row = longest.iloc[0]
        lines.append(f"longest run: {row['stage']}/{row['label']}, {row['seconds'] / 3600:.1f} hours")
    told = f"{found.finished} finished runs here" if found.finished else "the rates that weakseg ships"
    lines.append(f"from passes of each network, measured just now on the {found.device}, and {told}")
    return "\n".join(lines)
