"""The page by keyboard, on small and large screens, and as axe sees it (tests/axe: axe-core 4.14.1, MPL 2.0)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.browser import Site, Window, calls_of, eventually, expect, schemes, window
from tests.support.fake_pair import FakePair

AXE = (Path(__file__).parents[1] / "support" / "axe" / "axe.min.js").read_text("utf-8")
FOUND = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ['violations'] });
  return violations.flatMap(({ id, nodes }) => nodes.slice(0, 5).map(({ target, failureSummary }) => (
    `${id}: ${target.join(' ')}: ${failureSummary.split('\\n').slice(1).join(' ').slice(0, 160)}`)));
}"""


def faults(page) -> dict[str, list[str]]:
    """What axe, which the page has already, finds in light and in dark; nothing is empty."""
    found = {scheme: page.evaluate(FOUND) for scheme in schemes(page)}
    return {scheme: each for scheme, each in found.items() if each}


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second = 300
    site_window.open()
    yield site_window
    assert site_window.errors == []


def focused(page) -> str:
    return page.evaluate("document.activeElement.closest('#prompt') ? 'prompt' : document.activeElement.className")


def test_the_prompt_is_a_few_tab_stops_away_and_one_link_over_them(shown: Window):
    page = shown.page
    page.keyboard.press("Tab")
    assert focused(page) == "skip-link" and page.inner_text(".skip-link") == "Skip to the prompt"
    assert page.locator(".skip-link").bounding_box()["y"] >= 0, "it is seen while it is there"
    stops = 1
    while focused(page) != "prompt":
        page.keyboard.press("Tab")
        stops += 1
        assert stops <= 11, "the header's links, the tabs, and no more"
    shown.open()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert focused(page) == "prompt"


def test_the_words_of_the_dials_are_explained_beside_them(shown: Window):
    page = shown.page
    page.focus(".glossary summary")
    page.keyboard.press("Enter")
    terms = page.locator(".glossary dt").all_inner_texts()
    assert {"Router", "Threshold", "Acceptance", "Bytes moved", "Cost weight λ"} <= set(terms)
    assert page.locator(".glossary dd:visible").count() == len(terms)


