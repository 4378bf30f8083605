"""The feed in Chromium: one connection brings what is written, nothing is lost or repeated, and gradio can stand in."""

from __future__ import annotations

import pytest

from app.stream.feed import Feeds
from tests.support.browser import Site, Window, eventually, expect, window
from tests.support.fake_pair import ANSWER, FakePair

FEED = "**/citer/feed/**"


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second = 100
    site_window.open()
    site_window.page.wait_for_selector(".models")
    yield site_window
    assert site_window.errors == []


def test_a_text_takes_one_connection_and_no_request_for_each_of_its_tokens(shown: Window, pair: FakePair):
    pair.tokens_per_second = 20
    shown.requests.clear()
    shown.ask("a palindrome")
    shown.wait_tokens(31)
    shown.wait_state("done")
    assert sum("/citer/feed/" in url for url in shown.requests) <= 1, "none where one was still open"
    apart = ("/assets/", "/citer/pair")  # gradio's scripts, and whether the server is still there, which time asks
    asked = [url for url in shown.requests if not any(part in url for part in apart)]
    assert len(asked) < 12 < len(shown.tokens()), "those of the click, and what is kept of the text now and then"


def test_a_connection_that_breaks_is_opened_again_and_the_text_is_whole(shown: Window, pair, monkeypatch):
    pair.tokens_per_second = 12
    follow, breaks = Feeds.follow, [3, 4, 5]

    async def breaking(self, session, known):
        left = breaks.pop(0) if breaks else -1
        async for event in follow(self, session, known):
            left -= event.startswith("event: stream")
            yield event
            if left == 0:
                return

    monkeypatch.setattr(Feeds, "follow", breaking)
    text = shown.write("a palindrome")
    assert not breaks and len(shown.tokens()) == 60 and ANSWER.startswith(text)


def test_where_the_feed_is_blocked_gradio_brings_the_finished_text_and_stop_works(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 100
    with window(browser, site) as shown:
        shown.page.route(FEED, lambda route: route.abort())
        assert ANSWER.startswith(shown.write("a palindrome")) and len(shown.tokens()) == 60
        eventually(lambda: len(shown.tokens()) == 60)
        expect(shown.page.locator("#stop")).to_be_hidden()
        pair.tokens_per_second = 5
        shown.ask("a palindrome")
        eventually(lambda: shown.page.evaluate("0") or pair.open_streams == 1)
        shown.page.click("#stop")
        eventually(lambda: shown.page.evaluate("0") or pair.open_streams == 0)
        shown.wait_state("stopped")
        assert len(shown.tokens()) < 60
        pair.tokens_per_second = 100
        shown.page.unroute(FEED)
        assert shown.write("echo by the feed again") == "by the feed again"
