"""The cache folder as a place that several processes share and that may be full.

Knows locks, free space and atomic writes. Knows nothing of what is stored.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.errors import WeightsError
from engine.progress import ProgressCallback, say

_POLL = 1.0  # seconds between two looks at a lock that another process holds


@contextmanager
def locked(target: Path, progress: ProgressCallback | None = None) -> Iterator[None]:
    """Hold `<target>.lock`, so that one process at a time makes `target`; others wait and say so.

    The lock is the operating system's and ends with its process, so a killed download leaves none behind.

    Raises:
        WeightsError: the folder cannot be written.
    """
    make_folder(target.parent)
    lock = FileLock(target.with_name(target.name + ".lock"))
    started = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=_POLL)
            break
        except Timeout:
            waited = time.monotonic() - started
            say(progress, f"waiting for another process that makes {target.name} ({waited:.0f} s)")
        except OSError as error:
            raise not_writable(target.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Create a folder of the cache.

    Raises:
        WeightsError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error


def require_space(folder: Path, needed: int) -> None:
    """Refuse to begin what will not fit.

    Args:
        folder: an existing folder on the file system in question.
        needed: bytes that are about to be written.

    Raises:
        WeightsError: fewer are free; the message names the folder, both sizes and the variable.
    """
    if shutil.disk_usage(folder).free < needed:
        raise disk_full(folder, needed)


def disk_full(folder: Path, needed: int) -> WeightsError:
    """Build the error for a full disk, with the space that is free now."""
    free = shutil.disk_usage(folder).free
    return WeightsError(
        f"no space in {folder}: {_size(needed)} needed, {_size(free)} free. "
        "Free some, or set CITER_CACHE_DIR to a folder on another disk."
    )


def not_writable(folder: Path, error: OSError) -> WeightsError:
    """Build the error for a folder that cannot be written."""
    return WeightsError(f"{folder} cannot be written ({error.strerror or error}): set CITER_CACHE_DIR to one that can.")


@contextmanager
def writing(folder: Path, needed: int) -> Iterator[None]:
    """Turn the operating system's errors while writing into ones that say what to do.

    Raises:
        WeightsError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(folder, needed) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise not_writable(folder, error) from error
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a half."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; missing or damaged is an empty one, as the cache can always be made again."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
