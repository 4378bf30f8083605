"""The first that a request meets: by which name, from which page, and how much of it. No server, no browser."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.entrance import bodies, guard
from app.entrance.callers import Callers
from app.entrance.guard import Guard
from engine.endpoint.addresses import client_address


async def counting(asked: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await asked.body())))


def guarded(hosts: str = "", take: Any = counting) -> Guard:
    return Guard(Starlette(routes=[Route("/{path:path}", take, methods=["GET", "POST"])]), hosts, None, Callers())


def client(hosts: str = "", take: Any = counting) -> TestClient:
    return TestClient(guarded(hosts, take), base_url="http://localhost")


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
        assert client_address(SimpleNamespace(host="10.20.30.40"), {}, 0) is None, "that is its proxy's"
    for origin in origins:
        answer = client(hosts).get("/config", headers={"host": host, **({"origin": origin} if origin else {})})
        assert answer.status_code == (200 if answered else 403), origin
        assert answered or "CITER_SERVER__HOSTS" in answer.text or origin


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.5", ["198.51.100.9"], 0, "203.0.113.5"),
        ("127.0.0.1", ["198.51.100.9"], 0, None),
        ("127.0.0.1", ["1.1.1.1, 198.51.100.9"], 1, "198.51.100.9"),
        ("127.0.0.1", ["1.1.1.1, 2.2.2.2", "198.51.100.9, 10.0.0.1"], 2, "198.51.100.9"),
        ("127.0.0.1", ["no address"], 1, None),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::"),
        ("::ffff:203.0.113.5", [], 0, "203.0.113.5"),
    ],
)
def test_an_address_is_the_connections_or_what_the_proxies_of_a_setting_say(peer, forwarded, proxies, address):
    headers = Headers(raw=[(b"x-forwarded-for", line.encode()) for line in forwarded])
    assert client_address(SimpleNamespace(host=peer), headers, proxies) == address


@pytest.mark.parametrize("path", ["upload", "upload_progress?upload_id=1", "deep_link?session_hash=x", "dev/reload"])
def test_routes_of_gradio_that_the_page_does_not_need_are_closed(path: str):
    asked = client()
    assert asked.get(f"/gradio_api/{path}").status_code == asked.post(f"/gradio_api/{path}").status_code == 404
    assert asked.get("/gradio_api/info").status_code == 200


# ---- how much ----


def test_an_address_has_a_limit_that_leaves_room_for_links():
    for length, status in (guard.MAX_QUERY + 1, 414), (6_000, 200):
        assert client().get("/", params={"prompt": "x" * length}).status_code == status


ROUTES = {
    "gradio_api/run/predict": "MAX_BODY",
    "gradio_api/queue/join": "MAX_CALL",
    "gradio_api/component_server": "MAX_CALL",
    "gradio_api/cancel": "MAX_OTHER",
    "login": "MAX_OTHER",
}


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "most"), ROUTES.items())
def test_a_body_may_be_as_large_as_its_route_needs(path: str, most: str, declared: bool, monkeypatch):
    size = 70_000 + len(most)
    monkeypatch.setattr(bodies, most, size)
    for length, status in (size, 200), (size + 1, 413):
        content = b'"' + b"x" * (length - 1)
        parts = (content[at : at + 1_000] for at in range(0, length, 1_000))
        answer = client().post(f"/{path}", content=content if declared else parts)
        assert answer.status_code == status and (f"{size:,}" if status == 413 else str(size)) in answer.text
    assert not path.startswith("gradio_api/") or answer.json()["detail"], "as gradio's page reads it"


def test_all_bodies_together_are_bounded_and_a_small_one_is_always_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "MAX_TOGETHER", 300_000)
    large, small, said = b'"' + b"x" * 200_000, b'"' + b"x" * 60_000, []

    async def while_it_is_answered(asked: Request) -> PlainTextResponse:
        await asked.body()
        if asked.query_params.get("more"):
            said.extend(asking.post("/gradio_api/queue/join", content=each).status_code for each in (large, small))
        return PlainTextResponse("read")

    asking = client(take=while_it_is_answered)
    assert asking.post("/gradio_api/queue/join?more=1", content=large).text == "read"
    assert said == [503, 200]
    assert asking.post("/gradio_api/queue/join", content=large).text == "read", "the room was given back"


MANY = bodies.MAX_OUTSIDE
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


def test_a_body_that_stops_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    answers: list[Any] = []
    parts = [{"type": "http.request", "body": b"x" * 100_000, "more_body": True}]

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "root_path": "", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")], "client": ("198.51.100.9", 1)}
    asyncio.run(asyncio.wait_for(guarded()(scope, receive, send), 120))
    assert answers[0]["status"] == 408
