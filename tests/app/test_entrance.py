"""What comes from outside over HTTP: refused where it is too much, bounded in what is kept of it, and never logged."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import HTTPException
from gradio.data_classes import PredictBodyInternal

from app import api
from app.entrance import queue
from app.entrance.callers import Callers
from app.entrance.queue import PER_ADDRESS, PER_SESSION, PageQueue
from app.entrance.states import MAX_STATES, PageStates
from app.running import session as sessions
from app.running.session import Session
from engine import load_settings
from tests.support.browser import Site, eventually, paused, serve
from tests.support.fake_pair import FakePair, request

SECRET = "xyzzy-plugh"
PLACES, FAST = 4, 1e5


@pytest.fixture(scope="module")
def pair():
    return FakePair(FAST)


@pytest.fixture(scope="module")
def site(pair):
    settings = load_settings(max_new_tokens=60, server={"queue_size": PLACES, "per_address": 2, "proxies": 1})
    with serve(lambda preset, progress: pair, settings=settings) as site:
        site.host.wait(threading.Event())
        yield site


@pytest.fixture
def client(site: Site, pair: FakePair) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{site.url}gradio_api/", timeout=120) as client:
        yield client
    pair.tokens_per_second = FAST
    for owner in {handle.owner for handle in handles(site)}:
        site.host.leave(owner)
    eventually(lambda: not handles(site))


def handles(site: Site) -> list[Any]:
    """The texts that are written now or wait in line."""
    scheduler = site.host.scheduler
    return [*scheduler._held.running, *scheduler._line.waiting]


def listened_to(site: Site, name: str) -> Session:
    """A window's session with a feed open, as far as it can tell."""
    session, heard = site.sessions.enter(name), threading.Event()
    heard.set()
    session.listeners._events[heard] = None  # type: ignore[index, assignment]
    return session


