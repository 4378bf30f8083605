"""Runs, sessions and the host, without a browser: loading, starting, stopping, turning dials, the line, faults."""

from __future__ import annotations

import runpy
import threading
from typing import Any

import pytest

import engine
from app.compare.comparison import Comparison
from app.fields import FIELDS
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
from engine import Setting, SettingsError, WeightsError, load_settings
from engine.guard.refusals import Busy, Places
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


def begun(stepped: tuple[SteppedPair, Host], session: Session, tokens: int, **options: Any) -> Run:
    """A text that has so many tokens and waits for its next step."""
    run = session.begin(request(**options), stepped[1])
    stepped[0].let(tokens)
    eventually(lambda: len(run.events) == tokens)
    return run


def done(run: Any) -> Any:
    assert run.finished.wait(LONG)
    return run


def loading(pair: FakePair) -> tuple[threading.Event, Host]:
    """A host whose models are there once the event is set."""
    ready = threading.Event()
    return ready, Host(lambda *_, **__: ready.wait(LONG) and pair)


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
    assert "<unreachable>" in (host.status.warning or "")
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
    session, asked = Session(), request(policy="router")
    pair.policies = ("confidence", "random", "slm", "llm")
    ready, host = loading(pair)
    run = session.begin(asked, host)
    comparison, tuning = Comparison(asked), Tuning(parse("one\ntwo").rows, asked, 3, None)
    for kind, job in ("sweep", Sweep(asked)), ("compare", comparison), ("tune", tuning):
        session.begin_job(kind, job, host)
    ready.set()
    assert all(done(job).error is None for job in (run, *session.jobs.values()))
    assert {each.setting.policy for each in pair.requests} == {"confidence", "slm", "llm"}
    assert run.setting.policy == "confidence" == tuning.policy
    assert comparison.texts["middle"].request.setting.policy == "confidence"


@pytest.mark.parametrize(
    ("stated", "asked", "turned", "dials"),
    [
        ({}, (0.5, 0.0), None, (0.9, 0.3)),
        ({}, (0.7, 0.0), None, (0.7, 0.3)),
        ({}, (0.5, 0.4), None, (0.9, 0.4)),
        ({"setting": "< 0.5"}, (0.5, 0.0), None, (0.5, 0.3)),
        ({}, (0.5, 0.0), (0.5, 0.7), (0.9, 0.7)),
        ({}, (0.5, 0.0), (0.2, 0.0), (0.2, 0.3)),
    ],
)
def test_a_text_that_waits_for_the_models_starts_where_the_router_does_but_for_what_somebody_chose(
    pair, stated, asked, turned, dials
):
    ready, host = loading(pair)
    page, session = Handlers(host, Sessions(), load_settings(**stated), [None] * len(FIELDS)), Session()
    threshold, acceptance = asked
    run = session.begin(
        request(threshold=threshold, acceptance=acceptance), host, lambda *known: page.settled(session, *known)
    )
    if turned:  # while it waits
        session.set_dials(turned[0], turned[1], host)
    ready.set()
    assert {(event.threshold, event.acceptance) for event in done(run).events} == {dials}
    assert (run.setting.threshold, run.setting.acceptance) == dials


def test_what_a_visitor_moves_once_the_models_are_there_is_a_choice_also_where_the_page_begins(pair):
    host = Host(lambda *_, **__: pair)
    host.start()
    host.wait(threading.Event())
    page, session, first = Handlers(host, Sessions(), load_settings(), [None] * len(FIELDS)), Session(), Setting()
    assert page.settled(session, first, pair) == Setting("router", 0.9, 0.3)
    session.set_dials(0.9, 0.3, host)
    session.set_dials(0.5, 0.0, host)
    assert page.settled(session, first, pair) == first


# ---- one text after the other ----


def test_a_second_text_stops_the_first_within_a_step_which_loses_nothing_and_is_found_by_its_id_alone(stepped):
    sessions = Sessions()
    session = sessions.get("a")
    first = begun(stepped, session, 3)
    second = session.begin(request("echo x"), stepped[1])
    stepped[0].let(1)  # the step that had begun
    assert done(first).state == "stopped" and len(first.events) <= 4
    assert [event.index for event in first.events] == list(range(len(first.events)))
    stepped[0].let()
    assert done(second).state == "done" and second.number > first.number
    assert sessions.find(second.id) is second
    assert sessions.find("") is None and sessions.find(str(second.number)) is None
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("citer-run-")])


def test_what_is_refused_changes_nothing_and_ones_own_text_gives_its_place_to_the_next(stepped):
    sessions = Sessions(places=Places(1))
    run = begun(stepped, sessions.get("a"), 1)
    with pytest.raises(Busy):
        sessions.get("b").begin(request(), stepped[1])
    assert sessions.get("b").run is None and not sessions.get("b").holds and not run.cancel.is_set()
    assert sessions.get("a").begin(request(), stepped[1]).active and run.cancel.is_set()


def test_who_waits_hears_the_place_in_line_and_about_how_long_and_may_leave_it(stepped):
    pair, host = stepped
    first, waiting = begun(stepped, Session(), 1), []
    for place in (1, 2):
        waiting.append(Session().begin(request(), host))
        eventually(lambda place=place: waiting[-1].place[0] == place)
    host.scheduler.text_seconds = 80.0
    assert waiting_for(first) == ""
    assert " 1 in line, about 1" in waiting_for(waiting[0])
    assert " 2 in line, about 3" in waiting_for(waiting[1])
    host.scheduler._line.waiting[0].asked -= 20
    host.scheduler.rows = 6
    assert "20 s for a first token: 6 texts are being written." in waiting_for(waiting[1])
    waiting[0].cancel.set()
    pair.let(1)
    assert done(waiting[0]).state == "stopped" and waiting[0].events == [] and waiting[1].place[0] == 1
    first.cancel.set()
    pair.let()
    assert done(waiting[1]).state == "done"


def test_a_bug_in_the_models_ends_the_run_with_a_message_and_the_next_has_its_turn(host, pair, monkeypatch):
    def broken(*args):
        raise RuntimeError("tensor trouble")

    with monkeypatch.context() as patched:
        patched.setattr(pair, "write", broken)
        run = done(Session().begin(request(), host))
    assert run.state == "failed" and "tensor trouble" in (run.error or "")
    assert done(Session().begin(request(), host)).state == "done"
