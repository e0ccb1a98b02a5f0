"""A calm view of a run: ``snakemake --logger weakseg`` has a line for each job that ends, and says all errors in full.

Snakemake finds it by the name of this package. What jobs print lies in ``results/logs``, as ever.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

UNSAID = (LogEvent.WORKFLOW_STARTED, LogEvent.SHELLCMD, LogEvent.RESOURCES_INFO, LogEvent.PROGRESS, LogEvent.RULEGRAPH)
CHATTER = ("Select jobs", "Execute ", "Using ", "Provided ", "Rules claiming", "Conda ", "Assuming ", "Config file")
"""How messages begin that say nothing of the benchmark."""


@dataclass
class Progress:
    """What is done of a run, and when it began."""

    total: int = 0
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    jobs: dict[int, tuple[str, float]] = field(default_factory=dict)

    def line(self, event: str | None, facts: dict[str, Any]) -> str | None:
        """What to say of an event: None if it is not about progress, nothing if there is nothing to say."""
        now = time.monotonic()
        if event == LogEvent.RUN_INFO:
            # The last job is the target, which does nothing.
            self.total = facts["stats"].get("total", 0)
            self.began = now
            return f"{self.total} jobs to do; results/logs has what each says"
        if event == LogEvent.JOB_INFO:
            label = dict(facts.get("wildcards") or {}).get("label", "")
            self.jobs[facts["jobid"]] = (f"{facts['rule_name']:<20} {label}".rstrip(), now)
            return ""
        if event == LogEvent.JOB_FINISHED:
            self.done += 1
            what, started = self.jobs.pop(facts["job_id"], ("", now))
            share = f"{100 * self.done // max(self.total, 1):>3} %"
            return f"{share}  {clock(now - self.began)}  {what}  ({now - started:.0f} s)"
        return "" if event in UNSAID or event == LogEvent.JOB_STARTED else None


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class LogHandler(LogHandlerBase):
    """Writes to the error stream, as Snakemake does, in place of its own view."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.progress = Progress()

    def emit(self, record: LogRecord) -> None:
        line = self.progress.line(getattr(record, "event", None), record.__dict__)
        if line is None or record.levelno >= WARNING:
            line = self.format(record)
            if record.levelno < WARNING and line.startswith(CHATTER):
                line = ""
        if line.strip():
            print(line, file=sys.stderr, flush=True)
