"""What is kept of strangers, and how much they may bring: bounded, whatever they call themselves."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.entrance import bodies, queue
from app.entrance.callers import Callers
from app.entrance.guard import Guard
from app.entrance.queue import PER_ADDRESS, PER_SESSION, PageQueue
from app.entrance.states import MAX_STATES, PageStates
from engine import load_settings
from tests.support.browser import Site, eventually, serve
from tests.support.fake_pair import FakePair


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    settings = load_settings(max_new_tokens=5, server={"proxies": 1})
    with serve(lambda preset, progress: FakePair(1e5), settings=settings) as site:
        site.host.start()
        yield site


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{site.url}gradio_api/", timeout=30) as client:
        yield client


def index_of(site: Site, name: str) -> int:
    return next(index for index, function in site.page.fns.items() if function.api_name == name)


def kept(site: Site) -> tuple[int, int, int, int]:
    """What gradio keeps, of how many: states, results, events whose results were not read, records."""
    page = site.page
    waiting = page._queue
    ids = sum(map(len, waiting.pending_event_ids_session.values()))
    return (
        len(page.app.state_holder.session_data),
        len(waiting.pending_messages_per_session),
        ids,
        len(waiting.event_analytics),
    )


def test_invented_sessions_leave_little(site: Site, client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue, "MAX_UNREAD", 20)
    asked = {"component_id": 1, "fn_name": "x", "data": {}}
    for n in range(300):
        events = [("run/predict", "key"), ("queue/join", "ended")] if n % 3 else [("run/predict", "stop")]
        for path, name in events:
            body = {"data": [], "fn_index": index_of(site, name), "session_hash": f"invented-{n}"}
            assert client.post(path, json=body).status_code == 200
        client.post("component_server", json={**asked, "session_hash": f"other-{n}"})
    eventually(lambda: not list(site.page._queue._events()))
    client.post("queue/join", json={"data": [], "fn_index": index_of(site, "ended"), "session_hash": "last"})
    states, results, ids, records = kept(site)
    assert states <= MAX_STATES and results <= 22 and ids <= 22 and records == 0
    held = next(iter(site.page.app.state_holder.session_data.values()))
    assert not held.config_values and not held.state_data


def test_visits_by_api_and_feed_leave_nothing(site: Site, client: httpx.Client):
    defaults = ["a palindrome", 0.5, "router", 5, 0, 1, 0, 1, 0, None, False, None, 0, 0.1, 1, 0, "auto"]
    for n in range(30):
        event = client.post("call/generate", json={"data": defaults}).json()["event_id"]
        assert "event: complete" in client.get(f"call/generate/{event}").text
        body = {"data": [], "fn_index": index_of(site, "ended"), "session_hash": f"visitor-{n}"}
        client.post("queue/join", json=body)
        assert "process_completed" in client.get("queue/data", params={"session_hash": f"visitor-{n}"}).text

    later = itertools.count(1)

    def nothing_is_kept() -> bool:
        site.page._queue._tidy(1e9 * next(later))
        return kept(site)[1:] == (0, 0, 0)

    eventually(nothing_is_kept)
    assert not site.page._queue._unread and not site.page._queue.event_ids_to_events


def test_a_listener_is_never_dropped_for_newcomers(site: Site):
    states = PageStates(callers := Callers())
    states.set_blocks(site.page)
    site.page.state_holder = site.page.app.state_holder
    with callers.listening("GET", "/gradio_api/heartbeat/visitor", b""):
        own = states["visitor"]
        for n in range(2 * MAX_STATES):
            states[f"invented-{n}"]
        assert states["visitor"] is own and len(states.session_data) == MAX_STATES == len(states.time_last_used)


# ---- shares of the queue ----


def body_of(size: int) -> Any:
    return SimpleNamespace(_body=b"x" * size, client=SimpleNamespace(host="198.51.100.9"), headers={})


@pytest.fixture
def waiting(site: Site) -> PageQueue:
    """A queue of a page, in which nothing is worked on."""
    found = PageQueue(site.page, Callers(), lambda asked: asked.headers.get("from"))
    found.set_server_app(site.page.app)
    return found


def push(waiting: PageQueue, site: Site, session: str | None = None, address: str | None = None, size: int = 10) -> str:
    """What is said to an event: its id, or why it is not taken."""
    from gradio.data_classes import PredictBodyInternal

    asked: Any = body_of(size)
    asked.headers = {"from": address}
    body = PredictBodyInternal(data=[], fn_index=index_of(site, "ended"), session_hash=session)
    try:
        return str(asyncio.run(waiting.push(body, asked, None))[1])
    except HTTPException as refused:
        assert refused.status_code == 429, "gradio's page shows the words of this one"
        return str(refused.detail)


def test_a_window_and_an_address_have_a_share_of_the_queue(waiting: PageQueue, site: Site):
    said = [push(waiting, site, "greedy") for _ in range(PER_SESSION + 5)]
    assert sum("This window" in each for each in said) == 5
    said = [push(waiting, site, f"one of {n}", "198.51.100.9") for n in range(PER_ADDRESS + 5)]
    assert sum("network address" in each for each in said) == 5
    assert len(push(waiting, site, "another", "198.51.100.10")) == 32, "the id of what was taken"


def test_a_queue_that_is_full_says_so_in_its_own_words(waiting: PageQueue, site: Site):
    said = [push(waiting, site, f"one of {n}") for n in range(queue.MAX_WAITING + 2)]
    assert [each for each in said if len(each) != 32] == [
        "128 things wait here to be done, which is all there is room for. Come back in a minute."
    ] * 2


def test_what_was_not_read_counts_and_what_was_lost_with_its_stream_does_not(waiting: PageQueue, site: Site):
    for _ in range(PER_SESSION):
        push(waiting, site, "greedy")
    waiting.event_queue_per_concurrency_id.clear()
    waiting.event_ids_to_events.clear()  # done, and not read
    assert "This window" in push(waiting, site, "greedy")
    del waiting.pending_messages_per_session["greedy"]  # as gradio does when a stream breaks
    assert len(push(waiting, site, "greedy")) == 32


def test_the_bytes_that_wait_are_bounded_and_what_is_small_is_taken(waiting: PageQueue, site: Site):
    said = [push(waiting, site, f"large {n}", size=8_000_000) for n in range(12)]
    assert sum("Too much is waiting" in each for each in said) == 4
    assert len(push(waiting, site, "small", size=10_000)) == 32


def test_nobody_fails_because_somebody_elses_results_are_gone(waiting: PageQueue, site: Site):
    push(waiting, site, "gone")
    del waiting.pending_messages_per_session["gone"]
    assert len(push(waiting, site, "another")) == 32


# ---- bodies ----


async def counting(asked: Request) -> PlainTextResponse:
    return PlainTextResponse(str(sum([len(part) async for part in asked.stream()])))


def guarded_client(*, take: Any = counting) -> TestClient:
    routes = [Route("/{path:path}", take, methods=["POST"])]
    return TestClient(Guard(Starlette(routes=routes), "", None, Callers()), base_url="http://localhost")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("gradio_api/run/predict", bodies.MAX_BODY),
        ("gradio_api/queue/join", bodies.MAX_CALL),
        ("gradio_api/component_server", bodies.MAX_CALL),
        ("gradio_api/cancel", bodies.MAX_OTHER),
        ("login", bodies.MAX_OTHER),
    ],
)
def test_a_body_may_be_as_large_as_its_route_needs(path: str, most: int):
    client = guarded_client()
    text = b'"' + b"x" * (most - 1)
    assert client.post(f"/{path}", content=text).text == str(most)
    answer = client.post(f"/{path}", content=text + b"x")
    said = answer.json()["detail"] if path.startswith("gradio_api/") else answer.text  # as gradio's page reads it
    assert answer.status_code == 413 and said.startswith(f"The request is too large: at most {most:,} bytes")


def test_all_bodies_together_are_bounded_and_a_small_one_is_always_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "MAX_TOGETHER", 300_000)
    said = []

    async def while_it_is_answered(asked: Request) -> PlainTextResponse:
        await asked.body()
        if asked.query_params.get("more"):
            said.append(client.post("/gradio_api/queue/join", content=b'"' + b"x" * 200_000))
            said.append(client.post("/gradio_api/queue/join", content=b'"' + b"x" * 60_000))
        return PlainTextResponse("read")

    client = guarded_client(take=while_it_is_answered)
    assert client.post("/gradio_api/queue/join?more=1", content=b'"' + b"x" * 200_000).text == "read"
    assert [answer.status_code for answer in said] == [503, 200] and "Others are sending" in said[0].text
    assert client.post("/gradio_api/queue/join", content=b'"' + b"x" * 200_000).text == "read", (
        "the room was given back"
    )


def test_what_would_be_millions_of_values_is_refused_before_it_is_parsed():
    client = guarded_client()
    for nested in (b"[" + b"[]," * 5_000_000 + b"[]]", b"[" + b'"x",' * 200_000 + b'"x"]'):
        answer = client.post("/gradio_api/run/predict", content=nested)
        assert answer.status_code == 413 and "too many values" in answer.text
    wide = ('{"user": "\u2200", "data": [' + "[]," * 300_000 + "[]]}").encode("utf-16")
    answer = client.post("/gradio_api/run/predict", content=wide)
    assert answer.status_code == 400 and "must be in UTF-8" in answer.text, "its quotes stand elsewhere"
    quoted = json.dumps({"data": json.dumps([["\\", '"']] * 500_000)}).encode()
    assert client.post("/gradio_api/run/predict", content=quoted).text == str(len(quoted))


def test_what_is_outside_of_strings_is_counted_in_any_pieces():
    text = json.dumps({"a\\": 'x"y\\\\', "": [1, '\\\\"']}).encode()
    outside = len(re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', text))
    for size in (1, 2, 3, 7, 100):
        count = bodies.Outside()
        for start in range(0, len(text), size):
            count.take(text[start : start + size])
        assert count.count == outside


def test_an_address_has_half_of_the_room():
    held = bodies.Bodies()
    half = bodies.MAX_TOGETHER // 2
    assert held.take(half, "a") and not held.take(1, "a") and held.take(half, "b") and not held.take(1, None)
    held.give_back(half, "a")
    assert held.take(half, None)


def test_a_body_that_stops_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    answers: list[Any] = []
    parts = [{"type": "http.request", "body": b"x" * 100_000, "more_body": True}]

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.sleep(30)

    async def send(message: Any) -> None:
        answers.append(message)

    guard = Guard(Starlette(routes=[Route("/{path:path}", counting, methods=["POST"])]), "", None, Callers())
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/gradio_api/queue/join",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("198.51.100.9", 1),
    }
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 20))
    assert answers[0]["status"] == 408 and b"0 seconds" in answers[1]["body"] and not guard._bodies._held
