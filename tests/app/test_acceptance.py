"""Acceptance in Chromium: a dial like the threshold, drafts that settle, and text that is taken back."""

from __future__ import annotations

import pytest

from app.running.run import Run
from engine import Request, Role, load_settings
from engine.events import taken_back
from tests.support.browser import Window, along, contrast, eventually, expect, paused, serve, window
from tests.support.fake_pair import FakePair

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
SETTINGS = load_settings(max_new_tokens=60)


@pytest.fixture(scope="module")
def tiny(browser, tiny_pair):
    """A window on the tiny pair."""
    with serve(lambda preset, progress: tiny_pair, settings=SETTINGS) as site, window(browser, site) as shown:
        yield shown


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second = 200
    site_window.open()
    site_window.page.wait_for_selector("text=fake-r1")
    yield site_window
    assert site_window.errors == []


def newest(site) -> Run:
    return max((s.run for s in site.sessions._all() if s.run), key=lambda run: run.number)


def drag(shown: Window, dial: str, *values: float) -> None:
    """Presses a slider, drags it over some values, and lets it go, as a hand does."""
    if dial == "threshold":
        drag_threshold(shown, *values)
        return
    track = shown.page.locator(f"#{dial} input[type=range]")
    box, thumb = track.bounding_box(), 16
    low, high, now = (float(track.evaluate(f"node => node.{name}")) for name in ("min", "max", "value"))

    def place(value: float) -> tuple[float, float]:
        along = thumb / 2 + (value - low) / (high - low) * (box["width"] - thumb)
        return box["x"] + along, box["y"] + box["height"] / 2

    shown.page.mouse.move(*place(now))
    shown.page.mouse.down()
    for value in values:
        shown.page.mouse.move(*place(value), steps=4)
    shown.page.mouse.up()


def drag_threshold(shown: Window, *values: float) -> None:
    """Drags the thumb of the threshold's track, whose places are ranks, until the number reads at least each value.

    The number that is let go is typed exactly, since a track of ranks has no place for every number.
    """
    page, box = shown.page, "#threshold input[type=number]"
    place = float(page.locator("#track input").evaluate("node => (node.value - node.min) / (node.max - node.min)"))
    page.mouse.move(*along(page, place))
    page.mouse.down()
    for value in values:
        way = 0.1 if value > float(page.input_value(box)) else -0.1
        while 0 < place + way < 1 and (float(page.input_value(box)) - value) * way < 0:
            place += way
            page.mouse.move(*along(page, place))
    page.mouse.up()
    page.fill(box, f"{values[-1]:g}")
    page.press(box, "Enter")


def limit_drafts(shown: Window, tokens: int) -> None:
    if not shown.page.is_visible("#max-draft input"):
        shown.page.click("text=Sampling and prompt format")
    shown.page.fill("#max-draft input", str(tokens))


def stands_at(shown: Window, dial: str) -> float:
    return float(shown.page.input_value(f"#{dial} input[type=number]"))


def classes(shown: Window, name: str) -> list[bool]:
    return shown.page.eval_on_selector_all(".t", f"nodes => nodes.map(n => n.classList.contains('{name}'))")


@pytest.mark.parametrize(("threshold", "acceptance"), [(0.0, 1.0), (0.0, 0.0), (0.9, 0.5)])
def test_dragging_both_dials_gives_the_text_of_a_run_at_those(tiny, tiny_pair, threshold, acceptance):
    if not tiny.text():
        tiny.write(PROMPT)
    drag(tiny, "acceptance", 0.7, acceptance)
    drag(tiny, "threshold", 0.4, threshold)
    eventually(lambda: stands_at(tiny, "threshold") == threshold)
    dials = stands_at(tiny, "threshold"), stands_at(tiny, "acceptance")
    assert abs(dials[1] - acceptance) < 0.02
    trace = tiny_pair.generate(Request(PROMPT, dials[0], acceptance=dials[1], max_new_tokens=60))
    wanted = [event.role is Role.LLM for event in trace.events]
    eventually(lambda: (tiny.text(), classes(tiny, "llm")) == (trace.text, wanted), 15)
    eventually(lambda: tiny.page.get_attribute(".stream-state", "data-state") == "done")
    assert not any(classes(tiny, "draft")) and tiny.errors == []


def test_with_acceptance_1_the_text_is_the_llms_however_little_it_was_asked(tiny, tiny_pair):
    tiny.slide("#threshold", 0)
    tiny.slide("#acceptance", 1)
    alone = tiny_pair.generate(Request(PROMPT, policy="llm", max_new_tokens=60))
    eventually(lambda: tiny.text() == alone.text, 15)
    eventually(lambda: "the LLM’s text, near ties apart" in tiny.page.inner_text(".acceptance-means"))
    assert any(not llm for llm in classes(tiny, "llm")), "the SLM wrote what the LLM would have"


