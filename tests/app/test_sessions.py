"""What is kept of all windows together, and which of them gives way, by client address and by what it keeps."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from app.compare.comparison import Comparison
from app.entrance.callers import Callers
from app.fields import FIELDS
from app.running import history, sessions
from app.running.host import Host
from app.running.job import Job
from app.running.run import Run
from app.running.sessions import Sessions
from app.share import buttons
from app.share.open_trace import opened_run
from app.sweep import Sweep
from app.tune.prompts import parse
from app.tune.tuning import Tuning
from engine import Prices, Role
from engine.endpoint.places import Busy, Places
from engine.request import Turn
from tests.support.browser import eventually
from tests.support.fake_pair import FakePair, request


@pytest.fixture
def pair() -> FakePair:
    return FakePair(2000)


class Visitors:
    """Sessions whose visitors come from an address each: "a1" and "a2" from a."""

    def __init__(self, limit: int, host: Host, **options: Any) -> None:
        self.address: str | None = None
        self.all = Sessions(limit, address=lambda: self.address, **options)
        self.host = host

    def come(self, name: str, address: str | None = "") -> Run:
        """Begins a text."""
        self.address = name[0] if address == "" else address
        return self.all.get(name).begin(request(), self.host)

    def rest(self, *names: str) -> None:
        """Texts that have ended."""
        for name in names:
            assert self.come(name).finished.wait(10)

    def open(self, name: str, size: int) -> Run:
        """Puts a text from a file on the page."""
        self.address, run = name[0], Run(request())
        run.fixed, run.size = True, size
        run.finished.set()
        self.all.get(name).show(run)
        return run

    @property
    def kept(self) -> str:
        """Who has anything."""
        return " ".join(sorted(name for name, each in self.all._sessions.items() if each.holds))

    @contextmanager
    def listening(self, *names: str) -> Iterator[None]:
        """Their feeds are open."""
        feed: Any = SimpleNamespace(call_soon_threadsafe=lambda wake: None)
        for name in names:
            self.all.get(name).listeners._events[asyncio.Event()] = feed
        yield
        for name in names:
            self.all.get(name).listeners._events.clear()


@pytest.fixture
def visitors(host: Host) -> Visitors:
    return Visitors(4, host)


def test_an_address_whose_windows_are_all_in_use_leaves_half_to_others(visitors):
    visitors.rest("a1", "a2")
    with visitors.listening("a1", "a2"):
        for n in range(3, 20):
            with pytest.raises(Busy, match="2 windows of your network address"):
                visitors.come(f"a{n}")
        visitors.rest("b1", "c1")
    assert visitors.kept == "a1 a2 b1 c1"


def test_who_is_over_the_share_gives_up_the_oldest_of_its_own(visitors):
    visitors.rest("b1", "a1", "a2", "a3", "a4")
    assert visitors.kept == "a3 a4 b1"


def test_a_window_of_an_address_that_has_its_share_may_go_on(visitors):
    visitors.rest("a1", "a2", "a1", "a2")
    assert visitors.kept == "a1 a2"


def test_where_all_is_full_one_of_the_address_that_has_the_most_goes(visitors):
    visitors.rest("b1", "a1", "a2", "c1", "d1")
    assert visitors.kept == "a2 b1 c1 d1"


def test_of_windows_that_rest_one_that_nobody_has_open_goes_first(host):
    visitors = Visitors(4, host, open_now=lambda name: name != "c1")
    visitors.rest("b1", "a1", "a2", "c1", "d1")
    assert visitors.kept == "a1 a2 b1 d1"


def test_whether_a_window_is_open_is_known_by_its_heartbeat(host):
    callers = Callers()
    visitors = Visitors(2, host, open_now=callers.hear)
    with callers.listening("GET", "/gradio_api/heartbeat/a1", b""):
        visitors.rest("a1", "b1", "c1")
    assert visitors.kept == "a1 c1"


def test_where_addresses_are_not_known_there_is_no_share(visitors):
    for n in range(5):
        assert visitors.come(f"{n}", None).finished.wait(10)
    assert visitors.kept == "1 2 3 4"


# ---- what is kept ----


def test_opened_texts_are_bounded_over_all_windows(visitors, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_KEPT", 1000)
    visitors.open("a1", 160_000)
    visitors.open("b1", 160_000)
    visitors.open("c1", 160_000)
    assert visitors.kept == "b1 c1"
    with visitors.listening("b1", "c1"), pytest.raises(Busy, match="What is kept for all visitors leaves no room"):
        visitors.open("d1", 160_000)
    with visitors.listening("b1", "c1"):
        visitors.rest("d1")
    assert visitors.kept == "b1 c1 d1", "a text that is only begun is not refused for what others keep"


def test_an_address_has_half_of_what_is_kept(visitors, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_KEPT", 1000)
    visitors.open("b1", 100_000)
    visitors.open("a1", 160_000)
    with visitors.listening("a1"), pytest.raises(Busy, match="What is kept for your network address"):
        visitors.open("a2", 160_000)
    visitors.open("a2", 160_000)
    assert visitors.kept == "a2 b1"


def test_a_file_of_few_tokens_weighs_what_it_takes(pair):
    trace = pair.generate(request(alternatives=5))
    text = trace.to_json() + " " * 4_000_000
    assert opened_run(text).weight >= 10_000 > len(trace.events)


def test_a_long_prompt_and_who_wrote_what_before_it_weigh_what_they_take():
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


def test_what_was_asked_is_bounded_with_what_was_written(host, monkeypatch):
    monkeypatch.setattr(history, "MAX_KEPT_TOKENS", 500)
    monkeypatch.setattr(sessions, "MAX_KEPT", 900)
    visitors, long = Visitors(4, host), request(turns=(Turn("user", "x" * 400_000),))
    visitors.address = "a"
    for _ in range(4):
        assert visitors.all.get("a1").begin(long, host).finished.wait(10)
    assert len(visitors.all.get("a1").history.versions) == 2
    visitors.address = "b"
    assert visitors.all.get("b1").begin(long, host).finished.wait(10)
    assert visitors.all.get("b1").begin(long, host).finished.wait(10)
    visitors.address = "c"
    with visitors.listening("a1", "b1"), pytest.raises(Busy, match="What is kept for all visitors leaves no room"):
        visitors.all.get("c1").begin(long, host)
    with visitors.listening("a1", "b1"):
        visitors.rest("c1")
    assert visitors.kept == "a1 b1 c1", "a short prompt is not refused for what others keep"


def test_sweeps_and_tunings_count_among_what_a_window_keeps(host, monkeypatch):
    visitors = Visitors(4, host)
    run = visitors.come("a1")
    assert run.finished.wait(10)
    session = visitors.all.get("a1")
    own = session.weight
    assert own == len(run.events)
    sweep = session.begin_job("sweep", Sweep(request(), [], Prices(), "threshold"), host)
    tuning = session.begin_job("tune", Tuning(parse("one\ntwo\nthree").rows, request(), 5, None), host)
    assert sweep.finished.wait(20) and tuning.finished.wait(20) and tuning.results
    assert sweep.weight == sum(map(len, sweep.events)) // 4 > 0 and tuning.weight > 0
    assert session.weight == own + sweep.weight + tuning.weight
    monkeypatch.setattr(history, "MAX_KEPT_TOKENS", own + sweep.weight)
    visitors.rest("a1")
    assert len(session.history.versions) == 1


def test_a_trace_is_read_in_a_place_of_the_pages(host, pair, monkeypatch):
    places, reading, read = Places(1, 1), threading.Event(), threading.Event()
    window, kept = SimpleNamespace(session_hash="a window"), Sessions(places=places)
    handlers = buttons._ShareHandlers(host, kept, [object()] * len(FIELDS))

    def slowly(*asked: Any) -> Run:
        reading.set()
        assert read.wait(10)
        return opened_run(*asked)

    monkeypatch.setattr(buttons, "opened_run", slowly)
    monkeypatch.setattr(buttons, "fill", lambda fields, values: [])
    given: Any = SimpleNamespace(_data={"name": "some.json", "text": pair.generate(request()).to_json()})

    async def both() -> list[str]:
        first = asyncio.create_task(handlers.open_trace(given, window))  # pyright: ignore[reportArgumentType]
        await asyncio.to_thread(reading.wait, 10)
        second = await handlers.open_trace(given, window)  # pyright: ignore[reportArgumentType]
        read.set()
        return [(await first)[0], second[0]]

    opened, refused = asyncio.run(both())
    assert "Opened some.json" in opened
    assert "some.json was not opened. 1 texts" in refused
    places.take(Job())


def test_a_link_that_is_read_while_the_feed_is_asked_for_leaves_the_window_one_session(host, pair, monkeypatch):
    window, kept, keys = SimpleNamespace(session_hash="a window"), Sessions(), []
    handlers = buttons._ShareHandlers(host, kept, [object()] * len(FIELDS))

    def meanwhile(*asked: Any) -> Run:
        keys.append(kept.enter("a window").key)
        return opened_run(*asked)

    monkeypatch.setattr(buttons, "opened_run", meanwhile)
    monkeypatch.setattr(buttons, "fill", lambda fields, values: [])
    given: Any = SimpleNamespace(_data={"text": pair.generate(request()).to_json()})
    asyncio.run(handlers.open_trace(given, window))  # pyright: ignore[reportArgumentType]
    session = kept.find_key(keys[0])
    assert session is not None and session.run is not None, "the feed that the browser opens is of the text's session"


def test_the_schedulers_events_of_a_text_go_when_its_row_does(host):
    visitors = Visitors(4, host)
    run = visitors.come("a1")
    assert run.finished.wait(10) and run.handle is not None, "its row rests, for what goes on from it"
    host.scheduler.leave(run.owner)

    def gone() -> bool:
        gc.collect()
        return run.handle is None

    eventually(gone)
    assert run.events
    again = visitors.all.get("a1").set_dials(0.9, 0.0, host)
    assert again is not None and again.finished.wait(10) and again.error is None and again.events
