"""Threshold and acceptance under a real pointer and keys: what is previewed, and when it is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.running.run import Run
from engine.events import taken_back
from engine.operating_points import OperatingPoints
from tests.support.browser import Window, along, check_contrast, drag, eventually, expect, newest, paused, serve, window
from tests.support.fake_pair import FakePair
from tests.support.points import CURVE, point

TOKENS = 60
DIAL, BOX = "#track input", "#threshold input[type=number]"
ACCEPTANCE = "#acceptance input[type=range]"


def below(run: Run, threshold: float) -> int:
    return sum(event.score < threshold for event in run.events if event.score is not None)


def dial(shown: Window) -> float:
    return float(shown.page.input_value(BOX))


def says(shown: Window, count: int) -> None:
    """Waits until the track says how many tokens score below."""
    eventually(lambda: shown.inner(".track-says").startswith(f"{count} of {TOKENS} "))


def written(shown: Window, site, threshold: float, acceptance: float = 0.0) -> Run:
    """Waits until the text of some dials is there, whole."""

    def there() -> bool:
        run = newest(site)
        return not run.active and (run.settings.threshold, run.settings.acceptance) == (threshold, acceptance)

    eventually(there)
    shown.shows(newest(site).events)
    return newest(site)


def test_a_thumb_that_is_held_previews_and_one_that_is_let_go_writes(shown, site, pair):
    page, run, asked = shown.page, newest(site), len(pair.requests)
    says(shown, below(run, 0.5))
    start = page.input_value(DIAL)
    flips = len({event.score for event in run.events}) + 1
    expect(page.locator(".track-ticks i"), "a tick for every flip, and one for each end").to_have_count(flips)
    page.mouse.move(*along(page, 0.1))
    page.mouse.down()
    for place in (0, 0.25, 0.5, 0.75):
        page.mouse.move(*along(page, place), steps=2)
        threshold = dial(shown)
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
    page.click('[data-step="-1"]')
    expect(page.locator(BOX)).to_have_value("0.5")
    expect(page.locator(DIAL), "undo puts the thumb back").to_have_value(start)


def test_an_arrow_goes_one_flip_on_and_the_text_is_written_once_the_key_rests(shown, site):
    page, run = shown.page, newest(site)
    for where in (DIAL, BOX):
        at = below(run, dial(shown))
        says(shown, at)
        page.focus(where)
        for key, flips in (("ArrowUp", 1), ("ArrowUp", 2), ("ArrowDown", 1)):
            page.keyboard.down(key)
            says(shown, at + flips)
            eventually(lambda flips=flips: len(shown.marked("flip")) == flips)
        assert newest(site) is run
        for key in ("ArrowUp", "ArrowDown"):
            page.keyboard.up(key)
        run = written(shown, site, dial(shown))


def test_a_number_typed_digit_by_digit_is_taken_exactly_and_only_once_it_is_entered(shown, site):
    page, run = shown.page, newest(site)
    page.fill(BOX, "")
    page.type(BOX, "0.123456789")
    says(shown, below(run, 0.123456789))
    assert newest(site) is run
    page.keyboard.press("Enter")
    run = written(shown, site, 0.123456789)
    expect(page.locator(BOX)).to_have_value("0.123456789")
    assert float(page.input_value(DIAL)) == pytest.approx(below(run, 0.123456789) / TOKENS)
    page.fill(BOX, "7")
    page.press(BOX, "Enter")
    expect(page.locator(BOX), "beyond the end it is the end").to_have_value("1.01")
    written(shown, site, 1.01)
    page.fill("#acceptance input[type=number]", "0.004")  # a hundredth is the slider's own step
    expect(page.locator(".acceptance-means")).to_contain_text("0.004 ×")


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
        eventually(lambda: run.setting.threshold == 1.01 and run.setting.acceptance > 0.5)
    shown.wait_state("done")
    assert newest(site) is run, "one run, turned once"
    used = [event.threshold for event in run.events]
    assert used[0] == 0.3 and used[-1] == 1.01 and used == sorted(used)
    assert run.events[0].acceptance == 0 and run.events[-1].acceptance > 0.5
    shown.shows(run.events)


def test_drafts_are_shown_as_such_until_they_are_read_and_what_was_taken_back_is_struck_where_it_stood(
    shown, pair, site, monkeypatch
):
    page, add = shown.page, Run._add
    shown.slide("#acceptance", 0.8)
    written(shown, site, 0.5, 0.8)
    states = {"", shown.text()}  # it stays until there is another

    def noted(run: Run, event) -> None:
        add(run, event)
        states.add("".join(each.text for each in run.events))

    monkeypatch.setattr(Run, "_add", noted)
    pair.tokens_per_second = 20
    shown.ask("another palindrome")
    line = page.locator(".t.draft").first.evaluate("node => getComputedStyle(node).textDecorationStyle")
    assert line == "dotted"
    seen: set[str] = set()
    while page.get_attribute(".stream-state", "data-state") != "done":
        seen.add(shown.text())
    run = newest(site)
    assert len(run.written.cuts) > 3 and seen <= states, "only a text that was there is shown"
    assert shown.marked("draft") == [], "the end of a text is read"
    shown.shows(run.events)
    text, toggle = shown.text(), page.locator(".taken-toggle")
    expect(toggle).to_have_text(f"{taken_back(run.events)} taken back")
    expect(page.locator("del"), "off by default").to_have_count(0)
    toggle.click()
    struck = page.eval_on_selector_all(".t del", "nodes => nodes.map(n => [n.textContent, +n.parentNode.dataset.i])")
    assert struck == [[d.text.replace("\n", "↵"), event.index] for event in run.events for d in event.taken_back]
    check_contrast(page, ".t del")
    refused = next(event for event in run.folded if event.refused)
    kept = next(event for event in run.folded if event.ratio == 1)
    for event, *words in ((refused, f"{refused.ratio:.2g} ×", "taken back"), (kept, "kept")):
        page.hover(f'.t[data-i="{event.index}"]')
        for word in words:
            expect(page.locator(".verdict")).to_contain_text(word)
    toggle.click()
    expect(page.locator("del")).to_have_count(0)
    assert shown.text() == text


def test_what_was_measured_of_a_router_follows_and_moves_the_threshold_and_warns_of_dear_settings(browser):
    hostile, pair, warning = "<img src=x onerror=window.hacked=1>", FakePair(2000), "#acceptance-says .cost-warning"
    dear = replace(CURVE, points=(point(0.3, 0.5, 0.2, 57.5), point(0.7, 0.6, 0.4, 40.0)))
    curves, untrained = (replace(CURVE, hardware=hostile),), {"confidence": (dear,)}
    pair.operating_points = OperatingPoints("0" * 64, curves, untrained=untrained)

    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        page = shown.page
        page.click("text=What to expect")
        eventually(lambda: hostile in shown.inner("p.points-about"))
        shown.slide("#threshold", 0.97)
        eventually(lambda: f"{100 * CURVE.at(0.97).accuracy:.0f} %" in shown.inner(".points-now"))
        expect(page.locator(warning), "in bytes it is cheap").to_be_hidden()
        page.check("#unit input[value=flops]")
        for word in ("CommonsenseQA", "0.97", "1.2 ×", "FLOPs"):
            expect(page.locator(warning)).to_contain_text(word)
        page.check("#unit input[value=bytes]")
        page.fill("#share-handle", "30")
        eventually(lambda: abs(dial(shown) - CURVE.for_share(0.3).threshold) <= 1e-4)
        page.click("#policy input")
        page.click('[role="option"] >> text="SLM\'s own confidence"')
        shown.slide("#threshold", 0.3)
        expect(page.locator(warning)).to_contain_text("1.15 ×")
        shown.write("a palindrome")
        expect(page.locator(warning), "here it was not").to_be_hidden()
        shown.slide("#threshold", 1.0)
        shown.write("a palindrome")
        expect(page.locator(warning)).to_contain_text("here cost 1.")
        assert page.evaluate("window.hacked") is None and shown.errors == []
