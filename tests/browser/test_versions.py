"""Kept texts in Chromium: undo, redo, and the history."""

from __future__ import annotations

from typing import Any

from tests.support.browser import Site, Window, calls_of, eventually, expect, newest, window

PROMPT, UNDO, REDO = "#prompt textarea", '[data-step="-1"]', '[data-step="1"]'


def turn(shown: Window, site: Site, threshold: float) -> Any:
    """Lets the threshold go somewhere else; the finished run whose text is on the page then."""
    shown.slide("#threshold", threshold)
    eventually(lambda: newest(site).request.setting.threshold == threshold and not newest(site).active)
    return at(shown, site, newest(site))


def at(shown: Window, site: Site, run: Any) -> Any:
    """Waits until a run's text, its dials and its place in the history are on the page."""
    eventually(lambda: newest(site) is run)
    shown.shows(run.events)
    eventually(lambda: float(shown.page.input_value("#threshold input[type=range]")) == run.request.setting.threshold)
    expect(shown.page.locator('.version[aria-current="true"]')).to_have_count(1)
    return run


def test_undo_and_redo_bring_text_dials_and_prompt_and_ask_for_no_token(shown: Window, site: Site, pair):
    page, first = shown.page, newest(site)
    for button in (UNDO, REDO):
        expect(page.locator(button), "there is nothing it could do").to_be_hidden()
    second = turn(shown, site, 0.9)
    shown.write("echo one two three")
    third, tokens = newest(site), pair.tokens
    page.click(UNDO)
    at(shown, site, second)
    expect(page.locator(PROMPT)).to_have_value("a palindrome")
    page.fill(PROMPT, "typed for minutes, and not sent")
    page.keyboard.press("Control+Z")  # in a field it is the field's own
    expect(page.locator(PROMPT)).to_have_value("a palindrome")
    assert newest(site) is second
    page.fill(PROMPT, "typed for minutes, and not sent")
    place = page.locator(UNDO).bounding_box()
    page.click(UNDO)
    at(shown, site, first)
    page.mouse.click(place["x"] + 5, place["y"] + 5)  # redo has not moved there
    at(shown, site, first)
    expect(page.locator(UNDO)).to_be_hidden()
    expect(page.locator(REDO)).to_be_visible()
    for run in (second, third):
        page.focus(".stream-text")
        page.keyboard.press("Control+Shift+Z")
        at(shown, site, run)
    expect(page.locator(PROMPT)).to_have_value("typed for minutes, and not sent")
    assert pair.tokens == tokens
    expect(page.locator(REDO)).to_be_hidden()
    page.click(UNDO)
    at(shown, site, second)
    expect(page.locator(REDO)).to_be_visible()  # the fields have followed, too
    turn(shown, site, 0.2)
    expect(page.locator(REDO), "what came after is no more").to_be_hidden()


def test_every_press_of_undo_counts_also_while_the_one_before_is_on_its_way(shown: Window, site: Site):
    page, first, held = shown.page, newest(site), []
    for threshold in (0.9, 0.2):
        turn(shown, site, threshold)
    expect(page.locator(UNDO)).to_be_visible()
    going = calls_of(site, "go_to")

    def hold(route) -> None:
        late = not held and route.request.post_data_json["fn_index"] in going
        held.append(route) if late else route.continue_()

    page.route("**/gradio_api/run/predict*", hold)
    page.click(UNDO)
    eventually(lambda: held or page.evaluate("0"))
    page.focus(".stream-text")
    page.keyboard.press("Control+Z")
    held[0].continue_()
    page.wait_for_function("document.querySelector('#threshold input[type=range]').value === '0.5'")
    at(shown, site, first)
    page.unroute("**/gradio_api/run/predict*")
    expect(page.locator(UNDO)).to_be_hidden()


def test_the_history_names_what_is_kept_goes_back_with_enter_and_fits_a_telephone(browser, site: Site, pair):
    pair.tokens_per_second = 2000
    with window(browser, site, 360, 780, reduced_motion="reduce") as shown:
        page = shown.page
        shown.write("a palindrome")
        first = newest(site)
        for count, threshold in enumerate((0.9, 0.8, 0.7, 0.6, 0.4), start=2):
            shown.slide("#threshold", threshold)
            expect(page.locator(".version")).to_have_count(count)
        shown.slide("#acceptance", 0.2)
        expect(page.locator(".version")).to_have_count(7)
        versions, tokens = page.locator(".version"), pair.tokens
        assert "acceptance 0.2" in versions.first.get_attribute("title")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.click(".history-open")
        here = page.locator('.version[aria-current="true"]').bounding_box()
        assert here["x"] >= 0 and here["x"] + here["width"] <= 360, "it is in sight"
        versions.last.focus()
        page.keyboard.press("Enter")
        at(shown, site, first)
        assert pair.tokens == tokens and page.evaluate("document.activeElement.classList.contains('version')")
        shown.write("echo <img src=x onerror=document.title='owned'> and <b>bold</b>")
        page.fill(PROMPT, "echo x")
        expect(page.locator(".stream-origin"), "whose text it is").to_contain_text("<img")
        expect(page.locator(".versions img, .stream-origin img, .stream-origin b")).to_have_count(0)
        assert page.title() != "owned" and shown.errors == []
