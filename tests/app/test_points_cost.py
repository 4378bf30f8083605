"""What the page says of cost beside the dials: which measured curve it reads, what it warns of, and what it leaves out.

Every figure here is made up; none was measured.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from app.controls import points_message
from app.figures import reading_along
from app.recorded import load_recorded
from engine import costs
from engine.operating_points import TimedSetting
from tests.support.browser import Window, eventually, expect, serve, window
from tests.support.fake_pair import FakePair
from tests.support.points_panel import (
    CURVE,
    HARD,
    LINE,
    POINTS,
    SHARE,
    WARNING,
    WEIGHT,
    in_front_of,
    line_at,
    look_inside,
    point,
    says,
    stands_at,
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


def test_of_a_tasks_curves_that_of_the_acceptance_is_read_and_the_cheapest_of_all_is_offered(serving):
    kept = tuple(
        replace(p, acceptance=0.3, bytes=0.4 * p.bytes, accuracy_high=0.7, accuracy=0.65) for p in CURVE.points
    )
    with serving(CURVE, replace(CURVE, points=kept)) as shown:
        expect(shown.page.locator(".points-tasks").first, "one task").to_be_hidden()
        shown.slide("#threshold", 0.9)
        eventually(lambda: says(shown) == line_at(0.9))
        shown.slide("#acceptance", 0.3)
        eventually(lambda: says(shown) == "≈ 65 % right cost 16 % of LLM-only")
        assert says(shown, "p.points-about").startswith("Measured at acceptance 0.3 on 300 CommonsenseQA questions")
        shown.slide("#acceptance", 0.8)
        eventually(lambda: says(shown, "p.points-about").startswith("Measured at acceptance 0.3, not 0.8, on 300"))
        assert "acceptance 0.3" in shown.page.get_attribute(".points-best button", "title")
        shown.page.click(".points-best button")
        eventually(lambda: (stands_at(shown), shown.page.input_value("#acceptance input[type=number]")) == (0.6, "0.3"))
        eventually(lambda: shown.page.get_attribute(".points-best button", "aria-pressed") == "true")


def test_a_setting_that_was_measured_to_cost_more_than_the_llm_is_warned_of_before_it_is_chosen(shown: Window, pair):
    asked = len(pair.requests)
    shown.slide("#threshold", 0.97)
    expect(shown.page.locator(WARNING).first, "in bytes it is cheap").to_be_hidden()
    shown.page.check("#unit input[value=flops]")
    shown.page.wait_for_selector(f"{WARNING}:not([hidden])")
    said = "Measured on CommonsenseQA at acceptance 0, threshold 0.97: 1.2 × the LLM alone in FLOPs."
    assert says(shown, WARNING) == said
    assert says(shown) == "≈ 61 % right", "one figure about one cost"
    shown.slide("#threshold", 0.95)
    eventually(lambda: stands_at(shown) == 0.95)
    assert says(shown, WARNING) == said, "the nearest threshold that was measured"
    shown.slide("#threshold", 0.6)
    shown.page.wait_for_selector(WARNING, state="hidden")
    eventually(lambda: "cost" in says(shown))
    assert len(pair.requests) == asked


def test_beside_a_recorded_text_too_a_dear_setting_is_warned_of_until_a_text_is_written_with_it(serving):
    dear = replace(CURVE, points=tuple(replace(p, bytes=4 * p.bytes) for p in CURVE.points))
    with serving(dear, recorded=load_recorded()) as shown:
        shown.page.wait_for_selector(".t")
        expect(shown.page.locator(".stream-origin")).to_contain_text("Recorded")
        for threshold, said in ((0.97, "0.97: 2.4"), (0.9, "0.9: 1.6"), (0.5, "0.6: 1.12")):
            shown.slide("#threshold", threshold)
            line = f"Measured on CommonsenseQA at acceptance 0, threshold {said} × the LLM alone in bytes moved."
            eventually(lambda line=line: says(shown, WARNING) == line)
            assert says(shown).endswith("% right"), "one figure about one cost"
        shown.write("a palindrome")
        shown.page.wait_for_selector(WARNING, state="hidden")
        assert float(shown.field("relative").rstrip(" %")) <= 110, "it was not"


def test_what_a_text_cost_with_one_policy_keeps_no_warning_of_another_back(browser):
    dear = replace(CURVE, points=(point(0.3, 0.5, 0.2, 57.5), point(0.7, 0.6, 0.4, 40.0)))
    pair = FakePair()
    pair.operating_points = replace(POINTS, curves=(CURVE,), untrained={"confidence": (dear,)})
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        look_inside(shown)
        shown.slide("#threshold", 0.3)
        shown.write("a palindrome")
        expect(shown.page.locator(WARNING).first, "the router is cheap there").to_be_hidden()
        shown.page.click("#policy input")
        shown.page.click('[role="option"] >> text="SLM\'s own confidence"')
        said = "Measured on CommonsenseQA at acceptance 0, threshold 0.3: 1.15 × the LLM alone in bytes moved."
        eventually(lambda: says(shown, WARNING) == said)
        shown.write("a palindrome")
        shown.page.wait_for_selector(WARNING, state="hidden")
        assert shown.errors == []


def test_where_another_task_was_dear_the_warning_is_of_that_and_the_task_that_is_read_keeps_its_figure(serving):
    dear = replace(HARD, points=(*HARD.points[:1], replace(HARD.points[1], bytes=65.0)))
    with serving(CURVE, dear) as shown:
        shown.slide("#threshold", 0.9)
        shown.page.wait_for_selector(f"{WARNING}:not([hidden])")
        assert says(shown, WARNING).startswith("Measured on GSM8K at acceptance 0, threshold 0.9: 1.3 × the LLM alone")
        assert says(shown) == line_at(0.9)
        shown.page.select_option("#measured-task", "GSM8K")
        eventually(lambda: says(shown) == "≈ 60 % right")
        assert says(shown, WARNING).startswith("Measured on GSM8K")


def test_what_needs_no_training_is_warned_of_too_where_it_was_measured_and_seconds_of_two_machines_are_not_claimed(
    browser,
):
    def untimed(curve):
        ends = {name: replace(getattr(curve, name), seconds=None) for name in ("slm", "llm")}
        return replace(curve, **ends, points=tuple(replace(each, seconds=None) for each in curve.points))

    dear = untimed(replace(CURVE, points=(point(0.3, 0.5, 0.2, 57.5), point(0.7, 0.6, 0.4, 40.0))))
    kept = replace(dear, points=tuple(replace(each, acceptance=0.3) for each in dear.points), max_draft=8)
    pair = FakePair()
    pair.operating_points = replace(POINTS, curves=(untimed(CURVE),), untrained={"confidence": (dear, kept)})
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        look_inside(shown)
        shown.slide("#threshold", 0.305)
        expect(shown.page.locator(WARNING).first, "the router is cheap there").to_be_hidden()
        shown.page.click("#policy input")
        shown.page.click('[role="option"] >> text="SLM\'s own confidence"')
        said = "Measured on CommonsenseQA at acceptance 0, threshold 0.3: 1.15 × the LLM alone in bytes moved."
        eventually(lambda: says(shown, WARNING) == said)
        assert not pair.requests
        shown.page.check("#unit input[value=seconds]")
        eventually(lambda: says(shown, '[data-points="unit"]') == "bytes, not seconds")
        assert says(shown, WARNING) == said
        shown.slide("#acceptance", 0.3)
        about = "Measured at acceptance 0.3 with drafts of at most 8 tokens on 300 CommonsenseQA questions"
        eventually(lambda: says(shown, "p.points-about").startswith(about))
        assert shown.errors == []


def test_a_setting_that_was_timed_and_took_longer_than_the_llm_alone_is_warned_of_whatever_the_unit(browser):
    timed = (
        TimedSetting("router", "csqa", 20, 0.9, 0.0, "auto", 1.27),
        TimedSetting("router", "csqa", 20, 0.6, 0.0, "auto", 0.8),
        TimedSetting("router", "gsm8k", 20, 0.15, 1.0, 3, 1.52),
        TimedSetting("router", "gsm8k", 20, 0.1, 1.0, 3, 1.4),
        TimedSetting("router", "gsm8k", 20, 0.1, 1.0, "auto", 1.2),
        TimedSetting("confidence", "csqa", 20, 0.6, 0.0, "auto", 1.9),
    )
    pair = FakePair()
    pair.operating_points = replace(POINTS, timed=timed)
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        look_inside(shown)
        said = "Timed on 20 CommonsenseQA questions at acceptance 0, threshold 0.9: 1.27 × the LLM alone in seconds."
        shown.slide("#threshold", 0.9)
        eventually(lambda: says(shown, WARNING) == said)
        assert says(shown) == "≈ 58 % right", "no cost in bytes beside it"
        shown.page.check("#unit input[value=seconds]")
        eventually(lambda: says(shown, WARNING) == said)
        shown.slide("#threshold", 0.97)
        expect(shown.page.locator(WARNING).first, "the LLM alone is nearer").to_be_hidden()
        shown.page.check("#unit input[value=flops]")
        said = "Measured on CommonsenseQA at acceptance 0, threshold 0.97: 1.2 × the LLM alone in FLOPs."
        eventually(lambda: says(shown, WARNING) == said)
        shown.page.check("#unit input[value=bytes]")
        shown.slide("#threshold", 0.6)
        expect(shown.page.locator(WARNING).first, "it took less").to_be_hidden()
        shown.slide("#acceptance", 1.0)
        expect(shown.page.locator(WARNING).first, "the LLM alone is nearer").to_be_hidden()
        for threshold, setting in (
            (0.2, "with drafts of 3 at acceptance 1, threshold 0.15: 1.52"),
            (0.1, "at acceptance 1, threshold 0.1: 1.2"),
        ):
            shown.slide("#threshold", threshold)
            said = f"Timed on 20 GSM8K questions {setting} × the LLM alone in seconds."
            eventually(lambda said=said: says(shown, WARNING) == said)
        assert not pair.requests and shown.errors == []


def test_what_was_timed_at_threshold_0_is_told_of_every_policy_since_none_asks_there():
    timed = (
        TimedSetting("confidence", "csqa", 20, 0.0, 1.0, "auto", 1.11),
        TimedSetting("confidence", "csqa", 20, 0.4, 1.0, "auto", 1.2),
        TimedSetting("confidence", "gsm8k", 20, 0.0, 1.0, "auto", 1.3),
    )
    measured = replace(POINTS, curves=(CURVE,), untrained={"confidence": (CURVE,)}, timed=timed)
    tasks = json.loads(points_message(measured, 0.5, "router"))["tasks"]
    told = {task["policy"]: [each["times"] for each in task["timed"]] for task in tasks}
    assert told == {"router": [1.11], "confidence": [1.11, 1.2]}


def test_the_setting_that_the_page_opens_with_is_warned_of(serving):
    with serving(replace(CURVE, points=tuple(replace(p, bytes=4 * p.bytes) for p in CURVE.points))) as shown:
        shown.page.wait_for_selector(f"{WARNING}:not([hidden])")
        assert (
            says(shown, WARNING)
            == "Measured on CommonsenseQA at acceptance 0, threshold 0.6: 1.12 × the LLM alone in bytes moved."
        )


def test_between_measured_acceptances_the_nearest_one_warns_and_says_which_it_is(serving):
    kept = {0.3: 1.3, 0.9: 1.4}
    curves = [
        replace(CURVE, points=tuple(replace(p, acceptance=each, bytes=50 * cost) for p in CURVE.points))
        for each, cost in kept.items()
    ]
    with serving(CURVE, *curves) as shown:
        shown.slide("#threshold", 0.9)
        for acceptance, nearest in ((0.4, 0.3), (0.1, None), (0.8, 0.9), (0.0, None), (1.0, 0.9)):
            shown.slide("#acceptance", acceptance)
            if nearest is None:
                shown.page.wait_for_selector(WARNING, state="hidden")
                continue
            wanted = (
                f"Measured on CommonsenseQA at acceptance {nearest}, threshold 0.9: {kept[nearest]} × the LLM alone"
            )
            eventually(lambda wanted=wanted: says(shown, WARNING) == f"{wanted} in bytes moved.")
            assert says(shown) == "≈ 58 % right"


def test_where_one_acceptance_was_measured_the_page_claims_nothing_of_others(shown: Window):
    shown.page.check("#unit input[value=flops]")
    shown.slide("#threshold", 0.97)
    shown.page.wait_for_selector(f"{WARNING}:not([hidden])")
    shown.slide("#acceptance", 0.5)
    shown.page.wait_for_selector(LINE, state="hidden")
    for selector in (WARNING, SHARE, WEIGHT, "details.points-about"):
        expect(shown.page.locator(selector).first, selector).to_be_hidden()
    about = says(shown, "p.points-about")
    assert about.startswith("Measured at acceptance 0 only, not 0.5, on 300 CommonsenseQA questions")
    shown.page.click(".points-best button")
    shown.page.wait_for_selector(LINE)
    expect(shown.page.locator("#acceptance input[type=number]")).to_have_value("0")


def test_at_the_top_of_the_dial_the_page_says_what_reading_along_costs_unless_nothing_reads(shown: Window, pair):
    shown.slide("#threshold", 1.01)
    shown.page.wait_for_selector(f"{WARNING}:not([hidden])")
    times = reading_along(pair.slm_cost, pair.llm_cost)
    assert times["bytes"] > 1.1
    assert f"the SLM reads along to score it: at least {times['bytes']:g} × the LLM alone" in says(shown, WARNING)
    assert says(shown) == "≈ 62 % right"
    shown.page.check("#unit input[value=seconds]")
    eventually(lambda: f"at least {round(times['seconds'], 2):g} ×" in says(shown, WARNING))
    shown.page.click("#policy input")
    shown.page.click('[role="option"] >> text="chance"')
    shown.page.wait_for_selector(WARNING, state="hidden")


def test_what_reading_along_costs_at_least_is_no_more_than_a_text_costs(tiny_pair):
    prompt = "Ben has $20. Ben earns $15. How much money is it now?"
    for policy in ("router", "confidence"):
        trace = tiny_pair.generate(prompt, policy=policy, threshold=1.01, max_new_tokens=60)
        spent = costs(trace.events, trace.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost)
        least = reading_along(tiny_pair.slm_cost, tiny_pair.llm_cost)
        for unit in ("bytes", "flops"):
            times = getattr(spent.run, unit) / getattr(spent.llm_only, unit)
            assert 1 < 0.95 * least[unit] <= times <= 1.3 * least[unit], (policy, unit, times)


def test_a_text_that_cost_more_than_the_llm_leaves_no_other_figure_beside_it(shown: Window):
    shown.slide("#threshold", 1.0)
    shown.write("a palindrome")
    shown.page.wait_for_selector(f"{WARNING}:not([hidden])")
    assert says(shown, WARNING).startswith("With these dials a text here cost 1.")
    assert says(shown) == "≈ 62 % right"
