"""Files that may be damaged, a stranger's or on a full disk: read within a limit, hashed, written whole or not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.errors import WeightsError, shown
from engine.events.progress import ProgressCallback, say

MAX_JSON = 1_000_000
"""Bytes of a JSON file that this project writes beside weights; the largest has a few thousand."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_SMALL = 20_000_000  # bytes; what is smaller is hashed whenever its hash is wanted
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how the Rust libraries (safetensors, tokenizers) spell an errno


def read_bytes(path: Path, limit: int = MAX_JSON) -> bytes:
    """A regular file's content; an OSError for anything else, which may never end, and for more than `limit` bytes."""
    if not path.is_file():
        raise OSError(errno.EINVAL, "it is not a file" if path.exists() else os.strerror(errno.ENOENT), str(path))
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return content


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; a ValueError says why there is none."""
    try:
        value = json.loads(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({shown(str(error))})") from None
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; a missing or damaged one counts as empty, for files that can be made again."""
    try:
        return read_object(path)
    except ValueError:
        return {}


def write_json(path: Path, value: dict[str, Any], **style: Any) -> None:
    """Writes a JSON object as `write_text` does; a ValueError if it holds a number that is not finite."""
    text = json.dumps(value, allow_nan=False, **(style or {"indent": 1, "sort_keys": True}))
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8 so that a reader sees the old one or the new one, never a half."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to. In the end that file becomes `path`; after an error it is removed."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Takes away whatever has this name: a file, a folder, a link to either, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def disk_error(error: BaseException) -> int | None:
    """The errno of an error that the operating system raised, whichever library it came through; else None."""
    if isinstance(error, OSError):
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file, about a gigabyte a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path, cache: Path, progress: ProgressCallback | None = None) -> str:
    """A file's SHA-256 in hex; a large file is hashed once, and then only after a change."""
    stat = path.stat()
    if stat.st_size < _SMALL:
        return sha256_of(path)
    state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    note = cache / "hashes" / hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()
    with suppress(OSError, ValueError):
        return read_bytes(note).decode("ascii")
    say(progress, f"checking {path.name}")
    sha256 = sha256_of(path)
    with suppress(OSError):  # a cache that cannot be written: the file is hashed again next time
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, sha256)
    return sha256


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Creates a folder of the cache. A disk that is full or read-only for what is done inside is a WeightsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except Exception as error:
        number = disk_error(error)
        if number in FULL:
            raise WeightsError(
                f"no space in {folder}: free some, or set CITER_CACHE_DIR to a folder on another disk."
            ) from error
        if number in _NOT_WRITABLE:
            why = getattr(error, "strerror", None) or error
            raise WeightsError(f"{folder} cannot be written ({why}): set CITER_CACHE_DIR to one that can.") from error
        raise
