"""Kept texts, undo and redo, without a browser: what comes back without a model, what is written on, what is bound."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from app.fields import FIELDS
from app.handlers import Handlers
from app.running import history
from app.running.job import Job
from app.running.run import Run
from app.running.session import SWEEP, Session
from app.running.sessions import Sessions
from app.share.open_trace import opened_run
from app.stream.versions import versions_message
from app.sweep import Sweep
from engine import Prices, Role, first_flip, load_settings
from engine.endpoint.places import Busy
from engine.events.trace import same_text
from tests.support.browser import eventually, paused
from tests.support.fake_pair import FakePair, request


@pytest.fixture
def pair():
    return FakePair(2000)


@pytest.fixture
def session(host) -> Session:
    """A window with a finished text at threshold 0.5."""
    session = Session()
    finished(session.begin(request(threshold=0.5), host))
    return session


def finished(run: Run | None) -> Run:
    assert run is not None and run.finished.wait(10) and run.error is None
    return run


def numbers(session: Session) -> list[int]:
    return [row[0] for row in json.loads(versions_message(session))["versions"]]


def test_going_back_to_the_dials_of_a_kept_text_runs_no_model_and_gives_the_same_text(session, host, pair):
    first = session.run
    other = finished(session.set_dials(0.9, 0.0, host))
    assert other is not first
    tokens, requests = pair.tokens, len(pair.requests)
    assert session.set_dials(0.5, 0.0, host) is first and session.run is first
    assert session.set_dials(0.9, 0.0, host) is other
    assert (pair.tokens, len(pair.requests)) == (tokens, requests)
    assert first.number < other.number, "it is news to the browser each time"


def test_a_dial_under_another_policy_writes_the_prompt_anew_with_that_one(session, host):
    first = session.run
    other = finished(session.set_dials(0.6, 0.0, host, "llm"))
    assert other is not first and other.request.policy == "llm" and {e.role for e in other.events} == {Role.LLM}
    assert session.set_dials(0.7, 0.0, host, "llm") is None, "the same text at any threshold"
    assert finished(session.set_dials(0.5, 0.0, host, "router")).events[0].role is first.events[0].role


def test_a_text_comes_back_at_all_dials_that_give_it(session, host, pair):
    first = session.run
    low, high = same_text(first.events)
    assert low < 0.5 < high
    finished(session.set_dials(1.01, 0.0, host))
    tokens = pair.tokens
    assert session.set_dials(high, 0.0, host) is first
    assert session.set_dials(high - 1e-6, 0.0, host) is None, "it is there already"
    assert pair.tokens == tokens
    assert session.set_dials(low, 0.0, host) is not first, "there the first token flips"


def test_what_is_kept_of_another_prompt_or_seed_or_by_hand_is_another_text(session, host, pair):
    first = session.run
    finished(session.begin(request(threshold=0.9, seed=1), host))
    tokens = pair.tokens
    assert finished(session.set_dials(0.5, 0.0, host)) is not first
    assert pair.tokens > tokens
    session.go_to(0)
    branch = finished(session.branch(3, Role.LLM, None, host))
    finished(session.set_dials(0.9, 0.0, host))
    assert session.set_dials(0.5, 0.0, host) is branch


def test_a_new_text_goes_on_from_the_kept_one_that_is_the_same_the_longest(session, host, pair):
    at_09 = finished(session.set_dials(0.9, 0.0, host))
    finished(session.set_dials(0.0, 0.0, host))
    flips = {each: first_flip(each.events, 0.89, 0.0) for each in (at_09, session.run)}
    best = max(30 if flip is None else flip for flip in flips.values())
    tokens = pair.tokens
    run = finished(session.set_dials(0.89, 0.0, host))
    assert run is at_09 or pair.tokens - tokens == 30 - best
    assert best > (flips[session.history.versions[2].run] or 0)


def test_a_text_that_was_stopped_comes_back_as_it_was(host, pair):
    pair.tokens_per_second = 50
    session = Session()
    run = session.begin(request(threshold=0.5), host)
    eventually(lambda: len(run.events) > 4)
    session.stop()
    assert finished(run).state == "stopped"
    pair.tokens_per_second = 2000
    finished(session.set_dials(0.9, 0.0, host))
    tokens = pair.tokens
    assert session.set_dials(0.5, 0.0, host) is run and run.state == "stopped" and pair.tokens == tokens


def test_a_text_that_gave_way_to_another_is_written_on_from_its_end(session, host, pair):
    pair.tokens_per_second = 50
    flip = first_flip(session.run.events, 0.7, 0.0) or 0
    cut = session.set_dials(0.7, 0.0, host)
    eventually(lambda: len(cut.events) > flip + 4)
    finished(session.set_dials(0.5, 0.0, host))
    assert finished(cut).state == "stopped" and cut in [each.run for each in session.history.versions]
    written = len(cut.events)
    pair.tokens_per_second = 2000
    tokens = pair.tokens
    whole = finished(session.set_dials(0.7, 0.0, host))
    assert whole is not cut and whole.complete and pair.tokens - tokens == 30 - written


def test_undo_and_redo_step_through_all_that_changed_the_text(session, host, pair):
    first = session.run
    dial = finished(session.set_dials(0.9, 0.0, host))
    branch = finished(session.branch(2, Role.LLM, None, host))
    opened = opened_run(pair.trace(first.request, first.events).to_json(), session.run)
    session.show(opened)
    other = finished(session.begin(request("echo x"), host))
    tokens = pair.tokens
    for run in (opened, branch, dial, first):
        assert session.can_step(-1) and session.step(-1) is run is session.run
    assert not session.can_step(-1) and session.step(-1) is None and session.run is first
    for run in (dial, branch, opened, other):
        assert session.step(1) is run is session.run
    assert not session.can_step(1) and session.step(1) is None
    assert pair.tokens == tokens


def test_a_change_after_undo_drops_what_could_be_redone_and_keeps_its_text(session, host):
    dial = finished(session.set_dials(0.9, 0.0, host))
    session.step(-1)
    finished(session.set_dials(0.2, 0.0, host))
    assert not session.can_step(1)
    assert session.set_dials(0.9, 0.0, host) is dial
    assert session.step(-1).request.threshold == 0.2


def test_undoing_what_is_being_written_stops_it_and_keeps_what_there_is(session, host, pair):
    first = session.run
    pair.tokens_per_second = 50
    second = session.begin(request("echo one two three four five"), host)
    eventually(lambda: len(second.events) > 1)
    assert session.step(-1) is first
    assert finished(second).state == "stopped"
    assert session.step(1) is second and second.events


def test_a_text_that_never_came_is_no_step(session, host, pair):
    first = session.run
    failed = session.begin(request("long " * 3000), host)
    assert failed.finished.wait(5) and failed.error
    assert session.step(-1) is first and not session.can_step(-1) and not session.can_step(1)
    assert numbers(session) == [0]


@pytest.mark.parametrize(
    "change",
    [
        lambda session, host: session.set_dials(0.9, 0.0, host),
        lambda session, host: session.branch(2, Role.LLM, None, host),
        lambda session, host: session.reveal(host),
    ],
    ids=["dials", "branch", "audit"],
)
def test_after_a_text_that_never_came_what_is_on_the_page_can_be_changed(session, host, change):
    first = session.run
    failed = session.begin(request("long " * 3000), host)
    assert failed.finished.wait(5) and failed.error
    changed = finished(change(session, host))
    assert changed.request.prompt == first.request.prompt and changed.events
    assert changed.number > failed.number, "news to the browser"


def test_a_dial_begins_no_prompt_that_was_stopped_or_refused_before_its_first_token(host, pair):
    session = Session()
    failed = session.begin(request("long " * 3000), host)
    assert failed.finished.wait(5) and failed.error
    with paused(host):
        stopped = session.begin(request(), host)
        assert session.set_dials(0.6, 0.0, host) is None, "while it waits the dial is its own"
        stopped.cancel.set()
    assert stopped.finished.wait(5) and not stopped.events
    for run in (stopped, failed):
        session.run = run
        assert session.set_dials(0.9, 0.0, host) is session.set_dials(0.7, 0.0, host, "llm") is None
    assert pair.requests == []


def test_a_dial_scrubs_through_the_sweep_that_is_on_the_page_after_a_run_that_never_came(session, host, pair):
    sweep = session.begin_job(SWEEP, Sweep(request(), [], Prices(), "threshold"), host, instead=session.run)
    assert sweep.finished.wait(20)
    handlers = Handlers(host, Sessions(), load_settings(), [None] * len(FIELDS))
    handlers.sessions._sessions["a window"] = session
    failed = session.begin(request("long " * 3000), host)
    assert failed.finished.wait(5) and not session.scrubbing
    asked = len(pair.requests)
    window: Any = SimpleNamespace(session_hash="a window")
    dial: Any = SimpleNamespace(_data={"run": sweep.id})
    handlers.set_dials(0.9, 0.0, "router", window, dial)
    assert session.scrubbing and session.run is failed and len(pair.requests) == asked
    pair.tokens_per_second = 20
    run = session.begin(request(), host)
    handlers.set_dials(0.8, 0.0, "router", window, dial)
    assert not session.scrubbing and run.dial.threshold == 0.8, "of what is to take its place"
    run.cancel.set()


def test_after_an_audit_that_was_stopped_before_it_began_the_text_can_be_changed(session, host):
    first = session.run
    with paused(host):
        audit = session.reveal(host)
        audit.cancel.set()
    assert audit.finished.wait(5) and not audit.events
    assert finished(session.branch(2, Role.LLM, None, host)).request.prompt == first.request.prompt


def test_a_job_that_is_refused_stops_no_text(host, pair):
    def refuse(session, job, replaced):
        if not isinstance(job, Run):
            raise Busy("no room")

    pair.tokens_per_second = 50
    session = Session(admit=refuse)
    run = session.begin(request(), host)
    with pytest.raises(Busy):
        session.begin_job(SWEEP, Job(), host, instead=run)
    assert not run.cancel.is_set() and finished(run).state == "done"


def test_an_audit_is_no_step_and_loses_no_text(session, host):
    text = [event.text for event in session.run.events]
    with paused(host):
        audit = session.reveal(host)
        assert session.step(-1) is None
        assert [event.text for event in session.history.current.text.events] == text
    assert [event.text for event in finished(audit).events] == text and len(session.history.versions) == 1


def test_undo_brings_the_text_back_from_a_sweep(session):
    first = session.run
    session.scrubbing = True
    assert session.can_step(-1)
    assert session.step(-1) is first and not session.scrubbing and SWEEP not in session.jobs


def test_versions_are_bounded_in_number_and_tokens(session, host, monkeypatch):
    for seed in range(1, 30):
        finished(session.begin(request("echo x", seed=seed), host))
    assert len(session.history.versions) == history.MAX_VERSIONS and numbers(session) == list(range(6, 30))
    assert session.history.find(0) is None and session.go_to(0) is None
    assert all(session.step(-1) for _ in range(23)) and session.step(-1) is None
    monkeypatch.setattr(history, "MAX_KEPT_TOKENS", 40)
    finished(session.begin(request(), host))
    finished(session.begin(request(seed=1), host))
    finished(session.begin(request(seed=2), host))
    assert sum(len(each.run.events) for each in session.history.versions) <= 70, "one more may be being written"


def test_what_is_told_of_a_version(session, host):
    session.set_view("price", session.view.prices)
    finished(session.branch(2, Role.LLM, None, host))
    told = json.loads(versions_message(session))
    first, branch = told["versions"]
    assert told["current"] == 1 and told["undo"] and not told["redo"]
    events = session.history.versions[0].run.events
    share = sum(event.role is Role.LLM for event in events) / len(events)
    assert first[:4] == [0, 0.5, 0.0, round(share, 4)] and first[5:] == [None, False, "a palindrome"]
    assert branch[5] == [2, int(session.run.events[2].role is Role.LLM), session.run.events[2].text]
