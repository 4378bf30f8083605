"""Two kept texts side by side, in Chromium: picked in the strip by hand and by keys, marked where they differ."""

from __future__ import annotations

import json

from app.running.session import Session
from app.stream.versions import versions_message
from tests.app.test_access import AXE, faults
from tests.app.test_versions import newest, settled
from tests.support.browser import Window, check_contrast, eventually, expect, window

TOKENS = 60
OPEN, SHEET = ".beside-open", ".beside[open]"


def another(shown: Window, site, threshold: float) -> None:
    shown.slide("#threshold", threshold)
    settled(shown, site, threshold)


def sides(shown: Window) -> list[list[tuple[str, bool, bool]]]:
    """Of each text its tokens: text, whether the LLM's, whether marked."""
    told = """nodes => nodes.map(node => [...node.querySelectorAll('.w')].map(
      w => [w.textContent, w.classList.contains('llm'), w.classList.contains('differs')]))"""
    return shown.page.eval_on_selector_all(f"{SHEET} .beside-text", told)


def test_two_texts_stand_side_by_side_with_their_headlines_and_what_differs_marked(shown: Window, site, pair):
    page, first = shown.page, newest(site)
    expect(page.locator(OPEN).first, "there is one text").to_be_disabled()
    another(shown, site, 0.9)
    second, tokens, requests = newest(site), pair.tokens, len(pair.requests)
    eventually(lambda: page.is_enabled(OPEN))
    page.focus(OPEN)
    page.keyboard.press("Enter")  # two there are: they are shown at once
    page.wait_for_selector(SHEET)
    left, right = sides(shown)
    for side, run in ((left, first), (right, second)):
        assert [text for text, *_ in side] == [event.text for event in run.events]
        assert [llm for _, llm, _ in side] == [event.role.value == "llm" for event in run.events]
    differ = next(i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a[:2] != b[:2])
    for side in (left, right):
        assert not any(marked for *_, marked in side[:differ]) and side[differ][2]
    expect(page.locator(".beside-says").first).to_contain_text(f"The same up to token {differ};", use_inner_text=True)
    titles = page.eval_on_selector_all(f"{SHEET} h3", "nodes => nodes.map(n => n.textContent)")
    assert titles == ["Threshold 0.5", "Threshold 0.9"]
    heads = page.eval_on_selector_all(f"{SHEET} .beside-headline", "nodes => nodes.map(n => n.textContent)")
    assert all("by the LLM" in head and "of its cost" in head for head in heads) and heads[0] != heads[1]
    assert page.inner_text(".headline").replace("\n", " ").split()[0] in heads[1], "as beside the dials"
    page.keyboard.press("Escape")
    eventually(lambda: page.locator(SHEET).count() == 0)
    assert page.evaluate("document.activeElement.className") == "beside-open"
    assert (pair.tokens, len(pair.requests)) == (tokens, requests) and newest(site) is second


def test_any_two_are_picked_in_the_strip_by_keys_and_one_is_gone_to(shown: Window, site, pair):
    page, first = shown.page, newest(site)
    for threshold in (0.9, 0.2):
        another(shown, site, threshold)
    eventually(lambda: page.locator(".version").count() == 3)
    page.click(OPEN)
    eventually(lambda: "Choose another text" in page.inner_text(".beside-hint"))
    expect(page.locator('.version[aria-current="true"]').first).to_have_attribute("aria-pressed", "true")
    focused = page.evaluate("document.activeElement.dataset.number")
    assert focused == page.get_attribute(".version >> nth=0", "data-number")
    page.keyboard.press("Escape")
    eventually(lambda: page.inner_text(".beside-hint") == "")
    expect(page.locator(OPEN).first).to_have_attribute("aria-pressed", "false")
    assert newest(site).settings.threshold == 0.2
    page.keyboard.press("Enter")  # the focus is on the button again
    page.keyboard.press("Enter")  # and now on the first text
    page.wait_for_selector(SHEET)
    titles = page.eval_on_selector_all(f"{SHEET} h3", "nodes => nodes.map(n => n.textContent)")
    assert titles == ["Threshold 0.5", "Threshold 0.2"]
    tokens = pair.tokens
    page.click(f"{SHEET} .beside-take >> nth=0")
    eventually(lambda: newest(site).settings.threshold == 0.5 and page.locator(SHEET).count() == 0)
    assert shown.text() == "".join(event.text for event in first.events) and pair.tokens == tokens


def test_on_a_telephone_one_stands_below_the_other(browser, site, pair):
    pair.tokens_per_second = 2000
    with window(browser, site, 360, 780, reduced_motion="reduce") as phone:
        phone.page.wait_for_selector("text=fake-r1")
        phone.write("a palindrome")
        another(phone, site, 0.9)
        eventually(lambda: phone.page.is_enabled(OPEN))
        phone.page.click(OPEN)
        phone.page.wait_for_selector(SHEET)
        one, other = [box.bounding_box() for box in phone.page.locator(f"{SHEET} article").all()]
        assert other["y"] >= one["y"] + one["height"] and one["x"] >= 0 and one["x"] + one["width"] <= 360
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        parts = (" .w.llm", " .w.slm", "-says", "-headline", " h3", "-close")
        check_contrast(phone.page, *(f".beside{part}" for part in parts))
        assert phone.errors == []


def test_axe_finds_nothing_while_two_are_picked_nor_beside_each_other(browser, site, pair):
    pair.tokens_per_second = 2000
    with window(browser, site, reduced_motion="reduce") as shown:
        page = shown.page
        page.wait_for_selector("text=fake-r1")
        shown.write("a palindrome")
        for threshold in (0.9, 0.2):
            another(shown, site, threshold)
        eventually(lambda: page.locator(".version").count() == 3)
        page.evaluate(AXE)
        page.click(OPEN)
        page.wait_for_selector('.version[aria-pressed="true"]')
        page.wait_for_timeout(300)
        assert faults(page) == {}, "picking"
        check_contrast(page, '.version[aria-pressed="true"] span')
        page.click(".version >> nth=0")
        page.wait_for_selector(SHEET)
        page.wait_for_timeout(300)
        assert faults(page) == {}, "beside"


def test_a_text_that_is_no_longer_kept_is_not_shown():
    assert "beside" not in json.loads(versions_message(Session(), (3, 4)))
