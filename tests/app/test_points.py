"""What the page is told of measured settings: curves, best points, the cheapest, what was timed. All figures are made up."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from app.controls import best_steps, points_message
from app.figures import reading_along
from engine import costs
from engine.operating_points import LLM_ONLY, MEASURED_UNITS, OperatingPoints, TimedSetting
from tests.support.points import CURVE, HARD, POINTS, point


def told(*curves, threshold: float = 0.5, **more) -> list[dict]:
    """The tasks of the message."""
    points = OperatingPoints("0" * 64, curves, **more)
    return json.loads(points_message(points, threshold, "router"))["tasks"]


def test_a_task_is_told_with_every_measured_point_from_slm_only_to_llm_only():
    task, other = told(CURVE, HARD)
    assert (task["name"], other["name"]) == ("CommonsenseQA", "GSM8K") and task["policy"] == "router"
    (curve,) = task["curves"]
    assert [row[0] for row in curve["curve"]] == [0.0, 0.6, 0.9, 0.97, 1.0]
    threshold, share, accuracy, low, high, *spent = curve["curve"][2]
    assert (threshold, share, accuracy, low, high) == pytest.approx((0.9, 0.2, 0.58, 0.53, 0.63))
    assert spent == pytest.approx([20 / 50] * 3), "as a share of LLM-only's"
    assert "300 CommonsenseQA" in curve["on"] and "62" in curve["on"] and "a machine" in curve["on"]


def test_curves_of_one_task_at_several_acceptances_are_told_as_one_task_and_those_without_a_router_apart():
    kept = replace(CURVE, points=tuple(replace(each, acceptance=0.3) for each in CURVE.points), max_draft=8)
    (task,) = told(CURVE, kept)
    assert [each["acceptance"] for each in task["curves"]] == [0, 0.3]
    assert "at most 8" in task["curves"][1]["on"] and "at most" not in task["curves"][0]["on"]
    both = told(CURVE, untrained={"confidence": (CURVE,)})
    assert [each["policy"] for each in both] == ["router", "confidence"]


def test_what_was_measured_on_free_text_speaks_of_the_llms_own_text_and_not_of_right_answers():
    alone = replace(CURVE.llm, accuracy=1.0, accuracy_high=1.0)
    (task,) = told(replace(CURVE, task="free-text", questions=80, quality="same", llm=alone))
    assert task["quality"] == "same" and "80 prompts" in task["curves"][0]["on"]
    assert "right" not in task["curves"][0]["on"]


def test_the_cheapest_setting_within_two_points_of_the_llm_is_offered_of_all_acceptances():
    (task,) = told(CURVE)
    assert [each[2:] for each in task["cheapest"]] == [[0.97, 0]]
    cheap = tuple(replace(p, acceptance=0.3, bytes=0.4 * p.bytes, accuracy_high=0.7, accuracy=0.65) for p in CURVE.points)
    (task,) = told(CURVE, replace(CURVE, points=cheap))
    ((_, about, threshold, acceptance),) = task["cheapest"]
    assert (threshold, acceptance) == (0.6, 0.3) and "0.3" in about and "65" in about


def test_what_was_timed_is_told_of_its_own_policy_and_task():
    timed = (
        TimedSetting("router", "csqa", 20, 0.9, 0.0, "auto", 1.27),
        TimedSetting("router", "gsm8k", 20, 0.1, 1.0, 3, 1.4),
        TimedSetting("router", "gsm8k", 20, 0.1, 1.0, "auto", 1.2),
    )
    common, hard = told(CURVE, HARD, timed=timed)
    assert [each["times"] for each in common["timed"]] == [1.27]
    assert [each["times"] for each in hard["timed"]] == [1.2, 1.4], "that with drafts as the page has them comes first"
    assert "20 GSM8K" in hard["timed"][1]["on"] and "drafts of 3" in hard["timed"][1]["on"]


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


def test_what_reading_along_costs_at_least_is_no_more_than_a_text_costs(tiny_pair):
    prompt = "Ben has $20. Ben earns $15. How much money is it now?"
    for policy in ("router", "confidence"):
        trace = tiny_pair.generate(prompt, policy=policy, threshold=1.01, max_new_tokens=60)
        spent = costs(trace.events, trace.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost)
        least = reading_along(tiny_pair.slm_cost, tiny_pair.llm_cost)
        for unit in ("bytes", "flops"):
            times = getattr(spent.run, unit) / getattr(spent.llm_only, unit)
            assert 1 < 0.95 * least[unit] <= times <= 1.3 * least[unit], (policy, unit, times)


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
