"""The first that a request meets: by which name, from which page, and how much of it. No server, no browser."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.entrance import bodies, guard
from app.entrance.callers import Callers
from app.entrance.guard import Guard
from app.fields import MAX_TEXT
from engine.endpoint.addresses import client_address


async def counting(asked: Request) -> PlainTextResponse:
    return PlainTextResponse(str(sum([len(part) async for part in asked.stream()])))


def guarded(hosts: str = "", take: Any = counting) -> Guard:
    routes = [Route("/{path:path}", take, methods=["GET", "POST"])]
    return Guard(Starlette(routes=routes), hosts, None, Callers())


def client(hosts: str = "", take: Any = counting) -> TestClient:
    return TestClient(guarded(hosts, take), base_url="http://localhost")


# ---- from where ----

HERE, NAMED, SPACE = "http://127.0.0.1:7860", "demo.example.org", "me-citer.hf.space"


@pytest.mark.parametrize(
    ("hosts", "host", "origin", "answered"),
    [
        *(("", own, None, True) for own in ("localhost", "LOCALHOST:1", "127.0.0.1:7", "[::1]:7860", "10.1.2.3")),
        ("", socket.gethostname(), None, True),
        *(("", name, None, False) for name in ("evil.example", "localhost.evil.example", "", "a.example:7860")),
        ("", "127.0.0.1@evil.example", None, False),
        ("", "127.0.0.1:7860", HERE, True),
        *(("", "127.0.0.1:7860", f"http://{other}", False) for other in ("127.0.0.1:1", "localhost:3000", "[")),
        ("", "127.0.0.1:7860", "https://evil.example", False),
        ("", "127.0.0.1:7860", "null", False),
        (NAMED, f"{NAMED}:8080", f"https://{NAMED}", True),
        (NAMED, "127.0.0.1:7860", f"https://{NAMED}", True),
        (NAMED, NAMED, "https://other.example.org", False),
        (" *.lan , x", "box.lan", None, True),
        ("*.lan", "lan", None, False),
        ("*", "any.example", "https://other.example", True),
        ("", SPACE, None, False),
        *(("space", SPACE, origin, True) for origin in (None, f"https://{SPACE}", "https://huggingface.co")),
        *(("space", SPACE, f"https://{origin}", False) for origin in ("evil.example", "evil.hf.space")),
    ],
)
def test_who_may_ask_is_who_came_by_a_name_of_this_page_and_from_it(hosts, host, origin, answered, monkeypatch):
    if hosts == "space":
        monkeypatch.setenv("SPACE_ID", "me/citer")
        assert client_address(SimpleNamespace(host="10.20.30.40"), {}, 0) is None, "that is its proxy's"
    answer = client(hosts).get("/config", headers={"host": host, **({"origin": origin} if origin else {})})
    assert answer.status_code == (200 if answered else 403)
    assert answered or "CITER_SERVER__HOSTS" in answer.text or origin


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.5", ["198.51.100.9"], 0, "203.0.113.5"),
        ("127.0.0.1", ["198.51.100.9"], 0, None),
        ("::1", [], 0, None),
        ("127.0.0.1", ["1.1.1.1, 198.51.100.9"], 1, "198.51.100.9"),
        ("127.0.0.1", ["1.1.1.1, 2.2.2.2", "198.51.100.9, 10.0.0.1"], 2, "198.51.100.9"),
        ("127.0.0.1", ["198.51.100.9"], 2, None),
        ("127.0.0.1", ["no address"], 1, None),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::"),
        ("::ffff:203.0.113.5", [], 0, "203.0.113.5"),
        (None, [], 0, None),
    ],
)
def test_an_address_is_the_connections_or_what_the_proxies_of_a_setting_say(peer, forwarded, proxies, address):
    headers = Headers(raw=[(b"x-forwarded-for", line.encode()) for line in forwarded])
    assert client_address(peer and SimpleNamespace(host=peer), headers, proxies) == address


@pytest.mark.parametrize("path", ["upload", "upload_progress?upload_id=1", "deep_link?session_hash=x", "dev/reload"])
def test_routes_of_gradio_that_the_page_does_not_need_are_closed(path: str):
    asked = client()
    assert asked.get(f"/gradio_api/{path}").status_code == asked.post(f"/gradio_api/{path}").status_code == 404
    assert asked.get("/gradio_api/info").status_code == 200


# ---- how much ----


def test_an_address_has_a_limit_that_leaves_room_for_links():
    assert client().get("/", params={"prompt": "x" * (guard.MAX_QUERY + 1)}).status_code == 414
    assert client().get("/", params={"prompt": "x" * MAX_TEXT}).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("gradio_api/run/predict", "MAX_BODY"),
        ("gradio_api/queue/join", "MAX_CALL"),
        ("gradio_api/component_server", "MAX_CALL"),
        ("gradio_api/cancel", "MAX_OTHER"),
        ("login", "MAX_OTHER"),
    ],
)
def test_a_body_may_be_as_large_as_its_route_needs(path: str, most: str, declared: bool, monkeypatch):
    size = 70_000 + len(most)
    assert bodies.most_bytes(f"/{path}") == getattr(bodies, most)
    monkeypatch.setattr(bodies, most, size)

    def post(content: bytes) -> Any:
        parts = (content[at : at + 1_000] for at in range(0, len(content), 1_000))
        return client().post(f"/{path}", content=content if declared else parts)

    assert post(b'"' + b"x" * (size - 1)).text == str(size)
    answer = post(b'"' + b"x" * size)
    said = answer.json()["detail"] if path.startswith("gradio_api/") else answer.text  # as gradio's page reads it
    assert answer.status_code == 413 and f"{size:,}" in said


def test_all_bodies_together_are_bounded_and_a_small_one_is_always_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "MAX_TOGETHER", 300_000)
    large, small, said = b'"' + b"x" * 200_000, b'"' + b"x" * 60_000, []

    async def while_it_is_answered(asked: Request) -> PlainTextResponse:
        await asked.body()
        if asked.query_params.get("more"):
            said.extend(asking.post("/gradio_api/queue/join", content=each) for each in (large, small))
        return PlainTextResponse("read")

    asking = client(take=while_it_is_answered)
    assert asking.post("/gradio_api/queue/join?more=1", content=large).text == "read"
    assert [answer.status_code for answer in said] == [503, 200]
    assert asking.post("/gradio_api/queue/join", content=large).text == "read", "the room was given back"


def test_an_address_may_bring_half_of_it():
    held, half = bodies.Bodies(), bodies.MAX_TOGETHER // 2
    assert held.take(half, "a") and not held.take(1, "a") and held.take(half, "b") and not held.take(1, None)
    held.give_back(half, "a")
    assert held.take(half, None)


def test_what_would_be_millions_of_values_is_refused_before_it_is_parsed():
    many = bodies.MAX_OUTSIDE
    for nested in (b"[" + b"[]," * many + b"[]]", b"[" + b'"x",' * many + b'"x"]'):
        assert client().post("/gradio_api/run/predict", content=nested).status_code == 413
    wide = ('{"user": "\u2200", "data": [' + "[]," * many + "[]]}").encode("utf-16")
    answer = client().post("/gradio_api/run/predict", content=wide)
    assert answer.status_code == 400 and "UTF-8" in answer.text, "its quotes stand elsewhere"
    quoted = json.dumps({"data": json.dumps([["\\", '"']] * many)}).encode()
    assert client().post("/gradio_api/run/predict", content=quoted).text == str(len(quoted)), "all of it is one text"


@given(texts=st.lists(st.text('"\\\\[x', max_size=6), max_size=4), size=st.integers(1, 9))
def test_what_is_outside_of_strings_is_counted_in_any_pieces(texts, size):
    text, count = json.dumps({"": [1, *texts]}).encode(), bodies.Outside()
    for at in range(0, len(text), size):
        count.take(text[at : at + size])
    assert count.count == len(re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', text))


def test_a_body_that_stops_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    answers: list[Any] = []
    parts = [{"type": "http.request", "body": b"x" * 100_000, "more_body": True}]
    guard = guarded()

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "root_path": "", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")], "client": ("198.51.100.9", 1)}
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 120))
    assert answers[0]["status"] == 408 and not guard._bodies._held
