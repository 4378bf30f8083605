"""What of a router's folder is sent to the Hub, when nothing is, and what the user reads when it fails."""

from __future__ import annotations

import hashlib
import shutil

import huggingface_hub
import pytest
from huggingface_hub import constants

from engine.operating_points import OperatingPoints
from engine.router import Router
from engine.weights.router_hub import find_router
from tests.support.fake_hub import TOKEN, Repo
from tests.support.paths import ROOT
from trainer import TrainerError
from trainer.__main__ import main
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


# --- without --send --------------------------------------------------------------------------------------------------


def test_without_send_the_hub_is_not_asked_and_no_token_is_read(fake_hub, folder, said, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: pytest.fail("a token was read"))
    assert publish(folder, NAME, report=said.append) is None
    assert fake_hub.requests == []
    assert "Nothing was sent" in said[-1]
    assert "--send" in said[-1]


def test_without_send_each_file_is_listed_with_size_and_hash_and_the_target_named(folder, said):
    OperatingPoints(hashlib.sha256((folder / "router.safetensors").read_bytes()).hexdigest()).save(folder)
    publish(folder, NAME, private=True, report=said.append)
    text = "\n".join(said)
    assert all(word in said[0] for word in (NAME, "branch main", "private"))
    for name in (*SENT, "operating_points.json"):
        content = (folder / name).read_bytes()
        line = next(line for line in said if name in line)
        assert f"{len(content):,} bytes" in line
        assert hashlib.sha256(content).hexdigest() in line
    assert "4 files" in text


def test_what_else_lies_there_is_said_to_stay(folder, said):
    (folder / "labels.arrow").write_bytes(b"x")
    (folder / ".env").write_text("HF_TOKEN=x")
    publish(folder, NAME, report=said.append)
    assert next(line for line in said if "stays here" in line).endswith(".env, labels.arrow")


# --- with --send -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lfs", [False, True], ids=["inline", "large-file storage"])
def test_a_published_router_is_loaded_back_byte_by_byte(fake_hub, folder, login, said, tmp_path, lfs):
    fake_hub.lfs = lfs
    publish(folder, NAME, send=True, report=said.append)
    back = find_router(NAME, tmp_path / "no-routers", tmp_path / "cache")
    assert (back / "router.safetensors").read_bytes() == (TINY / "router.safetensors").read_bytes()
    assert Router.load(back).card == Router.load(TINY).card
    assert bool(fake_hub.large) == lfs


def test_sending_is_one_commit_of_the_listed_files_and_nothing_else(fake_hub, folder, login, said):
    (folder / "secret.txt").write_text("x")
    (folder / "checkpoints").mkdir()
    url = publish(folder, NAME, send=True, report=said.append)
    repo = fake_hub.repos[NAME]
    assert set(repo.files) == SENT | {".gitattributes"}
    assert repo.messages == ["initial commit", "Router tiny"]
    assert url == f"{fake_hub.url}/{NAME}/commit/{repo.branches['main']}"
    assert url in said[-2]
    assert f"CITER_ROUTER={NAME}" in said[-1]


def test_a_private_repo_is_made_private_and_another_is_not(fake_hub, folder, login, said):
    publish(folder, NAME, send=True, private=True, report=said.append)
    publish(folder, "someone/open", send=True, report=said.append)
    assert fake_hub.repos[NAME].private
    assert not fake_hub.repos["someone/open"].private


def test_private_is_refused_where_a_public_repo_is_there_already(fake_hub, folder, login, said):
    fake_hub.repos[NAME] = Repo()
    with pytest.raises(TrainerError, match=f"{NAME} is there already and public"):
        publish(folder, NAME, send=True, private=True, report=said.append)
    assert set(fake_hub.repos[NAME].files) == {".gitattributes"}


def test_publishing_again_takes_away_an_earlier_routers_operating_points_only(fake_hub, folder, login, said):
    fake_hub.repos[NAME] = Repo()
    fake_hub.repos[NAME].commit({"operating_points.json": b"[1]", "LICENSE": b"MIT"})
    publish(folder, NAME, send=True, report=said.append)
    assert set(fake_hub.repos[NAME].files) == SENT | {"LICENSE"}
    assert any("Removing operating_points.json" in line for line in said)


def test_publishing_the_same_again_makes_no_commit(fake_hub, folder, login, said):
    publish(folder, NAME, send=True, report=said.append)
    publish(folder, NAME, send=True, report=said.append)
    assert len(fake_hub.repos[NAME].messages) == 2
    assert said[-2].startswith("Unchanged: ")


def test_another_branch_and_message_are_used(fake_hub, folder, login, said):
    fake_hub.repos[NAME] = Repo()
    fake_hub.repos[NAME].commit({}, branch="trial")
    publish(folder, NAME, send=True, revision="trial", message="round 2", report=said.append)
    assert fake_hub.repos[NAME].messages[-1] == "round 2"
    assert SENT & set(fake_hub.repos[NAME].files) == set()
    assert said[-1].endswith(f"{NAME}@trial")


def test_the_command_line_sends_only_with_its_flag(fake_hub, folder, login, capfd):
    assert main(["publish", str(folder), NAME]) == 0
    assert fake_hub.requests == []
    assert main(["publish", str(folder), NAME, "--send", "--private"]) == 0
    assert fake_hub.repos[NAME].private
    output = capfd.readouterr()
    assert "Published: " in output.out
    assert output.err == ""


