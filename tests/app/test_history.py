"""Kept texts, undo and redo, without a browser: what comes back without a model, what is written on, what is bound."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from app.running import history
from app.running.host import Host
from app.running.run import Run
from app.running.session import SWEEP, Session
from app.share.open_trace import opened_run
from app.stream.versions import versions_message
from app.sweep import Sweep
from engine import Request, Role, Setting, build_request, first_flip
from tests.support.browser import eventually, paused
from tests.support.fake_pair import FakePair, request

LONG = "long " * 3000
"""A prompt beyond the context, which the pair refuses."""

SECONDS = 60
TOKENS = 12
DIALS = st.sampled_from([0.0, 0.3, 0.5, 0.55, 0.7, 0.9, 1.01])
ACCEPTANCES = st.sampled_from([0.0, 0.0, 0.6])
ROLES = st.sampled_from(list(Role))


def finished(run: Run | None) -> Run:
    assert run is not None and run.finished.wait(SECONDS) and run.error is None
    return run


def refused(session: Session, host: Host) -> Run:
    """A text that never comes."""
    run = session.begin(request(LONG), host)
    assert run.finished.wait(SECONDS) and run.error
    return run


def tokens_of(events) -> list[tuple[Any, ...]]:
    return [(event.index, event.text, event.role, event.score) for event in events]


class Windows(RuleBasedStateMachine):
    """One window in which texts are written, changed, taken back and opened in any order.

    `steps` are the versions that undo and redo go through, `at` the one whose text is on the page, and `failed` says
    that the newest text never came, so that the one before it is there still.
    """

    def __init__(self, host: Host, pair: FakePair) -> None:
        super().__init__()
        self.host, self.pair, self.session = host, pair, Session()
        self.steps: list[Run] = []
        self.at, self.failed = -1, False

    @property
    def page(self) -> Run | None:
        return self.steps[self.at] if self.steps else None

    @property
    def kept(self) -> list[Run]:
        return self.session.history.versions

    def came(self, before: list[Run], run: Run) -> None:
        """A new text is on the page: what could be redone is dropped, and the oldest where too much is kept."""
        version = self.kept[-1]
        assert version is run
        gone = [each for each in before if each not in self.kept]
        stay = [each for each in before if each in self.kept]
        assert before == [*gone, *stay], "the oldest go first"
        if gone:
            weight = sum(each.weight for each in [gone[-1], *stay])
            assert len(stay) + 2 > history.MAX_VERSIONS or weight > history.MAX_KEPT_TOKENS, "one more had found room"
        self.steps = [each for each in [*self.steps[: self.at + 1], version] if each in self.kept]
        self.at, self.failed = len(self.steps) - 1, False

    def expected(self, asked: Request) -> list[tuple[Any, ...]]:
        """The text of a request, written in one go."""
        return tokens_of(FakePair(1e6).generate(asked).events)

    def failed_or_none(self, run: Run | None) -> None:
        """Nothing was begun: the text on the page, if there is one, stays."""
        assert run is None
        self.failed = self.failed and self.page is None

    @rule(prompt=st.sampled_from(["a palindrome", "echo one two three"]), seed=st.integers(0, 1), threshold=DIALS)
    def write(self, prompt: str, seed: int, threshold: float) -> None:
        before = [*self.kept]
        asked = request(prompt, threshold=threshold, seed=seed, max_new_tokens=TOKENS)
        run = finished(self.session.begin(asked, self.host))
        assert tokens_of(run.events) == self.expected(asked)
        self.came(before, run)

    @rule()
    def ask_too_much(self) -> None:
        refused(self.session, self.host)
        self.failed = True

    @rule(threshold=DIALS, acceptance=ACCEPTANCES)
    def turn(self, threshold: float, acceptance: float) -> None:
        page, before, spent = self.page, [*self.kept], self.pair.tokens
        run = self.session.set_dials(threshold, acceptance, self.host)
        if page is None or page.fixed:
            self.failed_or_none(run)
            return
        asked = build_request(page.request, threshold=threshold, acceptance=acceptance)
        text = self.expected(asked)
        self.failed = False
        if run is None:
            assert tokens_of(page.events) == text, "it is the same text there"
            assert self.pair.tokens == spent and self.session.run is page
            return
        finished(run)
        assert tokens_of(run.events) == text
        alike = [each for each in before if self.same_but_dials(each, asked)]
        if run in before:
            assert self.pair.tokens == spent, "a kept text runs no model"
            self.gone_to(next(each for each in before if each is run))
            return
        if acceptance == 0 and all(event.acceptance == 0 for each in alike for event in each.events):
            best = max(_alike(tokens_of(each.events), text) for each in alike)
            assert self.pair.tokens - spent == len(text) - best, "only what no kept text has is written"
        self.came(before, run)

    def same_but_dials(self, run: Run, asked: Request) -> bool:
        dials = {"threshold": asked.setting.threshold, "acceptance": asked.setting.acceptance}
        return not run.fixed and build_request(run.request, **dials) == asked

    @rule(index=st.integers(0, TOKENS), role=ROLES)
    def branch(self, index: int, role: Role) -> None:
        page, before = self.page, [*self.kept]
        run = self.session.branch(index, role, None, self.host)
        if page is None or page.fixed or index >= len(page.events):
            self.failed_or_none(run)
            return
        run = finished(run)
        places = [each.index for each in run.request.forced]
        assert places == sorted(set(places)) and places[-1] == index
        assert tokens_of(run.events)[:index] == tokens_of(page.events)[:index]
        self.came(before, run)

    @precondition(lambda self: self.page is not None)
    @rule()
    def open_a_trace(self) -> None:
        page, before = self.page, [*self.kept]
        assert page is not None
        opened = opened_run(FakePair(1e6).generate(page.request).to_json(), self.session.run)
        self.session.show(opened)
        assert tokens_of(opened.events) == tokens_of(page.events)
        self.came(before, opened)

    @rule(by=st.sampled_from([-1, 1]))
    def step(self, by: int) -> None:
        spent, at = self.pair.tokens, self.at + (0 if self.failed and by < 0 else by)
        possible = 0 <= at < len(self.steps)
        assert self.session.can_step(by) == possible
        run = self.session.step(by)
        assert (run is not None) == possible and self.pair.tokens == spent
        if possible:
            self.at, self.failed = at, False
            assert run is self.page

    def teardown(self) -> None:
        """Every step is there, in both directions."""
        for by in [-1] * (len(self.steps) + 1) + [1] * (len(self.steps) + 1):
            self.step(by)

    @precondition(lambda self: bool([*self.kept]))
    @rule(place=st.integers(0, 3))
    def go_to(self, place: int) -> None:
        version, spent = [*self.kept][place % len([*self.kept])], self.pair.tokens
        there = version is self.session.history.current
        run = self.session.go_to(version.id)
        assert run is (None if there else version) and self.pair.tokens == spent
        if not there:
            self.gone_to(version)

    def gone_to(self, version: Run) -> None:
        self.steps = [*self.steps[: self.at + 1], version]
        self.at, self.failed = len(self.steps) - 1, False

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert len(self.kept) <= history.MAX_VERSIONS
        assert len(self.kept) == 1 or sum(v.weight for v in self.kept[:-1]) <= history.MAX_KEPT_TOKENS

    @invariant()
    def the_strip_shows_what_is_kept(self) -> None:
        told = json.loads(versions_message(self.session))
        assert (told["undo"], told["redo"]) == (self.session.can_step(-1), self.session.can_step(1))
        assert [row[0] for row in told["versions"]] == [each.id for each in [*self.kept]]
        if self.page is not None and not self.failed:
            assert told["current"] == self.steps[self.at].id and self.session.run is self.page


def _alike(one: list[Any], other: list[Any]) -> int:
    """How many first tokens two texts have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@pytest.fixture
