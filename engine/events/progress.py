"""Progress reports of slow steps. The page and the command line bring callbacks; `print_progress` is the terminal's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

PERIOD = 0.1  # seconds between two reports: faster than the eye, slow enough for a log or a websocket


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        what: The step in words, or the name of the file that is read.
        done_bytes: Those of an earlier, interrupted attempt included.
        total_bytes: 0 for a step that cannot be measured.
    """

    what: str
    done_bytes: int = 0
    total_bytes: int = 0


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Turns a count of bytes into reports, at most one per `PERIOD` plus the first and the last."""

    def __init__(self, callback: ProgressCallback | None, what: str, total_bytes: int, done: int = 0) -> None:
        self._callback, self._what, self._total, self._next = callback, what, total_bytes, 0.0
        self.at(done)

    def at(self, done: int) -> None:
        """Reports that `done` bytes are there, if a report is due."""
        now = time.monotonic()
        if self._callback is not None and (now >= self._next or done >= self._total):
            self._next = now + PERIOD
            self._callback(Progress(self._what, done, self._total))


def say(callback: ProgressCallback | None, what: str) -> None:
    """Reports a step that has no measure."""
    if callback is not None:
        callback(Progress(what))


def print_progress(progress: Progress) -> None:
    """Shows a report on stderr: a line that overwrites itself on a terminal; elsewhere the first and the last only."""
    line, done, total = progress.what, progress.done_bytes, progress.total_bytes
    if total:
        line += f": {done / 1e6:.0f} of {total / 1e6:.0f} MB ({done / total:.0%})"
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="\n" if done >= total else "", file=sys.stderr, flush=True)
    elif done >= total or done == 0:
        print(line, file=sys.stderr, flush=True)
