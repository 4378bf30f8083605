"""Dials that preview until they are let go, and kept texts to go back to, in Chromium, with a real pointer and keys."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from app.figures import simplest
from app.running.run import Run
from engine import first_flip
from tests.support.browser import Window, along, calls_of, check_contrast, eventually, expect, window

TOKENS = 60
BOX, RANGE = "#threshold input[type=number]", "#threshold input[type=range]"


def newest(site) -> Run:
    return max((s.run for s in site.sessions._all() if s.run), key=lambda run: run.number)


def settled(shown: Window, site, threshold: float) -> Run:
    """Waits until the page has the finished text of a threshold."""
    eventually(lambda: not newest(site).active and newest(site).settings.threshold == threshold, 10)
    run = newest(site)
    eventually(lambda: shown.page.get_attribute(".stream-state", "data-run") == str(run.number), 10)
    eventually(lambda: roles(shown) == [event.role.value for event in run.events], 10)
    eventually(lambda: shown.page.locator('.version[aria-current="true"]').count() == 1, 10)
    return run


def roles(shown: Window) -> list[str]:
    return shown.page.eval_on_selector_all(".t", "nodes => nodes.map(n => n.classList.contains('llm') ? 'llm' : 'slm')")


def type_threshold(shown: Window, text: str) -> None:
    shown.page.click(BOX)
    shown.page.keyboard.press("Control+A")
    shown.page.keyboard.type(text)


def answered(shown: Window) -> None:
    """Waits for an answer of the server's to something that was asked after all that came before."""
    with shown.page.expect_response(lambda response: "/gradio_api/" in response.url):
        shown.page.evaluate("document.querySelector('#unit input:not(:checked)').click()")


def test_a_slider_that_is_held_asks_for_nothing_and_is_written_on_from_the_first_flip_when_let_go(shown, site, pair):
    page, before, tokens, text = shown.page, newest(site), pair.tokens, shown.text()
    page.evaluate("document.querySelectorAll('.t').forEach(t => { t.mine = true; })")
    page.mouse.move(*along(page, 0.5))
    page.mouse.down()
    for place in (0.6, 0.3, 0.8):
        page.mouse.move(*along(page, place), steps=3)
    page.wait_for_selector(".t.flip")
    page.wait_for_timeout(1000)  # held, as somebody does who reads
    answered(shown)
    assert pair.tokens == tokens and newest(site) is before and shown.text() == text
    assert page.locator(".t").evaluate_all("nodes => nodes.every(n => n.mine)")
    expect(page.locator(".stream-preview").first).to_contain_text("would flip", use_inner_text=True)
    expect(page.locator(".stream-origin").first).to_contain_text("threshold 0.5", use_inner_text=True)
    threshold = float(page.input_value(BOX))
    page.mouse.up()
    after = settled(shown, site, threshold)
    flip = first_flip(before.events, threshold, 0.0) or 0
    assert pair.tokens - tokens == len(after.events) - flip
    assert page.eval_on_selector_all(".t", "nodes => nodes.filter(n => n.mine).length") == flip
    expect(page.locator(".t.flip, .t.stale")).to_have_count(0)
    assert page.inner_text(".stream-origin") == ""


def test_going_back_is_instant_and_asks_for_no_token(shown, site, pair):
    first = newest(site)
    shown.slide("#threshold", 0.9)
    other = settled(shown, site, 0.9)
    tokens, requests = pair.tokens, len(pair.requests)
    shown.slide("#threshold", 0.5)
    assert settled(shown, site, 0.5) is first
    shown.slide("#threshold", 0.9)
    assert settled(shown, site, 0.9) is other
    assert (pair.tokens, len(pair.requests)) == (tokens, requests)
    eventually(lambda: shown.page.is_disabled("#stop"))


def test_a_dial_that_is_dragged_while_a_text_is_written_holds_once_it_is_let_go(shown, site, pair):
    pair.tokens_per_second = 25
    page = shown.page
    page.click("#generate")
    eventually(lambda: newest(site).active and len(newest(site).events) > 3)
    run = newest(site)
    page.mouse.move(*along(page, 0.5))
    page.mouse.down()
    page.mouse.move(*along(page, 0.9), steps=3)
    held = len(run.events)
    eventually(lambda: len(run.events) > held + 5)
    assert {event.threshold for event in run.events} == {0.5}, "a hand is still on it"
    page.mouse.up()
    turned = float(page.input_value(BOX))
    eventually(lambda: turned in {event.threshold for event in run.events})
    pair.tokens_per_second = 2000
    shown.wait_state("done")
    assert newest(site) is run and len(run.events) == TOKENS
    expect(page.locator(".stream-origin").first).to_contain_text(f"threshold 0.5, then {turned:g}", use_inner_text=True)


