"""Another pair, or another router, for the whole page: what may be chosen, the change, what becomes of the texts."""

from __future__ import annotations

import json
import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import engine
from app.header import header_html
from app.models.choice import allowed, chosen
from app.models.panel import _ModelsHandlers
from app.running.host import Host, NextPair
from app.running.job import GONE_ON
from app.running.session import Session
from app.running.sessions import Sessions
from app.stream.updates import waiting_for
from app.sweep import Sweep, SweepRun
from engine import EngineError, InvalidRequest, Prices, SettingsError, WeightsError, load_settings
from engine.pairs import another, room
from engine.pairs.another import needs_of, with_router
from engine.router import Router
from tests.support.browser import eventually
from tests.support.fake_pair import FakePair, FakeRouter, request
from tests.support.own_pair import save_arithmetic

pytest_plugins = ["tests.support.fake_hub"]

PROMPT = "Start with 12. Add 30. What is the result?"

# ---- what may be chosen ----


@pytest.mark.parametrize(
    ("server", "environment", "may"),
    [
        ({}, {}, "any"),
        ({"host": "127.0.0.1"}, {}, "any"),
        ({"host": "localhost"}, {}, "any"),
        ({"host": "::1"}, {}, "any"),
        ({"host": "0.0.0.0"}, {}, "off"),
        ({"host": "demo.example.org"}, {}, "off"),
        ({}, {"GRADIO_SERVER_NAME": "0.0.0.0"}, "off"),
        ({}, {"SPACE_ID": "someone/space"}, "off"),
        ({"hosts": "demo.example.org"}, {}, "off"),
        ({"proxies": 1}, {}, "off"),
        ({"host": "0.0.0.0", "choose": "named"}, {}, "named"),
        ({"choose": "off"}, {}, "off"),
        ({"choose": "any"}, {"SPACE_ID": "someone/space"}, "any"),
    ],
)
def test_unless_the_host_says_it_only_who_sits_at_this_machine_may_choose(server, environment, may, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert allowed(load_settings(server=server).server) == may


SETTINGS = load_settings(preset="cpu", llm_url="http://127.0.0.1:9", threshold=0.3)


def test_a_choice_is_the_hosts_settings_with_other_models():
    wanted = chosen(SETTINGS, "any", ["tiny", " my/slm ", "", "tiny"])
    assert (wanted.preset, wanted.slm, wanted.llm, wanted.router) == ("tiny", "my/slm", None, "tiny")
    assert wanted.threshold == 0.3 and wanted.llm_url == "", "the server has another LLM"
    assert chosen(SETTINGS, "any", ["cpu", "", None, "cpu"]).llm_url == SETTINGS.llm_url, "the models are the same"


@pytest.mark.parametrize(
    ("may", "values", "told"),
    [
        ("off", ["tiny", "", "", "auto"], "is its host's choice"),
        ("named", ["tiny", "my/slm", "", "auto"], "only the pairs and routers of its lists"),
        ("named", ["tiny", "", "/etc/passwd", "auto"], "only the pairs and routers of its lists"),
        ("named", ["tiny", "", "", "someone/router"], "only the pairs and routers of its lists"),
        ("any", ["mine", "", "", "auto"], "must be one of auto, gpu, cpu, tiny"),
        ("any", ["tiny", "x" * 5000, "", "auto"], "CITER_SLM = "),
        ("any", ["tiny", "", "", "x" * 5000], "CITER_ROUTER = "),
        ("any", ["tiny", ["a"], "", "auto"], r"slm = .* is no text"),
        ("any", ["tiny", "a\0b", "", "auto"], "CITER_SLM = "),
    ],
)
def test_what_the_host_does_not_allow_or_is_no_name_is_refused_before_anything_is_looked_at(may, values, told):
    with pytest.raises((InvalidRequest, SettingsError), match=told) as refused:
        chosen(SETTINGS, may, values)
    assert len(str(refused.value)) < 400


def test_of_named_pairs_the_host_keeps_its_own_models_and_others_come_without():
    own = load_settings(preset="cpu", slm="my/slm", router="someone/router")
    assert chosen(own, "named", ["cpu", "my/slm", "", "someone/router"]) == own
    wanted = chosen(own, "named", ["tiny", "my/slm", None, "auto"])
    assert (wanted.preset, wanted.slm, wanted.router) == ("tiny", None, "auto")


# ---- the change ----


@pytest.fixture
def pair():
    return FakePair(100)


def running(pair):
    """A host that has loaded its pair, and the sessions of its page."""
    host, sessions = Host(lambda preset, progress: pair), Sessions()
    host.source, host.retire = "first", sessions.retire
    host.wait(threading.Event())
    eventually(lambda: host.status.phase == "ready")
    return host, sessions


def other(name: str = "other-router", tokens_per_second: float = 1000) -> FakePair:
    pair = FakePair(tokens_per_second, FakeRouter(name), preset="tiny")
    pair.slm_name, pair.llm_name = "small", "large"
    return pair


def never(progress):
    raise AssertionError("nothing is loaded again")


def test_the_pair_writes_on_until_the_other_is_there_and_then_its_texts_end_with_a_word(pair):
    host, sessions = running(pair)
    there, new = threading.Event(), other()
    run = sessions.get("a").begin(request(max_new_tokens=3000), host)
    eventually(lambda: len(run.events) > 2)
    host.change(NextPair("second", lambda progress: there.wait(10) and new, never))
    eventually(lambda: host.status.coming)
    assert "Coming: " in header_html(host) and "Qwen2.5-Coder 0.5B" in header_html(host)
    with pytest.raises(EngineError, match="one is at a time"):
        host.change(NextPair("third", never, never))
    count = len(run.events)
    eventually(lambda: len(run.events) > count + 2)
    there.set()
    assert run.finished.wait(5) and run.error == GONE_ON and len(run.events) > count
    eventually(lambda: host.pair is new and host.status.phase == "ready" and not host.status.coming)
    assert (host.source, host.loaded, host.news) == ("second", 2, 2)
    assert "small ⇄ large" in header_html(host) and "Coming" not in header_html(host)
    after = sessions.get("a").begin(request(), host)
    assert after.finished.wait(5) and after.state == "done" and after.pair is new
    host.close()


def test_nothing_goes_on_from_a_text_of_an_earlier_pair_and_it_says_whose_it_is(pair):
    pair.tokens_per_second = 2000
    host, sessions = running(pair)
    session = sessions.get("a")
    first = session.begin(request(), host)
    sweep = session.begin_job("sweep", Sweep(request(), [], Prices(), "threshold"), host)
    assert first.finished.wait(5) and sweep.finished.wait(20) and sweep.state == "done"
    host.change(NextPair("second", lambda progress: other(), never))
    eventually(lambda: host.news == 2)
    said = "Written by Qwen2.5-Coder 0.5B ⇄ 1.5B, router fake-r1, before this page loaded"
    assert first.fixed and first.about.startswith(said)
    assert session.set_dials(0.9, 0.0, host) is None and session.branch(2, engine.Role.LLM, None, host) is None
    assert session.extend(20, host) is None and session.reveal(host) is None
    with pytest.raises(InvalidRequest, match=said):
        session.continue_from(SweepRun(sweep, 0), 0.5, 0.0, host)
    number = first.number
    session.tell_retired()
    assert session.run is first and first.number > number, "it comes to the page anew"
    session.tell_retired()
    assert first.pair.trace(first.request, first.events).slm == "Qwen2.5-Coder 0.5B"
    second = session.begin(request(seed=9), host)
    assert second.finished.wait(5) and not second.fixed
    assert session.set_dials(0.9, 0.0, host) is not None
    host.close()


def test_a_pair_that_cannot_be_loaded_leaves_the_one_before(pair):
    host, sessions = running(pair)
    run = sessions.get("a").begin(request(max_new_tokens=3000), host)

    def load(progress):
        raise WeightsError("no <space> is left")

    host.change(NextPair("second", load, never))
    eventually(lambda: host.news == 2)
    assert host.pair is pair and host.status.phase == "ready" and host.source == "first" and run.active
    assert "no &lt;space&gt; is left\nThe pair from before is there." in header_html(host)
    run.cancel.set()
    host.close()


def test_a_pair_that_must_go_first_is_loaded_again_where_the_other_cannot_be():
    loads, there = [], threading.Event()

    def begin(preset, progress):
        loads.append(preset)
        return FakePair(100)

    host, sessions = Host(begin, "cpu"), Sessions()
    host.retire = sessions.retire
    before = host.wait(threading.Event())
    run = sessions.get("a").begin(request(max_new_tokens=3000), host)
    eventually(lambda: run.events)

    def load(progress):
        there.wait(10)
        raise WeightsError("it is damaged")

    host.change(NextPair("second", load, never, first=True))
    assert run.finished.wait(5) and run.error == GONE_ON
    eventually(lambda: host.status.phase == "loading")
    assert host.pair is None and host.scheduler is None
    waiting = sessions.get("b").begin(request(), host)
    assert waiting_for(waiting, host).startswith("Waiting for the models to load")
    there.set()
    assert waiting.finished.wait(5) and waiting.state == "done" and waiting.pair is host.pair
    assert loads == ["cpu", "cpu"] and host.pair is not before and not waiting.fixed
    assert "it is damaged\nThe pair from before is there." in (host.status.warning or "")
    host.close()


def test_where_no_pair_was_to_be_had_another_can_still_be_loaded():
    def load(preset, progress):
        raise WeightsError("none")

    host, new = Host(load, "tiny"), other()
    host.start()
    eventually(lambda: host.status.phase == "failed")
    host.change(NextPair("second", lambda progress: new, never))
    eventually(lambda: host.news == 2)
    assert host.wait(threading.Event()) is new and host.status.phase == "ready" and host.status.error is None
    host.close()


# ---- real models ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of a second tiny pair."""
    return save_arithmetic(tmp_path_factory.mktemp("second"))


@pytest.fixture
def settings(tmp_path):
    return load_settings(preset="tiny", cache_dir=tmp_path / "cache", hub=False, mirror=False)


def test_what_a_pair_takes_is_told_with_what_there_is(settings, saved, monkeypatch):
    tiny = engine.load(None, settings)
    needs = needs_of(settings, tiny)
    assert needs.room is not None and not needs.first
    assert needs.room.download == needs.room.disk == 0 and 0 < needs.room.memory <= needs.room.memory_free
    own = chosen(settings, "any", ["auto", str(saved[0]), str(saved[1]), "auto"])
    needs = needs_of(own, tiny)
    assert needs.room is not None and 0 < needs.room.disk <= needs.room.disk_free and needs.room.download == 0
    short = needs.room.memory - 1
    monkeypatch.setattr(room, "free_memory", lambda: short)
    needs = needs_of(own, tiny)
    assert needs.first and needs.room is not None and needs.room.memory_free > short
    monkeypatch.setattr(room, "free_memory", lambda: 1_000_000)
    with pytest.raises(WeightsError, match="not enough memory"):
        needs_of(own, tiny)


def test_a_download_is_told_with_its_size_before_it_begins(settings):
    wanted = settings.model_copy(update={"preset": "cpu", "cpu_weights": "int8"})
    host: Any = SimpleNamespace(models=None, source=settings, pair=None)
    try:
        _, words = _ModelsHandlers(host, settings, "any")._coming(wanted)
    except WeightsError as error:  # a small machine
        pytest.skip(str(error))
    assert words[0] == "To download: 1.61 GB." and words[1].startswith("Disk: ") and words[2].startswith("Memory: ")
    assert not (settings.cache_dir / "gguf").exists()


def test_of_a_repo_only_the_small_files_are_fetched_to_look_what_it_takes(settings, saved, fake_hub, monkeypatch):
    from tests.support.fake_hub import Repo

    monkeypatch.setenv("HF_ENDPOINT", fake_hub.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    content = {path.name: path.read_bytes() for path in saved[1].iterdir()}
    fake_hub.repos["someone/large"] = Repo()
    fake_hub.repos["someone/large"].commit(content)
    values = ["tiny", "", "someone/large", "auto"]
    wanted = chosen(settings.model_copy(update={"hub": True, "llm_url": ""}), "any", values)
    needs = needs_of(wanted, None)
    assert needs.room is not None and needs.room.download == len(content["model.safetensors"])
    assert not fake_hub.asked("/resolve/main/model.safetensors") and fake_hub.asked("config.json")
    assert not [path for _, path in fake_hub.asked("/resolve/") if path.endswith(".safetensors")]


def test_a_router_that_is_no_name_is_told_and_one_of_the_hub_is_said_to_be_fetched(settings):
    with pytest.raises(engine.RouterError, match="Router = nowhere: no such folder"):
        another.needs_of_router(settings.model_copy(update={"router": "nowhere"}))
    needs = another.needs_of_router(settings.model_copy(update={"router": "someone/router"}))
    assert needs.room is None and needs.fetched_router == "someone/router" and needs.router_most == 200_000_000


def test_with_another_router_the_weights_are_the_same_and_the_old_texts_keep_the_name_of_theirs(settings):
    tiny = engine.load(None, settings)
    trace = tiny.generate(PROMPT, max_new_tokens=20)
    assert tiny.router is not None
    card = replace(tiny.router.card, name="another", threshold=0.9)
    new = with_router(tiny, Router(tiny.router.network, card))
    assert (new.router and new.router.name, new.threshold) == ("another", 0.9)
    ours, theirs = (list(each.models[0].model.parameters()) for each in (new, tiny))
    assert all(one is two for one, two in zip(ours, theirs, strict=True))
    tiny.unload()
    assert tiny.trace(trace.request, trace.events).router == trace.router == "tiny"
    assert tiny.slm_cost == new.slm_cost and tiny.acceptance is not None
    again = new.generate(PROMPT, max_new_tokens=20)
    assert [event.id for event in again.events] == [event.id for event in trace.events] and again.router == "another"


def test_a_pair_that_is_let_go_frees_its_models_though_a_text_of_it_is_kept(settings):
    host, session = Host(lambda preset, progress: engine.load(None, settings)), Session()
    host.retire = session.retire
    run = session.begin(request(PROMPT, max_new_tokens=10), host)
    assert run.finished.wait(60) and run.state == "done"
    models = [weakref.ref(each.model) for each in run.pair.models]
    host.change(NextPair("second", lambda progress: other(), never))
    eventually(lambda: host.news == 2, 20)
    eventually(lambda: [each() for each in models] == [None, None])
    assert json.loads(run.pair.trace(run.request, run.events).to_json())["slm"] == "tiny SLM"
    host.close()