def test_the_dial_is_moved_by_keys_and_by_its_number_box(shown: Window):
    shown.page.focus("#acceptance input[type=range]")
    shown.page.keyboard.press("ArrowRight")
    eventually(lambda: stands_at(shown, "acceptance") == 0.01)
    shown.page.keyboard.press("End")
    eventually(lambda: stands_at(shown, "acceptance") == 1)
    shown.page.fill("#acceptance input[type=number]", "0.25")
    eventually(lambda: shown.page.input_value("#acceptance input[type=range]") == "0.25")
    eventually(lambda: "at least 0.25 × as likely" in shown.page.inner_text(".acceptance-means"))
    shown.page.fill("#acceptance input[type=number]", "0.004")
    eventually(lambda: "at least 0.004 × as likely" in shown.page.inner_text(".acceptance-means"))


def test_drafts_are_provisional_until_the_llm_has_read_them(shown: Window, pair: FakePair):
    pair.tokens_per_second = 3
    limit_drafts(shown, 8)
    shown.slide("#threshold", 0)
    shown.slide("#acceptance", 0.01)
    shown.ask("echo one two three four five six seven eight nine ten eleven twelve")
    eventually(lambda: 3 <= sum(classes(shown, "draft")) < 8)
    pair.tokens_per_second = 12
    lines = shown.page.eval_on_selector(".t.draft", "node => getComputedStyle(node).textDecoration")
    assert "underline" in lines and "dotted" in lines
    assert contrast(shown.page, ".t.draft") >= 4.5
    eventually(lambda: len(classes(shown, "draft")) >= 9 and not all(classes(shown, "draft")[:8]))
    shown.wait_state("done")
    assert not any(classes(shown, "draft")), "the end of a text is read"


def test_a_dial_turned_while_a_text_is_written_holds_for_what_is_drafted_next(shown: Window, pair: FakePair, site):
    pair.tokens_per_second = 25
    shown.slide("#threshold", 0.3)
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=8")
    drag(shown, "acceptance", 0.6)
    shown.wait_state("done")
    turned = stands_at(shown, "acceptance")
    run = newest(site)
    used = [event.acceptance for event in run.events]
    assert used[0] == 0 and used[-1] == turned > 0.5 and used == sorted(used), "one run, turned once"
    assert taken_back(run.events) > 0 and shown.text() == "".join(event.text for event in run.events)


def test_the_page_only_ever_shows_a_text_that_was_there_and_ends_with_the_traces(shown, pair, site, monkeypatch):
    states: set[str] = {""}
    add = Run._add

    def noted(run: Run, event) -> None:
        add(run, event)
        states.add("".join(each.text for each in run.events))

    monkeypatch.setattr(Run, "_add", noted)
    pair.tokens_per_second = 40
    shown.slide("#threshold", 0.2)
    shown.slide("#acceptance", 0.8)
    shown.ask("a palindrome")
    seen: set[str] = set()
    while shown.page.get_attribute(".stream-state", "data-state") != "done":
        seen.add(shown.text())
    run = newest(site)
    assert len(run.written.cuts) > 3 and len(seen) > 5
    assert shown.text() == "".join(event.text for event in run.events)
    assert seen <= states


def test_what_was_taken_back_is_shown_struck_through_where_it_stood(shown: Window, site):
    toggle = shown.page.locator(".taken-toggle")
    shown.slide("#acceptance", 0.8)
    text = shown.write("a palindrome")
    events = newest(site).events
    count = taken_back(events)
    assert toggle.inner_text() == f"{count} taken back" and toggle.get_attribute("aria-pressed") == "false"
    expect(shown.page.locator("del"), "off by default").to_have_count(0)
    toggle.click()
    eventually(lambda: toggle.get_attribute("aria-pressed") == "true")
    struck = shown.page.eval_on_selector_all(
        ".t del", "nodes => nodes.map(n => [n.textContent, +n.parentNode.dataset.i])"
    )
    back = [(draft.text.replace("\n", "↵"), event.index) for event in events for draft in event.taken_back]
    assert [tuple(each) for each in struck] == back
    assert contrast(shown.page, ".t del") >= 4.5
    toggle.focus()
    shown.page.keyboard.press("Enter")
    expect(shown.page.locator("del")).to_have_count(0)
    assert shown.text() == text
    assert f"{count} tokens that were taken back" in shown.field("modelled")


def test_a_text_that_takes_nothing_back_has_no_such_button(shown: Window):
    shown.write("a palindrome")
    expect(shown.page.locator(".taken-toggle").first).to_be_hidden()


