"""Threshold and acceptance under a real pointer and keys: what is previewed, and when it is written."""

from __future__ import annotations

import pytest

from app.running.run import Run
from engine.events import taken_back
from tests.support.browser import (
    Window,
    along,
    calls_of,
    check_contrast,
    drag,
    eventually,
    expect,
    newest,
    paused,
    serve,
    window,
)
from tests.support.fake_pair import FakePair

TOKENS = 60
DIAL, BOX = "#track input", "#threshold input[type=number]"
ACCEPTANCE = "#acceptance input[type=range]"
_SOME_FRAMES = "async () => { for (let n = 0; n < 8; n++) await new Promise(requestAnimationFrame); }"


def below(run: Run, threshold: float) -> int:
    return sum(event.score < threshold for event in run.events if event.score is not None)


def says(shown: Window, count: int) -> None:
    """Waits until the track says how many tokens score below."""
    eventually(lambda: shown.inner(".track-says").startswith(f"{count} of {TOKENS} "))


def written(shown: Window, site, threshold: float, acceptance: float = 0.0) -> Run:
    """Waits until the text of some dials is there, whole."""

    def there() -> bool:
        run = newest(site)
        return not run.active and (run.settings.threshold, run.settings.acceptance) == (threshold, acceptance)

    eventually(there)
    run = newest(site)
    shown.shows(run.events)
    return run


def limit_drafts(shown: Window, tokens: int) -> None:
    if not shown.page.is_visible("#max-draft input"):
        shown.page.click("text=Sampling and prompt format")
    shown.page.fill("#max-draft input", str(tokens))
    shown.page.keyboard.press("Tab")


def test_a_thumb_that_is_held_previews_and_one_that_is_let_go_writes(shown, site, pair):
    page, run, asked = shown.page, newest(site), len(pair.requests)
    says(shown, below(run, 0.5))
    flips = len({event.score for event in run.events}) + 1
    expect(page.locator(".track-ticks i"), "a tick for every flip, and one for each end").to_have_count(flips)
    page.mouse.move(*along(page, 0.1))
    page.mouse.down()
    for place in (0, 0.25, 0.5, 0.75):
        page.mouse.move(*along(page, place), steps=2)
        threshold = float(page.input_value(BOX))
        assert abs(below(run, threshold) - place * TOKENS) <= 1, place
        says(shown, below(run, threshold))
        changed = [e.index for e in run.events if (e.score < threshold) != (e.score < 0.5)]
        eventually(lambda changed=changed: shown.marked("flip") == changed)
    check_contrast(page, ".t.flip", ".t.stale", ".stream-preview")
    page.evaluate("new Promise((done) => setTimeout(done, 600))")  # a key that rests so long is sent
    assert newest(site) is run and len(pair.requests) == asked
    page.mouse.up()
    assert written(shown, site, threshold).events[0].threshold == threshold
    assert len(pair.requests) == asked + 1


def test_an_arrow_goes_one_flip_on_and_the_text_is_written_once_the_key_rests(shown, site):
    page, run = shown.page, newest(site)
    for where in (DIAL, BOX):
        at = below(run, float(page.input_value(BOX)))
        says(shown, at)
        page.focus(where)
        for key, flips in (("ArrowUp", 1), ("ArrowUp", 2), ("ArrowDown", 1)):
            page.keyboard.down(key)
            says(shown, at + flips)
            eventually(lambda flips=flips: len(shown.marked("flip")) == flips)
        assert newest(site) is run
        for key in ("ArrowUp", "ArrowDown"):
            page.keyboard.up(key)
        run = written(shown, site, float(page.input_value(BOX)))


def test_a_number_typed_digit_by_digit_is_taken_exactly_and_only_once_it_is_entered(shown, site):
    page, run = shown.page, newest(site)
    page.fill(BOX, "")
    page.type(BOX, "0.123456789")
    says(shown, below(run, 0.123456789))
    assert newest(site) is run
    page.keyboard.press("Enter")
    written(shown, site, 0.123456789)
    expect(page.locator(BOX)).to_have_value("0.123456789")
    place = page.eval_on_selector(DIAL, "node => Number(node.value)")
    assert place == pytest.approx(below(newest(site), 0.123456789) / TOKENS)
    page.fill(BOX, "7")
    page.press(BOX, "Enter")
    expect(page.locator(BOX), "beyond the end it is the end").to_have_value("1.01")
    written(shown, site, 1.01)
    page.fill("#acceptance input[type=number]", "0.004")  # a hundredth is the slider's own step
    expect(page.locator(".acceptance-means")).to_contain_text("0.004 ×")


def test_many_moves_end_with_the_text_of_the_last_and_undo_puts_the_thumb_back(shown, site):
    before = shown.page.eval_on_selector(DIAL, "node => Number(node.value)")
    for value in (0.9, 0.2, 0.8, 0.3, 0.7):
        shown.slide("#threshold", value)
    run = written(shown, site, 0.7)
    assert {event.threshold for event in run.events} == {0.7}
    undo = shown.page.locator('[data-step="-1"]')
    while shown.page.input_value(BOX) != "0.5":
        here = shown.page.input_value(BOX)
        undo.click()
        expect(shown.page.locator(BOX)).not_to_have_value(here)
    eventually(lambda: shown.page.eval_on_selector(DIAL, "node => Number(node.value)") == before)