def test_digits_are_applied_once_when_they_are_all_there(shown, site, pair):
    requests = len(pair.requests)
    type_threshold(shown, "0.95")
    answered(shown)
    assert len(pair.requests) == requests, "neither 0 nor 0.9 was asked for"
    shown.page.keyboard.press("Enter")
    settled(shown, site, 0.95)
    assert [each.threshold for each in pair.requests[requests:]] == [0.95]
    type_threshold(shown, "0.7")
    shown.page.focus("#prompt textarea")
    settled(shown, site, 0.7)
    assert [each.threshold for each in pair.requests[requests:]] == [0.95, 0.7]
    type_threshold(shown, "5")
    shown.page.keyboard.press("Enter")
    settled(shown, site, 1.01)


def test_the_title_of_a_version_says_what_its_cost_is_a_part_of_also_where_it_was_cut_short(shown, pair):
    pair.tokens_per_second = 20
    shown.ask("echo " + "and so on " * 20)
    shown.page.wait_for_selector(".t >> nth=3")
    shown.page.click("#stop")
    shown.wait_state("stopped")
    cut = shown.page.locator('.version:has-text("cut short")').first
    expect(cut).to_have_attribute("title", re.compile(r", cost [\d.]+\s% of LLM only, cut short\. Prompt: echo and"))
    expect(cut).not_to_contain_text("of LLM only")


def test_a_comma_is_a_point(shown, site):
    type_threshold(shown, "0,7")
    expect(shown.page.locator(BOX).first).to_have_value("0.7")
    shown.page.keyboard.press("Enter")
    settled(shown, site, 0.7)


def test_a_comma_groups_the_thousands_of_a_whole_number(shown):
    page, box = shown.page, "#compare-limit input"
    page.click('role=tab[name="Compare"]')
    for typed, value in (("1,000", "1000"), ("1,234,567", "1234567"), ("12", "12"), ("1,5", "1.5")):
        page.click(box, click_count=3)
        page.keyboard.type(typed)
        expect(page.locator(box)).to_have_value(value)


def test_half_a_number_is_not_written_over_by_the_one_before_it(shown):
    page, box = shown.page, "#compare-limit input"
    page.click('role=tab[name="Compare"]')
    page.click(box, click_count=3)
    page.keyboard.type("12.")
    page.locator(box).evaluate("field => { field.value = 12; }")  # as gradio does, a frame after it heard of 12
    page.keyboard.type("5")
    expect(page.locator(box)).to_have_value("12.5")


@pytest.mark.parametrize("leave", ["Tab", "Enter"])
def test_an_emptied_number_stays_what_it_was_and_says_so(shown, site, pair, leave):
    page, run, requests = shown.page, newest(site), len(pair.requests)
    type_threshold(shown, "")
    page.keyboard.press("Backspace")
    expect(page.locator(BOX).first).to_have_value("")
    assert float(page.input_value(RANGE)) == 0.5
    assert page.inner_text("#threshold .number-kept") == "empty: still 0.5"
    check_contrast(page, "#threshold .number-kept")
    page.keyboard.press(leave)
    expect(page.locator(BOX).first).to_have_value("0.5")
    expect(page.locator("#threshold .number-kept").first).to_be_hidden()
    answered(shown)
    assert newest(site) is run and len(pair.requests) == requests
    expect(page.locator(".toast-body")).to_have_count(0)


@pytest.mark.parametrize("name", ["#llm-price", "#max-new-tokens", "#max-draft"])
def test_no_keystroke_in_a_number_is_an_error(shown, site, name):
    page, field = shown.page, f"{name} input[type=number]"
    if not page.is_visible(field):
        page.click("text=Sampling and prompt format")
    before = page.input_value(field)
    statuses = []
    page.on("response", lambda response: statuses.append(response.status))
    page.focus(field)
    page.keyboard.press("Control+A")
    for key in ("Backspace", "-", "e", "Tab"):
        page.keyboard.press(key)
    expect(page.locator(field).first).to_have_value(before)
    shown.write("a palindrome")
    expect(page.locator(".toast-body")).to_have_count(0)
    assert max(statuses) < 400


def test_arrow_keys_are_committed_once_after_a_rest(shown, site, pair):
    page, requests = shown.page, len(pair.requests)
    scores = sorted(event.score or 0.0 for event in newest(site).events)
    stops = [0.0, *filter(None, (simplest(*gap) for gap in pairwise(scores))), 1.01]
    page.focus("#track input")
    page.keyboard.down("End")
    answered(shown)
    assert len(pair.requests) == requests, "the key is down"
    page.keyboard.up("End")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    settled(shown, site, stops[-4])
    assert [each.threshold for each in pair.requests[requests:]] == [stops[-4]]


