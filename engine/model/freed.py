"""What was freed is given back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back() -> None:
    """Gives what was freed back to the system, where glibc would keep it."""
    if sys.platform != "linux":  # Windows has no library of this name, which is a TypeError there
        return
    with suppress(OSError, AttributeError):  # other C libraries do it by themselves
        ctypes.CDLL(None).malloc_trim(0)
