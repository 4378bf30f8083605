"""Runs and sessions, without a browser: stopping, turning the dial, bounds, faults."""

from __future__ import annotations

import threading

import pytest
from browser import eventually
from fake_pair import FakePair, request

from app.running.host import Host
from app.running.sessions import Session, Sessions
from engine import InvalidRequest


@pytest.fixture
def pair():
    return FakePair(300)


def test_a_text_asked_for_before_the_models_are_there_starts_at_the_routers_own_threshold(host, pair):
    pair.threshold = 0.9
    run = Session().begin(request(threshold=0.5), host, router_threshold=True)
    assert run.finished.wait(10)
    assert {event.threshold for event in run.events} == {0.9}
    assert run.request.threshold == 0.9


def test_an_acceptance_that_was_dragged_while_the_models_load_is_no_choice_of_threshold(pair):
    session, loading = Session(), Host(lambda *_, **__: pair)
    for acceptance in (0.2, 0.4):
        session.set_dials(0.5, acceptance, loading)
    assert not session.threshold_moved
    session.set_dials(0.6, 0.4, loading)
    session.set_dials(0.5, 0.4, loading)
    assert session.threshold_moved, "and put back by hand"


def test_going_back_to_the_first_threshold_from_the_routers_is_a_choice(pair):
    session, host = Session(), Host(lambda *_, **__: pair)
    session.put_threshold(0.9)
    session.set_dials(0.9, 0.4, host)
    assert not session.threshold_moved
    session.set_dials(0.5, 0.4, host)
    assert session.threshold_moved


def test_a_text_that_waits_takes_the_routers_threshold_with_the_acceptance_that_was_dragged(pair):
    ready, session = threading.Event(), Session()
    pair.threshold = 0.9
    loading = Host(lambda *_, **__: ready.wait(10) and pair)
    run = session.begin(request(threshold=0.5), loading, router_threshold=True)
    session.set_dials(0.5, 0.7, loading)
    ready.set()
    assert run.finished.wait(10)
    assert {(event.threshold, event.acceptance) for event in run.events} == {(0.9, 0.7)}


def test_a_threshold_that_someone_chose_stays(host, pair):
    pair.threshold = 0.9
    chosen = Session().begin(request(threshold=0.5), host)
    assert chosen.finished.wait(10)
    assert {event.threshold for event in chosen.events} == {0.5}
    ready, slow = threading.Event(), FakePair(300)
    slow.threshold = 0.9
    waiting = Session().begin(
        request(threshold=0.5), Host(lambda *_, **__: ready.wait(10) and slow), router_threshold=True
    )
    waiting.dial.threshold = 0.2  # turned while it waits
    ready.set()
    assert waiting.finished.wait(10)
    assert {event.threshold for event in waiting.events} == {0.2}


# ---- runs and sessions ----


def test_stopping_takes_one_step_and_leaves_no_thread(host, pair):
    pair.tokens_per_second = 20
    session = Session()
    run = session.begin(request(), host)
    eventually(lambda: run.events)
    session.stop()
    session.stop()
    assert run.finished.wait(0.5) and run.state == "stopped" and pair.open_streams == 0
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


def test_sessions_are_bounded_and_the_least_recently_used_one_is_stopped(host, pair):
    pair.tokens_per_second = 20
    sessions = Sessions(limit=2)
    run = sessions.get("a").begin(request(), host)
    sessions.get("b")
    sessions.get("c")
    assert len(sessions) == 2 and run.finished.wait(2) and run.state == "stopped"
    assert sessions.get("a").run is None


def test_dropping_a_session_stops_also_the_runs_of_its_api_calls(host, pair):
    from app.running.run import Run

    pair.tokens_per_second = 20
    sessions = Sessions()
    run = sessions.get("a").adopt(Run(request()))
    run.start(host)
    eventually(lambda: run.events)
    sessions.drop("a")
    assert run.finished.wait(1)
    sessions.drop("a")


def test_a_run_is_found_by_its_id_only(host):
    sessions = Sessions()
    run = sessions.get("a").begin(request(), host)
    found = sessions.find(run.id)
    assert found is not None and found[1] is run
    assert sessions.find("") is None and sessions.find(str(run.number)) is None
    assert run.finished.wait(5)


def test_a_bug_in_the_models_ends_the_run_with_a_message(host, pair, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("tensor trouble")
        yield

    monkeypatch.setattr(pair, "stream", broken)
    run = Session().begin(request(), host)
    assert run.finished.wait(5) and run.state == "failed" and "tensor trouble" in (run.error or "")
    monkeypatch.undo()
    assert Session().begin(request(), host).finished.wait(5), "the next one has its turn"