def pair():
    return FakePair(1e5)


def test_whatever_is_done_in_whatever_order_texts_are_exact_kept_and_come_back(host, pair, monkeypatch):
    monkeypatch.setattr(history, "MAX_VERSIONS", 5)
    monkeypatch.setattr(history, "MAX_KEPT_TOKENS", 70)
    host.start()
    wanted = settings(settings(), max_examples=30, stateful_step_count=18, phases=[Phase.generate])
    machine: Any = lambda: Windows(host, pair)  # noqa: E731  # hypothesis asks for a class
    run_state_machine_as_test(machine, settings=wanted)


@pytest.fixture
def session(host, pair) -> Session:
    """A window with a finished text at threshold 0.5."""
    session = Session()
    finished(session.begin(request(threshold=0.5), host))
    return session


def written_in_part(run: Run | None, tokens: int) -> Run:
    assert run is not None
    eventually(lambda: len(run.events) > tokens, SECONDS)
    return run


def test_a_text_that_was_stopped_comes_back_as_it_was_at_its_dials(host, pair):
    pair.tokens_per_second = 5
    session = Session()
    run = written_in_part(session.begin(request(threshold=0.5), host), 4)
    run.cancel.set()
    assert finished(run).state == "stopped"
    pair.tokens_per_second = 1e5
    finished(session.set_dials(0.9, 0.0, host))
    tokens = pair.tokens
    assert session.set_dials(0.5, 0.0, host) is run and run.state == "stopped" and pair.tokens == tokens


