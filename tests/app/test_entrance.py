"""What comes from outside over HTTP: refused where it is too much, bounded in what is kept of it, and never logged."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import httpx
import pytest

from app.running import session as sessions
from app.running.session import Session
from engine import load_settings
from tests.support.browser import Site, eventually, paused, serve
from tests.support.fake_pair import FakePair, request

SECRET = "xyzzy-plugh"
PLACES, FAST = 8, 1e5


@pytest.fixture(scope="module")
def pair():
    return FakePair(FAST)


@pytest.fixture(scope="module")
def site(pair):
    settings = load_settings(max_new_tokens=60, server__queue_size=PLACES, server__proxies=1)
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


def program(client: httpx.Client, site: Site, address: str = "", prompt: str = "a palindrome") -> httpx.Response:
    """Asks `/v1` as a program does."""
    headers = {"x-forwarded-for": address} if address else {}
    body = {"model": "cpu:slm", "prompt": prompt, "max_tokens": 5}
    return client.post(f"{site.url}v1/completions", json=body, headers=headers)


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
        assert SECRET not in client.post("run/predict", json=body).text
    panel = next(block for block in site.page.blocks.values() if block.elem_id == "tune-panel")
    asked = {"component_id": panel._id, "session_hash": "s", "fn_name": "text_of", "data": {"row": SECRET}}
    assert client.post("component_server", json=asked).status_code == 422
    assert program(client, site, prompt=SECRET).status_code == 200

    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError(SECRET)

    with monkeypatch.context() as patched:
        patched.setattr(gr.Blocks, "process_api", fail)
        post(client, site, "write", "odd", [SECRET])
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


def test_programs_have_places_of_their_own_and_the_page_its_turn(client: httpx.Client, site: Site):
    with ThreadPoolExecutor(PLACES + 2) as pool:
        with paused(site.host):  # so that none of them ends
            asked = [pool.submit(program, client, site) for _ in range(PLACES + 2)]
            eventually(lambda: sum(each.done() for each in asked) == 2)
            assert all("room for" in each.result().text for each in asked if each.done())
            session = listened_to(site, "visitor")
            assert post(client, site, "write", "visitor").status_code == 200
        assert sorted(each.result().status_code for each in asked) == [200] * PLACES + [429] * 2
    assert session.run is not None and session.run.finished.wait(90) and session.run.complete
    assert not site.page.state_holder.session_data, "gradio keeps nothing of a window"
    site.sessions.drop("visitor")


def test_an_address_has_a_share_of_either(client: httpx.Client, site: Site):
    with ThreadPoolExecutor(3) as pool, paused(site.host):
        for number, address in enumerate(("198.51.100.9", "198.51.100.9", "198.51.100.10"), 1):
            pool.submit(program, client, site, address)
            eventually(lambda number=number: len(handles(site)) == number)
        # What the client says itself, before what the proxy adds, is nobody's address.
        assert "network address" in program(client, site, "203.0.113.1, 198.51.100.9").text
        for address, name, taken in ("7", "one", True), ("7", "two", True), ("7", "three", False), ("8", "three", True):
            client.headers["x-forwarded-for"] = f"198.51.100.{address}"
            listened_to(site, name)
            answer = post(client, site, "write", name)
            assert answer.status_code == (200 if taken else 422) and ("network address" in answer.text) is not taken
        for name in ("one", "two", "three"):
            site.sessions.drop(name)


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
