"""The guide of the first visit, on the shipped tiny pair."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.browser import Window, eventually, expect, sizes
from tests.support.paths import TINY

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
CARD, NEXT, OPENER = ".guide-card", ".guide-next", ".guide-open"
TARGETS = ("#stream .stream-text", "#track", "#headline", "#prompt-card")


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@contextmanager
def visit(browser, site, seen: bool = False, script: str = "", width: int = 1280, height: int = 900, **options: Any):
    """A window of its own, on a first visit unless the guide was seen, with a script that runs before the page's."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    if seen:
        context.add_init_script("localStorage.setItem('citer-guide', 'seen')")
    if script:
        context.add_init_script(script)
    page = context.new_page()
    shown = Window(page, site.url)
    shown.open()
    try:
        yield shown
        assert shown.errors == []
    finally:
        context.close()


@pytest.fixture(scope="module")
def returning(browser, site):
    """A window of somebody who has seen the guide."""
    with visit(browser, site, seen=True) as shown:
        yield shown


@pytest.fixture
def guided(returning: Window):
    """The guide, asked for."""
    returning.page.evaluate("window.scrollTo(0, 0)")
    if returning.page.is_hidden(CARD):
        returning.page.click(OPENER)
        returning.page.wait_for_selector(CARD)
    yield returning
    returning.page.keyboard.press("Escape")


def box(shown: Window, selector: str) -> dict[str, float]:
    found = shown.page.locator(selector).first.bounding_box()
    assert found is not None
    return found


def apart(a: dict[str, float], b: dict[str, float]) -> bool:
    return (
        a["x"] + a["width"] <= b["x"]
        or b["x"] + b["width"] <= a["x"]
        or a["y"] + a["height"] <= b["y"]
        or b["y"] + b["height"] <= a["y"]
    )


def text_box(shown: Window) -> dict[str, float]:
    """Around the tokens of the text, whose own box may be empty below them."""
    range_of = (
        "(node) => { const r = document.createRange(); r.selectNodeContents(node); return r.getBoundingClientRect(); }"
    )
    return shown.page.locator(TARGETS[0]).first.evaluate(range_of)


def focused(shown: Window) -> str:
    return shown.page.evaluate("document.activeElement.className")


# ---- the guide ---------------------------------------------------------------------------------------------------


_PLACES = """() => ['#prompt-card', '#threshold-card', '#stream', '#dashboard', '#header'].map((id) => {
  const box = document.querySelector(id).getBoundingClientRect();
  return [box.x, box.y, box.width, box.height];
})"""


def test_it_shows_itself_once_without_taking_the_focus_or_moving_anything(browser, site):
    with visit(browser, site, seen=True) as other:
        other.page.wait_for_selector("text=tiny SLM ⇄ LLM")
        other.page.wait_for_selector(".points > summary")
        without = other.page.evaluate(_PLACES)
    with visit(browser, site) as shown:
        shown.page.wait_for_selector(CARD)
        shown.page.wait_for_selector(".points > summary")
        assert shown.page.evaluate("document.activeElement === document.body && scrollY === 0")
        assert shown.page.evaluate(_PLACES) == without
        shown.page.keyboard.press("Escape")
        shown.page.wait_for_selector(CARD, state="hidden")
        assert shown.page.evaluate(_PLACES) == without
        shown.open()
        shown.page.wait_for_timeout(3500)
        expect(shown.page.locator(CARD).first, "not on the second visit").to_be_hidden()


@pytest.mark.parametrize("sign", ["pointerdown", "keydown", "input"])
def test_who_is_at_work_already_is_left_alone(browser, site, sign: str):
    work = f"setInterval(() => document.dispatchEvent(new Event('{sign}', {{ bubbles: true }})), 300)"
    with visit(browser, site, script=work) as shown:
        shown.page.wait_for_selector("text=tiny SLM ⇄ LLM")
        shown.page.wait_for_timeout(3500)
        expect(shown.page.locator(CARD).first).to_be_hidden()


