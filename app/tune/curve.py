"""From what single prompts gave at single thresholds to a curve of their quality against the bytes moved.

The quality is the share of right answers, or the agreement with the LLM's own text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from engine.operating_points import Quality

_Z = 1.96  # of a 95 % interval


class TextResult(NamedTuple):
    """One prompt's text at one threshold.

    Attributes:
        right: Whether it gives the expected answer; None where none is expected.
        agreement: With the LLM's own text, in [0, 1]; see `engine.grading.agreement`.
        cut: Whether it was cut off at its limit.
    """

    text: str
    right: bool | None
    agreement: float
    tokens: int
    llm_tokens: int
    bytes: float
    cut: bool = False


class PromptResult(NamedTuple):
    """One prompt, by its row, with its text by the SLM, at every threshold, and by the LLM."""

    row: int
    points: tuple[TextResult, ...]


class CurvePoint(NamedTuple):
    """A threshold with the quality of its texts, the 95 % interval of that, and bytes moved per text."""

    threshold: float
    quality: float
    low: float
    high: float
    llm_share: float
    bytes: float


def curve(results: Sequence[PromptResult], places: Sequence[float], kind: Quality) -> tuple[int, list[CurvePoint]]:
    """Over how many prompts the curve is, and its points at the thresholds `places`, both ends among them.

    Right answers are counted over the prompts that have an expected one. Without such a prompt there are no points.
    """
    used = [result.points for result in results if kind == "same" or result.points[0].right is not None]
    texts_at = zip(*used, strict=True)
    return len(used), [_point(place, texts, kind) for place, texts in zip(places, texts_at, strict=False)]


def _point(threshold: float, texts: Sequence[TextResult], kind: Quality) -> CurvePoint:
    quality = fmean(text.agreement if kind == "same" else bool(text.right) for text in texts)
    share = sum(text.llm_tokens for text in texts) / max(1, sum(text.tokens for text in texts))
    return CurvePoint(threshold, quality, *wilson(quality, len(texts)), share, fmean(text.bytes for text in texts))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` prompts; it is wide even if four of four answers are right.

    For an agreement, whose mean varies less than such a share, it is wider than it needs to be.
    """
    spread = _Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
