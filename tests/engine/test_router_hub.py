"""Where a router's folder is found: folders first, then the Hub, then what was fetched from it earlier."""

from __future__ import annotations

import pickle
import shutil

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import are_progress_bars_disabled

from engine.errors import RouterError, WeightsError
from engine.router import Router
from engine.weights.router_hub import find_router
from tests.support.fake_hub import TOKEN, Repo
from tests.support.mutations import no_file_larger_than
from tests.support.paths import ROOT

pytest_plugins = ["tests.support.fake_hub"]

ROUTERS = ROOT / "assets" / "routers"
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


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A current folder that holds nothing."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_shipped_router_is_found_by_its_name(cache):
    assert find_router("tiny", ROUTERS, cache) == TINY
    assert not cache.exists()


def test_a_path_is_taken_as_it_is(tmp_path, cache):
    folder = shutil.copytree(TINY, tmp_path / "mine")
    assert find_router(str(folder), ROUTERS, cache) == folder


def test_a_folder_here_wins_over_the_hub(fake_hub, repo, elsewhere, cache):
    shutil.copytree(TINY, elsewhere / "someone" / "tiny")
    assert find_router("someone/tiny", ROUTERS, cache).resolve() == elsewhere / "someone" / "tiny"
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "tinny",
        "a/b/c",
        "../escape",
        "~/mine",
        "/no/where",
        "tiny@main",
        "someone/tiny@",
        "someone/tiny@../../x",
        "someone/tiny@-x",
        "some--one/tiny",
    ],
)
def test_a_name_that_is_no_folder_and_no_repo_is_refused_without_asking_anyone(fake_hub, cache, name):
    with pytest.raises(RouterError, match=r"no such folder.*\(cpu.*, tiny\).*owner/name") as caught:
        find_router(name, ROUTERS, cache)
    assert name in str(caught.value)
    assert fake_hub.requests == []


# --- the Hub ---------------------------------------------------------------------------------------------------------


def test_a_repo_is_fetched_byte_by_byte_and_loads(repo, cache):
    folder = find_router("someone/tiny", ROUTERS, cache)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_files()
    assert folder.is_relative_to(cache)
    assert Router.load(folder).name == "tiny"


def test_only_a_routers_files_are_fetched(fake_hub, repo, cache):
    malice = {"pytorch_model.bin": pickle.dumps(print), "setup.py": b"raise SystemExit", "x/router.json": b"{}"}
    repo.commit(tiny_files() | malice | {"operating_points.json": b"[]"})
    folder = find_router("someone/tiny", ROUTERS, cache)
    assert {path.name for path in folder.iterdir()} == {*tiny_files(), "operating_points.json"}
    assert not any(name.partition("/")[0] in path for name in malice for _, path in fake_hub.asked("resolve"))


def test_a_revision_names_a_branch_or_a_commit(repo, cache):
    old = repo.branches["main"]
    other = tiny_files() | {"README.md": b"# other"}
    repo.commit(tiny_files() | {"README.md": b"# newer"})
    repo.commit(other, branch="refs/pr/1")
    by_branch = find_router("someone/tiny@refs/pr/1", ROUTERS, cache)
    by_commit = find_router(f"someone/tiny@{old}", ROUTERS, cache)
    assert (by_branch / "README.md").read_bytes() == b"# other"
    assert (by_commit / "README.md").read_bytes() == tiny_files()["README.md"]


def test_a_commit_that_is_in_the_cache_is_not_asked_for_again(fake_hub, repo, cache):
    name = f"someone/tiny@{repo.branches['main']}"
    folder = find_router(name, ROUTERS, cache)
    fake_hub.requests.clear()
    assert find_router(name, ROUTERS, cache) == folder
    assert fake_hub.requests == []


def test_a_branch_that_moved_is_fetched_again(repo, cache):
    find_router("someone/tiny", ROUTERS, cache)
    repo.commit(tiny_files() | {"README.md": b"# new"})
    assert (find_router("someone/tiny", ROUTERS, cache) / "README.md").read_bytes() == b"# new"