def test_it_covers_nothing_that_it_talks_about(browser, site):
    with visit(browser, site, seen=True) as shown:
        shown.page.wait_for_selector("text=tiny SLM ⇄ LLM")
        for width, height in sizes(shown.page, (1366, 768), (1280, 620), (768, 900), (360, 640)):
            shown.page.click(OPENER)
            for number, target in enumerate(TARGETS):
                eventually(lambda n=number: shown.page.text_content(".guide-count") == f"{n + 1} of 4")
                shown.page.wait_for_timeout(200)
                card = box(shown, CARD)
                assert apart(card, box(shown, target) if number else text_box(shown)), (target, width)
                assert card["x"] >= 0 and card["x"] + card["width"] <= width
                assert card["y"] >= 0 and card["y"] + card["height"] <= height, (target, width)
                at = box(shown, target)
                assert at["y"] >= 0 and at["y"] + at["height"] <= height, f"{target} is in view at {width}"
                shown.page.click(NEXT)
            shown.page.wait_for_selector(CARD, state="hidden")
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_stays_beside_its_target_while_the_page_scrolls(guided: Window):
    for _ in range(3):
        guided.page.mouse.wheel(0, 120)
        guided.page.wait_for_timeout(150)
        assert apart(box(guided, CARD), text_box(guided))


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1366, 768)])
def test_it_stands_below_a_short_text_and_not_on_the_dials_until_the_text_grows(browser, site, width: int, height: int):
    with visit(browser, site, width=width, height=height) as shown:
        shown.page.wait_for_selector(CARD)
        text = shown.page.locator(TARGETS[0]).first
        for words in (0, 60):
            text.evaluate("(node, words) => node.append('word '.repeat(words))", words)
            eventually(lambda: apart(box(shown, CARD), text_box(shown)))
            for part in ("#threshold-card", "#prompt-card", "#stream .stream-legend"):
                assert apart(box(shown, CARD), box(shown, part)), (part, words)
        text.evaluate("(node) => node.append('word '.repeat(600))")
        eventually(lambda: apart(box(shown, CARD), box(shown, TARGETS[0])))


def test_the_keyboard_alone_walks_through_it_and_comes_back_to_where_it_was_opened(returning: Window):
    returning.page.focus(OPENER)
    returning.page.keyboard.press("Enter")
    returning.page.wait_for_selector(CARD)
    eventually(lambda: focused(returning) == "guide-next")
    titles = []
    for _ in range(4):
        titles.append(returning.page.inner_text(".guide-step:visible h2"))
        returning.page.keyboard.press("Enter")
    assert titles == ["See who wrote what", "Turn the threshold", "Watch the cost", "Ask for something"]
    expect(returning.page.locator(CARD).first).to_be_hidden()
    assert focused(returning) == "guide-open"


def test_back_goes_back_and_escape_closes_it(guided: Window):
    guided.page.keyboard.press("Enter")
    guided.page.keyboard.press("Shift+Tab")
    assert focused(guided) == "guide-back"
    guided.page.keyboard.press("Enter")
    assert guided.page.text_content(".guide-count") == "1 of 4" and focused(guided) == "guide-next"
    guided.page.keyboard.press("Escape")
    expect(guided.page.locator(CARD).first).to_be_hidden()
    assert focused(guided) == "guide-open"


def test_nothing_outside_it_is_covered_against_clicks(guided: Window):
    expect(guided.page.locator(CARD).first).to_have_attribute("aria-modal", "false")
    guided.page.click("#prompt textarea", timeout=2000)
    guided.page.keyboard.type("3 + 4")
    assert guided.page.input_value("#prompt textarea").endswith("3 + 4")
    expect(guided.page.locator(CARD).first).to_be_visible()
    guided.page.fill("#prompt textarea", "")


def test_who_starts_a_text_at_its_end_has_done_what_it_asks_for(guided: Window):
    for _ in range(3):
        guided.page.click(NEXT)
    guided.ask(PROMPT)
    eventually(lambda: guided.page.is_hidden(CARD))
    guided.wait_state("done", seconds=60)


def test_it_is_shown_from_another_tab_in_the_playground(returning: Window):
    returning.page.keyboard.press("Escape")
    returning.page.click('role=tab[name="How it works"]')
    returning.page.click(OPENER)
    returning.page.wait_for_selector(CARD)
    expect(returning.page.locator("#stream")).to_be_visible()
    assert apart(box(returning, CARD), text_box(returning))
    returning.page.click('role=tab[name="How it works"]')
    eventually(lambda: returning.page.is_hidden(CARD))
    returning.page.click('role=tab[name="Playground"]')
    eventually(lambda: returning.page.is_visible(CARD))
    returning.page.keyboard.press("Escape")


def test_nothing_of_it_moves_where_motion_is_to_be_reduced(browser, site):
    with visit(browser, site, seen=True, reduced_motion="reduce") as shown:
        shown.page.click(OPENER)
        shown.page.wait_for_selector(CARD)
        assert shown.page.evaluate("document.querySelector('.guide-card').getAnimations().length") == 0
