"""What comes from outside over HTTP: refused where it is too much, bounded in what is kept of it, and never logged."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import httpx
import pytest

from app import api
from app.entrance import calls, gradio_parts
from app.entrance.callers import Callers
from app.entrance.gradio_parts import MAX_WINDOWS, PageStates
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
    settings = load_settings(max_new_tokens=60, server={"queue_size": PLACES, "proxies": 1})
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
    return [*scheduler._running, *scheduler._line.waiting]


def listened_to(site: Site, name: str) -> Session:
    """A window's session with a feed open, as far as it can tell."""
    session, heard = site.sessions.get(name), threading.Event()
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
    return client.post("run/predict", json=body)


# ---- what is said, and what is kept from the log ----


def test_nothing_that_was_sent_reaches_the_log(client: httpx.Client, site: Site, capfd, caplog, monkeypatch):
    for name, values in ("write", [SECRET]), ("write", [SECRET] * 40), ("tune", [SECRET] * 6):
        post(client, site, name, "odd", values)
    for body in SECRET, {"data": SECRET}, {"data": [SECRET], "fn_index": SECRET}, {"data": [SECRET], "fn_index": 10**6}:
        for path in ("queue/join", "call/generate"):
            assert SECRET not in client.post(path, json=body).text
    panel = next(block for block in site.page.blocks.values() if block.elem_id == "tune-panel")
    asked = {"component_id": panel._id, "session_hash": "s", "fn_name": "text_of", "data": {"row": SECRET}}
    assert client.post("component_server", json=asked).status_code == 422
    result(client, call(client, prompt=SECRET, threshold=SECRET))

    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError(SECRET)

    with monkeypatch.context() as patched:
        patched.setattr(gr.Blocks, "process_api", fail)
        result(client, call(client, prompt=SECRET))
    assert "ValueError" in caplog.text, "the fault itself is"
    assert SECRET not in "".join(capfd.readouterr()) + caplog.text


def test_what_has_its_content_in_its_address_is_kept_by_browsers_and_nothing_else(client, site: Site):
    page = client.get(site.url).text
    (built, *_) = re.findall(r'(?:href|src)="\.?/?(assets/[^"]+\.js)"', page)
    (script, *_) = re.findall(r"gradio_api/citer/page/\w{12}/[\w/]+\.js", page)
    of_now, of_before = re.sub(r"page/\w{12}/", "page/", script), script.replace("page/", "page/0", 1)
    paths = {built: True, script: True, of_now: False, of_before: False, "": False, "config": False}
    answers = {path: client.get(site.url + path) for path in paths}
    kept = {path: "immutable" in answer.headers.get("cache-control", "") for path, answer in answers.items()}
    assert kept == paths and all(answers[path].status_code == 200 for path in (built, script, of_now))


# ---- for how many ----


def test_calls_have_places_of_their_own_and_the_page_its_turn(client: httpx.Client, site: Site, monkeypatch):
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 600.0)
    with paused(site.host):  # so that none of them ends
        events = [call(client) for _ in range(PLACES + 2)]
        assert all("room for" in result(client, event) for event in events[PLACES:])
        session = listened_to(site, "visitor")
        assert post(client, site, "write", "visitor").status_code == 200
    assert session.run is not None and session.run.finished.wait(90) and session.run.complete
    assert all("event: complete" in result(client, event) for event in events[:PLACES])
    site.sessions.drop("visitor")


def test_an_address_has_a_share_of_either(client: httpx.Client, site: Site, monkeypatch):
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 600.0)
    with paused(site.host):
        for address in ("198.51.100.9", "198.51.100.9", "198.51.100.10"):
            call(client, address)
        # What the client says itself, before what the proxy adds, is nobody's address.
        assert "network address" in result(client, call(client, "203.0.113.1, 198.51.100.9"))
        for address, name, taken in ("7", "one", True), ("7", "two", True), ("7", "three", False), ("8", "three", True):
            client.headers["x-forwarded-for"] = f"198.51.100.{address}"
            listened_to(site, name)
            answer = post(client, site, "write", name)
            assert answer.status_code == (200 if taken else 422) and ("network address" in answer.text) is not taken
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
    monkeypatch.setattr(sessions, "KEPT_SECONDS", 0.05)
    pair.tokens_per_second = 10
    first, second = listened_to(site, "first"), site.sessions.get("second")
    run = first.begin(request(max_new_tokens=1000), site.host)
    eventually(lambda: run.events)
    waiting = second.begin(request(), site.host)
    assert waiting.finished.wait(90) and waiting.state == "stopped" and run.active
    site.sessions.drop("first")


# ---- what is kept of strangers ----


def test_a_listener_is_never_dropped_for_newcomers(site: Site):
    states = PageStates(callers := Callers())
    states.set_blocks(site.page)
    with callers.listening("/gradio_api/heartbeat/visitor"):
        own = states["visitor"]
        for n in range(2 * MAX_WINDOWS):
            states[f"invented-{n}"]
        assert states["visitor"] is own and len(states.session_data) == MAX_WINDOWS


def test_a_result_is_dropped_after_a_while_unless_somebody_waits_for_it(client, site, monkeypatch):
    monkeypatch.setattr(gradio_parts, "UNREAD_SECONDS", 0.05)
    queue, unread = site.page._queue, call(client)
    eventually(lambda: unread not in {**queue.pending_messages_per_session, **queue.pending_event_ids_session})
    assert client.get(f"call/generate/{unread}").status_code == 404

    async def looked() -> list[str]:
        results = gradio_parts.Results(callers := Callers(), set)
        results["unread"], results["waited-for"] = set(), set()
        with callers.listening("/gradio_api/heartbeat/waited-for"):
            for name in [*results]:
                results._look(name, results[name])
            return [*results]

    assert asyncio.run(looked()) == ["waited-for"]


def test_a_window_has_a_share_of_the_queue(client, site, monkeypatch):
    released = threading.Event()

    async def wait(*_: Any, **__: Any) -> None:
        while not released.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(gr.Blocks, "process_api", wait)
    monkeypatch.setattr(calls, "PER_WINDOW", 3)
    body = {"data": [], "fn_index": event_of(site, "whole")._id, "session_hash": "one"}
    answers = [client.post("queue/join", json=body) for _ in range(5)]
    released.set()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert "window" in answers[-1].json()["detail"]
    eventually(lambda: not any(site.page._queue.active_jobs))
