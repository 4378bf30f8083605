"""The guide of the first visit: it shows itself once, is in nobody's way, and goes by keyboard."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.support.browser import Site, Window, expect, window

CARD, NEXT, OPENER = ".guide-card", ".guide-next", ".guide-open"


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


def test_it_shows_itself_on_the_first_visit_only_and_takes_nothing(browser, site: Site):
    context = browser.new_context(reduced_motion="reduce")
    with visit(context, site) as page:
        a_while(page)
        page.wait_for_selector(CARD)
        assert page.evaluate("document.activeElement === document.body && scrollY === 0")
        page.keyboard.press("Escape")
        page.wait_for_selector(CARD, state="hidden")
    with visit(context, site) as page:
        a_while(page)
        expect(page.locator(CARD)).to_be_hidden()
    context.close()


@pytest.mark.parametrize("sign", ["pointerdown", "keydown", "input"])
def test_it_leaves_who_is_at_work_alone(browser, site: Site, sign: str):
    context = browser.new_context()
    with visit(context, site) as page:
        page.evaluate("(sign) => document.dispatchEvent(new Event(sign, { bubbles: true }))", sign)
        a_while(page)
        expect(page.locator(CARD)).to_be_hidden()
    context.close()


def test_it_goes_by_keyboard_and_gives_the_focus_back(browser, site: Site):
    with window(browser, site) as shown:
        page = shown.page
        page.click('role=tab[name="How it works"]')
        page.focus(OPENER)
        page.keyboard.press("Enter")
        expect(page.locator(NEXT)).to_be_focused()
        expect(page.locator("#stream"), "it is about the Playground").to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(CARD)).to_be_hidden()
        expect(page.locator(OPENER)).to_be_focused()
