"""Threshold and acceptance under a real pointer and keys: what is previewed, and when it is written."""

from __future__ import annotations

import pytest

from app.running.run import Run
from engine.operating_points import OperatingPoints
from tests.support.browser import Window, along, check_contrast, drag, eventually, expect, newest, paused, serve, window
from tests.support.fake_pair import FakePair
from tests.support.points import CURVE

DIAL, BOX = "#balance", "#threshold input[type=number]"
ACCEPTANCE = "#acceptance input[type=range]"


def dial(shown: Window) -> float:
    return float(shown.page.input_value(BOX))


def written(shown: Window, site, threshold: float, acceptance: float = 0.0) -> Run:
    """Waits until the text of some dials is there, whole."""

    def there() -> bool:
        run = newest(site)
        return not run.active and (run.settings.setting.threshold, run.settings.setting.acceptance) == (
            threshold,
            acceptance,
        )

    eventually(there)
    shown.shows(newest(site).events)
    return newest(site)


def test_a_thumb_that_is_held_previews_and_one_that_is_let_go_writes(shown, site, pair):
    page, run, asked = shown.page, newest(site), len(pair.requests)
    start = page.input_value(DIAL)
    page.mouse.move(*along(page, 0.1))
    page.mouse.down()
    for place in (0, 0.25, 0.5, 0.75):
        page.mouse.move(*along(page, place), steps=2)
        eventually(lambda place=place: dial(shown) == place)
        changed = [e.index for e in run.events if (e.score < place) != (e.score < 0.5)]
        eventually(lambda changed=changed: shown.marked("flip") == changed)
        if changed:
            expect(page.locator(".outcome")).to_contain_text(f"{len(changed)} token")
    check_contrast(page, ".t.flip", ".t.stale", ".outcome")
    page.evaluate("new Promise((done) => setTimeout(done, 600))")  # a key that rests so long is sent
    assert newest(site) is run and len(pair.requests) == asked
    top = page.locator("#slider").bounding_box()["y"]
    page.mouse.up()
    assert written(shown, site, 0.75).events[0].threshold == 0.75
    assert page.locator("#slider").bounding_box()["y"] == top, "it stays under the hand"
    assert len(pair.requests) == asked + 1
    expect(page.locator(DIAL), "it stays where the hand left it").to_have_value("75")
    page.click('[data-step="-1"]')
    expect(page.locator(BOX)).to_have_value("0.5")
    expect(page.locator(DIAL), "undo puts the thumb back").to_have_value(start)


def test_an_arrow_goes_to_the_next_change_and_the_text_is_written_once_the_key_rests(shown, site):
    page, run = shown.page, newest(site)
    page.focus(DIAL)
    page.keyboard.down("ArrowRight")
    eventually(lambda: len(shown.marked("flip")) >= 1)
    page.keyboard.up("ArrowRight")
    after = written(shown, site, dial(shown))
    assert after is not run and after.settings.setting.threshold > 0.5


def test_at_the_small_models_end_nothing_is_corrected_and_beyond_it_what_was_set_before_is(shown, site):
    shown.slide("#acceptance", 0.4)
    written(shown, site, 0.5, 0.4)
    drag(shown.page, DIAL, 0.5, 0.0)
    assert "llm" not in {event.role.value for event in written(shown, site, 0.0).events}
    expect(shown.page.locator(".outcome")).to_contain_text("0 % by the large model")
    drag(shown.page, DIAL, 0.0, 0.3)
    written(shown, site, 0.3, 0.4)
    drag(shown.page, DIAL, 0.3, 1.0)
    assert written(shown, site, 1.01, 0.4)
    expect(shown.page.locator(".outcome")).to_contain_text("100 % of the large model’s cost")


def test_a_number_typed_digit_by_digit_is_taken_exactly_and_only_once_it_is_entered(shown, site):
    page, run = shown.page, newest(site)
    shown.more()
    page.fill(BOX, "")
    page.type(BOX, "0.123456789")
    assert newest(site) is run
    page.keyboard.press("Enter")
    written(shown, site, 0.123456789)
    expect(page.locator(BOX)).to_have_value("0.123456789")
    expect(page.locator(DIAL), "the thumb follows a number").to_have_value("12")
    page.fill(BOX, "7")
    page.press(BOX, "Enter")
    expect(page.locator("#threshold .field-note"), "beyond the end it is refused").to_contain_text("7")
    expect(page.locator(BOX)).to_have_value("0.123456789")
    shown.slide("#threshold", 0.3)
    expect(page.locator("#threshold .field-note"), "the slider has set another number since").to_be_hidden()


def test_a_dial_turned_while_a_text_is_written_holds_for_what_comes_next(shown, site, pair):
    shown.slide("#threshold", 0.3)
    before = written(shown, site, 0.3)
    pair.tokens_per_second = 20
    shown.ask("echo " + "one two three four five " * 4)
    eventually(lambda: newest(site) is not before and len(newest(site).events) > 4)
    with paused(site.host):
        run = newest(site)
        shown.more()
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
    page, hear = shown.page, Run._hear
    shown.slide("#acceptance", 0.8)
    written(shown, site, 0.5, 0.8)
    states = {"", shown.text()}  # it stays until there is another

    def noted(run: Run, text) -> None:
        hear(run, text)
        states.add("".join(each.text for each in run.events))

    monkeypatch.setattr(Run, "_hear", noted)
    pair.tokens_per_second = 20
    shown.ask("another palindrome")
    drafts = (
        "() => [...document.querySelectorAll('.t.draft')].map((node) => getComputedStyle(node).textDecorationStyle)"
    )
    page.wait_for_function(f"() => ({drafts})()[0] === 'dotted'")  # in one look: a draft is soon read
    seen: set[str] = set()
    while page.get_attribute(".stream-state", "data-state") != "done":
        seen.add(shown.text())
    run = newest(site)
    assert sum(bool(event.taken_back) for event in run.events) > 3 and seen <= states, (
        "only a text that was there is shown"
    )
    assert shown.marked("draft") == [], "the end of a text is read"
    shown.shows(run.events)
    struck = page.eval_on_selector_all(".t del", "nodes => nodes.map(n => [n.textContent, +n.parentNode.dataset.i])")
    assert struck == [[d.text.replace("\n", "↵"), event.index] for event in run.events for d in event.taken_back]
    check_contrast(page, ".t del")
    refused = next(event for event in run.folded if event.refused)
    kept = next(event for event in run.folded if event.ratio == 1)
    for event, *words in ((refused, f"{refused.ratio:.2g} times as likely", "taken back"), (kept, "own choice")):
        page.click(f'.t[data-i="{event.index}"]')
        for word in words:
            expect(page.locator(".card-why")).to_contain_text(word)


def test_a_position_stays_where_it_is_and_gives_what_was_measured_of_the_router(browser):
    pair = FakePair(2000)
    pair.operating_points = OperatingPoints("0" * 64, (CURVE,))
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        page = shown.page
        page.wait_for_selector(".models")
        expect(page.locator(BOX), "the pair's own start").to_have_value("0.5")
        drag(page, DIAL, 0.5, 0.2)
        eventually(lambda: dial(shown) == pytest.approx(0.9, abs=1e-3))
        shown.write("a palindrome")
        expect(page.locator(DIAL)).to_have_value("20")
        shown.more()
        page.click("#policy input")
        page.click('[role="option"] >> text="chance"')
        eventually(lambda: dial(shown) == 0.2)
        expect(page.locator(DIAL), "another scale, the same position").to_have_value("20")
        assert shown.errors == []