def test_a_handle_that_moves_the_threshold_waits_for_the_hand_too(shown, site, pair):
    requests = len(pair.requests)
    shown.page.click('[data-change="1"]')
    eventually(lambda: len(pair.requests) == requests + 1)
    settled(shown, site, float(shown.page.input_value(BOX)))


def test_undo_and_redo_by_buttons_and_keys_with_prompt_and_dials(shown, site, pair):
    page, undo, redo = shown.page, '[data-step="-1"]', '[data-step="1"]'
    expect(page.locator(undo).first).to_be_disabled()
    expect(page.locator(redo).first).to_be_disabled()
    first = newest(site)
    shown.slide("#threshold", 0.9)
    second = settled(shown, site, 0.9)
    shown.write("echo one two three")
    third = newest(site)
    tokens = pair.tokens
    page.click(undo)
    eventually(lambda: newest(site) is second)  # the third has the same threshold
    assert settled(shown, site, 0.9) is second
    eventually(lambda: page.input_value("#prompt textarea") == "a palindrome")  # after the text, which the feed brings
    page.click(undo)
    assert settled(shown, site, 0.5) is first
    eventually(lambda: float(page.input_value(RANGE)) == 0.5)
    eventually(lambda: page.is_disabled(undo) and page.is_enabled(redo))
    page.focus(".stream-text")
    page.keyboard.press("Control+Shift+Z")
    assert settled(shown, site, 0.9) is second
    eventually(lambda: page.is_enabled(undo))
    page.keyboard.press("Control+Shift+Z")
    eventually(lambda: shown.text() == "one two three")
    assert newest(site) is third
    eventually(lambda: page.input_value("#prompt textarea") == "echo one two three")
    eventually(lambda: page.is_disabled(redo))
    page.keyboard.press("Control+Z")
    eventually(lambda: newest(site) is second)
    assert settled(shown, site, 0.9) is second and pair.tokens == tokens
    eventually(lambda: page.is_enabled(redo))
    shown.slide("#threshold", 0.2)
    settled(shown, site, 0.2)
    eventually(lambda: page.is_disabled(redo))
    assert page.inner_text(".stream-origin") == ""


def test_a_prompt_that_was_typed_and_not_sent_stays_at_undo(shown, site, pair):
    shown.write("echo one")
    shown.write("echo two")
    shown.page.fill("#prompt textarea", "a long one, typed for minutes")
    shown.page.click('[data-step="-1"]')
    eventually(lambda: shown.text() == "one")
    assert shown.page.input_value("#prompt textarea") == "a long one, typed for minutes"
    shown.page.wait_for_timeout(300)
    assert shown.page.input_value("#prompt textarea") == "a long one, typed for minutes"


def test_every_press_of_undo_counts_also_while_the_one_before_is_on_its_way(shown, site):
    page, undo, first, held = shown.page, '[data-step="-1"]', newest(site), []
    for threshold in (0.9, 0.2):
        shown.slide("#threshold", threshold)
        settled(shown, site, threshold)
    eventually(lambda: page.is_enabled(undo))
    going = calls_of(site, "go_to")

    def hold(route) -> None:
        late = not held and route.request.post_data_json["fn_index"] in going
        held.append(route) if late else route.continue_()

    page.route("**/gradio_api/run/predict*", hold)
    page.click(undo)
    eventually(lambda: held or page.wait_for_timeout(20))
    page.focus(".stream-text")
    page.keyboard.press("Control+Z")
    page.wait_for_timeout(200)
    held[0].continue_()
    page.wait_for_function("document.querySelector('#threshold input[type=range]').value === '0.5'")
    page.unroute("**/gradio_api/run/predict*")
    assert settled(shown, site, 0.5) is first
    eventually(lambda: page.is_disabled(undo))


def test_ctrl_z_in_a_text_field_is_the_fields_own(shown, site):
    shown.slide("#threshold", 0.9)
    run = settled(shown, site, 0.9)
    page = shown.page
    page.click("#prompt textarea")
    page.keyboard.type("abc")
    page.keyboard.press("Control+Z")
    answered(shown)
    assert newest(site) is run


