"""Runs, sessions and the host, without a browser: loading, starting, stopping, turning dials, the line, faults."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

import engine
from app.compare.comparison import Comparison
from app.fields import FIELDS, router_dials
from app.handlers import Handlers
from app.header import header_html
from app.running.host import Host
from app.running.run import Run
from app.running.session import Session
from app.running.sessions import Sessions
from app.stream.updates import waiting_for
from app.sweep import Sweep
from app.tune.prompts import parse
from app.tune.tuning import Tuning
from engine import Prices, SettingsError, WeightsError, load_settings
from engine.endpoint.places import Busy, Places
from tests.support.browser import eventually
from tests.support.fake_pair import FakePair, SteppedPair, request
from tests.support.paths import ROOT

LONG = 120  # seconds, which only a fault takes


@pytest.fixture
def pair() -> FakePair:
    """Its router starts elsewhere than the page."""
    pair = FakePair(1e5)
    pair.threshold, pair.acceptance = 0.9, 0.3
    return pair


@pytest.fixture
def stepped() -> Iterator[tuple[SteppedPair, Host]]:
    """A pair that takes a step when it may, and its host, which writes one text at a time."""
    pair = SteppedPair()
    host = Host(lambda preset, progress: pair, rows=1)
    host.wait(threading.Event())
    yield pair, host
    pair.let()
    host.close()


def begun(stepped: tuple[SteppedPair, Host], session: Session, tokens: int, **options: Any) -> Run:
    """A text that has so many tokens and waits for its next step."""
    run = session.begin(request(**options), stepped[1])
    stepped[0].let(tokens)
    eventually(lambda: len(run.events) == tokens)
    return run


def done(run: Any) -> Any:
    assert run.finished.wait(LONG)
    return run


# ---- loading ----


def test_weights_that_cannot_be_had_give_the_tiny_pair_and_the_reason():
    asked = []

    def load(preset, progress):
        asked.append(preset)
        if preset != "tiny":
            raise WeightsError("Hub and mirror are <unreachable>.")
        return FakePair(preset="tiny")

    host = Host(load, "cpu")
    for _ in range(3):  # however many ask
        host.start()
    assert host.wait(threading.Event()).preset == "tiny" and asked == ["cpu", "tiny"]
    assert "Hub and mirror are <unreachable>." in (host.status.warning or "")
    assert "&lt;unreachable&gt;" in header_html(host) and "<unreachable>" not in header_html(host)


def test_the_tiny_pair_that_stands_in_has_its_own_router_and_not_the_one_of_the_settings(monkeypatch):
    asked = []
    monkeypatch.setenv("CITER_ROUTER", "someone/router")
    monkeypatch.setenv("CITER_PRESET", "cpu")
    load = runpy.run_path(str(ROOT / "app.py"))["load"]
    monkeypatch.setattr(engine, "load", lambda preset, settings, progress: asked.append((preset, settings.router)))
    load("cpu", None)
    load("tiny", None)
    assert asked == [("cpu", "someone/router"), ("tiny", "auto")]


@pytest.mark.parametrize("fault", [WeightsError("none <either>"), SettingsError("a bad setting"), ValueError("a bug")])
def test_no_models_at_all_is_said_and_every_run_fails_with_the_reason(fault):
    def load(preset, progress):
        raise fault

    host = Host(load, "cpu")
    run = done(Session().begin(request(), host))
    assert run.state == "failed" and str(fault) in (run.error or "") and host.status.phase == "failed"
    assert str(fault).split()[0] in header_html(host) and "<either>" not in header_html(host)


# ---- where dials start ----


def test_what_is_asked_for_before_a_pair_without_a_router_is_there_is_scored_by_the_slms_confidence(pair):
    ready, session, asked = threading.Event(), Session(), request(policy="router")
    pair.policies = ("confidence", "random", "slm", "llm")
    host = Host(lambda *_, **__: ready.wait(LONG) and pair)
    run = session.begin(asked, host)
    comparison, tuning = Comparison(asked, "trained router"), Tuning(parse("one\ntwo").rows, asked, 3, None)
    session.begin_job("sweep", Sweep(asked, [], Prices(), "threshold"), host)
    session.begin_job("compare", comparison, host)
    session.begin_job("tune", tuning, host)
    ready.set()
    assert all(done(job).error is None for job in (run, *session.jobs.values()))
    assert {each.policy for each in pair.requests} == {"confidence", "slm", "llm"}
    assert run.request.policy == "confidence" == tuning.policy and "confidence" in comparison.texts["middle"].title
    assert done(session.begin(asked, host)).request.policy == "router", "by then the page knows the pair"


@pytest.mark.parametrize(
    ("named", "turned", "dials"),
    [
        ([], {}, (0.5, 0.0)),
        (["threshold"], {}, (0.9, 0.0)),
        (["threshold", "acceptance"], {}, (0.9, 0.3)),
        (["threshold"], {"acceptance": 0.7}, (0.9, 0.7)),
        (["threshold", "acceptance"], {"threshold": 0.2}, (0.2, 0.3)),
    ],
)
def test_a_text_that_waits_for_the_models_starts_where_the_router_does_but_for_what_somebody_chose(
    pair, named, turned, dials
):
    ready, session = threading.Event(), Session()
    run = session.begin(request(threshold=0.5), Host(lambda *_, **__: ready.wait(LONG) and pair), router_dials=named)
    for name, value in turned.items():  # while it waits
        setattr(run.dial, name, value)
    ready.set()
    assert {(event.threshold, event.acceptance) for event in done(run).events} == {dials}
    assert turned or (run.request.threshold, run.request.acceptance) == dials


@pytest.mark.parametrize(
    ("named", "threshold", "acceptance", "moved", "dials"),
    [
        ({}, 0.5, 0, set(), ("threshold", "acceptance")),
        ({}, 0.5, 0, {"acceptance"}, ("threshold",)),
        ({}, 0.7, 0, set(), ("acceptance",)),
        ({"threshold": 0.5}, 0.5, 0, set(), ("acceptance",)),
        ({"acceptance": 0}, 0.5, 0, set(), ("threshold",)),
        ({}, 0.5, 0.4, set(), ("threshold",)),
    ],
)
def test_the_routers_dials_are_those_that_neither_the_settings_nor_the_visitor_chose(
    named, threshold, acceptance, moved, dials
):
    assert router_dials(load_settings(**named), threshold, acceptance, moved) == dials


def test_what_a_visitor_moved_is_a_choice_and_what_the_page_moved_is_none(host):
    dragged, put = Session(), Session()
    for acceptance in (0.2, 0.4):
        dragged.set_dials(0.5, acceptance, host)
    assert dragged.moved == {"acceptance"}
    dragged.set_dials(0.6, 0.4, host)
    dragged.set_dials(0.5, 0.4, host)
    assert dragged.moved == {"threshold", "acceptance"}, "and put back by hand"
    put.put_dials(0.9, 0)
    put.set_dials(0.9, 0.4, host)
    assert put.moved == {"acceptance"}
    put.set_dials(0.5, 0.4, host)
    assert "threshold" in put.moved, "back from where the router starts"


@pytest.mark.parametrize(("named", "dials"), [({}, (0.9, 0.3)), ({"acceptance": 0.0}, (0.9, 0.0))])
def test_once_the_models_are_there_both_sliders_go_to_where_the_router_starts(host, named, dials):
    sessions, window = Sessions(), SimpleNamespace(session_hash="a window")
    host.wait(threading.Event())
    handlers = Handlers(host, sessions, load_settings(**named), [None] * len(FIELDS))
    _, _, _, message, *_ = handlers.follow_loading("router", 0.5, 0.0, window)  # type: ignore[arg-type]
    assert json.loads(message)["starts"] == [[0.5, dials[0]], [0.0, dials[1]]]
    session = sessions.get("a window")
    session.set_dials(dials[0], dials[1], host)
    assert not session.moved, "where the page itself put them"


def test_a_window_whose_texts_are_gone_hears_so_though_it_has_compared_since(host):
    handlers = Handlers(host, Sessions(), load_settings(), [None] * len(FIELDS))
    window: Any = SimpleNamespace(session_hash="a window")
    dial: Any = SimpleNamespace(_data={"run": "of before"})
    session = handlers.sessions.get("a window")
    done(session.begin_job("compare", Comparison(request(), "trained router"), host))
    for ask in (lambda: handlers.set_dials(0.9, 0.0, "router", window, dial), lambda: handlers.scrub(window)):
        with pytest.raises(gr.Error, match="no more"):
            ask()
    done(session.begin_job("sweep", Sweep(request(), [], Prices(), "threshold"), host))
    assert handlers.scrub(window) and session.scrubbing


# ---- one text after the other ----


def test_a_text_is_stopped_within_a_step_and_leaves_no_thread(stepped):
    session = Session()
    run = begun(stepped, session, 2)
    session.stop()
    session.stop()
    stepped[0].let(1)  # the step that had begun
    assert done(run).state == "stopped" and len(run.events) <= 3
    eventually(lambda: not [t for t in threading.enumerate() if t.name == f"citer-run-{run.number}"])


def test_a_second_text_stops_the_first_which_loses_nothing_and_is_found_by_its_id_alone(stepped):
    sessions = Sessions()
    first = begun(stepped, sessions.get("a"), 3)
    second = sessions.get("a").begin(request("echo x"), stepped[1])
    stepped[0].let()
    assert done(second).state == "done" and done(first).state == "stopped" and second.number > first.number
    assert [event.index for event in first.events] == list(range(len(first.events)))
    found = sessions.find(second.id)
    assert found is not None and found[1] is second
    assert sessions.find("") is None and sessions.find(str(second.number)) is None


def test_the_dial_applies_to_the_next_token(stepped):
    run = begun(stepped, Session(), 4, threshold=0.0)
    run.dial.threshold = 1.01
    stepped[0].let()
    thresholds = [event.threshold for event in done(run).events]
    assert thresholds[:4] == [0.0] * 4 and set(thresholds[5:]) == {1.01}, "the fifth had begun"


def test_what_is_refused_changes_nothing_and_ones_own_text_gives_its_place_to_the_next(stepped):
    sessions = Sessions(places=Places(1, 1))
    run = begun(stepped, sessions.get("a"), 1)
    with pytest.raises(Busy):
        sessions.get("b").begin(request(), stepped[1])
    assert sessions.get("b").run is None and len(sessions) == 1 and not run.cancel.is_set()
    assert sessions.get("a").begin(request(), stepped[1]).active and run.cancel.is_set()


def test_who_waits_hears_the_place_in_line_and_about_how_long_and_may_leave_it(stepped):
    pair, host = stepped
    first, waiting = begun(stepped, Session(), 1), []
    for place in (1, 2):
        waiting.append(Session().begin(request(), host))
        eventually(lambda place=place: waiting[-1].place[0] == place)
    for mean, said in (80.0, (" 1 in line, about 1", " 2 in line, about 3")), (0.0, (" 1 in line.", " 2 in line.")):
        host.scheduler._mean_text = mean
        assert waiting_for(first, host) == ""
        assert all(part in waiting_for(run, host) for part, run in zip(said, waiting, strict=True))
    waiting[0].cancel.set()
    pair.let(1)
    assert done(waiting[0]).state == "stopped" and waiting[0].events == [] and waiting[1].place[0] == 1
    first.cancel.set()
    pair.let()
    assert done(waiting[1]).state == "done"


def test_a_bug_in_the_models_ends_the_run_with_a_message_and_the_next_has_its_turn(host, pair, monkeypatch):
    def broken(*args):
        raise RuntimeError("tensor trouble")

    monkeypatch.setattr(pair, "write", broken)
    run = done(Session().begin(request(), host))
    assert run.state == "failed" and "tensor trouble" in (run.error or "")
    monkeypatch.undo()
    assert done(Session().begin(request(), host)).state == "done"
