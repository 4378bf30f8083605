"""The cache folder, which several processes share and which may be full or damaged: locks, free space and hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.errors import WeightsError, shown
from engine.events.progress import ProgressCallback, say
from engine.models.files import FULL, disk_error, read_json, sha256_of, write_json

HASHES = "hashes"
"""Folder of the cache for what `known_sha256` remembers."""

_POLL = 1.0  # seconds between two looks at a lock that another process holds
_SMALL = 20_000_000  # bytes; what is smaller is hashed whenever its hash is wanted


@contextlib.contextmanager
def locked(target: Path, progress: ProgressCallback | None = None) -> Iterator[None]:
    """Holds `<target>.lock`, so that one process at a time makes `target`; others wait and say so.

    The operating system releases the lock of a process that ends or is killed.
    """
    make_folder(target.parent)
    lock, started = FileLock(target.with_name(target.name + ".lock")), time.monotonic()
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_POLL)
        except Timeout:
            waited = time.monotonic() - started
            say(progress, f"waiting for another process that makes {target.name} ({waited:.0f} s)")
        except OSError as error:
            raise _not_writable(target.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Creates a folder of the cache; a WeightsError says why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


@contextlib.contextmanager
def writing(folder: Path, needed: int) -> Iterator[None]:
    """Raises a WeightsError where `needed` bytes do not fit, or any library meets a full or read-only disk inside."""
    if shutil.disk_usage(folder).free < needed:
        raise no_space(folder, f"{in_words(needed)} needed")
    try:
        yield
    except Exception as error:
        number = disk_error(error)
        if number in FULL:
            raise no_space(folder, f"{in_words(needed)} needed") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _not_writable(folder, error) from error
        raise


def no_space(folder: Path, needs: str) -> WeightsError:
    """The error for a full disk; `needs` says what is needed."""
    free = in_words(shutil.disk_usage(folder).free)
    return WeightsError(
        f"no space in {folder}: {needs}, {free} free. Free some, or set CITER_CACHE_DIR to a folder on another disk."
    )


def _not_writable(folder: Path, error: Exception) -> WeightsError:
    reason = getattr(error, "strerror", None) or error
    return WeightsError(f"{folder} cannot be written ({reason}): set CITER_CACHE_DIR to one that can.")


def in_words(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def fault_of(path: Path, size: Any, sha256: Any, cache: Path, progress: ProgressCallback | None = None) -> str:
    """What is wrong with a file that should have this size and hash, as the end of a sentence; empty if nothing is."""
    try:
        if not path.is_file():
            return "is not a file" if os.path.lexists(path) else "is not there"
        if (bytes_there := path.stat().st_size) != size:
            return f"has {bytes_there} bytes, not {shown(size)}"
        if (found := known_sha256(path, cache, progress)) != sha256:
            return f"has changed: its sha256 is {found}, not {shown(sha256)}"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def known_sha256(path: Path, cache: Path, progress: ProgressCallback | None = None) -> str:
    """A file's SHA-256 in hex; a large file is hashed once, and then only after a change.

    The cache remembers the hash with the file's size, time of change and inode. Damage that leaves all three alone is
    found once the folder `HASHES` is removed.
    """
    stat = path.stat()
    if stat.st_size < _SMALL:
        return sha256_of(path)
    state = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
    name = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    note = cache / HASHES / f"{name}.json"
    known = read_json(note)
    sha256 = known.get("sha256")
    if isinstance(sha256, str) and known == {**state, "sha256": sha256}:
        return sha256
    say(progress, f"checking {path.name}")
    sha256 = sha256_of(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written: the file is hashed again next time
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {**state, "sha256": sha256})
    return sha256
