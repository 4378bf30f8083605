"""Statistics over questions: resampling, gap recovered, cost at equal accuracy, paired tests. Numpy, pure functions.

Knows arrays; knows no files, methods or models. The last axis of an array [..., samples] is the bootstrap's: sample 0
is what was measured, the others are resamples of the same questions for every point and method. So each statistic is
written once, for all samples, and any two are paired. NaN means "has no value here", e.g. a target not reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Accuracies are k/n: far apart compared with this, which only absorbs what interpolation rounds off.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % percentile interval (Efron & Tibshirani 1993, chapter 13).

    Attributes:
        value: On the questions as measured; NaN if it has no value there.
        low, high: 2.5th and 97.5th percentile over the resamples in which it has a value; NaN without any.
        unreached: Share of resamples in which it has none, in [0, 1].
    """

    value: float
    low: float
    high: float
    unreached: float


def resample(questions: int, resamples: int, seed: int) -> Array:
    """How often each question is drawn.

    Args:
        questions: How many there are, at least 1.
        resamples: How many times as many are drawn with replacement.
        seed: Same seed, same counts.

    Returns:
        Counts [1 + resamples, questions]; row 0 has every question once, each row sums to `questions`.
    """
    drawn = np.random.default_rng(seed).integers(questions, size=(resamples, questions))
    cells = drawn + questions * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * questions).reshape(resamples, questions)
    return np.vstack([np.ones((1, questions)), counts.astype(np.float64)])


def sums(values: Array, counts: Array) -> Array:
    """Sums over the drawn questions: values [points, questions], counts [samples, questions] → [points, samples].

    Sums of integers are exact in float64, so two points with the same answers are equal to the bit in every sample.
    """
    return values @ counts.T


def estimate(samples: Array) -> Estimate:
    """Value and percentile interval of a statistic [samples]."""
    drawn = samples[1:]
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (math.nan, math.nan)
    unreached = 1 - len(drawn) / max(1, len(samples) - 1)
    return Estimate(float(samples[0]), float(low), float(high), unreached)


def gap_recovered(accuracy: Array, slm: Array, llm: Array) -> Array:
    """Performance gap recovered, (accuracy − SLM) / (LLM − SLM) (PGR; Ong et al. 2024, RouteLLM, arXiv 2406.18665).

    Args:
        accuracy: [points, samples] or [samples].
        slm, llm: Accuracies of both models alone [samples].

    Returns:
        As `accuracy`; NaN in samples where the LLM is no better than the SLM: there is no gap to recover.
    """
    gap = np.where(llm - slm > TOLERANCE, llm - slm, np.nan)
    return (accuracy - slm) / gap


def curve_over_share(share: Array, values: Array, slm: Array, llm: Array) -> tuple[Array, Array]:
    """A method's curve over LLM share, from the SLM alone at 0 to the LLM alone at 1.

    Args:
        share, values: Of the measured points [points, samples], in any order.
        slm, llm: Values at both ends [samples].

    Returns:
        Shares, sorted in each sample, and values, both [points + 2, samples]; points (ends included) of exactly the
        same share all get the mean of their values, so the curve has one value at each share.
    """
    x = np.vstack([np.zeros_like(slm)[None], share, np.ones_like(llm)[None]])
    y = np.vstack([slm[None], values, llm[None]])
    order = np.argsort(x, axis=0, kind="stable")
    x, y = np.take_along_axis(x, order, 0), np.take_along_axis(y, order, 0)
    same = x[:, None] == x[None]  # [points + 2, points + 2, samples]
    return x, (same * y[None]).sum(axis=1) / same.sum(axis=1)


def average_gap_recovered(share: Array, accuracy: Array, slm: Array, llm: Array) -> Array:
    """Average performance gap recovered over LLM share 0 to 1, by trapezoid (APGR; Ong et al. 2024, RouteLLM).

    Random routing has 0.5 where its accuracy grows evenly with the share. The measured curve is taken as it is, bumps
    included; a method above the LLM's accuracy can have more than 1.

    Args:
        share, accuracy: Of the measured points [points, samples], in any order; see `curve_over_share`.
        slm, llm: Accuracies of both models alone [samples], the curve's ends.

    Returns:
        [samples]; NaN where the LLM is no better than the SLM.
    """
    x, y = curve_over_share(share, accuracy, slm, llm)
    recovered = gap_recovered(y, slm, llm)
    return (np.diff(x, axis=0) * (recovered[1:] + recovered[:-1]) / 2).sum(axis=0)


