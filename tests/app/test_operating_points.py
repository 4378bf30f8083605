"""Threshold, LLM share and cost weight λ as three handles on one operating point, and what was measured of it.

They follow and move each other along the measured curve as the engine reads it, and are absent where nothing was
measured. Every figure here is made up; none was measured.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from app.controls import best_steps, points_message
from engine import load_settings
from engine.operating_points import LLM_ONLY, MEASURED_UNITS, OperatingPoints
from engine.router import Router
from tests.support.browser import Window, check_contrast, eventually, expect, move, serve, sizes, window
from tests.support.fake_pair import FakePair
from tests.support.paths import ROOT
from tests.support.points_panel import (
    CARD,
    CURVE,
    HARD,
    LINE,
    LLM_LINE,
    POINTS,
    SHARE,
    WARNING,
    WEIGHT,
    in_front_of,
    line_at,
    look_inside,
    point,
    press,
    says,
    share_says,
    stands_at,
    weight_says,
)


@pytest.fixture(scope="module")
def pair():
    """A pair whose router was measured."""
    measured = FakePair()
    measured.operating_points = POINTS
    return measured


@pytest.fixture
def shown(site_window):
    site_window.page.goto("about:blank")  # the last test's streams break off with an error of theirs
    site_window.open()
    look_inside(site_window)
    yield site_window
    assert site_window.errors == []


@pytest.fixture
def serving(browser):
    """The page in front of a curve of the test's own."""
    return partial(in_front_of, browser)


def test_the_line_says_what_the_threshold_gave_and_the_page_on_what_it_was_measured(shown: Window):
    assert says(shown) == "≈ 38 % right cost 27 % of LLM-only", "at 0.5, five sixths of the way to 0.6"
    measured = (
        "Measured on 300 CommonsenseQA questions (LLM alone 62 % right): small ⇄ large, on a machine. They are "
        "everyday questions with five choices each. It says nothing of your text."
    )
    assert says(shown, "p.points-about") == measured
    press(shown, "details.points-about summary", "Enter")
    told = says(shown, "details.points-about")
    assert "95 % interval here: 33 to 43 % right." in told


def test_of_math_the_page_says_which_levels_the_shipped_router_learned_from_and_was_measured_on():
    router = Router.load(ROOT / "assets" / "routers" / "cpu")
    assert "MATH (levels 1 to 3)" in router.description
    tasks = json.loads(points_message(router.operating_points, 0.5, "router"))["tasks"]
    about = [curve["on"] for task in tasks if task["name"] == "MATH" for curve in task["curves"]]
    assert about and all("the router that comes with the page are of levels 1 to 3" in each for each in about)


def test_of_several_tasks_one_is_read_and_another_moves_nothing_but_what_is_said(shown: Window):
    assert shown.page.locator("#measured-task option").all_inner_texts() == ["CommonsenseQA", "GSM8K"]
    shown.slide("#threshold", 0.9)
    eventually(lambda: share_says(shown) == "≈ 20 %")
    shown.page.select_option("#measured-task", "GSM8K")
    assert (share_says(shown), says(shown)) == ("≈ 60 %", "≈ 60 % right cost 80 % of LLM-only")
    assert says(shown, "p.points-about").startswith("Measured on 100 GSM8K questions")
    assert stands_at(shown) == 0.9
    move(shown.page, SHARE, 30)
    eventually(lambda: stands_at(shown) == 0.6)
    shown.page.select_option("#measured-task", "CommonsenseQA")
    assert share_says(shown) == "≈ 10 %"


def test_what_was_measured_on_free_text_comes_first_and_speaks_of_the_llms_own_text(serving):
    free = replace(
        CURVE, task="free-text", questions=80, quality="same", llm=replace(CURVE.llm, accuracy=1.0, accuracy_high=1.0)
    )
    with serving(free, HARD) as shown:
        assert shown.page.locator("#measured-task option").all_inner_texts() == ["text of any kind", "GSM8K"]
        assert says(shown) == "≈ 38 % of the LLM’s text cost 27 % of LLM-only"
        assert says(shown, "p.points-about").startswith("Measured on 80 prompts (beside the LLM’s own texts): small")
        assert says(shown, "p.points-about").endswith("the router learned from none of them. Yours may differ.")
        assert says(shown, ".handle .ends").startswith("the LLM’s own text")
        press(shown, "details.points-about summary", "Enter")
        assert "1 point of the LLM’s own text." in says(shown, "details.points-about")
        shown.page.select_option("#measured-task", "GSM8K")
        assert says(shown).startswith("≈ 38 % right")


