"""The page by keyboard alone, on small and large screens, and as axe sees it (`tests/support/axe`: 4.14.1, MPL 2.0)."""

from __future__ import annotations

import pytest

from tests.support.browser import Site, Window, calls_of, eventually, expect, schemes, window
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
    page.wait_for_selector(".t >> nth=6")  # of this text: the one before has fewer
    page.focus(".stream-text")
    keys.press("ArrowRight")
    keys.press("Enter")
    page.wait_for_selector(".t.pinned")
    keys.press("Escape")
    page.wait_for_selector(".t.pinned", state="detached")
    page.wait_for_selector(f".t >> nth={len(shown.tokens()) + 2}")  # it is written on
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
    page.keyboard.press("Enter")
    page.wait_for_selector(".t >> nth=1")
    assert [each.prompt for each in pair.requests[asked:]] == ["仮名"]
    press("Escape")
    page.wait_for_selector(".t >> nth=5")
    page.keyboard.press("Escape")
    shown.wait_state("stopped")


def test_a_double_click_is_one_run_and_what_is_heard_late_of_it_leaves_stop_to_the_next(
    shown: Window, site: Site, pair
):
    page, asking, asked, held = shown.page, calls_of(site, "can_stop"), len(pair.requests), []

    def hold(route) -> None:
        late = route.request.post_data_json["fn_index"] in asking
        held.append((route, route.fetch())) if late else route.continue_()

    page.route("**/gradio_api/run/predict*", hold)
    page.fill(PROMPT, "echo one")
    page.dblclick("#generate")
    shown.wait_state("done")
    eventually(lambda: page.evaluate("0") or held)
    pair.tokens_per_second = 4
    page.fill(PROMPT, "a palindrome")
    page.keyboard.press("Enter")
    shown.wait_state("running")
    assert [each.prompt for each in pair.requests[asked:]] == ["echo one", "a palindrome"]
    for route, answer in held:
        route.fulfill(response=answer)
    page.unroute("**/gradio_api/run/predict*")
    page.wait_for_selector(f".t >> nth={len(shown.tokens()) + 2}")  # by now they have been heard
    page.keyboard.press("Escape")
    shown.wait_state("stopped")


def test_on_a_telephone_generate_leads_to_the_text_and_the_cost_stays_in_sight(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 300
    with window(browser, site, 360, 760, reduced_motion="reduce") as shown:
        page = shown.page
        shown.write("a palindrome")
        text = page.locator(".stream-text").bounding_box()
        assert 0 < text["y"] < 300 and text["y"] + text["height"] <= 760, "it is in sight"
        page.click(".t.llm >> nth=0")
        place = page.locator(".inspector").bounding_box()
        for author in (0, 1):
            line = page.locator(".candidates").nth(author).bounding_box()
            assert line["y"] + line["height"] <= place["y"] + place["height"] + 1, "what both would have written"
        assert 0 <= page.locator("#headline").bounding_box()["y"] < 10
        page.focus("#view-card input >> nth=0")
        covered = []
        for _ in range(40):
            page.keyboard.press("Shift+Tab")
            covered += page.evaluate(_COVERED)
        assert covered == [], "what the keys come to is never beneath the headline"
        page.set_viewport_size({"width": 1366, "height": 768})
        for down in (0, 5000):
            page.mouse.wheel(0, down)
            box = page.locator(".headline").bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= 768


_COVERED = """() => {
  const line = document.querySelector('#headline').getBoundingClientRect(), at = document.activeElement;
  const { left, right, top, bottom } = at.getBoundingClientRect();
  const isBeside = right <= line.left || left >= line.right || top >= line.bottom - 1 || bottom <= line.top + 1;
  return isBeside || bottom > innerHeight ? [] : [`${at.id || at.className}: ${top}, headline until ${line.bottom}`];
}"""


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

        page.click(".glossary summary")
        terms = page.locator(".glossary dt").all_inner_texts()
        assert {"Router", "Threshold", "Acceptance"} <= set(terms)
        page.click(".guide-open")
        page.wait_for_selector(".guide-card")
        look("empty, with the guide")
        page.keyboard.press("Escape")
        shown.write("a palindrome")
        page.click(".t.llm >> nth=0")
        page.click(".audit-toggle")
        page.click(".rendered-toggle")
        page.wait_for_selector(".stream-rendered pre")
        look("text")
        shown.slide("#threshold", 0.9)
        expect(page.locator(".version")).to_have_count(2)
        page.click(".beside-open")
        page.wait_for_selector(".beside[open]")
        look("side by side")
        page.keyboard.press("Escape")
        shown.slide("#acceptance", 0.5)
        expect(page.locator(".version")).to_have_count(3)
        page.click(".beside-open")
        page.click("text=Sampling and prompt format")
        look("two are picked, and drafts")
        page.keyboard.press("Escape")
        page.click(".stream-follow")
        page.wait_for_selector("#conversation .turn")
        look("conversation")
        page.click(".conversation-new")
        page.fill(PROMPT, "a palindrome")
        page.click(".sweep-go")
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
        page.evaluate("fetch('gradio_api/run/predict', { method: 'POST' })")
        page.wait_for_selector(".refused:visible")
        look("how it works, and something refused")
        page.goto(f"{site.url}?prompt=hello&threshold=7")
        page.wait_for_selector(".link-note li")
        look("link")
        assert {state: each for state, each in found.items() if each} == {}
