"""What the page is told of measured settings: curves, best points, the cheapest, what was timed. All is made up."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
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


def test_the_cheapest_setting_within_two_points_of_the_llm_is_offered_of_all_acceptances():
    (task,) = told(CURVE)
    assert [each[2:] for each in task["cheapest"]] == [[0.97, 0]]
    cheap = tuple(
        replace(p, acceptance=0.3, bytes=0.4 * p.bytes, accuracy_high=0.7, accuracy=0.65) for p in CURVE.points
    )
    (task,) = told(CURVE, replace(CURVE, points=cheap))
    ((_, about, threshold, acceptance),) = task["cheapest"]
    assert (threshold, acceptance) == (0.6, 0.3) and "0.3" in about and "65" in about


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
        thresholds = [chance.choice((0.2, chance.random(), 0.9, 1.0)) for _ in range(chance.randint(1, 8))]
        cost = partial(chance.choice, (1.0, 2.0, 5.5, 9.1))
        many = (point(t, round(chance.random(), 1), chance.random(), cost(), cost()) for t in thresholds)
        curve = replace(CURVE, points=tuple(many))
        best = best_steps(curve, unit)
        assert best[0].low == 0 and best[-1].high is None
        assert all(a.high == b.low for a, b in pairwise(best))
        for threshold, low, high in best:
            end = 2 * low + 1 if high is None else high
            for weight in (low + 0.01 * (end - low), (low + end) / 2, low + 0.99 * (end - low)):
                assert abs(curve.best(weight, unit).threshold - threshold) <= 1e-4


@pytest.mark.parametrize("cost", [0.0, 5e-324, 1e308])
def test_any_cost_of_a_strangers_file_gives_a_message_of_finite_numbers(cost: float):
    (task,) = told(replace(CURVE, llm=point(LLM_ONLY, 0.62, 1.0, cost, cost)))
    assert task["curves"][0]["best"]["bytes"][-1][0] in (0.0, 1.01), "the cheapest"


def test_a_curve_without_measured_thresholds_says_nothing():
    nothing = OperatingPoints("0" * 64, (replace(CURVE, points=()),))
    assert points_message(nothing, 0.5, "router") == points_message(None, 0.5, "router") == ""
    assert [task["name"] for task in told(replace(CURVE, points=()), HARD)] == ["GSM8K"]
