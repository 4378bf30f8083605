"""What the three handles on one operating point need: a router's measured curve as the browser's script reads it.

Threshold, LLM share and cost weight λ are the same choice in three units. Knows the engine's curve and how figures are
written; `assets/page/operating_points.js` draws the handles and moves them along the curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from app.components import to_json
from engine.operating_points import LLM_ONLY, MEASURED_UNITS, Curve, OperatingPoint, OperatingPoints

THRESHOLD_DIGITS = 4
"""Of the slider's steps: scores crowd just below 1, where three decimals are steps of many LLM tokens."""

CHEAPEST_WITHIN = 0.02
"""Accuracy that "cheapest" may be below the LLM's: two points."""

NO_BREAK = "\N{NARROW NO-BREAK SPACE}"
_MOST = 1e9  # of relative costs and of λ, as the engine has it: a stranger's file may hold any two numbers
_Choice = tuple[str, str, float]  # text, explanation, threshold


class Best(NamedTuple):
    """A measured point that is best for some cost weights.

    Attributes:
        threshold: Where the slider stands for it.
        low, high: The cost weights λ for which it is; `high` is None where there is no end to them.
    """

    threshold: float
    low: float
    high: float | None


def points_message(points: OperatingPoints | None, threshold: float, policy: str) -> str:
    """What the browser needs to draw the handles and to say what a threshold gave, as JSON.

    Args:
        points: The router's; None where it was not measured.
        threshold, policy: Where the dials stand now.

    Returns:
        Empty where there is nothing to say. Else `threshold`, `policy`, `units`, and `tasks`: of each that was measured
        `name`, `curve` ([threshold, LLM share, accuracy, low, high, cost in each of `units` / cost of LLM-only] of
        every measured point, LLM-only at 1), `best` (see `best_points`, by unit), `on` (what was measured, with what),
        and `cheapest` (choices: [text, explanation, threshold]).
    """
    curves = [curve for curve in points.curves if curve.points] if points else []
    if not curves:
        return ""
    tasks = [_task(curve) for curve in curves]
    return to_json({"threshold": threshold, "policy": policy, "units": MEASURED_UNITS, "tasks": tasks})


def _task(curve: Curve) -> dict[str, Any]:
    return {
        "name": curve.task,
        "curve": [_row(curve, point) for point in curve.measured],
        "best": {unit: best_points(curve, unit) for unit in MEASURED_UNITS},
        "on": f"Measured on {_questions(curve)} (LLM alone {_whole_percent(curve.llm.accuracy)} right): "
        f"{curve.pair}, {curve.hardware}.",
        "cheapest": _cheapest(curve),
    }


def best_points(curve: Curve, unit: str) -> list[Best]:
    """Every measured point that `Curve.best` gives for some λ, from λ = 0 upwards: the corners of the curve's hull.

    Points that the slider's steps cannot tell apart count as one.

    Args:
        curve: What was measured.
        unit: One of `MEASURED_UNITS`.

    Raises:
        InvalidRequest: The unit was not measured.
    """
    places = {point: _relative(curve, point, unit) for point in curve.measured}
    corners: list[OperatingPoint] = []

    def weight(a: OperatingPoint, b: OperatingPoint) -> float:
        """The λ at which the cheaper a and the better b are equally good."""
        return min((b.accuracy - a.accuracy) / (places[b] - places[a]), _MOST)

    for point in sorted(places, key=lambda point: (places[point], -point.accuracy)):
        if corners and point.accuracy <= corners[-1].accuracy:
            continue  # dearer and no better
        while len(corners) > 1 and weight(corners[-1], point) >= weight(corners[-2], corners[-1]):
            corners.pop()
        corners.append(point)
    weights = [weight(a, b) for a, b in pairwise(corners)]
    return _on_the_slider(corners[::-1], [0.0, *weights[::-1], None])


def _on_the_slider(corners: Sequence[OperatingPoint], ends: Sequence[float | None]) -> list[Best]:
    found: list[Best] = []
    for corner, (low, high) in zip(corners, pairwise(ends), strict=True):
        threshold = _step(corner.threshold)
        same = found.pop() if found and found[-1].threshold == threshold else None
        found.append(Best(threshold, same.low if same else low or 0.0, high))
    return found


def _row(curve: Curve, point: OperatingPoint) -> list[float]:
    measured = [point.llm_share, point.accuracy, point.accuracy_low, point.accuracy_high]
    return [min(point.threshold, 1.0), *measured, *(_relative(curve, point, unit) for unit in MEASURED_UNITS)]


def _relative(curve: Curve, point: OperatingPoint, unit: str) -> float:
    """Cost / cost of LLM-only, as `Curve.best` weighs it."""
    return min(point.cost(unit) / (curve.llm.cost(unit) or 1.0), _MOST)


def _step(threshold: float) -> float:
    """The slider's step for a measured threshold; only an end of the curve stands at an end of the slider."""
    if threshold > 1:
        return LLM_ONLY
    step = 10**-THRESHOLD_DIGITS
    inside = 0 < threshold < 1
    return round(min(max(threshold, step), 1 - step) if inside else threshold, THRESHOLD_DIGITS)


def _cheapest(curve: Curve) -> list[_Choice]:
    point = curve.cheapest_within(CHEAPEST_WITHIN)
    if point is None:
        return []
    text = f"cheapest within {100 * CHEAPEST_WITHIN:.0f} points of the LLM"
    return [(text, _explanation(curve, point), _step(point.threshold))]


def _explanation(curve: Curve, point: OperatingPoint) -> str:
    cost = f", {_whole_percent(point.bytes / curve.llm.bytes)} of its bytes moved" if curve.llm.bytes else ""
    return (
        f"Threshold {point.threshold:.{THRESHOLD_DIGITS}g}: {_whole_percent(point.llm_share)} LLM tokens, "
        f"{_whole_percent(point.accuracy)} right (LLM alone {_whole_percent(curve.llm.accuracy)}){cost}"
    )


def _whole_percent(share: float) -> str:
    """A share as "20 %", as the script writes it: measured on some hundred questions, it has no decimals to show."""
    text = "<1" if 0 < share < 0.005 else ">99" if 0.995 < share < 1 else f"{100 * share:.0f}"
    return f"{text}{NO_BREAK}%"


def _questions(curve: Curve) -> str:
    return f"{curve.questions:,} {curve.task} question{'s' if curve.questions != 1 else ''}"