def test_the_inspector_says_by_how_much_the_llm_preferred_another(shown: Window, site):
    shown.slide("#acceptance", 0.8)
    shown.write("a palindrome")
    events = newest(site).folded
    refused = next(event for event in events if event.refused)
    kept = next(event for event in events if event.ratio == 1)
    below = next((event for event in events if event.role is Role.SLM and event.ratio not in (None, 1)), None)
    shown.page.hover(f'.t[data-i="{refused.index}"]')
    said = shown.page.inner_text(".verdict")
    assert f"the LLM finds it {refused.ratio:.2g} × as likely as its own choice" in said and "taken back" in said
    shown.page.hover(f'.t[data-i="{kept.index}"]')
    eventually(lambda: shown.page.inner_text(".verdict") == "kept: the LLM’s own choice, too")
    if below:
        shown.page.hover(f'.t[data-i="{below.index}"]')
        eventually(lambda: "kept: the LLM finds it" in shown.page.inner_text(".verdict"))


def test_the_inspector_says_what_the_token_cost_that_took_a_drafts_place(shown: Window, site, pair: FakePair):
    def cost() -> str:
        return "".join(shown.page.locator(".inspector .cost").all_text_contents())

    settled = pair.generate(Request("a palindrome", 0.0, acceptance=1.0, max_draft=8, max_new_tokens=60))
    place = next(event.index for event in settled.events if len(event.taken_back) > 4)
    pair.tokens_per_second = 2
    limit_drafts(shown, 8)
    shown.slide("#threshold", 0)
    shown.slide("#acceptance", 1)
    shown.ask("a palindrome")
    shown.wait_state("running")
    eventually(lambda: len(newest(site).events) > place, 20)
    with paused(site.host):
        shown.page.click(f'.t.draft[data-i="{place}"]')
        before = eventually(cost)
    pair.tokens_per_second = 200
    shown.wait_state("done")
    shown.page.mouse.move(0, 0)
    shown.page.hover(f'.t[data-i="{place}"]')
    eventually(lambda: cost() not in ("", before))


def test_markup_that_was_taken_back_stays_text(shown: Window):
    markup = "echo " + "<img src=x onerror=document.title='owned'> &amp; <b>bold</b> " * 6
    shown.slide("#threshold", 0.1)
    shown.slide("#acceptance", 0.9)
    shown.write(markup)
    shown.page.click(".taken-toggle")
    shown.page.hover(".t:has(del) >> nth=0")
    struck = "".join(shown.page.eval_on_selector_all("del", "nodes => nodes.map(n => n.textContent)"))
    assert "<" in struck
    expect(shown.page.locator(".stream-text :is(img, b), .inspector img")).to_have_count(0)
    assert shown.page.title() != "owned"


def test_before_the_server_has_answered_the_page_outlines_what_would_flip_or_have_to_be_read(shown: Window, site):
    shown.slide("#acceptance", 0.8)
    shown.write("a palindrome")
    before = newest(site)
    refused = [event.index for event in before.folded if event.refused]
    with paused(site.host):
        shown.slide("#acceptance", 0)
        eventually(lambda: any(classes(shown, "flip")))
        assert [i for i, flip in enumerate(classes(shown, "flip")) if flip] == refused
    # The page says "done" of the text before until it hears of the new one: ask the run itself.
    eventually(lambda: newest(site).number > before.number and not newest(site).active, 10)
    eventually(lambda: shown.text() == "".join(event.text for event in newest(site).events))
    eventually(lambda: not any(classes(shown, "flip")))
    with paused(site.host):
        shown.slide("#acceptance", 0.2)  # at 0.5 the kept text of 0.8 would be the same, and come back at once
        eventually(lambda: any(classes(shown, "draft")))
        eventually(lambda: "the LLM is to read" in shown.page.inner_text(".stream-preview"))
    eventually(lambda: shown.text() == "".join(event.text for event in newest(site).events), 10)
    eventually(lambda: not any(classes(shown, "draft")))


def test_a_text_that_cost_more_than_the_llm_says_so_beside_the_dials(shown: Window, site):
    line = "#acceptance-says .cost-warning"
    shown.slide("#acceptance", 0.95)
    limit_drafts(shown, 2)
    shown.write("a palindrome")
    shown.page.wait_for_selector(f"{line}:not([hidden])")
    eventually(lambda: "× the LLM alone" in shown.page.inner_text(line))
    with paused(site.host):
        shown.slide("#acceptance", 0.2)
        shown.page.wait_for_selector(line, state="hidden")
        shown.slide("#acceptance", 0.95)
        shown.page.wait_for_selector(f"{line}:not([hidden])")
