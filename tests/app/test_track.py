"""The threshold's track: spaced by the scores of the text on the page, and before there is one by what was measured."""

from __future__ import annotations

import json
import random

import pytest

from app.figures import simplest
from app.running.run import Run
from engine.operating_points import Curve
from tests.support.browser import LATE_SLIDER, Window, along, calls_of, eventually, expect, serve, window
from tests.support.fake_pair import FakePair
from tests.support.points_panel import POINTS

TOKENS = 60
DIAL, BOX = "#track input", "#threshold input[type=number]"


@pytest.fixture
def shown(shown: Window):
    """The page with a finished text at threshold 0.5, by which the track is spaced."""
    eventually(lambda: "of 60 tokens" in says(shown))
    return shown


def newest(site) -> Run:
    return max((s.run for s in site.sessions._all() if s.run), key=lambda run: run.number)


def says(shown: Window) -> str:
    return shown.page.inner_text(".track-says")


def below(run: Run, threshold: float) -> int:
    return sum(event.score < threshold for event in run.events if event.score is not None)


def test_half_way_along_the_track_half_of_the_tokens_score_below(shown, site):
    page, run = shown.page, newest(site)
    flips = len({event.score for event in run.events}) + 1
    expect(page.locator(".track-ticks i"), "a tick for every flip, and one for each end").to_have_count(flips)
    page.mouse.move(*along(page, 0.1))
    page.mouse.down()
    for place in (0, 0.25, 0.5, 0.75, 1):
        page.mouse.move(*along(page, place), steps=2)
        threshold = float(page.input_value(BOX))
        assert abs(below(run, threshold) - place * TOKENS) <= 1, place
        eventually(lambda t=threshold: says(shown) == f"{below(run, t)} of 60 tokens score below it → LLM")
    page.mouse.up()
    eventually(lambda: newest(site).settings.threshold == 1.01 and not newest(site).active)


@pytest.mark.parametrize("where", [DIAL, BOX])
def test_an_arrow_goes_one_flip_on(shown, site, where):
    page, run = shown.page, newest(site)
    page.focus(where)
    at = below(run, 0.5)
    for key, count in (("ArrowUp", at + 1), ("ArrowUp", at + 2), ("ArrowDown", at + 1), ("ArrowDown", at)):
        page.keyboard.down(key)
        eventually(lambda n=count: says(shown) == f"{n} of 60 tokens score below it → LLM")
        flips = page.locator(".t.flip").count()
        assert flips == abs(count - at)
    page.keyboard.up("ArrowDown")


def test_a_number_that_is_typed_is_taken_exactly(shown, site):
    shown.page.fill(BOX, "0.123456789")
    shown.page.keyboard.press("Enter")
    eventually(lambda: newest(site).settings.threshold == 0.123456789 and not newest(site).active)
    expect(shown.page.locator(BOX).first).to_have_value("0.123456789")
    run = newest(site)
    place = shown.page.eval_on_selector(DIAL, "node => Number(node.value)")
    assert place == pytest.approx(below(run, 0.123456789) / TOKENS)


_SLOW_FRAMES = """() => {
  const paint = window.requestAnimationFrame;
  window.requestAnimationFrame = (draw) => setTimeout(() => paint(draw), 100);
}"""
_SOME_FRAMES = "async () => { for (let n = 0; n < 8; n++) await new Promise(requestAnimationFrame); }"


def test_a_number_typed_right_after_the_thumb_was_let_go_stays_however_slowly_the_browser_draws(shown, site):
    page = shown.page
    page.evaluate(_SLOW_FRAMES)
    page.mouse.move(*along(page, 0.4))
    page.mouse.down()
    page.mouse.move(*along(page, 0.7))
    page.mouse.up()
    page.fill(BOX, "0")
    page.press(BOX, "Enter")
    page.evaluate(_SOME_FRAMES)
    assert page.input_value(BOX) == "0"
    eventually(lambda: newest(site).settings.threshold == 0 and not newest(site).active)


