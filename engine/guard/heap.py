"""What a server's process keeps of memory that it has freed, where glibc gives it: one that reads large requests."""

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
    """Gives freed memory back to the system once a minute, in a thread of its own; for a process that serves.

    Left alone, glibc keeps what requests of 20 MB leave between small blocks that stay, in up to eight arenas per core,
    and there it adds up for an hour. A lower size from which blocks are mapped by themselves would help as well, but
    makes reading prompts a fifth slower (docs/experiments.md, finding 13). Call it before there are threads.
    Does nothing with another C library, or on another system than Linux.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)
        threading.Thread(target=_every_minute, name="citer-heap", daemon=True).start()


def _every_minute() -> None:
    with suppress(AttributeError, OSError):
        while True:
            time.sleep(EVERY_SECONDS)
            ctypes.CDLL(None).malloc_trim(0)  # tens of milliseconds, in which Python goes on
