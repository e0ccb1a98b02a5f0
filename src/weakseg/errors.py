"""Errors that are meant for people: what is wrong, in which file or key, and what to do."""

from __future__ import annotations


class WeaksegError(Exception):
    """A fault in the user's input. The command line shows its text, without a traceback, and exits with 1."""


class DataFaults(WeaksegError):
    """All faults found in a data set at once, one per line."""

    def __init__(self, root: object, faults: list[str]) -> None:
        self.faults = list(faults)
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        count = f"{len(self.faults)} fault" + ("s" if len(self.faults) != 1 else "")
        super().__init__(f"{root}: {count}; mend these and run again:\n{lines}")
