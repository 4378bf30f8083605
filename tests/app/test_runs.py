"""Runs and sessions, without a browser: stopping, turning the dial, bounds, faults."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.api import ApiRun
from app.compare.comparison import Comparison
from app.fields import FIELDS, router_dials
from app.handlers import Handlers
from app.running.host import Host
from app.running.run import Run
from app.running.session import Session
from app.running.sessions import Sessions
from app.sweep import Sweep
from app.tune.prompts import parse
from app.tune.tuning import Tuning
from engine import InvalidRequest, Prices, load_settings
from engine.endpoint.places import Busy, Places
from tests.support.browser import eventually
from tests.support.fake_pair import FakePair, request


@pytest.fixture
def pair():
    return FakePair(300)


def test_a_text_asked_for_before_the_models_are_there_starts_at_the_routers_own_threshold(host, pair):
    pair.threshold = 0.9
    run = Session().begin(request(threshold=0.5), host, router_dials=["threshold"])
    assert run.finished.wait(10)
    assert {event.threshold for event in run.events} == {0.9}
    assert run.request.threshold == 0.9


def test_what_is_asked_for_before_a_pair_without_a_router_is_there_is_scored_by_the_slms_confidence(pair):
    ready, session, asked = threading.Event(), Session(), request(policy="router")
    pair.policies = ("confidence", "random", "slm", "llm")
    host = Host(lambda *_, **__: ready.wait(10) and pair)
    run = session.begin(asked, host)
    comparison, tuning = Comparison(asked, "trained router"), Tuning(parse("one\ntwo").rows, asked, 3, None)
    session.begin_job("sweep", Sweep(asked, [], Prices(), "threshold"), host)
    session.begin_job("compare", comparison, host)
    session.begin_job("tune", tuning, host)
    ready.set()
    for job in (run, *session.jobs.values()):
        assert job.finished.wait(20) and job.error is None
    assert {each.policy for each in pair.requests} == {"confidence", "slm", "llm"}
    assert run.request.policy == "confidence" and tuning.policy == "confidence"
    assert "SLM's own confidence" in comparison.texts["middle"].title
    assert session.begin(asked, host).finished.wait(10)
    assert session.run is not None and session.run.request.policy == "router", (
        "the page knows the pair by then; the engine refuses it"
    )


def test_an_acceptance_that_was_dragged_while_the_models_load_is_no_choice_of_threshold(pair):
    session, loading = Session(), Host(lambda *_, **__: pair)
    for acceptance in (0.2, 0.4):
        session.set_dials(0.5, acceptance, loading)
    assert "threshold" not in session.moved
    session.set_dials(0.6, 0.4, loading)
    session.set_dials(0.5, 0.4, loading)
    assert "threshold" in session.moved, "and put back by hand"


def test_going_back_to_the_first_threshold_from_the_routers_is_a_choice(pair):
    session, host = Session(), Host(lambda *_, **__: pair)
    session.put_dials(0.9, 0)
    session.set_dials(0.9, 0.4, host)
    assert "threshold" not in session.moved
    session.set_dials(0.5, 0.4, host)
    assert "threshold" in session.moved


def test_a_text_that_waits_takes_the_routers_threshold_with_the_acceptance_that_was_dragged(pair):
    ready, session = threading.Event(), Session()
    pair.threshold = 0.9
    loading = Host(lambda *_, **__: ready.wait(10) and pair)
    run = session.begin(request(threshold=0.5), loading, router_dials=["threshold"])
    session.set_dials(0.5, 0.7, loading)
    ready.set()
    assert run.finished.wait(10)
    assert {(event.threshold, event.acceptance) for event in run.events} == {(0.9, 0.7)}


def test_a_text_asked_for_before_the_models_are_there_starts_at_the_routers_own_acceptance_too(host, pair):
    pair.threshold, pair.acceptance = 0.9, 0.3
    run = Session().begin(request(threshold=0.5), host, router_dials=["threshold", "acceptance"])
    assert run.finished.wait(10)
    assert {(event.threshold, event.acceptance) for event in run.events} == {(0.9, 0.3)}
    assert (run.request.threshold, run.request.acceptance) == (0.9, 0.3)


def test_the_routers_dials_are_those_that_neither_the_settings_nor_the_visitor_chose():
    assert router_dials(load_settings(), 0.5, 0, set()) == ("threshold", "acceptance")
    assert router_dials(load_settings(), 0.5, 0, {"acceptance"}) == ("threshold",)
    assert router_dials(load_settings(), 0.7, 0, set()) == ("acceptance",)
    assert router_dials(load_settings(threshold=0.5), 0.5, 0, set()) == ("acceptance",)
    assert router_dials(load_settings(acceptance=0), 0.5, 0, set()) == ("threshold",), "0 by the settings is a choice"
    assert router_dials(load_settings(), 0.5, 0.4, set()) == ("threshold",)


@pytest.mark.parametrize(("settings", "dials"), [({}, (0.9, 0.3)), ({"acceptance": 0.0}, (0.9, 0.0))])
def test_once_the_models_are_there_both_sliders_go_to_where_the_router_starts(host, pair, settings, dials):
    pair.threshold, pair.acceptance = 0.9, 0.3
    sessions, window = Sessions(), SimpleNamespace(session_hash="a window")
    eventually(lambda: host.pair)
    handlers = Handlers(host, sessions, load_settings(**settings), [None] * len(FIELDS))
    _, _, _, message, *_ = handlers.follow_loading("router", 0.5, 0.0, window)  # type: ignore[arg-type]
    assert json.loads(message)["starts"] == [[0.5, dials[0]], [0.0, dials[1]]]
    session = sessions.get("a window")
    session.set_dials(dials[0], dials[1], host)
    assert not session.moved, "where the page itself put them"


def test_a_threshold_that_someone_chose_stays(host, pair):
    pair.threshold = 0.9
    chosen = Session().begin(request(threshold=0.5), host)
    assert chosen.finished.wait(10)
    assert {event.threshold for event in chosen.events} == {0.5}
    ready, slow = threading.Event(), FakePair(300)
    slow.threshold = 0.9
    waiting = Session().begin(
        request(threshold=0.5), Host(lambda *_, **__: ready.wait(10) and slow), router_dials=["threshold"]
    )
    waiting.dial.threshold = 0.2  # turned while it waits
    ready.set()
    assert waiting.finished.wait(10)
    assert {event.threshold for event in waiting.events} == {0.2}


def test_a_window_whose_texts_are_gone_hears_so_though_it_has_compared_since(host):
    handlers = Handlers(host, Sessions(), load_settings(), [None] * len(FIELDS))
    window: Any = SimpleNamespace(session_hash="a window")
    dial: Any = SimpleNamespace(_data={"run": "of before"})
    session = handlers.sessions.get("a window")
    assert session.begin_job("compare", Comparison(request(), "trained router"), host).finished.wait(20)
    for ask in (lambda: handlers.set_dials(0.9, 0.0, "router", window, dial), lambda: handlers.scrub(window)):
        with pytest.raises(gr.Error, match="has the texts of this window no more"):
            ask()
    assert session.begin_job("sweep", Sweep(request(), [], Prices(), "threshold"), host).finished.wait(20)
    assert handlers.scrub(window) and session.scrubbing


# ---- runs and sessions ----


def test_stopping_takes_one_step_and_leaves_no_thread(host, pair):
    pair.tokens_per_second = 20
    session = Session()
    run = session.begin(request(), host)
    eventually(lambda: run.events)
    session.stop()
    session.stop()
    assert run.finished.wait(0.5) and run.state == "stopped"
    eventually(lambda: pair.open_streams == 0, 0.5)
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("citer-run")])


def test_a_second_run_stops_the_first_and_loses_none_of_its_events(host, pair):
    pair.tokens_per_second = 50
    session = Session()
    first = session.begin(request(), host)
    eventually(lambda: len(first.events) > 2)
    second = session.begin(request("echo x"), host)
    assert second.number > first.number
    assert second.finished.wait(5) and second.state == "done" and first.state == "stopped"
    assert [event.index for event in first.events] == list(range(len(first.events)))
    assert [event.text for event in second.events] == ["x", ""]


def test_the_dial_applies_to_the_next_token(host, pair):
    pair.tokens_per_second = 50
    run = Session().begin(request(threshold=0.0), host)
    eventually(lambda: len(run.events) > 3)
    run.dial.threshold = 1.01
    assert run.finished.wait(5)
    thresholds = [event.threshold for event in run.events]
    assert thresholds == sorted(thresholds) and set(thresholds) == {0.0, 1.01}
    with pytest.raises(InvalidRequest):
        run.dial.threshold = float("nan")


def test_a_session_that_writes_or_is_listened_to_is_never_dropped_and_the_newcomer_is_told(host, pair):
    pair.tokens_per_second = 20
    sessions = Sessions(limit=2)
    run, other = sessions.get("a").begin(request(), host), sessions.get("b").begin(request(), host)
    for n in range(64):
        with pytest.raises(Busy, match="2 visitors are here"):
            sessions.get(f"invented {n}").begin(request(), host)
    assert len(sessions) == 2 and run.active and other.active and sessions.get("a").run is run
    other.cancel.set()
    assert other.finished.wait(5)

    async def listened_to() -> None:
        with sessions.get("b").listeners.listen(), pytest.raises(Busy):
            sessions.get("c").begin(request(), host)

    asyncio.run(listened_to())
    third = sessions.get("c").begin(request(), host)
    assert sessions.get("b").run is None and sessions.get("a").run is run and run.active
    for key in "ac":
        sessions.drop(key)
    assert run.finished.wait(5) and third.finished.wait(5)


def test_of_sessions_that_rest_the_least_recently_used_is_dropped(host):
    sessions = Sessions(limit=2)
    for key in "ab":
        assert sessions.get(key).begin(request(), host).finished.wait(5)
    sessions.get("a")
    assert sessions.get("c").begin(request(), host).finished.wait(5)
    assert sessions.get("b").run is None and sessions.get("a").run is not None and len(sessions) == 2


def test_who_comes_with_nothing_gets_nothing_kept(host, monkeypatch):
    sessions = Sessions()
    for n in range(64):
        sessions.get(f"invented {n}").stop()
        assert sessions.get(f"invented {n}").set_dials(0.5, 0.5, host) is None
    with pytest.raises(InvalidRequest, match="session_hash has 1,000,000 characters"):
        sessions.enter("x" * 1_000_000)
    assert len(sessions) == 0
    monkeypatch.setattr("app.running.sessions.MAX_EMPTY", 3)
    keys = [sessions.enter(f"opened {n}").key for n in range(5)]
    assert [sessions.find_key(key) is not None for key in keys] == [False, False, True, True, True]


def test_page_and_api_have_places_of_their_own_and_an_address_its_share():
    places, calls = Places(3, 2), [ApiRun(request()) for _ in range(4)]
    for run in calls[:3]:
        places.take(run)
    with pytest.raises(Busy, match="3 texts are waiting"):
        places.take(calls[3])
    mine = [Run(request()) for _ in range(4)]
    for run in mine[:2]:
        places.take(run, "198.51.100.9")
    with pytest.raises(Busy, match="its share"):
        places.take(mine[2], "198.51.100.9")
    places.take(mine[2], "198.51.100.9", replaced=[mine[0]])
    mine[0].cancel.set()
    places.take(mine[3], "198.51.100.10")
    calls[0].finished.set()
    places.take(calls[3])


def test_what_is_refused_changes_nothing(host, pair):
    pair.tokens_per_second = 20
    sessions = Sessions(places=Places(1, 1))
    run = sessions.get("a").begin(request(), host)
    with pytest.raises(Busy):
        sessions.get("b").begin(request(), host)
    assert sessions.get("b").run is None and len(sessions) == 1
    again = sessions.get("a").begin(request(), host)
    assert run.cancel.is_set() and again.active, "one's own text gives its place to the next"
    sessions.drop("a")
    assert again.finished.wait(5)


def test_a_run_is_found_by_its_id_only(host):
    sessions = Sessions()
    run = sessions.get("a").begin(request(), host)
    found = sessions.find(run.id)
    assert found is not None and found[1] is run
    assert sessions.find("") is None and sessions.find(str(run.number)) is None
    assert run.finished.wait(5)


def test_a_bug_in_the_models_ends_the_run_with_a_message(host, pair, monkeypatch):
    def broken(*args):
        raise RuntimeError("tensor trouble")

    monkeypatch.setattr(pair, "write", broken)
    run = Session().begin(request(), host)
    assert run.finished.wait(5) and run.state == "failed" and "tensor trouble" in (run.error or "")
    monkeypatch.undo()
    assert Session().begin(request(), host).finished.wait(5), "the next one has its turn"
