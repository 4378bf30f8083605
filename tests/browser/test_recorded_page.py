"""The recorded text that a visitor finds: dragged without a model, until there is a text of the visitor's."""

from __future__ import annotations

import pytest

from app.recorded import Recorded, record
from engine import Request, WeightsError, load_settings
from tests.support.browser import (
    Window,
    along,
    check_contrast,
    eventually,
    expect,
    newest,
    paused,
    serve,
    window,
)
from tests.support.fake_pair import FakePair

PROMPT = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""
DIAL, BOX = "#track input", "#threshold input[type=number]"


@pytest.fixture(scope="module")
def recorded(tiny_pair) -> Recorded:
    traces = tuple(record(tiny_pair, Request(PROMPT, max_new_tokens=60), rows=12))
    return Recorded(0.9, "python -m app.recorded", "abc", "a machine", traces)


@pytest.fixture(scope="module")
def pair():
    return FakePair(2000)


@pytest.fixture(scope="module")
def site(pair, recorded):
    with serve(lambda preset, progress: pair, settings=load_settings(max_new_tokens=60), recorded=recorded) as site:
        yield site


@pytest.fixture
def shown(site_window):
    site_window.open()
    site_window.page.wait_for_selector("text=fake-r1")
    expect(site_window.page.locator(BOX), "the loaded pair's own start").to_have_value("0.5")
    yield site_window
    assert site_window.errors == []


def test_without_models_it_is_dragged_by_pointer_and_keys_and_the_server_is_asked_for_nothing(browser, recorded):
    def load(preset, progress):
        raise WeightsError("there are none")

    with serve(load, "tiny", recorded=recorded) as site, window(browser, site, 1366, 768) as shown:
        page = shown.page
        page.wait_for_selector("text=No models")
        page.wait_for_selector(".t >> nth=10")
        for word in ("Recorded", PROMPT, "tiny SLM ⇄ LLM", "a machine", "python -m app.recorded"):
            assert word in shown.inner(".stream-origin")
        page.mouse.move(*along(page, 0.5))
        page.mouse.down()
        shown.requests.clear()
        seen = set()
        for row, trace in enumerate(recorded.traces):
            page.mouse.move(*along(page, row / (len(recorded.traces) - 1)))
            shown.shows(trace.events)
            seen.add((shown.inner(".headline"), shown.field("relative")))
        assert len(seen) == len(recorded.traces), "share and cost change with each"
        asked = [url for url in shown.requests if not url.endswith("/citer/pair")]  # whether the server is still there
        assert asked == []
        page.mouse.up()
        page.focus(DIAL)
        page.keyboard.press("Home")
        shown.shows(recorded.traces[0].events)
        for trace in recorded.traces[1:3]:
            page.keyboard.press("ArrowRight")
            shown.shows(trace.events)
        page.click(".t >> nth=2")
        expect(page.locator(".inspector .facts")).to_contain_text("score")
        expect(page.locator(".candidate")).to_have_count(0)
        check_contrast(page, ".inspector .hint", ".stream-origin", ".track-says", ".headline span")
        assert shown.errors == []


def test_on_a_telephone_a_finger_does_it_too_and_a_link_to_a_prompt_brings_no_other_text(browser, site, recorded):
    with window(browser, site, 360, 780, has_touch=True, reduced_motion="reduce") as phone:
        phone.page.wait_for_selector("text=fake-r1")
        expect(phone.page.locator(BOX)).to_have_value("0.5")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        phone.page.locator(DIAL).evaluate("node => node.scrollIntoView({ block: 'center' })")
        for place, trace in ((0.003, recorded.traces[0]), (0.997, recorded.traces[-1])):
            phone.page.touchscreen.tap(*along(phone.page, place))
            phone.shows(trace.events)
        phone.page.goto(f"{site.url}?prompt=3%20%2B%204")
        expect(phone.page.locator("#prompt textarea")).to_have_value("3 + 4")
        phone.page.wait_for_selector("text=fake-r1")
        expect(phone.page.locator(".t")).to_have_count(0)
        expect(phone.page.locator(".sweep-body")).to_be_hidden()
        assert phone.errors == []


def test_it_gives_way_to_a_text_of_the_visitors_and_is_paler_while_that_is_awaited(shown: Window, site, pair):
    page = shown.page
    page.click(".sweep-prompt")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    former, text = shown.text(), page.locator(".stream-text")
    with paused(site.host):
        shown.ask("a palindrome")
        shown.wait_state("waiting")
        expect(text).to_have_class("stream-text awaits")
        assert shown.text() == former and PROMPT not in shown.inner(".stream-origin")
        check_contrast(page, ".t.slm", ".t.llm", ".headline")
    shown.wait_state("done")
    shown.shows(newest(site).events)
    expect(page.locator(".stream-origin")).to_have_text("")
    expect(page.locator(".awaits")).to_have_count(0)
    expect(page.locator(".sweep-body")).to_be_hidden()
    run = newest(site)
    page.mouse.move(*along(page, 0.9))
    page.mouse.down()
    page.wait_for_selector(".t.flip")
    page.mouse.up()
    eventually(lambda: newest(site) is not run)
