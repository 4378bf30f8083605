"""What comes from outside, over HTTP: refused where it is too much or from elsewhere, and none of it in the log."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app import api, components
from app.entrance import bodies, guard
from app.entrance.callers import Callers
from app.entrance.guard import Guard
from app.fields import MAX_TEXT
from app.running.session import Session
from engine import load_settings
from engine.endpoint.addresses import client_address
from tests.support.browser import Site, eventually, serve
from tests.support.fake_pair import FakePair, request

SECRET = "xyzzy-plugh"
PLACES = 4


@pytest.fixture(scope="module")
def pair():
    return FakePair(500)


@pytest.fixture(scope="module")
def site(pair):
    settings = load_settings(max_new_tokens=60, server={"queue_size": PLACES, "per_address": 2, "proxies": 1})
    with serve(lambda preset, progress: pair, settings=settings) as site:
        site.host.start()
        yield site


@pytest.fixture
def client(site: Site, pair: FakePair) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, timeout=30) as client:
        yield client
    pair.tokens_per_second = 500
    for owner in {handle.owner for handle in handles(site)}:
        site.host.leave(owner)
    eventually(lambda: not handles(site), 20)


def handles(site: Site) -> list[Any]:
    """The texts that are written now or wait in line."""
    scheduler = site.host.scheduler
    return [*scheduler._held.running, *scheduler._line.waiting]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait long for somebody to listen, however slow this machine is."""
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 120.0)


def listened_to(site: Site, name: str) -> Session:
    """A window's session with a feed open, as far as it can tell."""
    session, heard = site.sessions.enter(name), threading.Event()
    heard.set()
    session.listeners._events[heard] = None  # type: ignore[index, assignment]
    return session


def call(client: httpx.Client, *values: Any, address: str = "") -> str:
    """Asks `/generate` as a script does; the event of its result."""
    headers, data = {"x-forwarded-for": address} if address else {}, [*values, *_DEFAULTS[len(values) :]]
    asked = client.post("gradio_api/call/generate", json={"data": data}, headers=headers)
    assert asked.status_code == 200, asked.text
    return asked.json()["event_id"]


_DEFAULTS = ["a palindrome", 0.5, "router", 20, 0, 1, 0, 1, 0, None, False, None, 0, 0.1, 1, 0, "auto"]


def result(client: httpx.Client, event: str) -> str:
    """What it gives, as server-sent events."""
    return client.get(f"gradio_api/call/generate/{event}").text


def page_event(
    client: httpx.Client, name: str, session: str, data: list[Any] | None = None, **entered: Any
) -> httpx.Response:
    """Posts an event of the page as its own script does: `data`, or what its fields hold, `entered` by their ids."""
    config = client.get("config").json()
    event = next(each for each in config["dependencies"] if each["api_name"] == name)
    fields = {each["id"]: each["props"] for each in config["components"]}
    inputs = [fields[number] for number in event["inputs"]]
    values = [entered.get(field.get("elem_id"), field.get("value")) for field in inputs]
    body = {"data": values if data is None else data, "fn_index": event["id"], "session_hash": session}
    if not event["queue"]:
        return client.post("gradio_api/run/predict", json=body)
    client.post("gradio_api/queue/join", json=body).raise_for_status()
    return client.get("gradio_api/queue/data", params={"session_hash": session})


# ---- how much ----


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, "x" * 1_000_001, "The prompt has 1,000,001 characters"),
        (2, SECRET * 300_000, "is unknown"),
        (9, SECRET * 10_000, "system has 110,000 characters"),
        (11, ["x"] * 50_000, "stop has 50,000 entries"),
        (11, ["x" * 1_001], "stop has 1,001 characters"),
        (11, 5, "stop = 5 is no"),
        (16, SECRET * 300_000, "max_draft"),
    ],
)
def test_every_field_of_a_call_has_a_limit_and_is_not_given_back(client, pair, place: int, value: Any, said: str):
    asked = len(pair.requests)
    values = [*_DEFAULTS]
    values[place] = value
    answer = result(client, call(client, *values))
    assert said in answer and len(answer) < 1_000 and len(pair.requests) == asked


def test_the_page_gives_back_a_few_words_of_what_no_field_holds(client: httpx.Client):
    answer = page_event(client, "write", "large-policy", prompt="a palindrome", policy=SECRET * 100_000).text
    assert '"success":false' in answer and len(answer) < 3_000


def test_a_call_without_all_its_values_hears_how_many_there_are(client: httpx.Client):
    event = client.post("gradio_api/call/generate", json={"data": ["a palindrome", 0.5]}).json()["event_id"]
    assert "receive enough input values (needed: 17, got: 2)" in result(client, event)