def test_with_one_task_there_is_none_to_choose(serving):
    with serving(CURVE) as shown:
        expect(shown.page.locator("#measured-task")).to_be_hidden()


def test_every_handle_follows_the_threshold_as_the_engine_reads_the_curve(shown: Window):
    for threshold in (0.0, 0.3, 0.6, 0.7, 0.9, 0.935, 0.97, 0.98, 1.0, 1.01):
        shown.slide("#threshold", threshold)
        there = CURVE.at(threshold)
        eventually(lambda t=threshold: says(shown) == line_at(t))
        assert share_says(shown) == f"≈ {100 * there.llm_share:.0f} %"
        assert float(shown.page.input_value(SHARE)) == round(100 * there.llm_share)


@pytest.mark.parametrize(
    ("threshold", "says_of_weight"),
    [
        (1.01, "0 to 0.025"),
        (0.99, "between best points"),
        (0.97, "0.025 to 0.15"),
        (0.9, "0.15 to 1.4"),
        (0.6, "between best points"),
        (0.0, "above 1.4"),
    ],
)
def test_the_weight_handle_says_for_which_weights_the_threshold_is_best(shown: Window, threshold, says_of_weight):
    shown.slide("#threshold", threshold)
    eventually(lambda: weight_says(shown) == says_of_weight)
    for weight, best in ((0.02, 1.01), (0.1, 0.97), (1.0, 0.9), (1.5, 0.0)):
        assert CURVE.best(weight).threshold == best


def test_the_share_handle_moves_the_threshold_along_the_curve(shown: Window):
    for share in (0, 5, 10, 15, 20, 30, 55, 99, 100):
        move(shown.page, SHARE, share)
        there = CURVE.for_share(share / 100)
        eventually(lambda there=there: abs(stands_at(shown) - there.threshold) <= 1e-4)
        eventually(lambda there=there: says(shown) == line_at(there.threshold))
        assert share_says(shown) == f"≈ {share} %"
        expect(shown.page.locator(SHARE).first).to_have_value(str(share))
    assert stands_at(shown) == LLM_ONLY and weight_says(shown) == "0 to 0.025"


def test_the_weight_handle_walks_over_the_best_points_and_no_others(shown: Window):
    shown.slide("#threshold", 1.01)
    eventually(lambda: weight_says(shown) == "0 to 0.025")
    visited = [stands_at(shown)]
    for _ in range(5):
        press(shown, WEIGHT, "ArrowRight")
        shown.page.wait_for_timeout(100)
        visited.append(stands_at(shown))
        assert share_says(shown) == f"≈ {100 * CURVE.at(visited[-1]).llm_share:.0f} %"
    grid = [CURVE.best(weight / 100).threshold for weight in range(200)]
    assert visited == [*dict.fromkeys(grid), 0.0, 0.0] == [1.01, 0.97, 0.9, 0.0, 0.0, 0.0]


def test_a_threshold_that_no_figure_tells_from_a_best_one_counts_as_best(shown: Window):
    shown.slide("#threshold", 0.9002)
    eventually(lambda: weight_says(shown) == "0.15 to 1.4")
    shown.slide("#threshold", 0.905)
    eventually(lambda: weight_says(shown) == "between best points")


@pytest.mark.parametrize(("key", "threshold"), [("ArrowLeft", 0.9), ("ArrowRight", 0.0)])
def test_from_between_two_best_points_one_key_leads_to_either(shown: Window, key: str, threshold: float):
    shown.slide("#threshold", 0.6)
    eventually(lambda: weight_says(shown) == "between best points")
    press(shown, WEIGHT, key)
    eventually(lambda: stands_at(shown) == threshold)


