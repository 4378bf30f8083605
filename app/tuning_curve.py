"""From what single prompts gave at single thresholds to a curve with intervals, and which thresholds to try.

Pure functions over numbers. Knows no models and no page; the curve is the engine's, so that it is read as a router's.
Its "accuracy" is one of two qualities: the share of right answers, or the agreement with the LLM's own text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.operating_points import LLM_ONLY, Curve, OperatingPoint

Quality = Literal["right", "same"]
QUALITIES: tuple[Quality, ...] = ("right", "same")

RESAMPLES = 1000
_SEED = 0  # the same prompts, the same intervals
_DENSER = 1.5  # shares are closer together where the LLM writes little: there the curve is steep


@dataclass(frozen=True, slots=True)
class Measured:
    """One prompt at one threshold.

    Attributes:
        text: What was written.
        right: Whether it gives the expected answer; None where none is expected.
        agreement: With the LLM's own text, in [0, 1], see `agreement`.
        tokens, llm_tokens: Generated, and of these written by the LLM.
        bytes, flops, seconds: Cost of the whole text, prompt included; seconds are modelled from measured passes.
    """

    text: str
    right: bool | None
    agreement: float
    tokens: int
    llm_tokens: int
    bytes: float
    flops: float
    seconds: float

    def quality(self, kind: Quality) -> float:
        """Right as 1 or 0, or the agreement."""
        return float(bool(self.right)) if kind == "right" else self.agreement


@dataclass(frozen=True, slots=True)
class PromptResult:
    """What one prompt gave.

    Attributes:
        row: Which of the visitor's prompts, from 0.
        points: From SLM-only over every threshold to LLM-only.
    """

    row: int
    points: tuple[Measured, ...]


def build_curve(results: Sequence[PromptResult], thresholds: Sequence[float], kind: Quality) -> Curve | None:
    """The curve of all prompts so far; for right answers, of those that have an expected one.

    Args:
        results: In any order.
        thresholds: Those between both ends, ascending.
        kind: Which quality stands as the curve's accuracy.

    Returns:
        None while there is no prompt for it. Intervals are 95 % percentile bootstrap intervals over prompts.
    """
    used = [result.points for result in results if kind == "same" or result.points[0].right is not None]
    if not used:
        return None
    counts = np.random.default_rng(_SEED).multinomial(len(used), [1 / len(used)] * len(used), size=RESAMPLES)
    places = [0.0, *thresholds, LLM_ONLY]
    points = [_point(place, [points[i] for points in used], kind, counts) for i, place in enumerate(places)]
    return Curve(
        task="own prompts",
        questions=len(used),
        pair="",
        command="",
        revision="",
        hardware="",
        slm=points[0],
        llm=points[-1],
        points=tuple(points[1:-1]),
    )


def agreement(tokens: Sequence[int], llm_tokens: Sequence[int]) -> float:
    """1 − edit distance / length of the longer text, in tokens: 1 is the same text, 0 has nothing in common.

    Args:
        tokens, llm_tokens: Token ids of a text and of the LLM's own. Takes time in proportion to their product.
    """
    longer = max(len(tokens), len(llm_tokens))
    same = next((i for i, (a, b) in enumerate(zip(tokens, llm_tokens, strict=False)) if a != b), None)
    if same is None:  # one begins with the other
        return min(len(tokens), len(llm_tokens)) / longer if longer else 1.0
    a, b = np.array(tokens[same:]), np.array(llm_tokens[same:])
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for number, token in enumerate(a, 1):
        kept = np.minimum(row[1:] + 1, row[:-1] + (b != token))  # deleted, or replaced where it differs
        row = np.minimum.accumulate(np.concatenate([[number], kept]) - steps) + steps  # or some of b inserted
    return 1 - int(row[-1]) / longer


def thresholds_of_curve(curve: Curve, count: int) -> tuple[float, ...]:
    """Thresholds for about `count` LLM shares, denser where the LLM writes little, from a measured curve."""
    return _distinct(curve.for_share((i / (count + 1)) ** _DENSER).threshold for i in range(1, count + 1))


def thresholds_of_scores(scores: Sequence[float], count: int) -> tuple[float, ...]:
    """As `thresholds_of_curve`, from the scores of the SLM's own texts: below each lies about such a share of them."""
    if not scores:
        return even_thresholds(count)
    shares = [(i / (count + 1)) ** _DENSER for i in range(1, count + 1)]
    return _distinct(np.quantile(scores, shares).tolist()) or even_thresholds(count)


def even_thresholds(count: int) -> tuple[float, ...]:
    """Evenly spaced; for chance, a threshold is a share."""
    return _distinct(i / (count + 1) for i in range(1, count + 1))


def rounded(threshold: float) -> float:
    """To three digits of its distance from 0 and 1: scores crowd just below 1. The page shows what was used."""
    distance = min(threshold, 1 - threshold)
    if distance <= 0:
        return round(threshold, 2)
    return round(threshold, min(9, max(3, 2 - math.floor(math.log10(distance)))))


def _distinct(thresholds: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted({value for value in map(rounded, thresholds) if 0 < value <= 1}))


def _point(threshold: float, measured: Sequence[Measured], kind: Quality, counts: np.ndarray) -> OperatingPoint:
    qualities = np.array([one.quality(kind) for one in measured])
    value = float(qualities.mean())
    low, high = np.percentile(counts @ qualities / len(measured), [2.5, 97.5])
    tokens = sum(one.tokens for one in measured)
    return OperatingPoint(
        threshold=threshold,
        accuracy=value,
        accuracy_low=min(value, float(low)),
        accuracy_high=max(value, min(1.0, float(high))),
        llm_share=sum(one.llm_tokens for one in measured) / max(1, tokens),
        bytes=float(np.mean([one.bytes for one in measured])),
        flops=float(np.mean([one.flops for one in measured])),
        seconds=float(np.mean([one.seconds for one in measured])),
    )