def call(client: httpx.Client, address: str = "", **asked: Any) -> str:
    """Asks `/generate` as a script does; the event of its result."""
    headers = {"x-forwarded-for": address} if address else {}
    answer = client.post("call/v2/generate", json={"prompt": "a palindrome", **asked}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["event_id"]


def result(client: httpx.Client, event: str) -> str:
    """What it gives, as server-sent events."""
    return client.get(f"call/generate/{event}").text


def event_of(site: Site, name: str) -> Any:
    return next(function for function in site.page.fns.values() if function.api_name == name)


def filled(event: Any, **entered: Any) -> list[Any]:
    """What an event's fields hold, some `entered` by their ids."""
    entered = {"prompt": "a palindrome", **entered}
    return [entered.get(block.elem_id, getattr(block, "value", None)) for block in event.inputs]


def post(client: httpx.Client, site: Site, name: str, session: str, data: list[Any] | None = None) -> Any:
    """Posts an event of the page as its own script does, with `data` in place of what its fields begin with."""
    event = event_of(site, name)
    body = {"data": filled(event) if data is None else data, "fn_index": event._id, "session_hash": session}
    if not event.queue:
        return client.post("run/predict", json=body)
    client.post("queue/join", json=body).raise_for_status()
    return client.get("queue/data", params={"session_hash": session})


# ---- what is said, and what is kept from the log ----


def test_the_page_gives_back_a_few_words_of_what_no_field_holds(client: httpx.Client, site: Site):
    values = filled(event_of(site, "write"), policy=SECRET * 100_000)
    answer = post(client, site, "write", "large-policy", values).text
    assert '"success":false' in answer and len(answer) < 3_000


def test_nothing_that_was_sent_reaches_the_log(client: httpx.Client, site: Site, capfd, caplog, monkeypatch):
    post(client, site, "write", "few-values", [SECRET])
    post(client, site, "write", "many-values", [SECRET] * 40)
    post(client, site, "set_dials", "no-numbers", [SECRET, SECRET, "router"])
    post(client, site, "tune", "no-table", [SECRET] * 6)
    for body in ({"data": SECRET}, {"data": [SECRET], "fn_index": SECRET}, {"fn_index": 10**6, "data": [SECRET]}):
        for path in ("queue/join", "call/generate"):
            assert SECRET not in client.post(path, json=body).text
    client.post("queue/join", content=SECRET)
    panel = next(block for block in site.page.blocks.values() if block.elem_id == "tune-panel")
    asked = {"component_id": panel._id, "session_hash": "s", "fn_name": "text_of", "data": {"row": SECRET}}
    answer = client.post("component_server", json=asked)
    assert answer.status_code == 422 and "row" in answer.text
    result(client, call(client, prompt=SECRET, threshold=SECRET))

    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError(SECRET)

    with monkeypatch.context() as patched:
        patched.setattr(gr.Blocks, "process_api", fail)
        result(client, call(client, prompt=SECRET))
    assert "ValueError" in caplog.text, "the fault itself is"
    assert SECRET not in "".join(capfd.readouterr()) + caplog.text


def test_another_sites_page_gets_nothing_also_from_gradio(client: httpx.Client):
    headers = {"origin": "https://evil.example"}
    answers = [
        client.get("/config", headers=headers),
        client.options("queue/join", headers={**headers, "access-control-request-method": "POST"}),
        client.post("call/v2/generate", json={"prompt": "x"}, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


def test_what_has_its_content_in_its_address_is_kept_by_browsers_and_nothing_else(client, site: Site):
    page = client.get(site.url).text
    built = re.findall(r'(?:href|src)="\.?/?(assets/[^"]+\.js)"', page)
    scripts = re.findall(r"gradio_api/citer/page/\w{12}/[\w/]+\.js", page)
    for path in (built[0], *scripts[:2]):
        answer = client.get(site.url + path)
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"], path
    for path in ("", "config", "assets/nothing-12345678.js", scripts[0].replace("page/", "page/0", 1)):
        assert "immutable" not in client.get(site.url + path).headers.get("cache-control", ""), path
    answer = client.get(site.url + re.sub(r"page/\w{12}/", "page/", scripts[0]))
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"


# ---- for how many ----


def test_calls_have_places_of_their_own_and_the_page_its_turn(client: httpx.Client, site: Site, monkeypatch):
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 600.0)
    with paused(site.host):  # so that none of them ends
        events = [call(client) for _ in range(2 * PLACES)]
        assert all("room for" in result(client, event) for event in events[PLACES:])
        session = listened_to(site, "visitor")
        assert '"success":true' in post(client, site, "write", "visitor").text
    assert session.run is not None and session.run.finished.wait(90) and session.run.complete
    assert all("event: complete" in result(client, event) for event in events[:PLACES])
    site.sessions.drop("visitor")


def test_an_address_has_a_share_of_either(client: httpx.Client, site: Site, monkeypatch):
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 600.0)
    with paused(site.host):
        for _ in range(2):
            call(client, "198.51.100.9")
        # What the client says itself, before what the proxy adds, is nobody's address.
        assert "network address" in result(client, call(client, "203.0.113.1, 198.51.100.9"))
        call(client, "198.51.100.10")
        eventually(lambda: len(handles(site)) == 3)
        visits = ("7", "one", True), ("7", "two", True), ("7", "three", False), ("8", "three", True)
        for address, name, taken in visits:
            client.headers["x-forwarded-for"] = f"198.51.100.{address}"
            listened_to(site, name)
            answer = post(client, site, "write", name).text
            assert ('"success":true' in answer) is taken and ("network address" in answer) is not taken
        for name in ("one", "two", "three"):
            site.sessions.drop(name)


LONG = {"policy": "router", "max_new_tokens": 1000}


def test_what_nobody_listens_to_stops_and_what_somebody_waits_for_does_not(client, site, pair, monkeypatch):
    pair.tokens_per_second = 10  # a hundred seconds for a long text
    scheduler = site.host.scheduler
    monkeypatch.setattr(api, "UNHEARD_SECONDS", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(api, "FIRST_HEARD_SECONDS", 0.05)
        texts, tokens = scheduler.texts, scheduler.tokens
        call(client, **LONG)
        eventually(lambda: scheduler.texts > texts)
        assert scheduler.tokens - tokens < 1000
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 600.0)
    assert "event: complete" in result(client, call(client, max_new_tokens=5)), "it takes ten times as long as that"
    noticed, hear = threading.Event(), Callers.hear
    monkeypatch.setattr(Callers, "hear", lambda *asked: hear(*asked) and (noticed.set() or True))
    with client.stream("GET", f"call/generate/{call(client, **LONG)}"):
        assert noticed.wait(90)
        eventually(lambda: handles(site))
    eventually(lambda: not handles(site))


def test_what_waits_in_line_for_nobody_leaves_it(site: Site, client, pair, monkeypatch):
    monkeypatch.setattr(site.host.scheduler, "bound", 1)
    monkeypatch.setattr(sessions, "UNHEARD_SECONDS", 0.05)
    pair.tokens_per_second = 10
    first, second = listened_to(site, "first"), site.sessions.enter("second")
    run = first.begin(request(max_new_tokens=1000), site.host)
    eventually(lambda: run.events)
    waiting = second.begin(request(), site.host)
    assert waiting.finished.wait(90) and waiting.state == "stopped" and run.active
    site.sessions.drop("first")


# ---- what is kept of strangers ----


def kept(site: Site) -> tuple[int, int, int]:
    """What gradio keeps: results, events whose results were not read, records."""
    waiting = site.page._queue
    ids = sum(map(len, waiting.pending_event_ids_session.values()))
    return len(waiting.pending_messages_per_session), ids, len(waiting.event_analytics)


def test_invented_sessions_leave_little(site: Site, client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    states = site.page.app.state_holder
    monkeypatch.setattr(queue, "MAX_UNREAD", 8)
    monkeypatch.setattr(states, "capacity", most := len(states.session_data) + 4)
    for n in range(24):
        for path, name in [("run/predict", "key"), ("queue/join", "ended"), ("run/predict", "stop")]:
            body = {"data": [], "fn_index": event_of(site, name)._id, "session_hash": f"invented-{n}"}
            assert client.post(path, json=body).status_code == 200
        asked = {"component_id": 1, "fn_name": "x", "data": {}, "session_hash": f"other-{n}"}
        assert client.post("component_server", json=asked).status_code == 404
        eventually(lambda: not list(site.page._queue._events()))  # however slowly they are done
    client.post("queue/join", json={"data": [], "fn_index": event_of(site, "ended")._id, "session_hash": "last"})
    results, ids, records = kept(site)
    assert len(states.session_data) <= most and results <= 10 and ids <= 10 and records == 0
    held = next(iter(states.session_data.values()))
    assert not held.config_values and not held.state_data


def test_visits_by_api_and_feed_leave_nothing(site: Site, client: httpx.Client):
    before = len(site.sessions)
    for n in range(3):
        assert "event: complete" in result(client, call(client))
        for name in ("stop", "can_stop", "set_dials", "ended", "write"):
            assert len(site.sessions) == before, "what asks for nothing is no session"
            post(client, site, name, f"visitor-{n}")
        site.sessions.drop(f"visitor-{n}")
    later = itertools.count(1)

    def nothing_is_kept() -> bool:
        site.page._queue._tidy(1e9 * next(later))
        return kept(site) == (0, 0, 0)

    eventually(nothing_is_kept)
    assert not site.page._queue._unread and not site.page._queue.event_ids_to_events


def test_a_listener_is_never_dropped_for_newcomers(site: Site):
    states = PageStates(callers := Callers())
    states.set_blocks(site.page)
    with callers.listening("GET", "/gradio_api/heartbeat/visitor", b""):
        own = states["visitor"]
        for n in range(2 * MAX_STATES):
            states[f"invented-{n}"]
        assert states["visitor"] is own and len(states.session_data) == MAX_STATES == len(states.time_last_used)


# ---- shares of the queue ----


TAKEN = 32  # characters of the id that an event is given


@pytest.fixture
def waiting(site: Site) -> PageQueue:
    """A queue of a page, in which nothing is worked on."""
    found = PageQueue(site.page, Callers(), lambda asked: asked.headers.get("from"))
    found.set_server_app(site.page.app)
    return found


def push(waiting: PageQueue, site: Site, session: str | None = None, address: str | None = None, size: int = 10) -> str:
    """What is said to an event: its id, or why it is not taken."""
    asked: Any = SimpleNamespace(_body=b"x" * size, client=None, headers={"from": address})
    body = PredictBodyInternal(data=[], fn_index=event_of(site, "ended")._id, session_hash=session)
    try:
        return str(asyncio.run(waiting.push(body, asked, None))[1])
    except HTTPException as refused:
        assert refused.status_code == 429, "gradio's page shows the words of this one"
        return str(refused.detail)


def test_a_window_an_address_and_all_together_have_a_share_of_the_queue(waiting: PageQueue, site: Site):
    said = [push(waiting, site, "greedy") for _ in range(PER_SESSION + 5)]
    assert sum("window" in each for each in said) == 5
    said = [push(waiting, site, f"one of {n}", "198.51.100.9") for n in range(PER_ADDRESS + 5)]
    assert sum("network address" in each for each in said) == 5
    left = queue.MAX_WAITING - PER_SESSION - PER_ADDRESS
    said = [push(waiting, site, f"another {n}", f"198.51.100.{10 + n}") for n in range(left + 2)]
    assert [len(each) == TAKEN for each in said] == [True] * left + [False] * 2 and str(queue.MAX_WAITING) in said[-1]


def test_the_bytes_that_wait_are_bounded_and_what_is_small_is_taken(waiting: PageQueue, site: Site):
    said = [push(waiting, site, f"large {n}", size=8_000_000) for n in range(12)]
    assert sum("bytes" in each for each in said) == 12 - queue.MAX_QUEUED_BYTES // 8_000_000
    assert len(push(waiting, site, "small", size=10_000)) == TAKEN
