"""What of a router's folder is sent to the Hub, when nothing is, and what the user reads when it fails."""

from __future__ import annotations

import hashlib
import shutil

import huggingface_hub
import pytest
from huggingface_hub import constants

from engine import load_settings
from engine.models.router_folder import router_folder
from engine.models.sources import PRESETS
from engine.operating_points import OperatingPoints
from engine.router import Router
from tests.support.fake_hub import TOKEN, Repo
from tests.support.paths import ROOT
from trainer import TrainerError
from trainer.publish import publish

pytest_plugins = ["tests.support.fake_hub"]

TINY = ROOT / "assets" / "routers" / "tiny"
NAME = "someone/tiny"
SENT = {"router.safetensors", "router.json", "README.md"}


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "tiny", ignore=shutil.ignore_patterns("operating_points.json"))


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def said():
    return []


def test_without_send_nothing_is_asked_and_every_file_is_listed_with_size_and_hash(fake_hub, folder, said, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: pytest.fail("a token was read"))
    OperatingPoints(hashlib.sha256((folder / "router.safetensors").read_bytes()).hexdigest()).save(folder)
    (folder / ".env").write_text("HF_TOKEN=x")
    assert publish(folder, NAME, private=True, report=said.append) is None
    assert fake_hub.requests == [] and "--send" in said[-1]
    assert all(word in said[0] for word in (NAME, "private"))
    for name in (*SENT, "operating_points.json"):
        content, line = (folder / name).read_bytes(), next(line for line in said if name in line)
        assert f"{len(content):,}" in line and hashlib.sha256(content).hexdigest() in line
    assert next(line for line in said if "stays here" in line).endswith(".env")


@pytest.mark.parametrize("lfs", [False, True], ids=["inline", "large-file storage"])
def test_a_published_router_is_one_commit_of_the_listed_files_and_loads_back(
    fake_hub, folder, login, said, tmp_path, lfs
):
    fake_hub.lfs = lfs
    (folder / "secret.txt").write_text("x")
    (folder / "router.safetensors").rename(folder / "best.safetensors")
    (folder / "router.safetensors").symlink_to("best.safetensors")  # within the folder: sent as the file it is
    url = publish(folder, NAME, send=True, private=True, report=said.append)
    repo = fake_hub.repos[NAME]
    assert set(repo.files) == SENT | {".gitattributes"} and repo.private and bool(fake_hub.large) == lfs
    assert url == f"{fake_hub.url}/{NAME}/commit/{repo.branches['main']}" and url in said[-2] and NAME in said[-1]
    settings = load_settings(router=NAME, cache_dir=tmp_path / "cache", hub_timeout=60)
    back = router_folder(settings, PRESETS["tiny"], tmp_path / "no-routers")
    assert back is not None
    assert (back / "router.safetensors").read_bytes() == (TINY / "router.safetensors").read_bytes()
    assert Router.load(back).card == Router.load(TINY).card
    commits = len(repo.messages)
    publish(folder, NAME, send=True, report=said.append)
    assert lfs or len(repo.messages) == commits, "the same again is no commit"


def test_publishing_again_takes_away_an_earlier_routers_operating_points_only(fake_hub, folder, login, said):
    fake_hub.repos[NAME] = Repo()
    fake_hub.repos[NAME].commit({"operating_points.json": b"[1]", "LICENSE": b"MIT"})
    with pytest.raises(TrainerError, match="public"):
        publish(folder, NAME, send=True, private=True, report=said.append)
    publish(folder, NAME, send=True, report=said.append)
    assert set(fake_hub.repos[NAME].files) == SENT | {"LICENSE"}


def test_a_name_that_is_no_repos_is_refused(fake_hub, folder, login):
    for name in ("tiny", "a/b/c", "some--one/tiny", "someone/", "../tiny", "someone/tiny@v1", ""):
        with pytest.raises(TrainerError):
            publish(folder, name, send=True)
    assert fake_hub.requests == []


def link_outside(folder):
    (folder.parent / "secret").write_text("a secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(folder.parent / "secret")


DAMAGES = {
    "no folder": (shutil.rmtree, "trainer fit"),
    "no card": (lambda folder: (folder / "router.json").unlink(), "trainer fit"),
    "no weights": (lambda folder: (folder / "router.safetensors").write_bytes(b"\x80\x04pickle"), "trainer fit"),
    "another's points": (lambda folder: OperatingPoints("0" * 64).save(folder), "other weights"),
    "a link that leads out": (link_outside, "README"),
    "too large": (lambda folder: (folder / "README.md").write_bytes(b"x" * 1_000_001), "README"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_router_or_leads_out_of_its_folder_is_refused(fake_hub, folder, login, said, damage):
    DAMAGES[damage][0](folder)
    with pytest.raises(TrainerError, match=DAMAGES[damage][1]):
        publish(folder, NAME, send=True, report=said.append)
    assert (fake_hub.requests, said) == ([], [])


@pytest.mark.parametrize("token", ["", TOKEN[:9] + "\x0b" + TOKEN[9:], TOKEN + "é", TOKEN + " x"])
def test_without_a_token_or_with_one_that_no_header_can_hold_the_way_out_is_told_and_no_token(
    fake_hub, folder, monkeypatch, said, token
):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(TrainerError, match="characters" if token else r"settings/tokens.*HF_TOKEN") as caught:
        publish(folder, NAME, send=True, report=said.append)
    assert TOKEN[9:] not in str(caught.value) and fake_hub.requests == []


@pytest.mark.parametrize(
    ("at", "status", "way_out"),
    [
        ("/repos/create", 401, "settings/tokens"),
        ("/repos/create", 429, "Wait"),
        ("/commit/", 403, "write"),
        ("/large/", 403, "write"),
    ],
)
def test_a_refusal_names_repo_reason_and_way_out_and_never_the_token(
    fake_hub, folder, login, said, capfd, at, status, way_out
):
    fake_hub.lfs = True
    fake_hub.fail[at] = (status, f"said about {TOKEN}")
    with pytest.raises(TrainerError, match=rf"{NAME} .*{status} said about ….*{way_out}") as caught:
        publish(folder, NAME, send=True, report=said.append)
    assert TOKEN not in "".join([str(caught.value), *said, *capfd.readouterr()])
    assert SENT & set(fake_hub.repos[NAME].files if NAME in fake_hub.repos else ()) == set()


def test_a_change_by_someone_else_meanwhile_is_not_overwritten(fake_hub, folder, login, said, monkeypatch):
    fake_hub.repos[NAME] = repo = Repo()
    there = huggingface_hub.HfApi.model_info

    def model_info(self, *args, **kwargs):
        info = there(self, *args, **kwargs)
        repo.commit({"router.json": b"theirs"})
        return info

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    with pytest.raises(TrainerError, match=r"412.*what is there now"):
        publish(folder, NAME, send=True, report=said.append)
    assert repo.files == {"router.json": b"theirs"}


def offline(_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def hung_up(hub, _monkeypatch):
    hub.hang_up = "/commit/"


@pytest.mark.parametrize("trouble", [offline, hung_up])
def test_without_an_answer_the_error_names_repo_and_connection(fake_hub, folder, login, said, monkeypatch, trouble):
    trouble(fake_hub, monkeypatch)
    with pytest.raises(TrainerError, match=rf"{NAME} .* connection.*HF_HUB_OFFLINE") as caught:
        publish(folder, NAME, send=True, report=said.append)
    assert TOKEN not in str(caught.value)
