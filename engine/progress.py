"""What a long step tells the outside: one small value per tenth of a second, whoever shows it.

Knows nothing of downloads or models. The page and the command line each bring their own callback;
`print_progress` is the terminal's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

PERIOD = 0.1  # seconds between two reports: faster than the eye, slow enough for a log or a websocket


@dataclass(frozen=True)
class Progress:
    """A report.

    Attributes:
        what: the step in words, e.g. the file's name.
        done_bytes: bytes done, those of an earlier, interrupted attempt included.
        total_bytes: bytes in all; 0 where the step cannot be measured.
        bytes_per_second: mean speed of this attempt; 0 while unknown.
        door: where the bytes come from: `hub`, `mirror`, `cache`, `disk`.
    """

    what: str
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: float = 0.0
    door: str = "disk"


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Turns a count of bytes into reports, at most ten a second plus the first and the last."""

    def __init__(
        self, callback: ProgressCallback | None, what: str, total_bytes: int, door: str, done: int = 0
    ) -> None:
        """Start at `done` bytes; speed is measured from here."""
        self._callback, self._what, self._total, self._door = callback, what, total_bytes, door
        self._start_bytes, self._start = done, time.monotonic()
        self._next = 0.0
        self.at(done)

    def at(self, done: int) -> None:
        """Report that `done` bytes are there, unless the last report was a moment ago."""
        now = time.monotonic()
        if self._callback is None or (now < self._next and done < self._total):
            return
        self._next = now + PERIOD
        seconds = now - self._start
        speed = (done - self._start_bytes) / seconds if seconds > 0 and done > self._start_bytes else 0.0
        self._callback(Progress(self._what, done, self._total, speed, self._door))


def say(callback: ProgressCallback | None, what: str, door: str = "disk") -> None:
    """Report a step that has no measure."""
    if callback is not None:
        callback(Progress(what, door=door))


def print_progress(progress: Progress) -> None:
    """Show a report on stderr: one line that overwrites itself on a terminal, whole lines at the ends elsewhere."""
    line = progress.what
    if progress.total_bytes:
        share = progress.done_bytes / progress.total_bytes
        line += f": {progress.done_bytes / 1e6:.0f} of {progress.total_bytes / 1e6:.0f} MB ({share:.0%})"
        line += f", {progress.bytes_per_second / 1e6:.1f} MB/s, {progress.door}" if progress.bytes_per_second else ""
    finished = progress.done_bytes >= progress.total_bytes
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if finished else ""))
    elif finished or progress.done_bytes == 0:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()
