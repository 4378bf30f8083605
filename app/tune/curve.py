"""From what single prompts gave at single thresholds to a curve with intervals.

There are two qualities: the share of right answers ("right"), and the agreement with the LLM's own text ("same").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.operating_points import LLM_ONLY, Quality, bootstrap_counts

QUALITIES: tuple[Quality, ...] = ("right", "same")

RESAMPLES = 1000
_SEED = 0  # the same prompts, the same intervals


@dataclass(frozen=True, slots=True)
class TextResult:
    """One prompt's text at one threshold."""

    text: str
    right: bool | None  # whether it gives the expected answer; None where none is expected
    agreement: float  # with the LLM's own text, in [0, 1], see `engine.grading.agreement`
    tokens: int
    llm_tokens: int
    bytes: float  # moved
    cut: bool = False  # whether it was cut off at its limit

    def quality(self, kind: Quality) -> float:
        """Right as 1 or 0, or the agreement."""
        return float(bool(self.right)) if kind == "right" else self.agreement


@dataclass(frozen=True, slots=True)
class PromptResult:
    """What one prompt gave, from the SLM over every threshold to LLM-only."""

    row: int  # which of the visitor's prompts
    points: tuple[TextResult, ...]


class Point(NamedTuple):
    """A threshold with the mean quality of all prompts, its 95 % interval, the LLM's share, and bytes per prompt."""

    threshold: float
    quality: float
    low: float
    high: float
    llm_share: float
    bytes: float


class Curve(NamedTuple):
    """Points from the SLM to LLM-only, and how many prompts they are of."""

    questions: int
    points: tuple[Point, ...]


def build_curve(results: Sequence[PromptResult], thresholds: Sequence[float], kind: Quality) -> Curve | None:
    """The curve of all prompts so far; for right answers, of those that have an expected one, None while none has.

    `thresholds` are those between both ends, ascending. Intervals are percentiles of a bootstrap over prompts.
    """
    used = [result.points for result in results if kind == "same" or result.points[0].right is not None]
    if not used:
        return None
    counts = bootstrap_counts(len(used), RESAMPLES, _SEED)[1:]
    places = zip((0.0, *thresholds, LLM_ONLY), zip(*used, strict=True), strict=True)
    return Curve(len(used), tuple(_point(place, texts, kind, counts) for place, texts in places))


def _point(threshold: float, texts: Sequence[TextResult], kind: Quality, counts: np.ndarray) -> Point:
    qualities = np.array([text.quality(kind) for text in texts])
    value = float(qualities.mean())
    low, high = np.percentile(counts @ qualities / len(texts), [2.5, 97.5])
    return Point(
        threshold=threshold,
        quality=value,
        low=min(value, float(low)),
        high=max(value, min(1.0, float(high))),
        llm_share=sum(text.llm_tokens for text in texts) / max(1, sum(text.tokens for text in texts)),
        bytes=float(np.mean([text.bytes for text in texts])),
    )
