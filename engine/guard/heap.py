"""Gives freed memory back to the system, where glibc would keep it."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from contextlib import suppress

EVERY_SECONDS = 60.0

_ARENAS = 2
_ARENA_MAX = -8  # <malloc.h>


def give_back_freed_memory() -> None:
    """Gives freed memory back once a minute, in a thread of its own. Call it before there are other threads.

    glibc keeps freed memory in up to eight arenas per core, and after large requests it grows for an hour. A smaller
    `M_MMAP_THRESHOLD` would help as well, but makes reading prompts a fifth slower (docs/experiments.md, finding 13).
    Does nothing with another C library or on another system.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, _ARENAS)
        threading.Thread(target=_every_minute, args=(library.malloc_trim,), name="citer-heap", daemon=True).start()


def _every_minute(trim) -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        trim(0)  # tens of milliseconds, in which Python goes on