def test_a_threshold_beyond_the_best_points_is_best_for_no_weight(serving):
    flat = replace(CURVE, llm=point(LLM_ONLY, 0.6, 1.0, 50.0))
    with serving(flat) as shown:
        shown.slide("#threshold", 1.01)
        eventually(lambda: weight_says(shown) == "never the best")
        press(shown, WEIGHT, "ArrowRight")
        eventually(lambda: stands_at(shown) == 0.97 and weight_says(shown) == "0 to 0.15")


def test_the_weight_is_in_the_pages_unit_and_says_so_where_that_was_not_measured(shown: Window):
    def count_in(label: str) -> None:
        shown.page.click(f'#unit label:has-text("{label}")')

    shown.slide("#threshold", 0.97)
    eventually(lambda: weight_says(shown) == "0.025 to 0.15")
    assert says(shown, '[data-points="unit"]') == "cost: bytes moved"
    count_in("FLOPs")
    eventually(lambda: weight_says(shown) == "between best points")
    assert says(shown) == "≈ 61 % right" and "1.2 × the LLM alone in FLOPs" in says(shown, WARNING)
    assert says(shown, '[data-points="unit"]') == "cost: FLOPs"
    move(shown.page, WEIGHT, 0)
    eventually(lambda: stands_at(shown) == CURVE.best(0, "flops").threshold == 1.01)
    count_in("price")
    eventually(lambda: says(shown, '[data-points="unit"]') == "bytes, not price")
    assert says(shown) == LLM_LINE and weight_says(shown) == "0 to 0.025"
    assert "cost in bytes moved" in shown.page.get_attribute(WEIGHT, "aria-valuetext")
    press(shown, "details.points-about summary", "Enter")
    assert "No price was measured: λ weighs bytes moved instead." in says(shown, "details.points-about")


def test_a_share_that_no_step_gives_does_not_catch_the_handle(serving):
    steep = replace(CURVE, points=(point(0.9, 0.5, 0.05, 14.0), point(0.9999999, 0.57, 0.2, 20.0)))
    with serving(steep) as shown:
        move(shown.page, SHARE, 80)
        press(shown, SHARE, *["ArrowLeft"] * 5)
        expect(shown.page.locator(SHARE).first).to_have_value("75")
        eventually(lambda: stands_at(shown) == 1.0 and share_says(shown) == "≈ 100 %")
        press(shown, SHARE, *["ArrowLeft"] * 20)
        eventually(lambda: stands_at(shown) == 0.9999999 and share_says(shown) == "≈ 20 %")
        expect(shown.page.locator(SHARE).first).to_have_value("55")


def test_a_handle_is_not_pulled_back_by_late_news_of_the_threshold(shown: Window):
    move(shown.page, SHARE, 60)
    eventually(lambda: abs(stands_at(shown) - CURVE.for_share(0.6).threshold) <= 1e-4)
    shown.page.evaluate(
        "document.dispatchEvent(new CustomEvent('citer-dials', { detail: { threshold: 0.3, policy: 'router' } }))"
    )
    expect(shown.page.locator(SHARE).first).to_have_value("60")
    assert share_says(shown) == "≈ 60 %"


def test_focus_rings_are_not_clipped(shown: Window):
    for selector in ("#track input", SHARE, WEIGHT):
        press(shown, selector, "ArrowRight")
        ring, clips = shown.page.locator(selector).first.evaluate(
            """(node) => {
              const style = getComputedStyle(node), clips = [];
              for (let at = node.parentElement; at.id !== 'threshold-card'; at = at.parentElement)
                clips.push(getComputedStyle(at).overflow);
              return [style.outlineStyle, clips];
            }""",
        )
        assert ring == "solid" and set(clips) == {"visible"}


def test_the_line_follows_without_the_server(browser, site):
    with window(browser, site) as shown:
        look_inside(shown)
        shown.page.context.set_offline(True)
        for threshold, share in ((0.9, "≈ 20 %"), (0.6, "≈ 10 %")):
            shown.slide("#threshold", threshold)
            eventually(lambda share=share: share_says(shown) == share)


