"""From what single prompts gave at single thresholds to a curve with intervals.

The curve is the engine's `Curve`, read as a router's is. Its "accuracy" is one of two qualities: the share of right
answers, or the agreement with the LLM's own text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from engine.operating_points import LLM_ONLY, Curve, OperatingPoint, Quality

QUALITIES: tuple[Quality, ...] = ("right", "same")

_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class TextResult:
    """One prompt's text at one threshold, with its cost; seconds are modelled from measured passes."""

    text: str
    right: bool | None  # whether it gives the expected answer; None where none is expected
    agreement: float  # with the LLM's own text, in [0, 1], see `engine.grading.agreement`
    tokens: int
    llm_tokens: int
    bytes: float
    flops: float
    seconds: float
    cut: bool = False  # whether it was cut off at its limit

    def quality(self, kind: Quality) -> float:
        return float(bool(self.right)) if kind == "right" else self.agreement


@dataclass(frozen=True, slots=True)
class PromptResult:
    """What one prompt gave, from the SLM over every threshold to LLM-only."""

    row: int  # which of the visitor's prompts
    points: tuple[TextResult, ...]


def build_curve(
    results: Sequence[PromptResult], thresholds: Sequence[float], kind: Quality, acceptance: float = 0.0
) -> Curve | None:
    """The curve of all prompts so far; for right answers, of those that have an expected one, None while none has.

    `thresholds` are those between both ends, ascending, all measured at an `acceptance`; `kind` is the quality that
    stands as the curve's accuracy, with its 95 % interval (see `wilson`).
    """
    used = [result.points for result in results if kind == "same" or result.points[0].right is not None]
    if not used:
        return None
    places = [0.0, *thresholds, LLM_ONLY]
    points = [
        replace(_point(place, texts, kind), acceptance=acceptance)
        for place, texts in zip(places, zip(*used, strict=True), strict=True)
    ]
    return Curve(
        task="own prompts",
        questions=len(used),
        pair="",
        command="",
        revision="",
        hardware="",
        slm=points[0],
        llm=points[-1],
        points=tuple(points[1:-1] if acceptance == 0 else points[:-1]),  # above 0 the SLM alone was not measured
        quality=kind,
    )


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` prompts, which four right answers of four do not make certain.

    For an agreement, whose mean varies less than such a share, it is wider than it needs to be.
    """
    spread = _Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _point(threshold: float, texts: Sequence[TextResult], kind: Quality) -> OperatingPoint:
    value = fmean(text.quality(kind) for text in texts)
    low, high = wilson(value, len(texts))
    return OperatingPoint(
        threshold=threshold,
        accuracy=value,
        accuracy_low=min(value, low),
        accuracy_high=max(value, high),
        llm_share=sum(text.llm_tokens for text in texts) / max(1, sum(text.tokens for text in texts)),
        bytes=fmean(text.bytes for text in texts),
        flops=fmean(text.flops for text in texts),
        seconds=fmean(text.seconds for text in texts),
    )
