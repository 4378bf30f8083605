"""Where a router's folder is found: folders first, then the Hub, then what was fetched from it earlier."""

from __future__ import annotations

import pickle
import shutil
from typing import Any

import pytest
from huggingface_hub import constants

from engine.errors import RouterError, WeightsError
from engine.models.sources import PRESETS, ROUTERS, router_folder
from engine.router import Router
from engine.settings import load_settings
from tests.support.fake_hub import TOKEN, Repo
from tests.support.mutations import no_file_larger_than

pytest_plugins = ["tests.support.fake_hub"]

TINY = ROUTERS / "tiny"


def tiny_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in TINY.iterdir()}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "routers"


@pytest.fixture
def repo(fake_hub):
    fake_hub.repos["someone/tiny"] = Repo()
    fake_hub.repos["someone/tiny"].commit(tiny_files())
    return fake_hub.repos["someone/tiny"]


def fetched(cache, name="someone/tiny", progress=None) -> Any:
    settings = load_settings(router=name, cache_dir=cache.parent)
    return router_folder(settings, PRESETS["tiny"], progress)


NO_NAMES = ["tinny", "a/b/c", "../escape", "~/mine", "/no/where", "tiny@main", "someone/tiny@", "someone/tiny@-x"]


def test_only_for_what_may_be_a_repo_and_with_leave_the_hub_is_asked(fake_hub, repo, tmp_path, cache, monkeypatch):
    for name in (*NO_NAMES, "someone/tiny@../../x", "some--one/tiny"):
        with pytest.raises(RouterError, match=r"tiny.*owner/name") as caught:
            fetched(cache, name)
        assert name in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(RouterError, match="HF_HUB_OFFLINE"):
            fetched(cache)
    assert fetched(cache, "tiny") == TINY
    folder = shutil.copytree(TINY, tmp_path / "someone" / "tiny")
    assert fetched(cache, str(folder)) == folder
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert fetched(cache).resolve() == folder, "a folder here wins over the Hub"
    assert fake_hub.requests == []


def test_of_a_repo_a_routers_files_alone_are_fetched_of_one_commit(fake_hub, repo, cache, capfd):
    commit = repo.commit(tiny_files() | {"pytorch_model.bin": pickle.dumps(print), "x/router.json": b"{}"})
    told = []
    folder = fetched(cache, progress=told.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_files()
    assert folder.is_relative_to(cache) and Router.load(folder).name == "tiny"
    assert {path.split("/")[4] for _, path in fake_hub.asked("resolve")} == {commit}
    assert not fake_hub.asked("pytorch_model") and not fake_hub.asked("x/router")
    assert any("someone/tiny" in what for what in told)
    assert capfd.readouterr() == ("", ""), "no bar is drawn"


def test_a_revision_names_a_branch_or_a_commit(fake_hub, repo, cache):
    old = repo.branches["main"]
    repo.commit(tiny_files() | {"README.md": b"# newer"})
    repo.commit(tiny_files() | {"README.md": b"# other"}, branch="refs/pr/1")
    assert (fetched(cache, "someone/tiny@refs/pr/1") / "README.md").read_bytes() == b"# other"
    folder = fetched(cache, f"someone/tiny@{old}")
    assert (folder / "README.md").read_bytes() == tiny_files()["README.md"]
    assert (fetched(cache) / "README.md").read_bytes() == b"# newer"
    repo.commit(tiny_files() | {"README.md": b"# newest"})
    assert (fetched(cache) / "README.md").read_bytes() == b"# newest", "a branch that moved is fetched again"
    before = {path: path.lstat().st_mtime_ns for path in cache.rglob("*")}
    fetched(cache)
    assert {path: path.lstat().st_mtime_ns for path in cache.rglob("*")} == before, "and else nothing is written"


# What is refused


def test_what_is_not_there_or_private_is_named_and_a_broken_token_is_not_quoted(fake_hub, repo, cache, monkeypatch):
    with pytest.raises(RouterError, match=r"someone/else.*HF_TOKEN"):
        fetched(cache, "someone/else")
    with pytest.raises(RouterError, match=r"someone/tiny@v9: .*branch"):
        fetched(cache, "someone/tiny@v9")
    repo.private = True
    with pytest.raises(RouterError, match="HF_TOKEN"):
        fetched(cache)
    assert fake_hub.asked("resolve") == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert Router.load(fetched(cache)).name == "tiny"
    monkeypatch.setenv("HF_TOKEN", TOKEN[:9] + "\x0b" + TOKEN[9:])
    with pytest.raises(RouterError, match="Bearer …") as caught:
        fetched(cache.parent / "fresh" / "routers")
    assert TOKEN[9:] not in str(caught.value)


# Out of reach

TROUBLES = {
    "offline": lambda hub, patch: patch.setattr(constants, "HF_HUB_OFFLINE", True),
    "hung up": lambda hub, patch: setattr(hub, "hang_up", "/api/models"),
    "nobody listens": lambda hub, patch: patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9"),
    "out of order": lambda hub, patch: hub.fail.update({"/api/models": (500, "the Hub is down")}),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_out_of_reach_what_was_fetched_before_is_used_and_said_so(fake_hub, repo, cache, monkeypatch, trouble):
    folder, told = fetched(cache), []
    trouble(fake_hub, monkeypatch)
    assert fetched(cache, progress=told.append) == folder
    assert any("from the cache" in what and "out of reach" in what for what in told)
    with pytest.raises(RouterError, match=r"someone/tiny: .*not cached.*path"):
        fetched(cache.parent / "fresh" / "routers")


def test_another_revision_or_half_a_commit_is_not_passed_off_as_what_was_asked_for(fake_hub, repo, cache, monkeypatch):
    repo.commit(tiny_files(), branch="v2")
    folder = fetched(cache)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RouterError, match="someone/tiny@v2"):
        fetched(cache, "someone/tiny@v2")
    (folder / "router.safetensors").unlink()
    with pytest.raises(RouterError, match="not cached"):
        fetched(cache)


def test_a_cache_that_is_full_is_called_so(fake_hub, repo, cache):
    with no_file_larger_than(10_000), pytest.raises(WeightsError, match=r"no space in .*routers: .* CITER_CACHE_DIR"):
        fetched(cache)