def test_all_files_are_of_the_commit_that_was_looked_up(fake_hub, repo, cache):
    commit = repo.branches["main"]
    find_router("someone/tiny", ROUTERS, cache)
    assert {path.split("/")[4] for _, path in fake_hub.asked("resolve")} == {commit}


def test_a_private_repo_needs_the_token(fake_hub, repo, cache, monkeypatch):
    repo.private = True
    with pytest.raises(RouterError, match="HF_TOKEN"):
        find_router("someone/tiny", ROUTERS, cache)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert Router.load(find_router("someone/tiny", ROUTERS, cache)).name == "tiny"


def test_progress_tells_the_steps_and_no_bar_is_drawn(repo, cache, capfd):
    told = []
    before = are_progress_bars_disabled()
    find_router("someone/tiny", ROUTERS, cache, progress=lambda progress: told.append(progress.what))
    assert any("someone/tiny" in what for what in told)
    assert capfd.readouterr() == ("", "")
    assert are_progress_bars_disabled() == before


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["router.json", "router.safetensors"])
def test_a_repo_that_is_no_router_is_refused_with_the_missing_file(fake_hub, repo, cache, missing):
    repo.commit({name: content for name, content in tiny_files().items() if name != missing})
    with pytest.raises(RouterError, match=rf"someone/tiny.*has no {missing}"):
        find_router("someone/tiny", ROUTERS, cache)
    assert fake_hub.asked("resolve") == []


@pytest.mark.parametrize(
    ("file", "size"),
    [("router.json", 1_000_001), ("router.safetensors", 200_000_001), ("README.md", 10**9), ("router.json", None)],
)
def test_what_is_too_large_for_a_router_is_refused_before_it_is_fetched(fake_hub, repo, cache, file, size):
    fake_hub.announced[file] = size
    with pytest.raises(RouterError, match=rf"{file}.*at most"):
        find_router("someone/tiny", ROUTERS, cache)
    assert fake_hub.asked("resolve") == []


def test_a_file_of_another_size_than_announced_is_not_used(fake_hub, repo, cache):
    fake_hub.announced["router.json"] = 10
    with pytest.raises(RouterError, match=r"router.json has \d,\d+ bytes and was said to have 10"):
        find_router("someone/tiny", ROUTERS, cache)


def test_a_repo_that_is_not_there_is_named_with_the_way_out(fake_hub, cache):
    with pytest.raises(RouterError, match=r"someone/else.*no such repo.*spelling.*HF_TOKEN"):
        find_router("someone/else", ROUTERS, cache)


def test_a_revision_that_is_not_there_is_named(repo, cache):
    with pytest.raises(RouterError, match="someone/tiny has no branch, tag or commit v9"):
        find_router("someone/tiny@v9", ROUTERS, cache)


def test_a_server_that_names_no_commit_is_not_believed(fake_hub, repo, cache):
    repo.commits["../../up"] = tiny_files()
    repo.branches["main"] = "../../up"
    with pytest.raises(RouterError, match="not a Hub"):
        find_router("someone/tiny", ROUTERS, cache)
    assert fake_hub.asked("resolve") == []


def test_a_broken_token_is_not_quoted(repo, cache, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN[:9] + "\x0b" + TOKEN[9:])
    with pytest.raises(RouterError) as caught:
        find_router("someone/tiny", ROUTERS, cache)
    assert "Bearer …" in str(caught.value)
    assert TOKEN[9:] not in str(caught.value)


# --- out of reach ----------------------------------------------------------------------------------------------------