def test_nothing_that_was_sent_reaches_the_log(
    client: httpx.Client, capfd: pytest.CaptureFixture[str], caplog, monkeypatch
):
    page_event(client, "write", "few-values", [SECRET])
    page_event(client, "write", "many-values", [SECRET] * 40)
    page_event(client, "set_dials", "no-numbers", [SECRET, SECRET, "router"])
    page_event(client, "tune", "no-table", [SECRET] * 6)
    for body in ({"data": SECRET}, {"data": [SECRET], "fn_index": SECRET}, {"fn_index": 10**6, "data": [SECRET]}):
        client.post("gradio_api/queue/join", json=body)
        client.post("gradio_api/call/generate", json=body)
    client.post("gradio_api/queue/join", content=SECRET)
    panel = next(c for c in client.get("config").json()["components"] if c["props"].get("elem_id") == "tune-panel")
    asked = {"component_id": panel["id"], "session_hash": "s", "fn_name": "text_of", "data": {"row": SECRET}}
    answer = client.post("gradio_api/component_server", json=asked)
    assert answer.status_code == 422 and "row" in answer.text
    result(client, call(client, SECRET, SECRET))

    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError(SECRET)

    with monkeypatch.context() as patched:
        patched.setattr(gr.Blocks, "process_api", fail)
        result(client, call(client, SECRET, SECRET))
    assert "an event failed: ValueError" in caplog.text
    out, err = capfd.readouterr()
    assert SECRET not in out + err + caplog.text


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(site: Site):
    where = urlsplit(site.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        head = (
            f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {bodies.MAX_CALL + 1}\r\n"
        )
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(10_000), b"")).decode()  # until the page closes it
    assert answer.startswith("HTTP/1.1 413") and f"at most {bodies.MAX_CALL:,} bytes" in answer


def test_a_body_that_says_nothing_is_counted_as_it_comes(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "MAX_CALL", 10_000)
    body = json.dumps({"data": ["x" * 20_000]}).encode()
    parts = (body[at : at + 1_000] for at in range(0, len(body), 1_000))
    answer = client.post("gradio_api/queue/join", content=parts, headers={"content-type": "application/json"})
    assert answer.status_code == 413 and "at most 10,000 bytes" in answer.text


def test_a_body_is_not_collected_on_its_way():
    passed = []

    async def counting(asked: Request) -> PlainTextResponse:
        async for part in asked.stream():
            passed.append(len(part))
        return PlainTextResponse("read")

    app = Guard(Starlette(routes=[Route("/", counting, methods=["POST"])]), "", None, Callers())
    answer = TestClient(app, base_url="http://localhost").post("/", content=(b"x" * 1_000 for _ in range(5)))
    assert answer.text == "read" and sum(passed) == 5_000


def test_a_body_that_does_not_fit_is_not_given_back(client: httpx.Client):
    answer = client.post("gradio_api/queue/join", json={"data": {"x": SECRET * 1_000}})
    assert answer.status_code == 422 and SECRET not in answer.text and "body.data" in answer.text


def test_an_address_has_a_limit_that_leaves_room_for_links(client: httpx.Client):
    assert client.get("", params={"prompt": "x" * (guard.MAX_QUERY + 1)}).status_code == 414
    assert client.get("", params={"prompt": "x" * MAX_TEXT}).status_code == 200


# ---- from where ----


@pytest.mark.parametrize(
    "path",
    ["upload", "upload/", "upload_progress?upload_id=1", "deep_link?session_hash=x", "dev/reload", "process_recording"],
)
def test_routes_that_the_page_does_not_need_are_closed(client: httpx.Client, path: str):
    asked = client.post if path.startswith(("upload/", "process")) or path == "upload" else client.get
    assert asked(f"gradio_api/{path}").status_code == 404


def test_what_has_its_content_in_its_address_is_kept_by_browsers_and_nothing_else(client: httpx.Client):
    page = client.get("").text
    built = re.findall(r'(?:href|src)="\.?/?(assets/[^"]+\.js)"', page)
    scripts = re.findall(r"gradio_api/citer/page/\w{12}/[\w/]+\.js", page)
    assert built and len(scripts) > 40
    for path in (built[0], *scripts[:3]):
        answer = client.get(path)
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"], path
    for path in ("", "config", "assets/nothing-12345678.js", scripts[0].replace("page/", "page/0", 1)):
        assert "immutable" not in client.get(path).headers.get("cache-control", ""), path
    answer = client.get(re.sub(r"page/\w{12}/", "page/", scripts[0]))
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"


