"""What was measured of a router: two handles that follow and move the threshold, and a warning of dear settings.

Every figure here is made up; none was measured.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.operating_points import LLM_ONLY
from tests.support.browser import Window, drag, eventually, expect, move
from tests.support.fake_pair import FakePair
from tests.support.points import CURVE, POINTS, point

LINE, WARNING = ".points-now", "#acceptance-says .cost-warning"
SHARE, WEIGHT = "#share-handle", "#weight-handle"
BOX = "#threshold input[type=number]"


@pytest.fixture(scope="module")
def pair():
    """A pair whose router was measured, and the SLM's confidence, which is dear at 0.3."""
    dear = replace(CURVE, points=(point(0.3, 0.5, 0.2, 57.5), point(0.7, 0.6, 0.4, 40.0)))
    measured = FakePair(2000)
    measured.operating_points = replace(POINTS, untrained={"confidence": (dear,)})
    return measured


@pytest.fixture
def shown(site_window):
    site_window.open()
    site_window.page.click("text=What to expect")
    site_window.page.wait_for_selector(LINE)
    yield site_window
    assert site_window.errors == []


def dial(shown: Window) -> float:
    return float(shown.page.input_value(BOX))


def score_by(shown: Window, label: str) -> None:
    shown.page.click("#policy input")
    shown.page.click(f'[role="option"] >> text="{label}"')


def warned(shown: Window, *words: str) -> None:
    for word in words:
        expect(shown.page.locator(WARNING)).to_contain_text(word)
    expect(shown.page.locator(WARNING)).to_be_visible()


def test_track_and_handles_follow_the_threshold_and_move_it_along_the_measured_curve(shown: Window):
    for place in (0.1, 0.4, 0.7):  # there is no text by which the track would be spaced
        drag(shown.page, "#track input", 0.05, place)
        assert CURVE.at(dial(shown)).llm_share == pytest.approx(place, abs=0.02)
    shares, weights = (
        shown.page.locator('output[for="share-handle"]'),
        shown.page.locator('output[for="weight-handle"]'),
    )
    for threshold, weight in ((0.0, "above"), (0.6, "between"), (0.9, "0.15 to 1.4"), (0.97, "0.025 to 0.15")):
        shown.slide("#threshold", threshold)
        there = CURVE.at(threshold)
        expect(shares).to_have_text(f"≈ {100 * there.llm_share:.0f}\u202f%")
        expect(weights).to_contain_text(weight)
        assert f"{100 * there.accuracy:.0f} %" in shown.inner(LINE)
    for share in (5, 30, 100):
        move(shown.page, SHARE, share)
        there = CURVE.for_share(share / 100)
        eventually(lambda there=there: abs(dial(shown) - there.threshold) <= 1e-4)
        expect(shown.page.locator(SHARE), "it stays where the hand put it").to_have_value(str(share))
    assert dial(shown) == LLM_ONLY
    shown.page.focus(WEIGHT)
    for threshold in (0.97, 0.9, 0.0):
        shown.page.keyboard.press("ArrowRight")
        eventually(lambda threshold=threshold: dial(shown) == threshold)
    shown.page.click(".points-best button")
    expect(shown.page.locator(BOX)).to_have_value("0.97")
    shown.page.select_option("#measured-task", "GSM8K")
    expect(shares).to_contain_text("88")
    assert dial(shown) == 0.97, "another task moves nothing but what is said"
    shown.slide("#acceptance", 0.5)  # of which nothing was measured
    for hidden in (LINE, SHARE, WEIGHT):
        expect(shown.page.locator(hidden)).to_be_hidden()


def test_a_dear_setting_is_warned_of_before_it_is_chosen_until_a_text_of_its_own_says_what_it_cost(shown, pair):
    page, asked = shown.page, len(pair.requests)
    shown.slide("#threshold", 0.97)
    expect(page.locator(WARNING), "in bytes it is cheap").to_be_hidden()
    page.check("#unit input[value=flops]")
    warned(shown, "CommonsenseQA", "0.97", "1.2 ×", "FLOPs")
    page.check("#unit input[value=bytes]")
    expect(page.locator(WARNING)).to_be_hidden()
    shown.slide("#threshold", 1.01)
    warned(shown, "at least")
    score_by(shown, "SLM's own confidence")
    shown.slide("#threshold", 0.3)
    warned(shown, "0.3", "1.15 ×")
    assert len(pair.requests) == asked
    shown.write("a palindrome")
    expect(page.locator(WARNING), "here it was not").to_be_hidden()
    score_by(shown, "trained router")
    shown.slide("#threshold", 1.0)
    shown.write("a palindrome")
    warned(shown, "here cost 1.")