def at_share(x: Array, y: Array, wanted: float) -> Array:
    """Linear interpolation in a curve over LLM share.

    Args:
        x, y: From `curve_over_share` [points, samples].
        wanted: LLM share in [0, 1].

    Returns:
        [samples].
    """
    right = np.clip((x < wanted).sum(axis=0), 1, len(x) - 1)
    x0, x1, y0, y1 = _pick(x, right - 1), _pick(x, right), _pick(y, right - 1), _pick(y, right)
    return y0 + _fraction(wanted - x0, x1 - x0) * (y1 - y0)


def cost_at_accuracy(cost: Array, accuracy: Array, target: Array) -> Array:
    """The least cost at which a method reaches an accuracy.

    The method's curve is the Pareto frontier of its measured points (cheapest first, each more accurate than all
    cheaper ones), with straight lines between neighbours; a line's middle is what sending each question to one of the
    two thresholds at random gives. Cost need not grow with LLM share. Below the cheapest point's accuracy the
    cheapest point is what it costs.

    Args:
        cost, accuracy: Of the measured points [points, samples], in any order.
        target: Accuracy [samples].

    Returns:
        [samples]; NaN where no point reaches the target, or the target is NaN.
    """
    cost, best = _frontier(cost, accuracy)
    enough = best >= target - TOLERANCE
    upper = enough.argmax(axis=0)
    below = _pick(best, np.maximum(upper - 1, 0))
    lower = (best >= below).argmax(axis=0)  # the frontier's point before `upper`, or `upper` itself if it is the first
    step = np.where(lower < upper, _fraction(target - below, _pick(best, upper) - below), 1)
    found = _pick(cost, lower) + step * (_pick(cost, upper) - _pick(cost, lower))
    return np.where(enough.any(axis=0), found, np.nan)


def accuracy_at_cost(cost: Array, accuracy: Array, budget: Array) -> Array:
    """The best accuracy within a cost, on the frontier of `cost_at_accuracy`.

    Args:
        cost, accuracy: Of the measured points [points, samples], in any order.
        budget: In the unit of `cost` [samples].

    Returns:
        [samples]; NaN where even the cheapest point costs more than the budget.
    """
    cost, best = _frontier(cost, accuracy)
    within = cost <= budget * (1 + TOLERANCE)
    reached = _pick(best, np.maximum(within.sum(axis=0) - 1, 0))
    lower = (best >= reached).argmax(axis=0)
    higher = best > reached
    upper = np.where(higher.any(axis=0), higher.argmax(axis=0), lower)
    step = _fraction(budget - _pick(cost, lower), _pick(cost, upper) - _pick(cost, lower))
    return np.where(within[0], reached + step * (_pick(best, upper) - reached), np.nan)


def accuracy_targets(slm: Array, llm: Array, gap: float) -> Array:
    """The accuracy at which a share of the gap between both models is recovered, in each sample.

    Args:
        slm, llm: Accuracies of both models alone [samples].
        gap: Share of the gap in (0, 1]; 1 is the LLM's own accuracy, which needs no gap.

    Returns:
        [samples]; NaN for `gap` < 1 where the LLM is no better than the SLM.
    """
    if gap == 1:
        return llm
    return np.where(llm - slm > TOLERANCE, slm + gap * (llm - slm), np.nan)


def bootstrap_p(differences: Array) -> float:
    """Two-sided p-value of a paired difference [samples] against 0, from its own resamples.

    The percentile interval turned round: twice the smaller share of resamples on either side of 0, with one added above
    and below the line, so that it is never 0 (Davison & Hinkley 1997, chapter 4). A difference may be infinite. NaN
    where there is no difference to test.
    """
    drawn = differences[1:]
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or np.isnan(differences[0]):
        return math.nan
    smaller = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, 2 * (1 + int(smaller)) / (1 + len(drawn)))


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar test of two methods on the same questions (McNemar 1947; binomial, no approximation).

    Args:
        first, second: Whether each question was answered rightly [questions].

    Returns:
        The p-value; 1 where they never differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    tail = sum(math.comb(differing, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**differing)


def _frontier(cost: Array, accuracy: Array) -> tuple[Array, Array]:
    """Points by cost (the more accurate first among equals), and the best accuracy up to each: both [points, samples].

    A point is on the Pareto frontier where that best accuracy rises.
    """
    order = np.lexsort((-accuracy, cost), axis=0)
    return np.take_along_axis(cost, order, 0), np.maximum.accumulate(np.take_along_axis(accuracy, order, 0), axis=0)


def _pick(values: Array, index: NDArray[np.intp]) -> Array:
    """One value per sample: [points, samples] at [samples]."""
    return np.take_along_axis(values, index[None], 0)[0]


def _fraction(part: Array, whole: Array) -> Array:
    """How far along a segment, in [0, 1]; 0 on a segment of no length."""
    return np.clip(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0), 0, 1)