def test_enter_sends_shift_enter_breaks_the_line_and_escape_stops(shown: Window, pair: FakePair):
    page = shown.page
    expect(page.locator("#prompt-card")).to_contain_text(
        "Enter sends, Shift + Enter breaks the line, Esc stops.", use_inner_text=True
    )
    page.click("#prompt textarea")
    page.keyboard.type("echo one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.locator("#prompt textarea")).to_have_value("echo one\ntwo")
    assert shown.tokens() == []
    page.keyboard.press("Enter")
    eventually(lambda: shown.text() == "one\ntwo")
    expect(page.locator("#prompt textarea")).to_have_value("echo one\ntwo")
    pair.tokens_per_second = 4  # it must not have ended by itself before a busy machine hears of Stop
    page.fill("#prompt textarea", "a palindrome")
    page.keyboard.press("Enter")
    page.wait_for_selector(".t >> nth=6")  # of this text: the one before has fewer
    page.click(".t >> nth=1")
    page.wait_for_selector(".t.pinned")
    page.keyboard.press("Escape")
    page.wait_for_selector(".t.pinned", state="detached")
    page.wait_for_selector(f".t >> nth={len(shown.tokens()) + 2}")  # it is written on
    page.keyboard.press("Escape")
    shown.wait_state("stopped")


def test_keys_that_belong_to_an_input_method_neither_send_nor_stop(shown: Window, pair: FakePair):
    page = shown.page
    keyboard = page.context.new_cdp_session(page)

    def press(key: str) -> None:  # 229 is the code of a key that the input method takes
        keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": key, "windowsVirtualKeyCode": 229})

    asked, pair.tokens_per_second = len(pair.requests), 4
    page.click("#prompt textarea")
    keyboard.send("Input.imeSetComposition", {"text": "かな", "selectionStart": 2, "selectionEnd": 2})
    press("Enter")
    keyboard.send("Input.insertText", {"text": "仮名"})
    press("Enter")
    page.wait_for_timeout(500)
    assert len(pair.requests) == asked and page.input_value("#prompt textarea") == "仮名"
    page.keyboard.press("Enter")
    page.wait_for_selector(".t >> nth=1")
    press("Escape")
    page.wait_for_selector(".t >> nth=5")
    page.keyboard.press("Escape")
    shown.wait_state("stopped")


def test_the_costs_of_both_ends_are_told_to_those_who_hear_the_page(shown: Window):
    shown.write("a palindrome")
    eventually(lambda: shown.field("llm").endswith("GB"))
    picture = shown.page.locator('.dashboard [role="img"]')
    expect(picture).to_have_accessible_name("Cost of this run between SLM only and LLM only")
    expect(picture, "what is in a picture is told to nobody").to_have_text("")


def test_what_the_keys_come_to_is_never_beneath_the_headline(browser, site: Site):
    with window(browser, site, 390, 760, reduced_motion="reduce") as shown:
        shown.write("a palindrome")
        page, covered = shown.page, []
        page.focus("#view-card input >> nth=0")
        for _ in range(40):
            page.keyboard.press("Shift+Tab")
            covered += page.evaluate(_COVERED)
        assert covered == []


_COVERED = """() => {
  const line = document.querySelector('#headline').getBoundingClientRect(), at = document.activeElement;
  const { left, right, top, bottom } = at.getBoundingClientRect();
  const isBeside = right <= line.left || left >= line.right || top >= line.bottom - 1 || bottom <= line.top + 1;
  return isBeside || bottom > innerHeight ? [] : [`${at.id || at.className}: ${top}, headline until ${line.bottom}`];
}"""


def test_what_is_heard_late_of_a_text_that_ended_does_not_take_stop_from_the_next(shown: Window, site: Site, pair):
    page, asking, held = shown.page, calls_of(site, "can_stop"), []

    def hold(route) -> None:
        late = route.request.post_data_json["fn_index"] in asking
        held.append((route, route.fetch())) if late else route.continue_()

    page.route("**/gradio_api/run/predict*", hold)
    page.fill("#prompt textarea", "echo one")
    page.keyboard.press("Enter")
    shown.wait_state("done")
    eventually(lambda: held or page.wait_for_timeout(20))
    pair.tokens_per_second = 4
    page.fill("#prompt textarea", "a palindrome")
    page.keyboard.press("Enter")
    shown.wait_state("running")
    page.wait_for_timeout(500)
    for route, answer in held:
        route.fulfill(response=answer)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    shown.wait_state("stopped")


def test_a_double_click_on_generate_is_one_run(shown: Window, pair: FakePair):
    asked = len(pair.requests)
    shown.page.fill("#prompt textarea", "echo once")
    shown.page.dblclick("#generate")
    shown.page.wait_for_selector(".t.end")
    shown.page.wait_for_timeout(300)
    assert len(pair.requests) == asked + 1


def test_on_a_telephone_generate_leads_to_the_text_and_the_inspector_shows_both_models(browser, site: Site, pair):
    with window(browser, site, 360, 760, reduced_motion="reduce") as shown:
        page = shown.page
        shown.write("a palindrome")
        text = page.locator(".stream-text").bounding_box()
        assert 0 < text["y"] < 300 and text["y"] + text["height"] <= 760, "it is in sight"
        page.click(".t.llm >> nth=0")
        place = page.locator(".inspector").bounding_box()
        for author in (0, 1):
            line = page.locator(".candidates").nth(author).bounding_box()
            assert line["y"] + line["height"] <= place["y"] + place["height"] + 1
        cost = page.locator("#headline").bounding_box()
        assert 0 <= cost["y"] < 10, "the headline stays"
        assert page.locator("#threshold").bounding_box()["y"] > text["y"], "dials below"
        label = page.locator("#threshold [data-testid=block-info]")
        page.mouse.wheel(0, label.bounding_box()["y"] - 10)
        eventually(lambda: abs(label.bounding_box()["y"] - 10) < 5)
        assert page.evaluate("() => document.elementFromPoint(60, 20).closest('#headline') !== null"), "it covers them"


def test_the_cost_is_in_sight_on_a_laptop_and_a_wide_screen_is_used(browser, site: Site):
    with window(browser, site, 1366, 768) as shown:
        shown.write("a palindrome")
        eventually(lambda: "of its cost" in shown.page.inner_text(".headline"))
        box = shown.page.locator(".headline").bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 768
        shown.page.mouse.wheel(0, 5000)
        eventually(lambda: shown.page.evaluate("scrollY") > 100)
        assert shown.page.locator(".headline").bounding_box()["y"] >= 0, "it stays while the page scrolls"
        shown.page.evaluate("scrollTo(0, 0)")
        shown.page.set_viewport_size({"width": 1920, "height": 1080})
        text, figures = (shown.page.locator(name).bounding_box() for name in ("#stream", "#dashboard"))
        assert figures["x"] > text["x"] + text["width"] and figures["x"] + figures["width"] > 1850
        assert figures["y"] < 300 and shown.page.evaluate("document.documentElement.scrollWidth") <= 1920


def test_axe_finds_nothing_in_any_state(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 400
    with window(browser, site, reduced_motion="reduce") as shown:
        page, found = shown.page, {}

        def look(state: str) -> None:
            page.evaluate(AXE)
            page.wait_for_timeout(150)
            found[state] = faults(page)

        page.click(".glossary summary")
        look("empty")
        shown.write("a palindrome")
        page.click(".t.llm >> nth=0")
        page.click(".audit-toggle")
        page.click(".rendered-toggle")
        page.wait_for_selector(".stream-rendered pre")
        look("text")
        shown.slide("#acceptance", 0.5)
        shown.wait_state("done")
        page.click("text=Sampling and prompt format")
        look("drafts, and all panels open")
        page.click(".stream-follow")
        page.wait_for_selector("#conversation .turn")
        look("conversation")
        page.click(".conversation-new")
        page.fill("#prompt textarea", "a palindrome")
        page.click(".sweep-go")
        page.wait_for_selector('#sweep [data-state="done"]', timeout=60_000)
        look("sweep")
        page.click('role=tab[name="Compare"]')
        page.fill("#compare-prompt textarea", "a palindrome")
        page.click("#compare-start")
        page.wait_for_selector('.compare-state[data-state="done"]')
        look("compare")
        page.click('role=tab[name="Tune on my prompts"]')
        page.fill("#tune-prompts textarea", "prompt,answer\necho a,a\necho b,b")
        page.click("#tune-run")
        page.wait_for_selector('.tune-state[data-state="done"]', timeout=60_000)
        look("tune")
        page.click('role=tab[name="How it works"]')
        page.wait_for_selector(".worked-steps")
        page.evaluate("fetch('gradio_api/run/predict', { method: 'POST' })")
        page.wait_for_selector(".refused:visible")
        look("how, and something refused")
        page.goto(f"{site.url}?prompt=hello&threshold=7")
        page.wait_for_selector(".link-note li")
        look("link")
        assert {state: each for state, each in found.items() if each} == {}
