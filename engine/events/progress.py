"""Progress reports of slow steps. The page and the command line bring callbacks; `print_progress` is the terminal's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

PERIOD = 0.1  # seconds between two reports: faster than the eye, slow enough for a log or a websocket


@dataclass(frozen=True)
class Progress:
    """How far a step is."""

    what: str  # the step in words, or the name of the file that is read
    done_bytes: int = 0  # those of an earlier, interrupted attempt included
    total_bytes: int = 0  # 0 where the step cannot be measured
    bytes_per_second: float = 0.0  # mean of this attempt; 0 while unknown
    source: str = "disk"  # where the bytes come from: hub, mirror, cache or disk


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Turns a count of bytes into reports, at most one per `PERIOD` plus the first and the last."""

    def __init__(
        self, callback: ProgressCallback | None, what: str, total_bytes: int, source: str, done: int = 0
    ) -> None:
        """Starts at `done` bytes; speed is measured from here."""
        self._callback, self._what, self._total, self._source = callback, what, total_bytes, source
        self._start_bytes, self._start = done, time.monotonic()
        self._next = 0.0
        self.at(done)

    def at(self, done: int) -> None:
        """Reports that `done` bytes are there, if a report is due."""
        now = time.monotonic()
        if self._callback is None or (now < self._next and done < self._total):
            return
        self._next = now + PERIOD
        seconds = now - self._start
        speed = (done - self._start_bytes) / seconds if seconds > 0 and done > self._start_bytes else 0.0
        self._callback(Progress(self._what, done, self._total, speed, self._source))


def say(callback: ProgressCallback | None, what: str, source: str = "disk") -> None:
    """Reports a step that has no measure."""
    if callback is not None:
        callback(Progress(what, source=source))


def print_progress(progress: Progress) -> None:
    """Shows a report on stderr: a line that overwrites itself on a terminal; elsewhere the first and the last only."""
    line = progress.what
    if progress.total_bytes:
        share = progress.done_bytes / progress.total_bytes
        line += f": {progress.done_bytes / 1e6:.0f} of {progress.total_bytes / 1e6:.0f} MB ({share:.0%})"
        line += f", {progress.bytes_per_second / 1e6:.1f} MB/s, {progress.source}" if progress.bytes_per_second else ""
    finished = progress.done_bytes >= progress.total_bytes
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if finished else ""))
    elif finished or progress.done_bytes == 0:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()
