"""A page that is loaded again, and a server that goes away: prompt, settings and text stay."""

from __future__ import annotations

import json
import time

import pytest
from browser import Site, Window, eventually, window
from fake_pair import FakePair

from app.share.buttons import _kept_fields


@pytest.fixture
def shown(browser, site: Site, pair: FakePair):
    """A window of its own, whose storage no other test has."""
    pair.tokens_per_second = 300
    with window(browser, site) as shown:
        yield shown


def kept(shown: Window, words: str) -> None:
    """Waits until the window has kept a text."""
    shown.page.wait_for_function("(words) => (sessionStorage.getItem('citer-text') ?? '').includes(words)", arg=words)


def test_prompt_settings_and_text_are_there_after_a_reload_and_gone_in_a_page_opened_anew(shown: Window, pair):
    shown.slide("#threshold", 0.7)
    text = shown.write("echo what I had")
    cost = shown.page.inner_text(".headline")
    shown.page.fill("#prompt textarea", "what I was typing")
    kept(shown, "what I had")
    asked = len(pair.requests)
    shown.page.reload()
    eventually(lambda: shown.text() == text, 10)
    assert shown.page.input_value("#prompt textarea") == "what I was typing"
    assert shown.page.eval_on_selector("#threshold input[type=range]", "node => Number(node.value)") == 0.7
    assert "This text answers “echo what I had”" in shown.page.text_content(".stream-origin")
    eventually(lambda: shown.page.inner_text(".headline") == cost)
    shown.page.wait_for_timeout(800)
    assert shown.page.input_value("#threshold input[type=number]") == "0.7", "the router's own does not come after it"
    assert len(pair.requests) == asked and shown.errors == []
    shown.open()
    shown.page.wait_for_timeout(500)
    assert shown.text() == "" and shown.page.input_value("#prompt textarea") == ""


def test_a_server_that_does_not_answer_is_told_of_within_5_seconds_and_taken_up_again(shown: Window):
    text = shown.write("echo still here")
    kept(shown, "still here")
    shown.page.context.set_offline(True)
    started = time.monotonic()
    shown.page.wait_for_selector(".lost:visible", timeout=5000)
    assert time.monotonic() - started < 5 and shown.text() == text
    assert "The server does not answer" in shown.page.inner_text(".lost")
    shown.page.evaluate("window.before = true")
    shown.page.context.set_offline(False)
    shown.page.wait_for_function("window.before === undefined", timeout=10_000)
    eventually(lambda: shown.text() == text, 10)
    assert not shown.page.is_visible(".lost")
    assert shown.write("echo as before") == "as before"


@pytest.mark.parametrize("text", [None, 7, [], "", "{", "[" * 100_000, '{"values": 3}', "[1]", "x" * 2_000_000])
def test_what_is_no_store_of_fields_gives_none(text):
    assert _kept_fields(text) == {}
    assert _kept_fields(json.dumps({"at": "", "values": {"prompt": "a"}})) == {"prompt": "a"}
