"""The guide of the first visit: it shows itself once, is in nobody's way, and goes by keyboard."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.support.browser import Site, Window, eventually, expect, sizes, window

CARD, NEXT, OPENER = ".guide-card", ".guide-next", ".guide-open"
TARGETS = ("#stream .stream-text", "#track", "#headline", "#prompt-card")


@contextmanager
def visit(context, site: Site):
    """A page of a visitor, whose clock the test turns on."""
    page = context.new_page()
    page.clock.install()
    shown = Window(page, site.url)
    shown.open()
    page.wait_for_selector("text=fake-r1")
    yield page
    page.close()


def a_while(page) -> None:
    """Longer than the guide waits for somebody who is at work already."""
    page.clock.fast_forward(5000)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("sign", ["", "pointerdown", "keydown", "input"])
def test_it_shows_itself_on_the_first_visit_only_and_never_to_who_is_at_work(browser, site: Site, sign: str):
    context = browser.new_context(reduced_motion="reduce")
    with visit(context, site) as page:
        if sign:
            page.evaluate("(sign) => document.dispatchEvent(new Event(sign, { bubbles: true }))", sign)
            a_while(page)
            expect(page.locator(CARD)).to_be_hidden()
        else:
            a_while(page)
            page.wait_for_selector(CARD)
            assert page.evaluate("document.activeElement === document.body && scrollY === 0"), "it takes nothing"
            assert page.evaluate("document.querySelector('.guide-card').getAnimations().length") == 0, "nothing moves"
            page.keyboard.press("Escape")
            page.wait_for_selector(CARD, state="hidden")
    if not sign:
        with visit(context, site) as page:
            a_while(page)
            expect(page.locator(CARD), "not on the second visit").to_be_hidden()
    context.close()


def box(page, selector: str) -> dict[str, float]:
    found = page.locator(selector).first.bounding_box()
    assert found is not None
    return found


def text_box(page) -> dict[str, float]:
    """Around the tokens of the text, whose own box may be empty below them."""
    range_of = (
        "(node) => { const r = document.createRange(); r.selectNodeContents(node); return r.getBoundingClientRect(); }"
    )
    return page.locator(TARGETS[0]).first.evaluate(range_of)


def apart(a: dict[str, float], b: dict[str, float]) -> bool:
    beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def test_it_covers_nothing_that_it_talks_about_on_any_screen(browser, site: Site):
    with window(browser, site) as shown:
        page = shown.page
        page.wait_for_selector("text=fake-r1")
        for width, height in sizes(page, (1366, 768), (1280, 620), (768, 900), (360, 640)):
            page.click(OPENER)
            for number, target in enumerate(TARGETS):
                expect(page.locator(".guide-count")).to_contain_text(str(number + 1))
                eventually(lambda n=number, t=target: apart(box(page, CARD), box(page, t) if n else text_box(page)))
                for part in (CARD, target):
                    at = box(page, part)
                    assert at["x"] >= 0 and at["x"] + at["width"] <= width, (part, width)
                    assert at["y"] >= 0 and at["y"] + at["height"] <= height, (part, width)
                page.click(NEXT)
            page.wait_for_selector(CARD, state="hidden")


def test_the_keyboard_walks_through_it_and_comes_back_and_a_text_that_is_begun_ends_it(browser, site: Site):
    with window(browser, site) as shown:
        page = shown.page
        page.click('role=tab[name="How it works"]')
        page.focus(OPENER)
        page.keyboard.press("Enter")
        expect(page.locator(NEXT)).to_be_focused()
        expect(page.locator("#stream"), "it is about the Playground").to_be_visible()
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.locator(NEXT), "back at the first").to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(CARD)).to_be_hidden()
        expect(page.locator(OPENER)).to_be_focused()
        page.keyboard.press("Enter")
        for _ in TARGETS[1:]:
            page.keyboard.press("Enter")
        page.click("#prompt textarea")  # nothing outside it is covered
        page.keyboard.type("echo one")
        expect(page.locator(CARD)).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.locator(CARD)).to_be_hidden()
        eventually(lambda: shown.text() == "one")
