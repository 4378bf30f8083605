"""The map of a sweep over both dials, on the tiny pair: pointer and keys move a point over threshold and acceptance."""

from __future__ import annotations

import pytest

from app.sweep import ACCEPTANCES, MAP_ACCEPTANCES, MAP_THRESHOLDS, Sweep
from engine import Request
from tests.app.test_sweep import DISPUTED, last_sweep, press, text_of
from tests.support.browser import Window, check_contrast, eventually, expect, window

DIALS = ("threshold", "acceptance")


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def shown(site_window: Window):
    site_window.open()
    prepare(site_window)
    yield site_window
    assert site_window.errors == []


def prepare(shown: Window) -> None:
    """A prompt that the models disagree about; how long drafts are does not depend on the clock."""
    eventually(lambda: shown.page.locator("text=tiny SLM").count(), 30)
    shown.page.fill("#prompt textarea", DISPUTED)
    shown.page.evaluate("document.querySelectorAll('#sampling-card button').forEach((button) => button.click())")
    shown.page.fill("#max-draft input", "8")
    shown.page.keyboard.press("Tab")


def cell(shown: Window, y: int, x: int):
    return shown.page.locator(".map-row").nth(y).locator(".map-cell").nth(x)


def sliders(shown: Window) -> list[float]:
    return [float(shown.page.input_value(f"#{dial} input[type=range]")) for dial in DIALS]


def place(sweep: Sweep, y: int, x: int) -> list[float]:
    thresholds = sorted({point.threshold for point in sweep.points})
    return [thresholds[x], sorted(MAP_ACCEPTANCES, reverse=True)[y]]


def row_of(sweep: Sweep, y: int, x: int) -> int:
    at = place(sweep, y, x)
    return len(sweep.points) - 1 if at[0] > 1 else sweep.points.index(tuple(at))  # type: ignore[arg-type]


def expected(sweep: Sweep, y: int, x: int) -> list[object]:
    events = sweep.events[row_of(sweep, y, x)]
    return ["".join(event.text for event in events), [event.role.value for event in events]]


def test_every_cell_has_the_cost_of_its_text_beside_llm_only(shown, site):
    press(shown, "both")
    sweep = last_sweep(site)
    expect(shown.page.locator(".map-cell")).to_have_count(MAP_THRESHOLDS * len(MAP_ACCEPTANCES))
    for y, x in ((0, 0), (2, 3), (4, 0), (4, 6), (1, 6)):
        figures = sweep.figures[row_of(sweep, y, x)]
        assert figures and figures[1]
        assert cell(shown, y, x).text_content() == str(int(100 * figures[1] + 0.5))


def test_a_line_is_around_the_cells_whose_text_is_the_llms_own(shown, site):
    press(shown, "both")
    sweep, edges = last_sweep(site), {"top": (-1, 0), "bottom": (1, 0), "left": (0, -1), "right": (0, 1)}
    height, width = len(MAP_ACCEPTANCES), MAP_THRESHOLDS

    def is_own(y: int, x: int) -> bool:
        inside = 0 <= y < height and 0 <= x < width
        return inside and sweep.leaves[row_of(sweep, y, x)] == sweep.leaves[-1]

    for y in range(height):
        for x in range(width):
            drawn = cell(shown, y, x).evaluate(
                "n => [...'top bottom left right'.split(' ')].map(e => n.style.getPropertyValue('--' + e))"
            )
            wanted = [
                "1" if is_own(y, x) and not is_own(y + down, x + right) else "0" for down, right in edges.values()
            ]
            assert drawn == wanted, (y, x)
    assert all(is_own(0, x) for x in range(width)), "at acceptance 1 it always is"
    assert not is_own(height - 1, 0)


def test_the_pointer_moves_the_point_over_finished_texts_and_sets_both_sliders_when_it_is_let_go(shown, site, pair):
    press(shown, "both")
    sweep, fed, before = last_sweep(site), (pair.slm.fed, pair.llm.fed), sliders(shown)
    mouse = shown.page.mouse
    shown.page.locator(".map-cells").scroll_into_view_if_needed()
    for step, (y, x) in enumerate(((4, 0), (3, 1), (2, 4), (0, 2))):
        box = cell(shown, y, x).bounding_box()
        mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        if step == 0:
            mouse.down()
        eventually(lambda y=y, x=x: list(text_of(shown)) == expected(sweep, y, x))
        assert cell(shown, y, x).get_attribute("aria-selected") == "true"
        assert sliders(shown) == before, "while the pointer is down"
    mouse.up()
    eventually(lambda: sliders(shown) == place(sweep, 0, 2))
    assert list(text_of(shown)) == expected(sweep, 0, 2)
    assert (pair.slm.fed, pair.llm.fed) == fed, "nothing was decoded"
    expect(shown.page.locator(".sweep-now").first).to_contain_text("the LLM’s own text", use_inner_text=True)


