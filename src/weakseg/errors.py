"""Errors that are meant for people: what is wrong, in which file or key, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WeaksegError(Exception):
    """A fault in the user's input. The command line shows its text, without a traceback, and exits with 1."""


class DataFaults(WeaksegError):
    """All faults found in a data set at once, one per line."""

    def __init__(self, root: object, faults: list[str]) -> None:
        self.faults = list(faults)
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        count = f"{len(self.faults)} fault" + ("s" if len(self.faults) != 1 else "")
        super().__init__(f"{root}: {count}; mend these and run again:\n{lines}")


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are: {', '.join(known)}"