def offline(_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def hung_up(hub, _monkeypatch):
    hub.hang_up = "/api/models"


def refused(_hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def out_of_order(hub, _monkeypatch):
    hub.fail["/api/models"] = (500, "the Hub is down")


def too_many(hub, _monkeypatch):
    hub.fail["/api/models"] = (429, "too many requests")


TROUBLES = pytest.mark.parametrize("trouble", [offline, hung_up, refused, out_of_order, too_many])


@TROUBLES
def test_out_of_reach_what_was_fetched_before_is_used_and_said_so(fake_hub, repo, cache, monkeypatch, trouble):
    folder = find_router("someone/tiny", ROUTERS, cache)
    trouble(fake_hub, monkeypatch)
    told = []
    assert find_router("someone/tiny", ROUTERS, cache, progress=lambda p: told.append((p.source, p.what))) == folder
    assert any(source == "cache" and "out of reach" in what for source, what in told)


@TROUBLES
def test_out_of_reach_without_a_copy_the_error_says_how(fake_hub, repo, cache, monkeypatch, trouble):
    trouble(fake_hub, monkeypatch)
    with pytest.raises(RouterError, match=r"someone/tiny: .*not cached.*connection.*router.json.*folder.*path"):
        find_router("someone/tiny", ROUTERS, cache)


def test_another_revision_than_the_fetched_one_is_not_passed_off_as_it(fake_hub, repo, cache, monkeypatch):
    repo.commit(tiny_files(), branch="v2")
    find_router("someone/tiny", ROUTERS, cache)
    offline(fake_hub, monkeypatch)
    with pytest.raises(RouterError, match="someone/tiny@v2"):
        find_router("someone/tiny@v2", ROUTERS, cache)


def test_a_half_fetched_commit_is_never_used(fake_hub, repo, cache, monkeypatch):
    folder = find_router("someone/tiny", ROUTERS, cache)
    repo.commit(tiny_files() | {"README.md": b"# new", "router.json": b"{}"})
    fake_hub.announced["README.md"] = 7  # the last file that is fetched is not what it should be
    assert find_router("someone/tiny", ROUTERS, cache) == folder


def test_files_that_the_hub_lists_and_does_not_give_count_as_out_of_reach(fake_hub, repo, cache):
    folder = find_router("someone/tiny", ROUTERS, cache)
    repo.commit(tiny_files() | {"README.md": b"# new"})
    fake_hub.fail["/resolve/"] = (403, "ask the owner for access")
    assert find_router("someone/tiny", ROUTERS, cache) == folder
    with pytest.raises(RouterError, match="ask the owner for access"):
        find_router("someone/tiny", ROUTERS, cache.with_name("fresh"))


def test_a_copy_whose_weights_are_gone_does_not_count(fake_hub, repo, cache, monkeypatch):
    folder = find_router("someone/tiny", ROUTERS, cache)
    (folder / "router.safetensors").unlink()
    offline(fake_hub, monkeypatch)
    with pytest.raises(RouterError, match="not cached"):
        find_router("someone/tiny", ROUTERS, cache)


def test_without_leave_the_hub_is_not_asked(fake_hub, repo, cache):
    with pytest.raises(RouterError, match="CITER_HUB is false"):
        find_router("someone/tiny", ROUTERS, cache, hub=False)
    assert fake_hub.requests == []
    folder = find_router("someone/tiny", ROUTERS, cache)
    assert find_router("someone/tiny", ROUTERS, cache, hub=False) == folder


def test_a_cache_that_cannot_be_written_is_named(fake_hub, repo, cache):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with pytest.raises(RouterError, match=str(cache.name)):
        find_router("someone/tiny", ROUTERS, cache)


def test_nothing_is_written_into_a_cache_that_is_complete(repo, cache):
    folder = find_router("someone/tiny", ROUTERS, cache)
    before = {path: path.lstat().st_mtime_ns for path in cache.rglob("*")}
    assert find_router("someone/tiny", ROUTERS, cache) == folder
    assert {path: path.lstat().st_mtime_ns for path in cache.rglob("*")} == before


def test_a_full_disk_is_called_so_and_a_router_that_is_in_the_cache_serves_still(fake_hub, repo, cache):
    with no_file_larger_than(10_000), pytest.raises(WeightsError, match=r"no space in .*routers: .* CITER_CACHE_DIR"):
        find_router("someone/tiny", ROUTERS, cache)
    folder, said = find_router("someone/tiny", ROUTERS, cache), []
    repo.commit({**tiny_files(), "router.safetensors": bytes(80_000)})
    with no_file_larger_than(10_000):
        assert find_router("someone/tiny", ROUTERS, cache, progress=lambda each: said.append(each.what)) == folder
    assert "from the cache" in said[-1] and "no space" in said[-1]
