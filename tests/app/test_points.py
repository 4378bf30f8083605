"""What the page is told of measured settings: curves, best points, the cheapest, what was timed. All is made up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.controls import points_message
from engine.operating_points import OperatingPoints
from tests.support.points import CURVE, HARD


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
