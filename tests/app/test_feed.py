"""The feed in Chromium: one connection brings what is written, nothing is lost or repeated, and gradio can stand in."""

from __future__ import annotations

import socket
import threading

import gradio as gr
import pytest
import uvicorn
from fastapi import FastAPI

from app.page import build, launch_options
from app.running.host import Host
from app.stream.feed import Feeds
from engine import load_settings
from tests.support.browser import AS_A_PERSON, Site, Window, eventually, window
from tests.support.fake_pair import ANSWER, FakePair

FEED = "**/citer/feed/**"


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second, pair.prefill_seconds = 100.0, 0.0
    site_window.open()
    yield site_window
    assert site_window.errors == []


def test_a_text_takes_one_connection_and_nothing_is_asked_while_its_tokens_come(shown: Window, pair: FakePair):
    pair.tokens_per_second = 20
    shown.page.wait_for_timeout(1000)
    shown.requests.clear()
    shown.ask("a palindrome")
    shown.page.wait_for_function("document.querySelectorAll('.t').length > 8")
    before = len(shown.requests)
    shown.page.wait_for_function("document.querySelectorAll('.t').length > 30")
    apart = ("/assets/", "/citer/pair")  # gradio's scripts, and whether the server is still there, which time asks
    assert [url for url in shown.requests[before:] if not any(part in url for part in apart)] == []
    shown.wait_state("done")
    assert sum("/citer/feed/" in url for url in shown.requests) == 1


def test_a_connection_that_breaks_loses_no_token_and_none_is_sent_twice(
    shown: Window, pair: FakePair, monkeypatch: pytest.MonkeyPatch
):
    pair.tokens_per_second = 12
    follow, breaks = Feeds.follow, [3, 4, 5]

    async def breaking(self, session, known):
        left = breaks.pop(0) if breaks else -1
        async for event in follow(self, session, known):
            if event.startswith("event: stream"):
                left -= 1
            yield event
            if left == 0:
                return

    monkeypatch.setattr(Feeds, "follow", breaking)
    shown.page.evaluate(_COUNT)
    text = shown.write("a palindrome")
    assert not breaks, "it broke three times"
    assert len(shown.tokens()) == 60 and ANSWER.startswith(text)
    assert shown.page.evaluate("window.arrived") == 60


# How many tokens came, whatever became of them.
_COUNT = """() => { window.arrived = 0; document.addEventListener('citer-news', ({ detail }) => {
  if (detail.panel === 'stream') window.arrived += JSON.parse(detail.data).count; }); }"""


def test_where_the_feed_is_blocked_gradio_brings_the_finished_text(browser, site: Site, pair: FakePair):
    pair.tokens_per_second, pair.prefill_seconds = 100.0, 0.0
    with window(browser, site) as shown:
        shown.page.route(FEED, lambda route: route.abort())
        assert ANSWER.startswith(shown.write("a palindrome")) and len(shown.tokens()) == 60
        eventually(lambda: shown.field("tokens") == "60")
        eventually(lambda: shown.page.is_disabled("#stop"))
        shown.slide("#threshold", 0.8)
        eventually(lambda: shown.page.locator(".t.flip, .t.stale").count() == 0 and len(shown.tokens()) == 60)
        assert shown.write("echo the next one") == "the next one"
        shown.page.unroute(FEED)
        assert shown.write("echo by the feed again") == "by the feed again"


def test_a_page_behind_a_path_of_a_larger_site_has_its_feed_there(browser, pair: FakePair):
    pair.tokens_per_second = 100.0
    host = Host(lambda preset, progress: pair)
    demo = build(host, load_settings(max_new_tokens=60))
    options = launch_options(demo, load_settings())
    app = FastAPI()
    gr.mount_gradio_app(
        app, demo, "/tools/citer", **{name: options[name] for name in ("app_kwargs", "theme", "css_paths")}
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/tools/citer/"
        with window(browser, Site(url, host, None)) as shown:
            assert ANSWER.startswith(shown.write("a palindrome")) and len(shown.tokens()) == 60
            feeds = {u.split("?")[0].rsplit("/", 1)[0] for u in shown.requests if "/feed/" in u}
            assert feeds == {f"{url}gradio_api/citer/feed"}  # a slow machine may open it twice
        server.should_exit = True
        thread.join(5)


def test_stop_works_where_the_feed_is_blocked(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 5  # on a busy machine a click takes seconds, and the text must not have ended by then
    with window(browser, site) as shown:
        shown.page.route(FEED, lambda route: route.fulfill(status=502, body="no"))
        shown.ask("a palindrome")
        eventually(lambda: pair.open_streams == 1)
        shown.page.wait_for_timeout(500)  # for a token or two
        shown.page.click("#stop")
        eventually(lambda: pair.open_streams == 0, 1)
        shown.wait_state("stopped")
        assert 0 < len(shown.tokens()) < 60


def test_a_feed_is_closed_soon_after_the_last_token(shown: Window, site: Site):
    shown.write("a palindrome")
    listeners = [session.listeners for session in site.sessions._sessions.values()]
    eventually(lambda: not any(each._events for each in listeners))
    assert shown.write("echo opened again") == "opened again"


def still(shown: Window) -> bool:
    """Whether the page asks for no frame for a second, and of the server only whether it is there."""
    shown.page.evaluate("window.frames_asked = 0")
    shown.requests.clear()
    shown.page.wait_for_timeout(1000)
    return shown.page.evaluate("window.frames_asked") == 0 and not [
        each for each in shown.requests if "/citer/pair" not in each
    ]


def test_a_page_that_does_nothing_asks_for_no_frames_and_only_whether_the_server_is_there(browser, site: Site):
    with window(browser, site) as shown:
        shown.page.add_init_script(AS_A_PERSON + _FRAMES)
        shown.open()

        eventually(lambda: still(shown), 20)
        assert still(shown), "and it stays so"
        assert shown.page.evaluate("document.getAnimations().filter(one => one.playState === 'running').length") == 0


_FRAMES = """{ const ask = window.requestAnimationFrame; window.frames_asked = 0;
  window.requestAnimationFrame = callback => { window.frames_asked++; return ask(callback); }; }"""


def test_while_a_text_is_written_frames_are_asked_for_with_tokens_only(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 5
    with window(browser, site) as shown:
        shown.page.add_init_script(AS_A_PERSON + _FRAMES)
        shown.open()
        eventually(lambda: still(shown), 20)
        shown.ask("a palindrome")
        shown.page.wait_for_selector(".t >> nth=5")
        shown.page.wait_for_timeout(1000)
        shown.page.evaluate("window.frames_asked = 0")
        shown.page.wait_for_timeout(2000)
        assert shown.page.evaluate("window.frames_asked") < 2 * (5 * 2 + 4), "not sixty a second"
        running = shown.page.evaluate("document.getAnimations().filter(one => one.playState === 'running').length")
        assert running == 0
