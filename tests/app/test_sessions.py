"""What is kept of all windows together, and which of them gives way, by client address and by what it keeps."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from app.api import ApiRun
from app.compare.comparison import Comparison
from app.entrance.callers import Callers
from app.fields import FIELDS
from app.running import history, sessions
from app.running.job import Job
from app.running.run import Run
from app.running.session import Session
from app.running.sessions import LITTLE, Sessions
from app.share import buttons
from app.share.open_trace import opened_run
from app.sweep import Sweep
from app.tune.prompts import parse
from app.tune.tuning import Tuning
from engine import InvalidRequest, Prices, Role
from engine.endpoint.places import Busy, Places
from engine.request import Turn
from tests.support.fake_pair import FakePair, request

MOST = 1_000
"""Of what all windows keep, here."""

HOST: Any = SimpleNamespace(pair=None)
"""Never used: a stub does not start."""


class Stub(Job):
    """A job that lasts until the test ends it, and weighs what the test says."""

    def __init__(self, weight: int = 0) -> None:
        super().__init__()
        self.tokens = weight

    @property
    def weight(self) -> int:
        return self.tokens

    def start(self, host: Any) -> Any:
        return self


def listen(session: Session) -> None:
    """The window's feed is open."""
    feed: Any = SimpleNamespace(call_soon_threadsafe=lambda wake: None)
    session.listeners._events[asyncio.Event()] = feed