def test_the_line_follows_within_50_milliseconds(shown: Window):
    took = shown.page.evaluate("""async () => {
      const slider = document.querySelector('#threshold input[type="range"]');
      const line = document.querySelector('.points-now'), took = [];
      for (let threshold = 0.6; threshold < 0.9; threshold += 0.03) {   // a point of the share apart
        const before = line.textContent, start = performance.now();
        slider.value = threshold;
        slider.dispatchEvent(new Event('input', { bubbles: true }));
        while (line.textContent === before && performance.now() - start < 1000) {
          await new Promise((resolve) => setTimeout(resolve));
        }
        took.push(performance.now() - start);
      }
      return took;
    }""")
    assert sorted(took)[len(took) // 2] < 50, took


def test_an_empty_number_box_keeps_the_last_line(shown: Window):
    shown.page.fill("#threshold input[type=number]", "0.9")
    eventually(lambda: share_says(shown) == "≈ 20 %")
    shown.page.fill("#threshold input[type=number]", "")
    shown.page.wait_for_timeout(200)
    assert share_says(shown) == "≈ 20 %"


def test_the_cheapest_button_moves_the_slider_to_the_cheapest_good_threshold(shown: Window):
    button = ".points-best button"
    assert says(shown, button) == "cheapest within 2 points of the LLM"
    explained = shown.page.get_attribute(button, "title").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert explained == "Threshold 0.97: 40 % LLM tokens, 61 % right (LLM alone 62 %), 60 % of its bytes moved"
    shown.page.focus(button)
    shown.page.keyboard.press("Enter")
    eventually(lambda: stands_at(shown) == 0.97)
    eventually(lambda: says(shown) == line_at(0.97) and share_says(shown) == "≈ 40 %")
    expect(shown.page.locator(button).first).to_have_attribute("aria-pressed", "true")
    shown.slide("#threshold", 0.5)
    eventually(lambda: shown.page.get_attribute(button, "aria-pressed") == "false")


def test_a_handle_turns_the_dial_of_a_run_that_is_on(shown: Window, pair: FakePair):
    pair.tokens_per_second = 5
    shown.slide("#threshold", 0)
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    move(shown.page, SHARE, 100)
    shown.page.wait_for_selector(".t.llm")
    pair.tokens_per_second = 200
    shown.wait_state("done")


def test_a_threshold_that_the_server_sets_is_explained_too(browser):
    pair = FakePair()
    pair.operating_points, pair.threshold = POINTS, 0.9
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        look_inside(shown)
        eventually(lambda: stands_at(shown) == 0.9 and says(shown) == line_at(0.9))
        assert share_says(shown) == "≈ 20 %" and weight_says(shown) == "0.15 to 1.4"


def test_another_policy_hides_it_and_the_router_brings_it_back(shown: Window):
    def score_by(label: str) -> None:
        shown.page.click("#policy input")
        shown.page.click(f'[role="option"] >> text="{label}"')

    score_by("SLM's own confidence")
    for selector in (LINE, SHARE, WEIGHT):
        shown.page.wait_for_selector(selector, state="hidden")
    shown.slide("#threshold", 0.9)
    score_by("trained router")
    shown.page.wait_for_selector(LINE)
    eventually(lambda: says(shown) == line_at(0.9) and share_says(shown) == "≈ 20 %")


def test_it_starts_hidden_where_the_settings_choose_another_policy(browser, pair: FakePair):
    settings = load_settings(policy="random")
    with serve(lambda preset, progress: pair, settings=settings) as site, window(browser, site) as shown:
        shown.page.wait_for_selector("text=fake-r1")
        shown.page.wait_for_timeout(500)
        expect(shown.page.locator("details.points").first).to_be_hidden()


def test_an_unmeasured_router_shows_nothing_and_leaves_no_hole(browser, shown: Window):
    def below(window: Window) -> float:
        """Pixels between what the acceptance means and the label of the policy."""
        bottom, top = (window.page.locator(s).first.bounding_box() for s in ("#acceptance-says", "#policy"))
        return top["y"] - bottom["y"] - bottom["height"]

    with serve(lambda preset, progress: FakePair()) as site, window(browser, site) as bare:
        bare.page.wait_for_selector("text=fake-r1")
        bare.page.wait_for_timeout(500)
        expect(bare.page.locator(".points").first).to_be_hidden()
        expect(bare.page.locator(SHARE).first).to_be_hidden()
        expect(bare.page.locator(WEIGHT).first).to_be_hidden()
        assert 0 <= below(bare) <= 12
    assert below(shown) > 60


def test_it_fits_into_its_card_and_nothing_moves_while_the_slider_does(browser, site):
    with window(browser, site, width=360) as shown:
        look_inside(shown)
        for width, _ in sizes(shown.page, (360, 900), (768, 900), (1280, 900)):
            card = shown.page.locator(CARD).bounding_box()
            for selector in (".points > *:visible", ".handle > *", ".points button"):
                for box in (node.bounding_box() for node in shown.page.locator(selector).all()):
                    assert card["x"] <= box["x"] and box["x"] + box["width"] <= card["x"] + card["width"], width
            for threshold in (0.0, 0.6, 0.9, 0.95, 0.99):
                shown.slide("#threshold", threshold)
                eventually(lambda t=threshold: says(shown) == line_at(t))
                assert shown.page.locator(CARD).bounding_box() == card, width
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_its_text_has_enough_contrast(browser, site):
    with window(browser, site) as shown:
        look_inside(shown)
        shown.page.click(".points-best button")
        shown.page.click("details.points-about summary")
        texts = (LINE, "p.points-about", "details.points-about p", ".points-best button")
        check_contrast(shown.page, *texts, ".handle label", ".handle output", ".handle .ends span")


def test_texts_of_a_strangers_file_are_shown_as_plain_text(serving):
    text = "<img src=x onerror=window.hacked=1>${window.hacked=1}{{value}}</script><b>"
    with serving(replace(CURVE, task=text, pair=text, hardware=text)) as shown:
        assert f"Measured on 300 {text} questions" in says(shown, "p.points-about")
        assert f"{text}, on {text}." in says(shown, "p.points-about")
        assert shown.page.evaluate("window.hacked") is None
        expect(shown.page.locator(".points img, .points-about b")).to_have_count(0)


@pytest.mark.parametrize("unit", MEASURED_UNITS)
def test_the_best_points_are_the_engines_for_every_weight(unit: str):
    chance = random.Random(7)
    for _ in range(200):
        many = [
            point(
                chance.choice((0.2, chance.random(), 0.9, 1.0)),
                round(chance.random(), 1),
                chance.random(),
                chance.choice((1.0, 2.0, 10 * chance.random())),
                10 * chance.random(),
            )
            for _ in range(chance.randint(1, 8))
        ]
        curve = replace(CURVE, points=tuple(many))
        best = best_steps(curve, unit)
        assert best[0].low == 0 and best[-1].high is None
        assert all(a.high == b.low for a, b in pairwise(best))
        for threshold, low, high in best:
            end = 2 * low + 1 if high is None else high
            for weight in (low + 0.01 * (end - low), (low + end) / 2, low + 0.99 * (end - low)):
                assert abs(curve.best(weight, unit).threshold - threshold) <= 1e-4


def test_steps_that_the_slider_cannot_tell_apart_are_one_best_point():
    close = (point(1 - 9e-8, 0.5, 0.1, 14.0), point(1 - 6e-8, 0.57, 0.2, 20.0), point(1e-8, 0.4, 0.1, 12.0))
    best = best_steps(replace(CURVE, points=close), "bytes")
    assert [threshold for threshold, *_ in best] == [1.01, 0.9999999, 0.0000001, 0.0]


@pytest.mark.parametrize("cost", [0.0, 5e-324, 1e308])
def test_any_cost_of_a_strangers_file_gives_a_message_of_finite_numbers(cost: float):
    strange = replace(CURVE, llm=point(LLM_ONLY, 0.62, 1.0, cost, cost))
    message = json.loads(points_message(OperatingPoints("0" * 64, (strange,)), 0.5, "router"))
    assert message["tasks"][0]["curves"][0]["best"]["bytes"][-1][0] in (0.0, 1.01), "the cheapest"


def test_a_curve_without_measured_thresholds_says_nothing():
    ends_only = replace(CURVE, points=())
    assert points_message(OperatingPoints("0" * 64, (ends_only,)), 0.5, "router") == ""
    assert points_message(OperatingPoints("0" * 64), 0.5, "router") == points_message(None, 0.5, "router") == ""
    other = json.loads(points_message(OperatingPoints("0" * 64, (ends_only, CURVE)), 0.5, "router"))
    assert [[len(one["curve"]) for one in task["curves"]] for task in other["tasks"]] == [[5]]
