"""The page by keyboard alone, on small and large screens, and as axe sees it (`tests/support/axe`: 4.14.1, MPL 2.0)."""

from __future__ import annotations

import pytest

from tests.support.browser import Site, Window, eventually, expect, schemes, window
from tests.support.fake_pair import FakePair
from tests.support.paths import ROOT

PROMPT = "#prompt textarea"
AXE = (ROOT / "tests/support/axe/axe.min.js").read_text("utf-8")
FOUND = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ['violations'] });
  return violations.flatMap(({ id, nodes }) => nodes.slice(0, 5).map(({ target, failureSummary }) => (
    `${id}: ${target.join(' ')}: ${failureSummary.split('\\n').slice(1).join(' ').slice(0, 160)}`)));
}"""


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second = 300
    site_window.open()
    yield site_window
    assert site_window.errors == []


def test_the_keyboard_alone_reaches_the_prompt_sends_breaks_lines_and_stops(shown: Window, pair: FakePair):
    page, keys = shown.page, shown.page.keyboard
    keys.press("Tab")
    skip = page.locator(".skip-link")
    expect(skip).to_be_focused()
    assert skip.bounding_box()["y"] >= 0, "it is seen while it is there"
    stops = 0
    while not page.evaluate("document.activeElement.matches('#prompt textarea')"):
        keys.press("Tab")
        stops += 1
        assert stops <= 10, "the header's links, the tabs, and no more"
    keys.type("echo one")
    keys.press("Shift+Enter")
    keys.type("two")
    expect(page.locator(PROMPT)).to_have_value("echo one\ntwo")
    keys.press("Enter")
    eventually(lambda: shown.text() == "one\ntwo")
    assert len(pair.requests) == 1
    pair.tokens_per_second = 4  # it must not have ended by itself before a busy machine hears of Stop
    page.fill(PROMPT, "a palindrome")
    keys.press("Enter")
    shown.wait_tokens(7)  # of this text: the one before has fewer
    page.focus(".stream-text")
    keys.press("ArrowRight")
    keys.press("Enter")
    page.wait_for_selector(".t.pinned")
    keys.press("Escape")
    page.wait_for_selector(".t.pinned", state="detached")
    shown.wait_tokens(len(shown.tokens()) + 3)  # it is written on
    keys.press("Escape")
    shown.wait_state("stopped")
    keys.press("Control+z")
    eventually(lambda: shown.text() == "one\ntwo")


def test_keys_that_belong_to_an_input_method_neither_send_nor_stop(shown: Window, pair: FakePair):
    page, asked = shown.page, len(pair.requests)
    keyboard = page.context.new_cdp_session(page)

    def press(key: str) -> None:  # 229 is the code of a key that the input method takes
        keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": key, "windowsVirtualKeyCode": 229})

    pair.tokens_per_second = 4
    page.click(PROMPT)
    keyboard.send("Input.imeSetComposition", {"text": "かな", "selectionStart": 2, "selectionEnd": 2})
    press("Enter")
    keyboard.send("Input.insertText", {"text": "仮名"})
    press("Enter")
    expect(page.locator(PROMPT)).to_have_value("仮名")
    page.keyboard.press("Enter")
    eventually(lambda: pair.requests[asked:])
    assert [each.prompt for each in pair.requests[asked:]] == ["仮名"]
    press("Escape")
    there = pair.tokens
    eventually(lambda: pair.tokens > there + 2)
    page.keyboard.press("Escape")
    shown.wait_state("stopped")
    assert len(pair.requests) == asked + 1


def test_a_double_click_is_one_run(shown: Window, pair):
    asked = len(pair.requests)
    shown.page.fill(PROMPT, "echo one")
    shown.page.dblclick("#generate")
    shown.wait_state("done")
    shown.write("echo two")
    assert [each.prompt for each in pair.requests[asked:]] == ["echo one", "echo two"]


def test_on_a_telephone_generate_leads_to_the_text_and_the_cost_stays_in_sight(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 300
    with window(browser, site, 360, 760, reduced_motion="reduce") as shown:
        shown.write("a palindrome")
        expect(shown.page.locator(".stream-text")).to_be_in_viewport()
        shown.page.click(".t.llm >> nth=0")
        expect(shown.page.locator("#balance"), "the slider stays at the bottom").to_be_in_viewport()


@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_in_any_state_in_light_and_in_dark(browser, site: Site, pair: FakePair, width: int):
    pair.tokens_per_second = 400
    with window(browser, site, width, 900, reduced_motion="reduce") as shown:
        page, found = shown.page, {}

        def look(state: str) -> None:
            page.evaluate(AXE)
            page.evaluate("Promise.all(document.getAnimations().map(each => each.finished.catch(() => 0)))")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, state
            found.update({f"{state}, {scheme}": page.evaluate(FOUND) for scheme in schemes(page)})

        def tab(name: str) -> None:
            page.click(f'role=tab[name="{name}"]')

        page.click(".share-open")
        look("empty, with the menu")
        page.keyboard.press("Escape")
        shown.write("a palindrome")
        page.click(".t.llm >> nth=0")
        page.wait_for_selector(".candidate")
        look("card")
        page.keyboard.press("Escape")
        page.click(".rendered-toggle")
        page.wait_for_selector(".stream-rendered pre")
        look("text")
        shown.slide("#threshold", 0.9)
        expect(page.locator(".version")).to_have_count(2)
        page.click(".history-open")
        look("history")
        page.keyboard.press("Escape")
        shown.slide("#acceptance", 0.5)
        expect(page.locator(".version")).to_have_count(3)
        shown.more()
        look("more, and what was taken back")
        page.click(".stream-follow")
        page.wait_for_selector("#conversation .turn")
        look("conversation")
        page.click(".conversation-new")
        page.fill(PROMPT, "a palindrome")
        page.click(".map-open")
        page.wait_for_selector('#sweep [data-state="done"]')
        look("sweep")
        tab("Compare")
        page.fill("#compare-prompt textarea", "a palindrome")
        page.click("#compare-start")
        page.wait_for_selector('.compare-state[data-state="done"]')
        look("compare")
        tab("Tune on my prompts")
        page.fill("#tune-prompts textarea", "prompt,answer\necho a,a\necho b,b")
        page.click("#tune-run")
        page.wait_for_selector('.tune-state[data-state="done"]')
        look("tune")
        tab("How it works")
        page.wait_for_selector(".worked-steps")
        look("how it works")
        assert {state: each for state, each in found.items() if each} == {}