def test_arrow_keys_move_the_point_and_both_sliders_and_say_where_it_is(shown, site):
    press(shown, "both")
    sweep = last_sweep(site)
    cell(shown, 4, 0).click()
    for key, (y, x) in (
        ("ArrowUp", (3, 0)),
        ("ArrowRight", (3, 1)),
        ("End", (3, 6)),
        ("PageUp", (0, 6)),
        ("Home", (0, 0)),
    ):
        shown.page.keyboard.press(key)
        assert sliders(shown) == place(sweep, y, x), key
        eventually(lambda y=y, x=x: list(text_of(shown)) == expected(sweep, y, x))
        assert shown.page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    shown.page.keyboard.press("ArrowUp")
    assert sliders(shown) == place(sweep, 0, 0), "the edge of the map"
    live = shown.page.locator(".sweep-now")
    assert live.get_attribute("aria-live") == "polite" and "speculative decoding" in live.inner_text()
    expect(shown.page.locator('.map-cell[tabindex="0"]')).to_have_count(1)


def test_the_sliders_move_the_point(shown, site):
    press(shown, "both")
    sweep = last_sweep(site)
    for y, x in ((4, 0), (2, 6), (1, 3)):
        for dial, value in zip(DIALS, place(sweep, y, x), strict=True):
            shown.slide(f"#{dial}", value)
        eventually(lambda y=y, x=x: cell(shown, y, x).get_attribute("aria-selected") == "true")
        eventually(lambda y=y, x=x: list(text_of(shown)) == expected(sweep, y, x))


def test_the_llms_text_the_cheapest_way_is_the_cheapest_setting_that_was_swept_and_gives_it(shown, site, pair):
    press(shown, "both")
    sweep = last_sweep(site)
    own = [row for row, leaf in enumerate(sweep.leaves) if leaf == sweep.leaves[-1]]
    cheapest = min(own, key=lambda row: sweep.figures[row][1])  # type: ignore[index]
    shown.page.click(".sweep-cheapest")
    eventually(lambda: sliders(shown) == list(sweep.points[cheapest]))
    alone = pair.generate(Request(DISPUTED, policy="llm", max_new_tokens=60))
    eventually(lambda: shown.text() == alone.text)
    expect(shown.page.locator(".sweep-now").first).to_contain_text("the LLM’s own text", use_inner_text=True)


def test_a_text_of_the_map_opens_at_both_dials(shown, site, pair):
    press(shown, "both")
    cell(shown, 1, 1).click()
    at = place(last_sweep(site), 1, 1)
    eventually(lambda: shown.page.locator(".sweep-open:not(:disabled)").count())
    shown.page.click(".sweep-open")
    written = pair.generate(Request(DISPUTED, at[0], max_new_tokens=60, acceptance=at[1]))
    eventually(lambda: shown.page.get_attribute(".stream-state", "data-state") == "done")
    eventually(lambda: shown.text() == written.text)
    shown.slide("#acceptance", 0.0)
    eventually(lambda: shown.text() == pair.generate(Request(DISPUTED, at[0], max_new_tokens=60)).text)


def test_the_map_takes_the_page_back_from_a_text_that_was_written_since(shown, site):
    press(shown, "both")
    sweep = last_sweep(site)
    shown.write(DISPUTED)
    cell(shown, 4, 0).click()
    eventually(lambda: list(text_of(shown)) == expected(sweep, 4, 0))
    shown.page.wait_for_timeout(300)
    assert list(text_of(shown)) == expected(sweep, 4, 0) and sliders(shown) == place(sweep, 4, 0)


def test_acceptance_alone_is_scrubbed_through_at_one_threshold(shown, site):
    shown.slide("#threshold", 0.5)
    press(shown, "acceptance")
    sweep = last_sweep(site)
    expect(shown.page.locator(".sweep-note").first).to_contain_text(
        f"{len(ACCEPTANCES)} settings at threshold 0.5", use_inner_text=True
    )
    for row in (0, 4, len(ACCEPTANCES) - 1):
        shown.slide("#acceptance", sweep.points[row].acceptance)
        text, roles = "".join(e.text for e in sweep.events[row]), [e.role.value for e in sweep.events[row]]
        eventually(lambda text=text, roles=roles: list(text_of(shown)) == [text, roles])
    expect(shown.page.locator(".sweep-strip").first).to_be_visible()
    expect(shown.page.locator(".sweep-map").first).to_be_hidden()
    label = shown.page.get_attribute(".sweep-strip", "aria-label") or ""
    changes = shown.page.locator(".sweep-strip i.changes").count()
    assert changes > 0 and f"changes {changes} times" in label


def test_the_map_can_be_read_and_used_on_a_telephone(browser, site):
    with window(browser, site, width=360, height=780, has_touch=True) as phone:
        prepare(phone)
        press(phone, "both")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        sweep = last_sweep(site)
        for y in range(len(MAP_ACCEPTANCES)):
            box = cell(phone, y, 6).bounding_box()
            assert box["x"] + box["width"] <= 360 and min(box["width"], box["height"]) >= 24
        cell(phone, 2, 2).tap()
        eventually(lambda: sliders(phone) == place(sweep, 2, 2))
        costs = [int(phone.page.locator(".map-cell").nth(n).text_content() or 0) for n in range(35)]
        dearest = costs.index(max(costs))
        for y, x in (divmod(dearest, 7), (4, 0)):
            check_contrast(phone.page, f".map-row:nth-child({y + 1}) .map-cell:nth-of-type({x + 2})")
        check_contrast(phone.page, ".map-caption", ".map-label", ".sweep-note", ".sweep-now")
        assert phone.errors == []
