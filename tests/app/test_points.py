"""What the page is told of measured settings: curves, best points, the cheapest, what was timed. All is made up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.controls import points_message
from engine.operating_points import LLM_ONLY, OperatingPoints, TimedSetting
from tests.support.points import CURVE, HARD, point


def told(*curves, **more) -> list[dict]:
    """The tasks of the message."""
    return json.loads(points_message(OperatingPoints("0" * 64, curves, **more), 0.5, "router"))["tasks"]


def test_a_task_is_told_with_every_measured_point_from_slm_only_to_llm_only():
    task, other = told(CURVE, HARD)
    assert (task["name"], other["name"]) == ("CommonsenseQA", "GSM8K") and task["policy"] == "router"
    (curve,) = task["curves"]
    assert [row[0] for row in curve["curve"]] == [0.0, 0.6, 0.9, 0.97, 1.0]
    share_of_llm_only = 20 / 50
    assert curve["curve"][2] == pytest.approx([0.9, 0.2, 0.58, 0.53, 0.63, *[share_of_llm_only] * 3])
    assert "300 CommonsenseQA" in curve["on"] and "62" in curve["on"] and "a machine" in curve["on"]
    empty = replace(CURVE, points=())
    assert points_message(OperatingPoints("0" * 64, (empty,)), 0.5, "router") == points_message(None, 0.5, "router")
    assert [task["name"] for task in told(empty, HARD)] == ["GSM8K"]


def test_the_cheapest_setting_within_two_points_of_the_llm_is_offered_of_all_acceptances():
    (task,) = told(CURVE)
    assert [each[2:] for each in task["cheapest"]] == [[0.97, 0]]
    better = {"acceptance": 0.3, "accuracy": 0.65, "accuracy_high": 0.7}
    points = tuple(replace(point, bytes=0.4 * point.bytes, **better) for point in CURVE.points)
    (task,) = told(CURVE, replace(CURVE, points=points))
    ((_, about, *setting),) = task["cheapest"]
    assert setting == [0.6, 0.3] and "0.3" in about and "65" in about


def test_what_was_timed_at_threshold_0_is_told_of_every_policy_since_none_asks_there():
    settings = (("csqa", 0.0, 1.11), ("csqa", 0.4, 1.2), ("gsm8k", 0.0, 1.3))
    timed = tuple(TimedSetting("confidence", task, 20, at, 1.0, "auto", times) for task, at, times in settings)
    tasks = told(CURVE, untrained={"confidence": (CURVE,)}, timed=timed)
    times = {task["policy"]: [each["times"] for each in task["timed"]] for task in tasks}
    assert times == {"router": [1.11], "confidence": [1.11, 1.2]}


@pytest.mark.parametrize("cost", [0.0, 5e-324, 1e308])
def test_any_cost_of_a_strangers_file_gives_a_message_of_finite_numbers(cost: float):
    (task,) = told(replace(CURVE, llm=point(LLM_ONLY, 0.62, 1.0, cost, cost)))
    assert task["curves"][0]["best"]["bytes"][-1][0] in (0.0, 1.01), "the cheapest"