def test_undo_moves_the_thumb_back_and_the_track_is_of_the_text_that_is_there(shown, site):
    page, first = shown.page, newest(site)
    before = page.eval_on_selector(DIAL, "node => Number(node.value)")
    shown.slide("#threshold", 0.9)
    eventually(lambda: newest(site) is not first and not newest(site).active)
    eventually(lambda: page.is_enabled('[data-step="-1"]'))
    page.click('[data-step="-1"]')
    eventually(lambda: page.eval_on_selector(DIAL, "node => Number(node.value)") == before)


def test_before_there_is_a_text_the_track_follows_what_was_measured(browser, site, pair):
    pair.operating_points, before = POINTS, pair.operating_points
    try:
        with window(browser, site) as shown:
            shown.page.wait_for_selector("text=fake-r1")
            shown.page.wait_for_selector("#points .points:not([hidden])")
            curve: Curve = POINTS.curves[0]
            shown.page.mouse.move(*along(shown.page, 0.05))
            shown.page.mouse.down()
            for share in (0.1, 0.2, 0.4, 0.7):
                shown.page.mouse.move(*along(shown.page, share), steps=2)
                threshold = float(shown.page.input_value(BOX))
                assert curve.at(threshold).llm_share == pytest.approx(share, abs=0.02)
            shown.page.mouse.up()
    finally:
        pair.operating_points = before


def test_where_the_slider_comes_late_the_track_and_what_was_measured_stand_where_it_does(browser, site, pair):
    pair.operating_points, before = POINTS, pair.operating_points
    try:
        with window(browser, site) as shown:
            late = Window(shown.page.context.new_page(), shown.url)
            late.page.add_init_script(LATE_SLIDER)
            late.open()
            late.page.wait_for_selector("#points .points:not([hidden])")
            expect(late.page.locator(DIAL)).not_to_have_value("0")
            assert late.page.inner_text(".acceptance-means") and late.errors == []
    finally:
        pair.operating_points = before


def test_the_browser_finds_the_same_threshold_between_two_scores_as_the_server(site_window: Window):
    chance = random.Random(0)
    gaps = []
    for _ in range(300):
        near = 10 ** -chance.uniform(0, 7)
        low, high = sorted(round(1 - near * chance.random(), 7) for _ in range(2))
        gaps.append((low, high))
    found = site_window.page.evaluate(
        """async (gaps) => {
          const { between } = await import(new URL('gradio_api/citer/page/points/scale.js', document.baseURI));
          return gaps.map(([low, high]) => between(low, high));
        }""",
        json.loads(json.dumps(gaps)),
    )
    assert found == [simplest(low, high) for low, high in gaps]
    assert all(value is None or low < value <= high for value, (low, high) in zip(found, gaps, strict=True))


def test_a_dial_that_a_hand_moved_stays_though_the_routers_own_start_comes_later(browser):
    pair, held = FakePair(), []
    pair.threshold = 0.9
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        page = shown.page
        eventually(lambda: page.input_value(BOX) == "0.9")
        asking = calls_of(site, "follow_loading")

        def hold(route) -> None:
            late = route.request.post_data_json["fn_index"] in asking
            held.append((route, route.fetch())) if late else route.continue_()

        page.route("**/gradio_api/run/predict*", hold)
        shown.open()
        told = "fake-r1"  # the answer that has the router's start
        eventually(lambda: any(told in answer.text() for _, answer in held) or page.wait_for_timeout(20), 10)
        expect(page.locator(BOX).first).to_have_value("0.5")
        page.mouse.move(*along(page, 0.5))
        page.mouse.down()
        page.mouse.move(*along(page, 0.25), steps=3)
        page.mouse.up()
        moved = page.input_value(BOX)
        for route, answer in held:
            route.fulfill(response=answer)
        page.wait_for_selector(f"text={told}")
        page.wait_for_timeout(300)
        expect(page.locator(BOX).first).to_have_value(moved)
        assert moved not in ("0.5", "0.9")
