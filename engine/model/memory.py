"""How much memory this machine has, or this container may take."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def memory_bytes() -> int:
    """Bytes in all, or a container's limit where that is less; 0 where neither can be asked."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = 0
    return min(filter(None, (physical, container_bytes("memory.max"))), default=0)


def container_bytes(name: str) -> int | None:
    """What a container's memory controller (cgroup v2) says under a name; None without one, or without a limit."""
    try:
        text = (CGROUP / name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() else None
