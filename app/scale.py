"""The slider's positions: 101 thresholds, one for each percent of the text that the large model is likely to write.

A position means one threshold, whatever text is on the page. The share that a threshold gives was measured with the
router; positions between two measured thresholds are spaced by the log odds of the score, since scores crowd near 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.components import to_json
from app.figures import MEASURED, rounded, token_ratios
from engine.operating_points import OperatingPoints
from engine.policy import FIXED
from engine.setting import LLM_ONLY

STEPS = 100
_LOWEST, _HIGHEST = 0.01, 1 - 1e-6  # thresholds that stand for the ends between which positions are spaced


def scale_of(points: OperatingPoints | None, policy: str, start: float | None = None) -> list[float]:
    """The thresholds of all positions, ascending, from 0 (SLM only) to `LLM_ONLY`.

    Args:
        points: What was measured of the router and of policies without training.
        policy: What scores. Where it was not measured, and for "random", positions are spaced evenly by threshold.
        start: A threshold that stands exactly at one of the positions, the nearest.
    """
    curves = [curve for curve in points.of(policy) if curve.acceptance == 0] if points else []
    curve = next((curve for curve in curves if curve.points), None)
    if curve is None or policy == "random":
        inner = [round(n / STEPS, 2) for n in range(1, STEPS)]
    else:
        inner = _spaced([(point.threshold, point.llm_share) for point in curve.points])
    if start is not None and 0 < start < 1:
        nearest = min(range(len(inner)), key=lambda n: abs(_odds(inner[n]) - _odds(start)))
        inner[nearest] = start
    return [0.0, *inner, LLM_ONLY]


def pair_scale(pair: Any, policy: str) -> list[float]:
    """The positions' thresholds for a loaded pair; the router's own stands at one of them."""
    return scale_of(pair.operating_points, policy, pair.threshold if policy == "router" else None)


def slider_message(pair: Any, starts: Mapping[str, Sequence[float]]) -> str:
    """What the slider needs to know of a loaded pair, as JSON.

    Returns:
        `scales` by policy (see `scale_of`), `ratios` (see `token_ratios`), and `starts`: for each dial its value when
        the browser asked, and its new value. If passes could not be timed, the ratio of seconds is None.
    """
    scales = {name: pair_scale(pair, name) for name in pair.policies if name not in FIXED}
    ratios = token_ratios(pair.slm_cost, pair.llm_cost)
    if not pair.timed:
        ratios[MEASURED.index("seconds")] = None
    return to_json({"scales": scales, "ratios": ratios, "starts": starts})


def _spaced(measured: Sequence[tuple[float, float]]) -> list[float]:
    """Thresholds for each percent between both ends, from measured (threshold, LLM share)."""
    thresholds, shares = [_LOWEST], [0.0]
    for threshold, share in measured:
        if thresholds[-1] < threshold < _HIGHEST and shares[-1] < share < 1:
            thresholds.append(threshold)
            shares.append(share)
    wanted = np.interp(np.arange(1, STEPS) / STEPS, [*shares, 1.0], [_odds(each) for each in [*thresholds, _HIGHEST]])
    inner: list[float] = []
    for odds in wanted:
        threshold = float(1 / (1 + np.exp(-odds)))
        short = rounded(threshold)
        inner.append(short if short > (inner[-1] if inner else 0) else round(threshold, 9))
    return inner


def _odds(threshold: float) -> float:
    return float(np.log(threshold / (1 - threshold)))
