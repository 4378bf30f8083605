"""What is kept of all windows together, and which of them gives way, by client address and by what it keeps."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.compare.comparison import Comparison
from app.running import history, sessions
from app.running.job import Job
from app.running.run import Run
from app.running.session import Session
from app.running.sessions import LITTLE, Sessions
from app.share.open_trace import opened_run
from app.sweep import Sweep
from app.tune.prompts import parse
from app.tune.tuning import Tuning
from engine import Role
from engine.guard.refusals import Busy, Places
from engine.request import Turn
from tests.support.fake_pair import FakePair, request

MOST = 1_000
"""Of what all windows keep, here."""

HOST: Any = SimpleNamespace(pair=None)  # never used: a stub does not start
FEED: Any = SimpleNamespace(call_soon_threadsafe=lambda wake: None)


class Stub(Job):
    """A job that lasts until the test ends it, and weighs what the test says."""

    def __init__(self, weight: int = 0) -> None:
        super().__init__(request())
        self.tokens = weight

    @property
    def weight(self) -> int:
        return self.tokens

    def start(self, host: Any) -> Any:
        return self


class Windows(RuleBasedStateMachine):
    """Windows write, open files, listen, leave and are dropped, at two addresses ("a1", "b2") and unknown ones ("?3").

    Whatever they do, in any order: what is kept is bounded, nobody who is in use gives way, and only who could not have
    the room of windows that rest is refused, which changes nothing.
    """

    names = st.tuples(st.sampled_from("ab?"), st.integers(0, 4)).map(lambda drawn: f"{drawn[0]}{drawn[1]}")

    @initialize(limit=st.integers(2, 5))
    def begin(self, limit: int) -> None:
        self.limit, self.address = limit, None
        self.left: list[str] = []
        self.kept = Sessions(limit, address=lambda: self.address, leave=self.left.append)

    @property
    def held(self) -> dict[str, Session]:
        return {name: each for name, each in self.kept._sessions.items() if each.holds}

    @rule(name=names, weight=st.sampled_from([0, 10, LITTLE, LITTLE + 1, 200, 400, 501, 900]), ended=st.booleans())
    def ask(self, name: str, weight: int, ended: bool) -> None:
        """A window begins a job, or is given one that ended long ago, as from a file."""
        self.address = None if name[0] == "?" else name[0]
        session, before, told = self.kept.get(name), self.held, len(self.left)
        job, replaced, own = Stub(weight), session.jobs.get("compare"), session.weight + weight
        if ended:
            job.finished.set()
        try:
            session.begin_job("compare", job, HOST)
        except Busy:
            assert self.held == before and (replaced is None or not replaced.cancel.is_set())
            self.refused_with_reason(name, own, weight > LITTLE)
            return
        gone = {of for other, of in before.items() if other not in self.held}
        assert {of.key for of in gone} == set(self.left[told:]) and not any(of.in_use for of in gone)
        assert all(each.cancel.is_set() for of in gone for each in of.jobs.values())
        assert replaced is None or replaced.cancel.is_set()
        others = sum(of.weight for of in self.held.values() if of is not session)
        assert weight <= LITTLE or others == 0 or others + own <= MOST

    def refused_with_reason(self, name: str, own: int, heavy: bool) -> None:
        used = [of for other, of in self.held.items() if other != name and of.in_use]
        near = [of for of in used if self.address is not None and of.address == self.address]
        assert any(
            len(group) >= max(1, self.limit // part) or (heavy and sum(of.weight for of in group) + own > MOST // part)
            for group, part in ((used, 1), (near, 2))
            if group is used or self.address is not None
        )

    @rule(name=names)
    def end(self, name: str) -> None:
        """What a window writes has ended."""
        for job in self.kept.get(name).jobs.values():
            job.finished.set()

    @rule(name=names, heard=st.booleans())
    def look(self, name: str, heard: bool) -> None:
        """A window's feed comes or goes."""
        feeds = self.kept.get(name).listeners._events
        feeds.clear()
        if heard:
            feeds[asyncio.Event()] = FEED

    @rule(name=names)
    def drop(self, name: str) -> None:
        session = self.held.get(name)
        self.kept.drop(name)
        assert name not in self.kept._sessions
        assert session is None or all(job.cancel.is_set() for job in session.jobs.values())

    @invariant()
    def is_bounded(self) -> None:
        held = list(self.held.values())
        assert len(held) <= self.limit
        assert all(sum(of.address == each for of in held) <= max(1, self.limit // 2) for each in "ab")


@pytest.fixture(autouse=True, scope="module")
def _small():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sessions, "MAX_KEPT", MOST)
        yield


TestWindows = Windows.TestCase
TestWindows.settings = settings(max_examples=60, stateful_step_count=30)


# ---- which of those that rest goes ----


@pytest.mark.parametrize(
    ("windows", "kept"),
    [
        ("b1 a1 a2 a3 a4", "a3 a4 b1"),  # who is over its share gives up the oldest of its own
        ("a1 a2 a1 a2", "a1 a2"),  # and may go on
        ("b1 a1 a2 c1 d1", "a2 b1 c1 d1"),  # where all is full one of the address that has the most goes
        ("a1 b1 c1 d1 a1 e1", "a1 c1 d1 e1"),  # of equals the one that was used longest ago
        ("?1 ?2 ?3 ?4 ?5", "?2 ?3 ?4 ?5"),  # where addresses are not known there is no share
        ("!1 b1 c1 d1 e1 f1", "!1 d1 e1 f1"),  # and one that somebody has open stays, as its heartbeat tells
    ],
)
def test_of_windows_that_rest_who_has_the_most_gives_way_and_then_the_oldest(windows: str, kept: str):
    asking: list[str | None] = [None]
    all_kept = Sessions(4, address=lambda: asking[0])
    with all_kept.beating("!1"):
        for name in windows.split():
            asking[0] = name[0].strip("?") or None
            all_kept.get(name).begin_job("compare", Stub(), HOST).finished.set()
    assert " ".join(sorted(name for name, each in all_kept._sessions.items() if each.holds)) == kept


@pytest.mark.parametrize(
    ("limit", "address", "begun", "weight", "said"),
    [
        (4, "a", [0, 0], 0, "your network address may have 2 windows"),
        (1, None, [MOST], 0, "all visitors may have 1 windows"),
        (3, None, [MOST], LITTLE + 1, "room"),
        (3, None, [MOST], LITTLE, ""),  # who brings little is not refused for what others keep
    ],
)
def test_who_is_refused_hears_whose_share_is_used_up(limit, address, begun, weight, said):
    kept = Sessions(limit, address=lambda: address)
    for n, each in enumerate(begun):
        kept.get(f"a{n}").begin_job("compare", Stub(each), HOST)
    with pytest.raises(Busy, match=said) if said else nullcontext():
        kept.get("newcomer").begin_job("compare", Stub(weight), HOST)


def test_who_comes_with_nothing_gets_nothing_kept(monkeypatch):
    kept = Sessions()
    for n in range(64):
        kept.get(f"invented {n}").close()
        assert kept.get(f"invented {n}").set_dials(0.5, 0.5, HOST) is None
    assert not any(each.holds for each in kept._sessions.values())
    monkeypatch.setattr(sessions, "MAX_EMPTY", 3)
    keys = [kept.get(f"opened {n}").key for n in range(5)]
    assert [kept.find_key(key) is not None for key in keys] == [False, False, True, True, True]


# ---- windows that went ----


def test_a_window_that_comes_back_has_all_it_had_for_five_minutes_and_no_other_gets_it(stepped):
    kept, (_, host) = Sessions(), stepped
    kept.leave("never opened")
    session = kept.get("a window")
    run, tuning = session.begin(request(), host), session.begin_job("tune", Stub(), HOST)
    kept.leave("a window")
    assert run.active and not run.cancel.is_set() and tuning.cancel.is_set(), "a text goes on, and nothing else"
    assert kept.adopt("guesses", "x" * 24).run is None
    assert kept.adopt("loaded again", session.key) is session
    kept.leave("a window")  # which may be noticed as late as this
    assert kept.get("loaded again").run is run and not session.left
    own = kept.get("has its own").begin_job("compare", Stub(), HOST)
    assert kept.adopt("has its own", session.key).jobs["compare"] is own, "it keeps it"
    kept.leave("loaded again")
    session.listeners.last_heard -= 299
    assert kept.get("passes by") and kept.find_key(session.key) is session
    session.listeners.last_heard -= 2
    assert kept.get("passes later") and kept.find_key(session.key) is None and run.cancel.is_set()


def test_what_no_window_follows_gives_its_place_to_who_needs_one_and_keeps_its_text(stepped):
    kept, (_, host) = Sessions(places=Places(2)), stepped
    runs = [kept.get(name).begin(request(), host) for name in ("left", "open")]
    kept.leave("left")
    with pytest.raises(Busy):
        kept.get("newcomer").begin(request(), host)
    kept.get("left").listeners.last_heard -= 20
    assert kept.get("newcomer").begin(request(), host).active
    assert [run.cancel.is_set() for run in runs] == [True, False] and kept.get("left").run is runs[0]


def test_windows_that_nobody_follows_make_room_at_once_for_an_address_with_fewer(stepped):
    at = ["flood 0"]
    kept, (_, host) = Sessions(places=Places(12), address=lambda: at[0]), stepped
    runs = []
    for n, flood in enumerate("000112345678"):  # each as many as it can have
        at[0] = f"flood {flood}"
        runs.append(kept.get(f"invented {n}").begin(request(), host))
    for name in ("one", "two", "three"):
        at[0] = name
        assert kept.get(name).begin(request(), host).active
    assert sum(run.cancel.is_set() for run in runs) == sum(run.cancel.is_set() for run in runs[:5]) == 3
    with pytest.raises(Busy, match="has 1 of the texts"):
        kept.get("another of three").begin(request(), host)


# ---- what things weigh ----

ROUTED = (Turn("assistant", "x" * 40_000, ((Role.SLM, 1),) * 40_000),)


def test_what_was_asked_weighs_what_it_takes_whoever_keeps_it():
    wide, system = "\N{SNOWMAN}" * 1_000_000, "x" * 100_000
    rows = parse("prompt,answer\n" + f"{'x' * 9_000},y\n" * 100).rows
    for asked, least in (request(wide), 1_000), (request(system=system), 50), (request(turns=ROUTED), 2_000):
        for job in (Run(asked), Sweep(asked), Comparison(asked)):
            assert least <= job.weight < 2 * least
    assert Run(request()).weight == 0 and Tuning(rows, request(), 5, None).weight >= 450
    text = FakePair(1e6).generate(request(alternatives=5)).to_json() + " " * 4_000_000
    assert opened_run(text).weight >= 10_000, "a file of few tokens"


def test_a_window_drops_older_texts_for_what_it_keeps_beside_them(host, monkeypatch):
    session = Sessions().get("a window")
    run = session.begin(request(), host)
    sweep = session.begin_job("sweep", Sweep(request()), host)
    tuning = session.begin_job("tune", Tuning(parse("one\ntwo\nthree").rows, request(), 5, None), host)
    assert all(job.finished.wait(120) and job.weight > 0 for job in (run, sweep, tuning))
    assert session.weight == len(run.events) + sweep.weight + tuning.weight
    monkeypatch.setattr(history, "MAX_KEPT_TOKENS", len(run.events) + sweep.weight)
    assert session.begin(request(), host).finished.wait(120)
    assert len(session.history.versions) == 1
