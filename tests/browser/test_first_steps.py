"""The README's first five minutes in front of the tiny pair: what is shown is what the engine writes.

Their first step is in test_recorded_page.py.
"""

from __future__ import annotations

import pytest

from app.sweep import ACCEPTANCES, THRESHOLDS
from engine import Forced, Role, Setting, build_request, first_flip
from engine.events import role_at
from engine.pair import Pair
from engine.request import Turn
from tests.support.browser import Window, along, drag, eventually, expect, newest

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
DISPUTED = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def shown(site_window: Window, pair: Pair):
    """The page once the pair is there."""
    site_window.open()
    site_window.page.wait_for_selector(".models")
    expect(site_window.page.locator("#threshold input[type=number]")).to_have_value(str(pair.threshold))
    yield site_window
    assert site_window.errors == []


def expected(pair: Pair, threshold: float | None = None, prompt: str = PROMPT, **options):
    dial = pair.threshold if threshold is None else threshold
    return pair.generate(build_request(prompt, threshold=dial, max_new_tokens=60, alternatives=5, **options))


def read(pair: Pair) -> tuple[int, int]:
    """How many tokens either model has read."""
    return pair.slm.fed, pair.llm.fed


def write(shown: Window, pair: Pair):
    shown.write(PROMPT)
    trace = expected(pair)
    shown.shows(trace.events)
    return trace


def dials(shown: Window) -> list[float]:
    return [float(shown.page.input_value(f"#{dial} input[type=range]")) for dial in ("threshold", "acceptance")]


def test_steps_2_and_3_a_text_is_written_on_from_the_first_flip_corrected_into_the_llms_own_and_followed_up(
    shown, pair
):
    page, trace = shown.page, write(shown, pair)
    flips = [e.index for e in trace.events if e.score is not None and role_at(e.score, 0.0) is not e.role]
    page.evaluate("document.querySelectorAll('.t').forEach(t => { t.mine = true; })")
    at_zero, before = expected(pair, 0.0), read(pair)
    page.mouse.move(*along(page, 0.5))
    page.mouse.down()
    page.mouse.move(*along(page, 0.0), steps=5)
    eventually(lambda: shown.marked("flip") == flips)
    assert shown.marked("stale") == list(range(flips[0] + 1, len(trace.events))), "what follows is not yet true"
    assert read(pair) == before, "a hand that holds the slider asks for nothing"
    page.mouse.up()
    shown.shows(at_zero.events)
    assert pair.slm.fed - before[0] <= len(at_zero.events) - flips[0] + 1, "no token is read again"
    kept = page.evaluate("[...document.querySelectorAll('.t')].filter(t => t.mine).length")
    assert kept == first_flip(trace.events, Setting(threshold=0.0)) == flips[0]
    expect(page.locator(".t.flip, .t.stale")).to_have_count(0)
    shown.more()
    drag(page, "#acceptance input[type=range]", 0.0, 0.4, 1.0)
    alone = expected(pair, policy="llm")
    eventually(lambda: shown.text() == alone.text)
    shown.wait_state("done")
    assert "slm" in shown.authors() and shown.marked("draft") == [] and dials(shown) == [0, 1]
    page.click(".stream-follow")
    expect(page.locator("#prompt textarea")).to_have_value("")
    shown.write("Add 4.")
    turns = (Turn("user", PROMPT), Turn("assistant", alone.text))
    followed = expected(pair, 0.0, "Add 4.", turns=turns, acceptance=1.0)
    eventually(lambda: shown.text() == followed.text)


def test_step_4_a_candidate_of_a_token_branches_the_text_and_undo_goes_back(shown, pair):
    trunk = write(shown, pair)
    event = next(e for e in trunk.events if e.role is Role.SLM and e.index > 4)
    shown.page.click(f'.t[data-i="{event.index}"]')
    expect(shown.page.locator(".candidate")).to_have_count(10)
    for fact in ("by the small model", f"{event.score:.4f}"):
        assert fact in shown.inner(".token-card")
    other = event.slm_alternatives[1]
    shown.page.click(f'.candidate[data-author="0"][data-id="{other.id}"]')
    forced = (Forced(event.index, Role.SLM, other.id),)
    branch = expected(pair, forced=forced)
    shown.shows(branch.events)
    assert shown.marked("forced") == [event.index]
    shown.slide("#threshold", 0.2)
    shown.shows(expected(pair, 0.2, forced=forced).events)
    before = read(pair)
    for kept in (branch, trunk):
        shown.page.click('[data-step="-1"]')
        shown.shows(kept.events)
    assert read(pair) == before, "kept texts are not written again"