def test_a_dial_turned_while_a_text_is_written_holds_for_what_comes_next(shown, site, pair):
    shown.slide("#threshold", 0.3)
    before = written(shown, site, 0.3)
    pair.tokens_per_second = 20
    shown.ask("echo " + "one two three four five " * 4)
    eventually(lambda: newest(site) is not before and len(newest(site).events) > 4)
    with paused(site.host):
        run = newest(site)
        drag(shown.page, ACCEPTANCE, 0.0, 0.6)
        shown.slide("#threshold", 1.01)
        eventually(lambda: run.dial.threshold == 1.01 and run.dial.acceptance > 0.5)
    shown.wait_state("done")
    assert newest(site) is run, "one run, turned once"
    used = [event.threshold for event in run.events]
    assert used[0] == 0.3 and used[-1] == 1.01 and used == sorted(used)
    assert run.events[0].acceptance == 0 and run.events[-1].acceptance > 0.5
    shown.shows(run.events)


def test_drafts_are_provisional_until_the_llm_has_read_them(shown, site, pair):
    limit_drafts(shown, 50)
    shown.slide("#threshold", 0)
    shown.slide("#acceptance", 0.01)
    written(shown, site, 0, 0.01)
    pair.tokens_per_second = 10
    shown.ask("echo " + "one two three four five six " * 3)
    shown.page.wait_for_selector(".t.draft >> nth=5")
    with paused(site.host):
        assert shown.marked("draft") == list(range(len(shown.authors())))
        line = shown.page.eval_on_selector(".t.draft", "node => getComputedStyle(node).textDecoration")
        assert "underline" in line and "dotted" in line
        check_contrast(shown.page, ".t.draft")
    pair.tokens_per_second = 2000
    shown.wait_state("done")
    assert shown.marked("draft") == [], "the end of a text is read"


def test_the_page_only_ever_shows_a_text_that_was_there_and_ends_with_the_runs(shown, pair, site, monkeypatch):
    states: set[str] = {""}
    add = Run._add

    def noted(run: Run, event) -> None:
        add(run, event)
        states.add("".join(each.text for each in run.events))

    shown.slide("#threshold", 0.2)
    written(shown, site, 0.2)
    shown.slide("#acceptance", 0.8)
    written(shown, site, 0.2, 0.8)
    states.add(shown.text())  # it stays until there is another
    monkeypatch.setattr(Run, "_add", noted)
    pair.tokens_per_second = 40
    shown.ask("another palindrome")
    shown.wait_state("running")
    seen: set[str] = set()
    while shown.page.get_attribute(".stream-state", "data-state") != "done":
        seen.add(shown.text())
    run = newest(site)
    assert len(run.written.cuts) > 3 and seen <= states
    shown.shows(run.events)


def test_what_was_taken_back_is_struck_through_where_it_stood_and_the_card_says_by_how_much(shown, site):
    shown.slide("#acceptance", 0.8)
    events, text = written(shown, site, 0.5, 0.8).events, shown.text()
    count, toggle = taken_back(events), shown.page.locator(".taken-toggle")
    expect(toggle).to_have_text(f"{count} taken back")
    expect(shown.page.locator("del"), "off by default").to_have_count(0)
    toggle.click()
    struck = shown.page.eval_on_selector_all(
        ".t del", "nodes => nodes.map(n => [n.textContent, +n.parentNode.dataset.i])"
    )
    back = [[draft.text.replace("\n", "↵"), event.index] for event in events for draft in event.taken_back]
    assert struck == back
    check_contrast(shown.page, ".t del")
    toggle.focus()
    shown.page.keyboard.press("Enter")
    expect(shown.page.locator("del")).to_have_count(0)
    assert shown.text() == text and f"{count} tokens" in shown.field("modelled")
    refused = next(event for event in newest(site).folded if event.refused)
    kept = next(event for event in newest(site).folded if event.ratio == 1)
    verdict = shown.page.locator(".verdict")
    assert "0.8 ×" in shown.inner(".acceptance-means")
    shown.page.hover(f'.t[data-i="{refused.index}"]')
    expect(verdict).to_contain_text(f"{refused.ratio:.2g} ×")
    expect(verdict).to_contain_text("taken back")
    shown.page.hover(f'.t[data-i="{kept.index}"]')
    expect(verdict).to_contain_text("kept")


def test_a_dial_that_a_hand_moved_stays_though_the_routers_own_start_comes_later(browser):
    pair, held = FakePair(), []
    pair.threshold = 0.9
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        page = shown.page
        expect(page.locator(BOX)).to_have_value("0.9")
        asking = calls_of(site, "follow_loading")

        def hold(route) -> None:
            late = route.request.post_data_json["fn_index"] in asking
            held.append((route, route.fetch())) if late else route.continue_()

        page.route("**/gradio_api/run/predict*", hold)
        shown.open()
        eventually(lambda: page.title() and any("fake-r1" in answer.text() for _, answer in held))
        expect(page.locator(BOX)).to_have_value("0.5")
        drag(page, DIAL, 0.5, 0.25)
        moved = page.input_value(BOX)
        for route, answer in held:
            route.fulfill(response=answer)
        page.wait_for_selector("text=fake-r1")
        page.evaluate(_SOME_FRAMES)
        expect(page.locator(BOX)).to_have_value(moved)
        assert moved not in ("0.5", "0.9")