def test_the_strip_names_what_is_kept_and_goes_back_with_enter(shown, site, pair):
    page = shown.page
    shown.slide("#acceptance", 0.8)
    eventually(lambda: page.locator(".version").count() == 2)
    first, second = page.locator(".version").all()
    share, cost = shown.field("share"), shown.field("relative")
    eventually(lambda: second.get_attribute("aria-current") == "true")
    eventually(lambda: f"{shown.field('relative')}".replace(" ", "") in second.inner_text().replace(" ", ""))
    assert "0.5, acceptance 0.8" in second.inner_text() and "acceptance" not in first.inner_text(), (share, cost)
    tokens = pair.tokens
    first.focus()
    page.keyboard.press("Enter")
    eventually(lambda: newest(site).settings.acceptance == 0 and first.get_attribute("aria-current") == "true")
    assert pair.tokens == tokens
    eventually(lambda: float(page.input_value("#acceptance input[type=range]")) == 0)
    assert page.evaluate("document.activeElement.classList.contains('version')"), "the focus stays"
    check_contrast(page, ".version b", ".version span")


def test_a_version_that_comes_back_to_the_strip_stands_where_it_stood(shown, site, pair):
    page = shown.page
    shown.slide("#acceptance", 0.8)
    eventually(lambda: page.locator(".version").count() == 2)
    order = page.eval_on_selector_all(".version", "all => all.map(each => each.dataset.number)")
    page.evaluate("document.querySelector('.version').remove()")  # as while it is being audited
    page.click("#unit label >> nth=1")
    eventually(lambda: page.eval_on_selector_all(".version", "all => all.map(each => each.dataset.number)") == order)


def test_many_versions_fit_a_telephone(browser, site, pair):
    pair.tokens_per_second = 2000
    with window(browser, site, 360, 780, reduced_motion="reduce") as phone:
        phone.page.wait_for_selector("text=fake-r1")
        phone.write("a palindrome")
        for count, threshold in enumerate((0.9, 0.8, 0.7, 0.6, 0.4), start=2):
            phone.slide("#threshold", threshold)
            eventually(lambda count=count: phone.page.locator(".version").count() == count, 10)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        here = phone.page.locator('.version[aria-current="true"]').bounding_box()
        assert here["x"] >= 0 and here["x"] + here["width"] <= 360
        check_contrast(phone.page, ".version span")
        assert phone.errors == []


def test_after_the_prompt_is_edited_the_line_says_whose_the_text_is_and_the_dial_goes_on_with_it(shown, site):
    page = shown.page
    page.fill("#prompt textarea", "echo another")
    eventually(lambda: "answers “a palindrome”" in page.inner_text(".stream-origin"))
    check_contrast(page, ".stream-origin")
    shown.slide("#threshold", 0.9)
    assert settled(shown, site, 0.9).request.prompt == "a palindrome"
    expect(page.locator(".stream-origin").first).to_contain_text("answers “a palindrome”", use_inner_text=True)
    page.click("#generate")
    eventually(lambda: shown.text() == "another")
    eventually(lambda: page.inner_text(".stream-origin") == "")


def test_after_another_policy_is_chosen_the_line_says_who_scored_the_text_and_a_dial_takes_that_one(shown):
    page = shown.page
    page.click("#policy input")
    page.click("role=option[name='always the LLM']")
    eventually(lambda: "Generate, or a dial, takes always the LLM" in page.inner_text(".stream-origin"))
    shown.slide("#threshold", 0.3)
    eventually(lambda: len(shown.tokens(".llm")) == len(shown.tokens()) > 0)
    assert page.inner_text(".stream-origin") == "", "the text is what the page says"


def test_a_prompt_is_only_ever_text_in_the_strip_and_the_line(shown):
    markup = "echo <img src=x onerror=document.title='owned'><b>bold</b>"
    shown.write(markup)
    shown.page.fill("#prompt textarea", "echo x")
    eventually(lambda: "<img" in shown.page.inner_text(".stream-origin"))
    expect(shown.page.locator(".versions img, .stream-origin img, .stream-origin b")).to_have_count(0)
    assert shown.page.title() != "owned"


def test_an_opened_trace_is_a_step(shown, site, pair, tmp_path):
    first = newest(site)
    path = tmp_path / "trace.json"
    pair.trace(first.request, first.events).save(path)
    shown.write("echo other")
    shown.page.set_input_files(".share input[type=file]", str(path))
    shown.page.wait_for_selector("text=Opened from a trace")
    eventually(lambda: shown.page.locator(".version").count() == 3)
    shown.page.click('[data-step="-1"]')
    eventually(lambda: shown.text() == "other")
    eventually(lambda: shown.page.is_enabled('[data-step="1"]'))
    shown.page.click('[data-step="1"]')
    shown.page.wait_for_selector("text=Opened from a trace")
    eventually(lambda: len(roles(shown)) == len(first.events))