def test_a_token_is_given_to_the_other_model_from_its_card(shown, pair):
    trunk = write(shown, pair)
    event = next(e for e in trunk.events if e.role is Role.SLM and e.index > 4)
    shown.page.click(f'.t[data-i="{event.index}"]')
    card, token = (shown.page.locator(at).bounding_box() for at in (".token-card", f'.t[data-i="{event.index}"]'))
    assert abs(card["y"] - token["y"] - token["height"]) < 60 or abs(card["y"] + card["height"] - token["y"]) < 60
    shown.page.click(".card-give")
    shown.shows(expected(pair, forced=(Forced(event.index, Role.LLM),)).events)
    shown.page.keyboard.press("Escape")
    expect(shown.page.locator(".token-card")).to_be_hidden()


def test_step_5_the_map_opens_beside_the_text_and_a_cell_of_it_is_a_setting_with_its_text(shown, pair, site):
    page, trunk = shown.page, write(shown, pair)
    page.fill("#prompt textarea", DISPUTED)
    page.click(".map-open")
    page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]')
    shown.shows(trunk.events)
    expect(page.locator(".stream-follow"), "the text that was there stays, with all that it can do").to_be_visible()
    sweep = [s.jobs["sweep"] for s in site.sessions._all() if "sweep" in s.jobs][-1]
    thresholds, acceptances = sorted({point.threshold for point in sweep.points}), sorted(ACCEPTANCES, reverse=True)
    cells = page.locator(".map-cell")
    expect(cells).to_have_count(THRESHOLDS * len(ACCEPTANCES))

    def cell(y: int, x: int):
        return cells.nth(y * THRESHOLDS + x)

    def at(y: int, x: int) -> None:
        """Waits until a point of the map is chosen, the sliders are there, and its text is on the page."""
        point = (thresholds[x], acceptances[y])
        row = len(sweep.points) - 1 if point[0] > 1 else sweep.points.index(point)  # type: ignore[arg-type]
        expect(cell(y, x)).to_have_attribute("aria-selected", "true")
        eventually(lambda: dials(shown) == list(point))
        shown.shows(sweep.events[row])

    def middle(y: int, x: int) -> tuple[float, float]:
        box = cell(y, x).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    page.locator(".map-cells").scroll_into_view_if_needed()
    before = newest(site)
    page.mouse.move(*middle(4, 0))
    page.mouse.down()
    for y, x in ((2, 4), (1, 2)):
        page.mouse.move(*middle(y, x), steps=3)
        expect(cell(y, x)).to_have_attribute("aria-selected", "true")
    assert newest(site) is before, "a hand that holds the point asks for nothing"
    page.mouse.up()
    at(1, 2)
    for key, to in (("ArrowUp", (0, 2)), ("PageDown", (4, 2)), ("Home", (4, 0))):
        page.keyboard.press(key)
        at(*to)
    page.click(".sweep-close")
    expect(page.locator(".race"), "it is a text like any other").to_be_visible()
    page.click('[data-step="-1"]')
    shown.shows(sweep.events[sweep.points.index((thresholds[2], acceptances[4]))])  # type: ignore[arg-type]


def test_more_and_the_map_take_each_others_place_beside_the_text(shown, pair):
    page, _ = shown.page, write(shown, pair)
    shown.more()
    text, more = (page.locator(part).bounding_box() for part in ("#text-card", "#more"))
    assert more["x"] > text["x"] + text["width"]
    assert abs(more["y"] - text["y"]) < 2
    for opener, other in ((".map-open", "#more"), (".more-open", ".sweep"), (".map-open", "#more")):
        place = page.locator(opener).bounding_box()
        page.mouse.click(place["x"] + 9, place["y"] + 9)
        expect(page.locator(other)).to_be_hidden()
        moved = page.locator(opener).bounding_box()["y"] - place["y"]
        assert abs(moved) < 2, f"{opener} stays under the pointer"
    expect(page.locator(".sweep")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".sweep")).to_be_hidden()
    page.click(".map-open")
    page.click(".more-open")
    expect(page.locator(".sweep")).to_be_hidden()
    expect(page.locator("#more")).to_be_visible()
    page.focus("#threshold input")
    page.keyboard.press("Escape")
    expect(page.locator("#more")).to_be_hidden()


def test_an_example_that_is_clicked_leaves_it_said_what_the_text_was_asked(shown, pair):
    write(shown, pair)
    shown.page.click(".example:visible >> nth=2")
    expect(shown.page.locator(".stream-origin")).to_contain_text("Asked: ")