class Windows(RuleBasedStateMachine):
    """Windows write, open files, listen, leave and are dropped, at two addresses ("a1", "b2") and unknown ones ("?3").

    Whatever they do, in any order: what is kept is bounded, nobody who is in use gives way, and only who could not have
    the room of windows that rest is refused, which changes nothing.
    """

    names = Bundle("names")

    @initialize(limit=st.integers(2, 5))
    def begin(self, limit: int) -> None:
        self.limit, self.address = limit, None
        self.left: list[str] = []
        self.kept = Sessions(limit, address=lambda: self.address, leave=self.left.append)

    @property
    def held(self) -> dict[str, Session]:
        return {name: each for name, each in self.kept._sessions.items() if each.holds}

    @rule(target=names, address=st.sampled_from("ab?"), n=st.integers(0, 4))
    def come(self, address: str, n: int) -> str:
        return f"{address}{n}"

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
        groups = [(used, 1)]
        if self.address is not None:
            groups.append(([of for of in used if of.address == self.address], 2))
        assert any(
            len(group) >= max(1, self.limit // part) or (heavy and sum(of.weight for of in group) + own > MOST // part)
            for group, part in groups
        )

    @rule(name=names)
    def end(self, name: str) -> None:
        """What a window writes has ended."""
        for job in self.kept.get(name).jobs.values():
            job.finished.set()

    @rule(name=names, heard=st.booleans())
    def look(self, name: str, heard: bool) -> None:
        """A window's feed comes or goes."""
        session = self.kept.get(name)
        session.listeners._events.clear()
        if heard:
            listen(session)

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


def come(kept: Sessions, asking: list[str | None], *names: str) -> str:
    """Windows whose job has ended, of the address that their name begins with; who is kept then."""
    for name in names:
        asking[:] = [None if name[0] == "?" else name[0]]
        kept.get(name).begin_job("compare", Stub(), HOST).finished.set()
    return " ".join(sorted(name for name, each in kept._sessions.items() if each.holds))


@pytest.mark.parametrize(
    ("windows", "kept"),
    [
        ("b1 a1 a2 a3 a4", "a3 a4 b1"),  # who is over its share gives up the oldest of its own
        ("a1 a2 a1 a2", "a1 a2"),  # and may go on
        ("b1 a1 a2 c1 d1", "a2 b1 c1 d1"),  # where all is full one of the address that has the most goes
        ("a1 b1 c1 d1 a1 e1", "a1 c1 d1 e1"),  # of equals the one that was used longest ago
        ("?1 ?2 ?3 ?4 ?5", "?2 ?3 ?4 ?5"),  # where addresses are not known there is no share
    ],
)
def test_of_windows_that_rest_who_has_the_most_gives_way_and_then_the_oldest(windows: str, kept: str):
    asking: list[str | None] = [None]
    assert come(Sessions(4, address=lambda: asking[0]), asking, *windows.split()) == kept


def test_one_that_nobody_has_open_goes_first_as_its_heartbeat_tells():
    callers, asking = Callers(), list[str | None]()
    kept = Sessions(2, address=lambda: asking[0], open_now=callers.hear)
    with callers.listening("GET", "/gradio_api/heartbeat/a1", b""):
        assert come(kept, asking, "a1", "b1", "c1") == "a1 c1"


def test_who_is_refused_hears_whose_share_is_used_up():
    kept = Sessions(4, address=lambda: "a")
    for name in ("a1", "a2"):
        kept.get(name).begin_job("compare", Stub(), HOST)
    with pytest.raises(Busy, match="2 windows"):
        kept.get("a3").begin_job("compare", Stub(), HOST)
    kept = Sessions(1)
    kept.get("a1").begin_job("compare", Stub(MOST), HOST)
    with pytest.raises(Busy, match="1 visitors"):
        kept.get("b1").begin_job("compare", Stub(), HOST)


def test_who_brings_little_is_not_refused_for_what_others_keep():
    kept = Sessions(3)
    kept.get("a1").begin_job("compare", Stub(MOST), HOST)
    with pytest.raises(Busy, match="room"):
        kept.get("b1").begin_job("compare", Stub(LITTLE + 1), HOST)
    assert kept.get("c1").begin_job("compare", Stub(LITTLE), HOST).active and kept.get("a1").active


def test_who_comes_with_nothing_gets_nothing_kept(monkeypatch):
    kept = Sessions()
    for n in range(64):
        kept.get(f"invented {n}").stop()
        assert kept.get(f"invented {n}").set_dials(0.5, 0.5, HOST) is None
    with pytest.raises(InvalidRequest, match="session_hash has 1,000,000"):
        kept.enter("x" * 1_000_000)
    assert len(kept) == 0
    monkeypatch.setattr(sessions, "MAX_EMPTY", 3)
    keys = [kept.enter(f"opened {n}").key for n in range(5)]
    assert [kept.find_key(key) is not None for key in keys] == [False, False, True, True, True]


def test_page_and_api_have_places_of_their_own_and_an_address_its_share():
    places, calls = Places(3, 2), [ApiRun(request()) for _ in range(4)]
    for run in calls[:3]:
        places.take(run)
    with pytest.raises(Busy, match="3 texts"):
        places.take(calls[3])
    mine = [Run(request()) for _ in range(4)]
    for run in mine[:2]:
        places.take(run, "198.51.100.9")
    with pytest.raises(Busy, match="share"):
        places.take(mine[2], "198.51.100.9")
    places.take(mine[2], "198.51.100.9", replaced=[mine[0]])
    mine[0].cancel.set()
    places.take(mine[3], "198.51.100.10")
    calls[0].finished.set()
    places.take(calls[3])


# ---- what things weigh ----


def test_what_was_asked_weighs_what_it_takes_whoever_keeps_it():
    talk = (Turn("assistant", "x" * 40_000, ((Role.SLM, 1),) * 40_000),)
    for asked, least in (
        (request("x" * 1_000_000), 500),
        (request("\N{SNOWMAN}" * 1_000_000), 1_000),
        (request(system="x" * 100_000), 50),
        (request(turns=(Turn("user", "x" * 500_000), Turn("assistant", "x" * 500_000))), 500),
        (request(turns=talk), 2_000),
    ):
        jobs = Run(asked), Sweep(asked, [], Prices(), "threshold"), Comparison(asked, "router")
        assert all(least <= job.weight < 2 * least for job in jobs)
    assert Run(request()).weight == 0
    rows = parse("prompt,answer\n" + f"{'x' * 9_000},{'y' * 9_000}\n" * 100).rows
    assert Tuning(rows, request(), 5, None).weight >= 900
    text = FakePair(1e6).generate(request(alternatives=5)).to_json() + " " * 4_000_000
    assert opened_run(text).weight >= 10_000, "a file of few tokens"


def test_a_window_drops_older_texts_for_what_it_keeps_beside_them(host, monkeypatch):
    session = Sessions().get("a window")
    run = session.begin(request(), host)
    assert run.finished.wait(120)
    sweep = session.begin_job("sweep", Sweep(request(), [], Prices(), "threshold"), host)
    tuning = session.begin_job("tune", Tuning(parse("one\ntwo\nthree").rows, request(), 5, None), host)
    assert sweep.finished.wait(120) and tuning.finished.wait(120)
    assert sweep.weight == sum(map(len, sweep.events)) // 4 > 0 and tuning.weight > 0
    assert session.weight == len(run.events) + sweep.weight + tuning.weight
    monkeypatch.setattr(history, "MAX_KEPT_TOKENS", len(run.events) + sweep.weight)
    assert session.begin(request(), host).finished.wait(120)
    assert len(session.history.versions) == 1


def test_a_file_is_read_in_a_place_of_the_pages_and_its_window_stays_one_session(host, pair, monkeypatch):
    """Meanwhile the window asks for another, and opens its feed."""
    window: Any = SimpleNamespace(session_hash="a window")
    asked: Any = SimpleNamespace(_data={"name": "some.json", "text": pair.generate(request()).to_json()})
    kept = Sessions(places=Places(1, 1))
    opening, refused, keys = buttons._ShareHandlers(host, kept, [object()] * len(FIELDS)), [], []

    def meanwhile(*said: Any) -> Run:
        refused.append(asyncio.run(opening.open_trace(asked, window))[0])
        keys.append(kept.enter("a window").key)
        return opened_run(*said)

    monkeypatch.setattr(buttons, "fill", lambda fields, values: [])
    monkeypatch.setattr(buttons, "opened_run", meanwhile)
    assert "Opened some.json" in asyncio.run(opening.open_trace(asked, window))[0]
    assert len(refused) == 1 and "1 texts" in refused[0]
    session = kept.find_key(keys[0])
    assert session is not None and session.run is not None, "the feed that the browser opens is of the text's session"
