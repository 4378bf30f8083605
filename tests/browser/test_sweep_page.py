"""A sweep's finished texts under the sliders and on the map, on the tiny pair. The first steps have its pointer."""

from __future__ import annotations

import re

import pytest

from app.sweep import MAP_ACCEPTANCES, MAP_THRESHOLDS, Sweep
from tests.support.browser import Window, eventually, expect

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
DISPUTED = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""
DIALS = ("threshold", "acceptance")
OWN = "LLM’s own"


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def shown(site_window: Window):
    site_window.open()
    prepare(site_window, PROMPT)
    yield site_window
    assert site_window.errors == []


def prepare(shown: Window, prompt: str) -> None:
    shown.page.wait_for_selector("text=tiny SLM ⇄ LLM")
    shown.page.fill("#prompt textarea", prompt)


def press(shown: Window, site, over: str = "threshold") -> Sweep:
    """Presses Sweep and waits for its end."""
    shown.page.select_option(".sweep-over", over)
    shown.page.click(".sweep-go")
    shown.page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]')
    return last_sweep(site)


def last_sweep(site) -> Sweep:
    return [s.jobs["sweep"] for s in site.sessions._all() if "sweep" in s.jobs][-1]


def sliders(shown: Window) -> list[float]:
    return [float(shown.page.input_value(f"#{dial} input[type=range]")) for dial in DIALS]


def test_the_slider_scrubs_through_finished_texts_and_marks_what_the_text_before_had_not(shown, site, pair):
    sweep = press(shown, site)
    fed = pair.slm.fed, pair.llm.fed
    for row in (0, len(sweep.points) // 2, len(sweep.points) - 1, 3):
        shown.slide("#threshold", sweep.points[row].threshold)
        shown.shows(sweep.events[row])
    shown.slide("#threshold", 0.0)
    shown.shows(sweep.events[0])
    shown.slide("#threshold", 1.01)
    eventually(lambda: shown.marked("changed") == list(range(len(sweep.events[-1]))))  # all have another author
    expect(shown.page.locator(".key-changed"), "the legend says what the mark is").to_be_visible()
    assert (pair.slm.fed, pair.llm.fed) == fed, "nothing was decoded"
    pieces = shown.page.locator(".sweep-strip i")
    changes = shown.page.locator(".sweep-strip i.changes").count()
    assert pieces.count() == len(sweep.points) and 0 < changes < pieces.count()
    expect(shown.page.locator(".sweep-strip")).to_have_attribute("aria-label", re.compile(rf"\b{changes} times"))


def test_on_the_map_keys_and_sliders_move_the_point_and_a_line_is_around_the_llms_own_text(shown, site):
    prepare(shown, DISPUTED)
    sweep = press(shown, site, "both")
    thresholds, acceptances = sorted({point.threshold for point in sweep.points}), sorted(MAP_ACCEPTANCES, reverse=True)

    def place(y: int, x: int) -> list[float]:
        return [thresholds[x], acceptances[y]]

    def row_of(y: int, x: int) -> int:
        at = place(y, x)
        return len(sweep.points) - 1 if at[0] > 1 else sweep.points.index(tuple(at))  # type: ignore[arg-type]

    def cell(y: int, x: int):
        return shown.page.locator(".map-row").nth(y).locator(".map-cell").nth(x)

    def at(y: int, x: int) -> None:
        shown.shows(sweep.events[row_of(y, x)])
        expect(cell(y, x)).to_have_attribute("aria-selected", "true")

    own = [[sweep.leaves[row_of(y, x)] == sweep.leaves[-1] for x in range(MAP_THRESHOLDS)] for y in range(5)]
    tops = "node => node.style.getPropertyValue('--top')"
    for x in range(MAP_THRESHOLDS):
        drawn = [cell(y, x).evaluate(tops) == "1" for y in range(5)]
        assert drawn == [own[y][x] and not (y and own[y - 1][x]) for y in range(5)], x
    cell(4, 0).click()
    for key, to in (("ArrowUp", (3, 0)), ("ArrowRight", (3, 1)), ("End", (3, 6)), ("PageUp", (0, 6)), ("Home", (0, 0))):
        shown.page.keyboard.press(key)
        at(*to)
        assert sliders(shown) == place(*to), key
    shown.page.keyboard.press("ArrowUp")
    assert sliders(shown) == place(0, 0), "the edge of the map"
    expect(shown.page.locator('.map-cell[tabindex="0"]')).to_have_count(1)
    expect(shown.page.locator(".sweep-now")).to_contain_text(OWN)
    for y, x in ((4, 0), (2, 6), (1, 3)):
        for dial, value in zip(DIALS, place(y, x), strict=True):
            shown.slide(f"#{dial}", value)
        at(y, x)
    shown.page.click(".sweep-cheapest")
    rows = [row for row, leaf in enumerate(sweep.leaves) if leaf == sweep.leaves[-1]]
    cheapest = min(rows, key=lambda row: sweep.figures[row][1])  # type: ignore[index]
    eventually(lambda: sliders(shown) == list(sweep.points[cheapest]))
    shown.shows(sweep.events[cheapest])