def test_another_version_of_the_scripts_has_another_address(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.js").write_text("1")
    monkeypatch.setattr(components, "ASSETS", tmp_path)
    before = components._digest()
    assert components._digest() == before
    (tmp_path / "a.js").write_text("2")
    assert components._digest() != before


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.1@evil.example", "evil.example:7860"]
)
def test_a_foreign_name_is_refused(client: httpx.Client, host: str):
    answer = client.get("", headers={"host": host})
    assert answer.status_code in (400, 403)
    if answer.status_code == 403:
        assert "CITER_SERVER__HOSTS" in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:7", "[::1]:7860", "10.1.2.3", socket.gethostname()]
)
def test_its_own_names_and_addresses_are_not(client: httpx.Client, host: str):
    assert client.get("config", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:1", "http://localhost:3000", "null", "http://["]
)
def test_another_sites_page_gets_nothing(client: httpx.Client, site: Site, origin: str):
    asked = {"origin": origin, "access-control-request-method": "POST"}
    answers = [
        client.get("config", headers={"origin": origin}),
        client.options("gradio_api/queue/join", headers=asked),
        client.post("gradio_api/call/generate", json={"data": _DEFAULTS}, headers={"origin": origin}),
        client.post("gradio_api/upload", files={"files": b"x"}, headers={"origin": origin}),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


def test_the_page_itself_may_ask_and_so_may_a_program(client: httpx.Client, site: Site):
    assert client.get("config", headers={"origin": site.url.rstrip("/")}).status_code == 200
    assert client.get("config").status_code == 200


def _answered(hosts: str, host: str, origin: str | None = None) -> int:
    app = Guard(Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))]), hosts, None, Callers())
    headers = {"host": host, **({"origin": origin} if origin else {})}
    return TestClient(app).get("/", headers=headers).status_code


@pytest.mark.parametrize(
    ("hosts", "host", "origin", "status"),
    [
        ("demo.example.org", "demo.example.org", "https://demo.example.org", 200),
        ("demo.example.org", "demo.example.org:8080", "https://demo.example.org", 200),
        ("demo.example.org", "127.0.0.1:7860", "https://demo.example.org", 200),
        ("demo.example.org", "demo.example.org", "https://other.example.org", 403),
        (" *.lan , x", "box.lan", None, 200),
        ("*.lan", "lan", None, 403),
        ("*", "any.example", "https://other.example", 200),
    ],
)
def test_a_setting_allows_names_and_sites(hosts: str, host: str, origin: str | None, status: int):
    assert _answered(hosts, host, origin) == status


def test_a_space_is_asked_by_its_names(monkeypatch: pytest.MonkeyPatch):
    assert _answered("", "me-citer.hf.space") == 403
    monkeypatch.setenv("SPACE_ID", "me/citer")
    for origin in (None, "https://me-citer.hf.space", "https://huggingface.co"):
        assert _answered("", "me-citer.hf.space", origin) == 200
    for origin in ("https://evil.example", "https://evil.hf.space"):
        assert _answered("", "me-citer.hf.space", origin) == 403


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.5", None, 0, "203.0.113.5"),
        ("203.0.113.5", "198.51.100.9", 0, "203.0.113.5"),
        ("127.0.0.1", "198.51.100.9", 0, None),
        ("::1", None, 0, None),
        ("127.0.0.1", "198.51.100.9", 1, "198.51.100.9"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.9", 1, "198.51.100.9"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.9, 10.0.0.1", 2, "198.51.100.9"),
        ("127.0.0.1", "198.51.100.9", 2, None),
        ("127.0.0.1", "no address", 1, None),
        ("2001:db8:1:2:3:4:5:6", None, 0, "2001:db8:1:2::"),
        ("::ffff:203.0.113.5", None, 0, "203.0.113.5"),
        (None, None, 0, None),
    ],
)
def test_an_address_is_known_from_the_connection_or_from_proxies_that_a_setting_names(
    peer, forwarded, proxies, address
):
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert client_address(peer and SimpleNamespace(host=peer), headers, proxies) == address


@pytest.mark.parametrize(
    ("lines", "proxies", "address"),
    [
        (["1.1.1.1", "198.51.100.9"], 1, "198.51.100.9"),
        (["1.1.1.1, 2.2.2.2", "198.51.100.9, 10.0.0.1"], 2, "198.51.100.9"),
        (["1.1.1.1", "198.51.100.9"], 3, None),
    ],
)
def test_a_line_that_a_proxy_adds_below_the_clients_own_is_read_too(lines, proxies, address):
    headers = Headers(raw=[(b"x-forwarded-for", line.encode()) for line in lines])
    assert client_address(SimpleNamespace(host="127.0.0.1"), headers, proxies) == address


