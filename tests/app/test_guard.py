"""The first that a request meets: by which name, from which page, and how much of it. No server, no browser."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections import Counter
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from uvicorn.server import ServerState

from app.entrance import launch
from engine.guard import guard, refusals
from engine.guard.cached import Cached, key_of
from engine.guard.callers import Callers
from engine.guard.guard import Guard
from engine.guard.process import Once
from engine.guard.refusals import PER_SECOND, Busy, Places, Rate
from engine.guard.server import MOST_BESIDE, make_server
from tests.support.served_endpoint import running


async def counting(asked: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await asked.body())))


def guarded(hosts: str = "", take: Any = counting, proxies: int | None = 0) -> Guard:
    app = Starlette(routes=[Route("/{path:path}", take, methods=["GET", "POST"])])
    return Guard(app, Callers(hosts, None, proxies), launch.most_bytes)


def client(hosts: str = "", take: Any = counting) -> TestClient:
    return TestClient(guarded(hosts, take), base_url="http://localhost", raise_server_exceptions=False)


# ---- from where ----

NAMED, SPACE, NO = "demo.example.org", "me-citer.hf.space", "https://evil.example"
OWN = "localhost", "LOCALHOST:1", "127.0.0.1:7", "[::1]:7860", "10.1.2.3", socket.gethostname()
FOREIGN = "evil.example", "localhost.evil.example", "", "a.example:7860", "127.0.0.1@evil.example", SPACE
OTHERS = "http://127.0.0.1:1", "http://localhost:3000", "http://[", NO, "null"


@pytest.mark.parametrize(
    ("hosts", "host", "origins", "answered"),
    [
        *(("", host, [None], True) for host in OWN),
        *(("", host, [None], False) for host in FOREIGN),
        ("", "127.0.0.1:7860", ["http://127.0.0.1:7860"], True),
        ("", "127.0.0.1:7860", OTHERS, False),
        (NAMED, f"{NAMED}:8080", [f"https://{NAMED}"], True),
        (NAMED, "127.0.0.1:7860", [f"https://{NAMED}"], True),
        (NAMED, NAMED, ["https://other.example.org"], False),
        (" *.lan , x", "box.lan", [None], True),
        ("*.lan", "lan", [None], False),
        ("*", "any.example", [NO], True),
        ("space", SPACE, [None, f"https://{SPACE}", "https://huggingface.co"], True),
        ("space", SPACE, [NO, "https://evil.hf.space"], False),
    ],
)
def test_who_may_ask_is_who_came_by_a_name_of_this_page_and_from_it(hosts, host, origins, answered, monkeypatch):
    if hosts == "space":
        monkeypatch.setenv("SPACE_ID", "me/citer")
        assert "frame-ancestors 'self' https://huggingface.co" in client().get("/").headers["content-security-policy"]
    for origin in origins:
        answer = client(hosts).get("/config", headers={"host": host, **({"origin": origin} if origin else {})})
        assert answer.status_code == (200 if answered else 403), origin
        assert answered or "CITER_SERVER__HOSTS" in answer.text or origin


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "found"),
    [
        ("203.0.113.5", ["198.51.100.9"], 0, "203.0.113.5"),
        ("127.0.0.1", ["198.51.100.9"], 0, None),
        ("127.0.0.1", ["1.1.1.1, 198.51.100.9"], 1, "198.51.100.9"),
        ("127.0.0.1", ["1.1.1.1, 2.2.2.2", "198.51.100.9, 10.0.0.1"], 2, "198.51.100.9"),
        ("127.0.0.1", ["no address"], 1, None),
        ("127.0.0.1", ["1.1.1.1," * 9_999 + "198.51.100.9"], 1, "198.51.100.9"),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::"),
        ("::ffff:203.0.113.5", [], 0, "203.0.113.5"),
        ("10.16.3.80", ["198.51.100.9"], "space", None),  # of documents: nobody's
        ("10.16.3.80", ["1.1.1.1, 8.8.8.8, 10.1.2.3"], "space", "8.8.8.8"),
        ("8.8.4.4", ["8.8.8.8"], "space", None),
    ],
)
def test_who_asks_is_the_connection_or_what_proxies_say_and_doubts_are_logged_once(
    peer, forwarded, proxies, found, caplog
):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPACE_ID", "me/citer" if proxies == "space" else "")
        callers = Callers("", None, None if proxies == "space" else proxies)
        headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
        asked = {"type": "http", "client": (peer, 7), "headers": headers}
        assert [callers.address(asked) for _ in range(2)] == [found, found]
    said = "".join(record.getMessage() for record in caplog.records)
    doubtful = bool(forwarded) and (found is None or not proxies)
    assert said.count("CITER_SERVER__PROXIES right?") == doubtful and peer not in said


def test_forwarded_headers_are_believed_of_proxies_alone():
    async def told(asked: Request) -> PlainTextResponse:
        return PlainTextResponse(" ".join(name for name in asked.headers if name.startswith("x-")))

    sent = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-gradio-server": "evil.example"}
    for proxies, seen in (0, ""), (1, "x-forwarded-proto"):
        asking = TestClient(guarded("", told, proxies), base_url="http://localhost")
        answer = asking.get("/x", headers=sent)
        assert answer.text == seen and answer.headers["x-content-type-options"] == "nosniff"
    assert asking.get("/x", headers={"x-forwarded-host": "localhost"}).text == "x-forwarded-host"


@pytest.mark.parametrize("path", ["upload", "upload_progress?upload_id=1", "deep_link?session_hash=x", "queue/join"])
def test_routes_of_gradio_that_the_page_does_not_need_are_closed(path: str):
    asked = client()
    assert asked.get(f"/gradio_api/{path}").status_code == asked.post(f"/gradio_api/{path}").status_code == 404
    assert asked.get("/gradio_api/info").status_code == 200


# ---- how much ----


def test_an_address_has_a_limit_that_leaves_room_for_links():
    for length, status in (guard.MAX_QUERY + 1, 414), (6_000, 200):
        assert client().get("/", params={"prompt": "x" * length}).status_code == status


ROUTES = {
    "gradio_api/run/predict": "MAX_TRACE",
    "gradio_api/component_server": "MAX_CALL",
    "login": "MAX_OTHER",
}


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "most"), ROUTES.items())
def test_a_body_may_be_as_large_as_its_route_needs(path: str, most: str, declared: bool, monkeypatch):
    size = 70_000 + len(most)
    monkeypatch.setattr(launch, most, size)
    for length, status in (size, 200), (size + 1, 413):
        content = b'"' + b"x" * (length - 1)
        parts = (content[at : at + 1_000] for at in range(0, length, 1_000))
        answer = client().post(f"/{path}", content=content if declared else parts)
        assert answer.status_code == status and (f"{size:,}" if status == 413 else str(size)) in answer.text
    assert length == size or answer.json()["detail"] == answer.json()["error"]["message"], (
        "for gradio's page and others"
    )


def test_all_bodies_together_are_bounded_and_a_small_one_is_always_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "MAX_TOGETHER", 300_000)
    asking, body = guarded(proxies=1), b'"' + b"x" * 200_000
    client = TestClient(asking, base_url="http://localhost")

    def post(content: bytes, **headers: str) -> int:
        return client.post("/gradio_api/component_server", content=content, headers=headers).status_code

    assert post(body, **{"x-forwarded-for": "198.51.100.9"}) == 503, "an address has half"
    asking._held[0] = None, 200_000  # of another request that is being answered
    assert post(body) == 503 and post(b'"x"') == 200
    del asking._held[0]
    assert [post(body), post(body)] == [200, 200] and not asking._held, "the room was given back"


MANY = guard.MAX_OUTSIDE
WIDE = ('{"user": "\u2200", "data": [' + "[]," * MANY + "[]]}").encode("utf-16")
QUOTED = json.dumps({"data": json.dumps([["\\", '"']] * MANY)}).encode()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"[" + b"[]," * MANY + b"[]]", 413, ""),
        (b"[" + b'"x",' * MANY + b'"x"]', 413, ""),
        (WIDE, 400, "UTF-8"),  # its quotes stand elsewhere
        (QUOTED, 200, str(len(QUOTED))),  # all of it is one text
    ],
    ids=["lists", "texts", "wide", "one text"],
)
def test_what_would_be_millions_of_values_is_refused_before_it_is_parsed(content: bytes, status: int, said: str):
    answer = client().post("/gradio_api/run/predict", content=content)
    assert answer.status_code == status and said in answer.text


# ---- how often, and for how long ----


def test_an_address_that_asks_too_often_waits_and_nobody_else():
    now, rate = [0.0], Rate(lambda: now[0])
    taken = sum(not rate.take("198.51.100.9") for _ in range(2_000))
    assert taken == refusals.AT_ONCE and not rate.take("198.51.100.10") and not rate.take(None)
    wait = rate.take("198.51.100.9")
    assert 0 < wait <= 1 / PER_SECOND
    now[0] += wait
    assert not rate.take("198.51.100.9")
    asking = guarded("", counting)
    asking.rate.take = lambda address, cost=1.0: 2.5
    answer = TestClient(asking, base_url="http://localhost").get("/config")
    assert answer.status_code == 429 and answer.headers["retry-after"] == "3"
    assert client().get("/v1/x", headers={"origin": NO}).json()["error"]["type"] == "invalid_request_error"


def test_the_bytes_of_bodies_count_as_requests_of_their_sender():
    now, asking = [0.0], guarded(proxies=1)
    asking.rate = Rate(lambda: now[0])
    client = TestClient(asking, base_url="http://localhost", headers={"x-forwarded-for": "198.51.100.9"})
    large = json.dumps(["x" * 15_000_000])
    tried = [client.post("/gradio_api/run/predict", content=large) for _ in range(2)]
    assert [each.status_code for each in tried] == [200, 429]
    now[0] += int(tried[1].headers["retry-after"])
    assert client.post("/gradio_api/run/predict", content=large).status_code == 200


def test_a_few_addresses_cannot_take_all_places():
    places, taken = Places(32), Counter[str]()
    for address in "abcdef":
        with pytest.raises(Busy, match="Your network address has"):
            while True:
                places.take(SimpleNamespace(active=True, cancel=threading.Event()), address)
                taken[address] += 1
    assert list(taken.values()) == [8, 6, 4, 3, 2, 2]


def test_the_page_is_made_once_for_each_name_and_encoding():
    made: list[str] = []

    async def page(asked: Request) -> PlainTextResponse:
        made.append(asked.headers["accept-encoding"])
        return PlainTextResponse("page" * 100)

    asking = client("", page)
    for encoding in "br, gzip", "gzip;q=1, br", "gzip", "br":
        assert asking.get("/?prompt=x", headers={"accept-encoding": encoding}).text == "page" * 100
    assert made == ["br", "gzip"] and asking.get("/other").text and len(made) == 3
    key = key_of({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""})
    assert Cached().cost(key) == 4 and Cached().cost(None) == 1


def test_an_answer_that_breaks_off_is_not_kept():
    cached, key = Cached(), ("/theme.css", "br")

    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    with pytest.raises(ClientDisconnect):
        asyncio.run(cached.respond(key, broken, {"type": "http", "headers": []}, None, None))  # type: ignore[arg-type]
    assert cached.cost(key) == 1


def test_a_repeated_line_is_written_once_and_counted(caplog):
    now, once = [0.0], Once(60.0, lambda: now[0])
    record = partial(logging.LogRecord, "x", logging.ERROR, "x.py", 1, "no more %s", ("files",), None)
    assert [once.filter(record()) for _ in range(3)] == [True, False, False]
    now[0] += 61
    assert once.filter(last := record()) and last.getMessage() == "no more files (and 2 times more since)"


HALF = "POST /x HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def serving():
    """A guarded server with room for four connections: its port."""
    with running(guarded(), most_connections=4) as port:
        yield port


def test_silent_connections_make_room_for_who_asks(serving: int):
    silent = [socket.create_connection(("127.0.0.1", serving)) for _ in range(12)]
    for each in silent[::2]:
        each.sendall(b"GET / HTTP/1.1\r\nHost: localh")
    assert httpx.get(f"http://127.0.0.1:{serving}/x", timeout=60).status_code == 200
    silent[0].settimeout(60)
    with suppress(ConnectionResetError):
        assert silent[0].recv(1) == b"", "the oldest is gone"
    for each in silent:
        each.close()


def test_a_connection_that_made_room_no_longer_counts_before_its_end_is_handled():
    async def connect_five() -> tuple[list[Any], set[Any]]:
        config, state = make_server(guarded(), most_connections=2).config, ServerState()
        config.load()
        protocol: Any = config.http_protocol_class
        made = [protocol(config, state, {}) for _ in range(5)]
        for each in made:
            each.connection_made(MagicMock())
        return made, state.connections

    made, counted = asyncio.run(connect_five())
    assert counted == {*made[3:]} and all(each.transport.abort.called for each in made[:3])


@pytest.mark.parametrize(
    ("part", "told"), [("POST /x HTTP/1.1\r\n", b""), (HALF + "Content-Length: 9\r\n\r\nx", b"HTTP/1.1 408")]
)
def test_a_request_that_stops_in_the_middle_is_given_up(part: str, told: bytes, serving: int, monkeypatch):
    monkeypatch.setattr("engine.guard.server.HEAD_SECONDS", 0.2)
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", serving), timeout=60) as half, suppress(ConnectionResetError):
        half.sendall(part.encode())
        assert half.recv(len(told) or 1) == told


def test_a_body_in_tiny_chunks_and_a_head_without_end_are_refused_and_a_large_body_hears_why(serving: int):
    head = HALF.encode()
    tiny = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MOST_BESIDE // 5 + 1)
    for sent in tiny, head + b"x: " + b"y" * MOST_BESIDE:
        with socket.create_connection(("127.0.0.1", serving), timeout=60) as asking:
            asking.sendall(sent)
            assert asking.recv(100).startswith(b"HTTP/1.1 400")
    with httpx.Client(base_url=f"http://127.0.0.1:{serving}", timeout=60) as client:
        answer = client.post("/x", content=b"x" * 5_000_000)
        assert answer.status_code == 413 and "65,536" in answer.text
        assert client.post("/gradio_api/upload", content=b"x" * 1_000_000).status_code == 404, "before its body is read"


def test_a_request_behind_a_refused_body_is_answered(serving: int, monkeypatch):
    """The server may read the last of the body and the next request's head in one piece."""
    monkeypatch.setattr("engine.guard.server.MOST_BESIDE", 2_000)
    refused = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + "x" * 200_000
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", serving), timeout=60) as asking:
            asking.sendall(f"{refused}GET /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            told = b""
            while told.count(b"HTTP/1.1") < 2:
                told += asking.recv(10_000)
            assert b"HTTP/1.1 400" not in told
