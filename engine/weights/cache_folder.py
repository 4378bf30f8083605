"""Locks, free space and hashes in the cache folder, which several processes share and which may be full or damaged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.errors import WeightsError
from engine.weights.files import FULL, disk_error, read_json, write_json
from engine.weights.progress import Meter, ProgressCallback, say

NOTE = ".verified.json"
"""What the name of a file's note has behind the file's; see `sha256_once`."""

CHUNK = 1 << 20  # bytes that are read at a time
_POLL = 1.0  # seconds between two looks at a lock that another process holds


@contextlib.contextmanager
def locked(target: Path, progress: ProgressCallback | None = None) -> Iterator[None]:
    """Holds `<target>.lock`, so that one process at a time makes `target`; others wait and say so.

    The lock is the operating system's and ends with its process, so a killed download leaves none behind.
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


def require_space(folder: Path, needed: int) -> None:
    """Refuses to begin what will not fit: a WeightsError if fewer than `needed` bytes are free in a folder."""
    if shutil.disk_usage(folder).free < needed:
        raise _disk_full(folder, needed)


@contextlib.contextmanager
def writing(folder: Path, needed: int) -> Iterator[None]:
    """Turns a full disk and a missing permission, whatever library met it, into a WeightsError that says what to do."""
    try:
        yield
    except Exception as error:
        number = disk_error(error)
        if number in FULL:
            raise _disk_full(folder, needed) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _not_writable(folder, error) from error
        raise


def _disk_full(folder: Path, needed: int) -> WeightsError:
    free = shutil.disk_usage(folder).free
    return WeightsError(
        f"no space in {folder}: {in_words(needed)} needed, {in_words(free)} free. "
        "Free some, or set CITER_CACHE_DIR to a folder on another disk."
    )


def _not_writable(folder: Path, error: Exception) -> WeightsError:
    reason = getattr(error, "strerror", None) or error
    return WeightsError(f"{folder} cannot be written ({reason}): set CITER_CACHE_DIR to one that can.")


def in_words(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def sha256_of(path: Path, progress: ProgressCallback | None = None) -> str:
    """The hex SHA-256 of a file, about a gigabyte a second."""
    meter = Meter(progress, f"checking {path.name}", path.stat().st_size, "disk")
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            meter.at(source.tell())
    return digest.hexdigest()


def note_beside(path: Path) -> Path:
    """Where the note of a file lies, unless its folder is a stranger's."""
    return path.with_name(path.name + NOTE)


def user_note(folder: Path, path: Path) -> Path:
    """Where the note of a user's file lies: in the cache, since the user's folder is not ours to write in."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return folder / f"user-{name}{NOTE}"


def sha256_once(path: Path, note: Path, progress: ProgressCallback | None = None, again: bool = False) -> str:
    """A file's SHA-256, so that gigabytes are hashed once, and again only after a change, or on request (`again`).

    A note keeps it with the file's size, time of change and inode. Damage that leaves all three alone is found by
    `python -m engine.weights`. Where the note cannot be written, the file is hashed the next time, too.
    """
    known, state = read_json(note), _state(path)
    sha256 = known.get("sha256")
    if not again and isinstance(sha256, str) and known == {**state, "sha256": sha256}:
        return sha256
    sha256 = sha256_of(path, progress)
    with contextlib.suppress(OSError):
        write_json(note, {**state, "sha256": sha256})
    return sha256


def _state(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