def test_on_a_space_the_connection_is_its_proxys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPACE_ID", "me/citer")
    assert client_address(SimpleNamespace(host="10.20.30.40"), {}, 0) is None


# ---- for how many ----


def test_calls_leave_no_session_and_neither_do_events_of_windows_that_are_none(client: httpx.Client, site: Site):
    before = len(site.sessions)
    assert "event: complete" in result(client, call(client))
    for n in range(3):
        for name in ("stop", "can_stop", "set_dials", "ended"):
            page_event(client, name, f"invented-{n}")
    assert len(site.sessions) == before


@pytest.mark.usefixtures("patient")
def test_calls_have_places_of_their_own_and_the_page_its_turn(client: httpx.Client, site: Site, pair: FakePair):
    pair.tokens_per_second = 10
    events = [call(client, "a palindrome", 0.5, "router", 1000) for _ in range(32)]
    eventually(lambda: len(handles(site)) == PLACES)
    refused = [result(client, event) for event in events[PLACES:]]
    assert len(refused) == 32 - PLACES and all("room for" in each for each in refused)
    session = listened_to(site, "visitor")
    assert '"success":true' in page_event(client, "write", "visitor", prompt="a palindrome").text
    assert session.run is not None
    eventually(lambda: session.run.events, 2)  # type: ignore[union-attr]
    site.sessions.drop("visitor")


@pytest.mark.usefixtures("patient")
def test_an_address_has_a_share(client: httpx.Client, site: Site, pair: FakePair):
    pair.tokens_per_second = 10
    for _ in range(2):
        call(client, "a palindrome", 0.5, "router", 1000, address="198.51.100.9")
    eventually(lambda: len(handles(site)) == 2)
    # What the client says itself, before what the proxy adds, is nobody's address.
    refused = result(client, call(client, "a palindrome", address="203.0.113.1, 198.51.100.9"))
    assert "2 texts for your network address" in refused
    call(client, "a palindrome", 0.5, "router", 1000, address="198.51.100.10")
    eventually(lambda: len(handles(site)) == 3)


def test_an_address_has_a_share_of_the_pages_places_too(client: httpx.Client, site: Site, pair: FakePair):
    pair.tokens_per_second = 10
    client.headers["x-forwarded-for"] = "198.51.100.9"
    for name in ("one", "two"):
        listened_to(site, name)
        page_event(client, "write", name, prompt="a palindrome")
    assert "2 texts for your network address" in page_event(client, "write", "three", prompt="a palindrome").text
    assert site.sessions.get("three").run is None
    client.headers["x-forwarded-for"] = "198.51.100.10"
    assert '"success":true' in page_event(client, "write", "three", prompt="a palindrome").text
    for name in ("one", "two", "three"):
        site.sessions.drop(name)


def test_what_nobody_listens_to_stops_and_what_somebody_waits_for_does_not(
    client: httpx.Client, site: Site, pair: FakePair, monkeypatch: pytest.MonkeyPatch
):
    pair.tokens_per_second = 10
    monkeypatch.setattr(api, "FIRST_HEARD_SECONDS", 1.0)
    monkeypatch.setattr(api, "UNHEARD_SECONDS", 0.5)
    call(client, "a palindrome", 0.5, "router", 1000)
    eventually(lambda: pair.open_streams == 1)
    eventually(lambda: pair.open_streams == 0, 20)
    heard = call(client, "a palindrome", 0.5, "router", 30)  # three seconds, and nothing comes meanwhile
    assert "event: complete" in result(client, heard)
    with client.stream("GET", f"gradio_api/call/generate/{call(client, 'a palindrome', 0.5, 'router', 1000)}"):
        eventually(lambda: pair.open_streams == 1)
    eventually(lambda: pair.open_streams == 0, 20)


def test_what_waits_in_line_for_nobody_leaves_it(
    site: Site, client: httpx.Client, pair: FakePair, monkeypatch: pytest.MonkeyPatch
):
    pair.tokens_per_second = 5
    monkeypatch.setattr(site.host.scheduler, "bound", 1)
    first, second = listened_to(site, "first"), site.sessions.enter("second")
    run = first.begin(request(max_new_tokens=1000), site.host)
    eventually(lambda: run.events)
    waiting = second.begin(request(), site.host)
    eventually(lambda: waiting.finished.is_set(), 20)
    assert waiting.state == "stopped" and run.active
    site.sessions.drop("first")
