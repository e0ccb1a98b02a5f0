"""Timing of what is compared, in turns, so that a noisy machine is as noisy for all."""

from __future__ import annotations

import time
from collections.abc import Callable


def least(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The processor's seconds of each, the least of several rounds side by side."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds + 1):  # the first warms up
        for name, run in runs.items():
            started = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - started)
    return found