def test_a_text_that_gave_way_to_another_is_written_on_from_its_end(session, host, pair):
    pair.tokens_per_second = 5
    flip = first_flip(session.run.events, Setting(threshold=0.7)) or 0
    cut = written_in_part(session.set_dials(0.7, 0.0, host), flip + 4)
    finished(session.set_dials(0.5, 0.0, host))
    assert finished(cut).state == "stopped" and cut in session.history.versions
    written, tokens = len(cut.events), pair.tokens
    pair.tokens_per_second = 1e5
    whole = finished(session.set_dials(0.7, 0.0, host))
    assert whole is not cut and whole.complete and pair.tokens - tokens == 30 - written


def test_undoing_what_is_being_written_stops_it_and_keeps_what_there_is(session, host, pair):
    first, pair.tokens_per_second = session.run, 2
    second = written_in_part(session.begin(request("echo one two three four five"), host), 1)
    assert session.step(-1) is first and finished(second).state == "stopped"
    assert session.step(1) is second and second.events


def test_a_dial_begins_no_prompt_that_was_stopped_or_refused_before_its_first_token(host, pair):
    session = Session()
    failed = refused(session, host)
    with paused(host):
        stopped = session.begin(request(), host)
        assert session.set_dials(0.6, 0.0, host) is None, "while it waits the dial is its own"
        stopped.cancel.set()
    assert stopped.finished.wait(SECONDS) and not stopped.events
    for run in (stopped, failed):
        session.run = run
        assert session.set_dials(0.9, 0.0, host) is session.set_dials(0.7, 0.0, host, "llm") is None
    assert pair.requests == []


def test_a_dial_under_another_policy_writes_the_prompt_anew_with_that_one(session, host):
    first = session.run
    other = finished(session.set_dials(0.6, 0.0, host, "llm"))
    assert other is not first and {e.role for e in other.events} == {Role.LLM}
    assert session.set_dials(0.7, 0.0, host, "llm") is None, "the same text at any threshold"
    assert tokens_of(finished(session.set_dials(0.5, 0.0, host, "router")).events) == tokens_of(first.events)


def test_a_text_that_the_map_has_is_shown_as_it_is(session, host, pair):
    first = session.run
    sweep = session.begin_job(SWEEP, Sweep(first.request), host)
    assert sweep.finished.wait(SECONDS)
    asked, row = len(pair.requests), len(sweep.points) - 2
    opened = session.write_at(sweep.at(row), host, sweep.run(row, first))
    assert opened is session.run and opened.events == sweep.events[row] and opened.again
    assert session.write_at(sweep.at(row), host, sweep.run(row, opened)) is None, "it is there"
    assert len(pair.requests) == asked and session.step(-1) is first and session.step(1) is opened
    assert finished(session.branch(1, Role.LLM, None, host)).events[0].id == opened.events[0].id


def test_a_setting_of_the_map_writes_the_text_on_or_its_own_prompt_anew(session, host, pair):
    first = session.run
    sweep = session.begin_job(SWEEP, Sweep(first.request), host)
    assert sweep.finished.wait(SECONDS) and session.run is first, "the text that is there stays"
    row = next(n for n, point in enumerate(sweep.points) if point.threshold > 0.5 and point.acceptance > 0)
    asked = build_request(sweep.at(row), alternatives=first.request.alternatives)
    opened = finished(session.write_at(asked, host))
    assert opened.request.setting == asked.setting and opened.again
    assert tokens_of(opened.events) == tokens_of(sweep.events[row])
    assert session.set_dials(*sweep.points[row], host) is None, "the sliders say the same"
    other = finished(session.write_at(replace(asked, prompt="another"), host))
    assert other.request.prompt == "another" and not other.again
    assert session.step(-1) is opened and session.step(-1) is first