# --- refused before anything is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "some--one/tiny", "someone/", "../tiny", "someone/tiny@v1", ""])
def test_a_name_that_is_no_repos_is_refused(fake_hub, folder, login, name):
    with pytest.raises(TrainerError):
        publish(folder, name, send=True)
    assert fake_hub.requests == []


def no_folder(folder):
    shutil.rmtree(folder)


def no_card(folder):
    (folder / "router.json").unlink()


def damaged_weights(folder):
    (folder / "router.safetensors").write_bytes(b"\x80\x04pickle")


@pytest.mark.parametrize("damage", [no_folder, no_card, damaged_weights])
def test_what_is_no_router_is_refused_with_the_way_out(fake_hub, folder, login, damage):
    damage(folder)
    with pytest.raises(TrainerError, match="trainer fit"):
        publish(folder, NAME, send=True)
    assert fake_hub.requests == []


def test_operating_points_of_other_weights_are_refused(fake_hub, folder, login):
    OperatingPoints("0" * 64).save(folder)
    with pytest.raises(TrainerError, match=r"other weights.*measure.*again, or delete"):
        publish(folder, NAME, send=True)
    assert fake_hub.requests == []


def link_outside(folder):
    secret = folder.parent / "secret"
    secret.write_text("a secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(secret)


def link_to_nowhere(folder):
    (folder / "operating_points.json").symlink_to(folder / "gone")


def link_to_itself(folder):
    (folder / "operating_points.json").symlink_to(folder / "operating_points.json")


def a_folder_instead(folder):
    (folder / "operating_points.json").mkdir()


def too_large(folder):
    (folder / "README.md").write_bytes(b"x" * 1_000_001)


@pytest.mark.parametrize("damage", [link_outside, link_to_nowhere, link_to_itself, a_folder_instead, too_large])
def test_a_file_that_is_none_or_leads_out_of_the_folder_is_refused(fake_hub, folder, login, said, damage):
    damage(folder)
    with pytest.raises(TrainerError, match=r"README.md|operating_points.json"):
        publish(folder, NAME, send=True, report=said.append)
    assert (fake_hub.requests, said) == ([], [])


def test_a_link_within_the_folder_is_sent_as_the_file_it_is(fake_hub, folder, login, said):
    (folder / "router.safetensors").rename(folder / "best.safetensors")
    (folder / "router.safetensors").symlink_to("best.safetensors")
    publish(folder, NAME, send=True, report=said.append)
    assert fake_hub.repos[NAME].files["router.safetensors"] == (TINY / "router.safetensors").read_bytes()


def test_without_a_token_the_error_says_where_to_get_one(fake_hub, folder, said):
    with pytest.raises(TrainerError, match=r"no token.*settings/tokens.*hf auth login.*HF_TOKEN"):
        publish(folder, NAME, send=True, report=said.append)
    assert fake_hub.requests == []


@pytest.mark.parametrize("bad", [TOKEN[:9] + "\x0b" + TOKEN[9:], TOKEN + "é", TOKEN + " x"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(fake_hub, folder, monkeypatch, said, bad):
    monkeypatch.setenv("HF_TOKEN", bad)
    with pytest.raises(TrainerError, match="characters") as caught:
        publish(folder, NAME, send=True, report=said.append)
    assert TOKEN[9:] not in str(caught.value)
    assert fake_hub.requests == []


# --- refused by the Hub ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "status", "way_out"),
    [
        ("/repos/create", 401, "not accepted.*settings/tokens"),
        ("/repos/create", 403, "may not write there"),
        ("/repos/create", 429, "Wait"),
        ("/repos/create", 500, "connection"),
        ("/commit/", 401, "not accepted"),
        ("/commit/", 403, "may not write there"),
        ("/commit/", 409, "look at what is there now"),
        ("/commit/", 412, "look at what is there now"),
        ("/large/", 403, "may not write there"),
    ],
)
def test_a_refusal_names_repo_reason_and_way_out_and_never_the_token(
    fake_hub, folder, login, said, capfd, at, status, way_out
):
    fake_hub.lfs = True
    fake_hub.fail[at] = (status, f"said about {TOKEN}")
    with pytest.raises(TrainerError, match=rf"{NAME} failed: {status} said about ….*{way_out}") as caught:
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
    with pytest.raises(TrainerError, match=r"412.*look at what is there now"):
        publish(folder, NAME, send=True, report=said.append)
    assert repo.files == {"router.json": b"theirs"}


def test_a_branch_that_is_not_there_is_named_as_the_reason(fake_hub, folder, login, said):
    with pytest.raises(TrainerError, match=r"404.*branch first"):
        publish(folder, NAME, send=True, revision="trial", report=said.append)


def offline(_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def refused(_hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def hung_up(hub, _monkeypatch):
    hub.hang_up = "/commit/"


@pytest.mark.parametrize("trouble", [offline, refused, hung_up])
def test_without_an_answer_the_error_names_repo_and_connection(fake_hub, folder, login, said, monkeypatch, trouble):
    trouble(fake_hub, monkeypatch)
    with pytest.raises(TrainerError, match=rf"{NAME} failed: .+ connection.*HF_HUB_OFFLINE") as caught:
        publish(folder, NAME, send=True, report=said.append)
    assert TOKEN not in str(caught.value)
