"""What a server's process sets up first: freed memory is given back, repeated log lines are held back."""

from __future__ import annotations

import ctypes
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TRIM_SECONDS = 60.0

_ARENAS = 2
_ARENA_MAX = -8  # <malloc.h>


def prepare() -> None:
    """Sets the process up. Call it before there are other threads."""
    _give_back_freed_memory()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(Once())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _give_back_freed_memory() -> None:
    """Gives freed memory back to the system once a minute, in a thread of its own.

    glibc keeps freed memory in up to eight arenas per core, and after large requests it grows for an hour. A smaller
    `M_MMAP_THRESHOLD` would help as well, but makes reading prompts a fifth slower (docs/experiments.md, finding 13).
    Does nothing with another C library or on another system.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            library = ctypes.CDLL(None)
            library.mallopt(_ARENA_MAX, _ARENAS)
            threading.Thread(target=_trim_now_and_then, args=(library,), name="citer-heap", daemon=True).start()


def _trim_now_and_then(library: ctypes.CDLL) -> None:
    while True:
        time.sleep(TRIM_SECONDS)
        library.malloc_trim(0)  # tens of milliseconds, in which Python goes on


class Once(logging.Filter):
    """Passes a log line once a minute, with the number of times that it was held back."""

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds, self._clock = seconds, clock
        # By line: when it was written, and how often it came since.
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        line, now = (record.name, record.levelno, str(record.msg), str(record.args)[:200]), self._clock()
        then, count = self._seen.get(line, (-math.inf, 0))
        if now - then < self._seconds:
            self._seen[line] = (then, count + 1)
            return False
        if count:
            record.msg, record.args = f"{record.getMessage()} (and {count} times more since)", ()
        if len(self._seen) > 1_000:
            self._seen.clear()
        self._seen[line] = (now, 0)
        return True
