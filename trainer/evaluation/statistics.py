"""Statistics over questions: resampling, gap recovered, cost at equal accuracy, paired tests. Pure functions of arrays.

The last axis of an array [..., samples] is the bootstrap's: sample 0 is what was measured, the others are resamples of
the same questions for every point and method. So each statistic is written once for all samples, and any two are
paired. NaN means "has no value here", e.g. a target not reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
        low, high: Over the resamples in which it has a value; NaN without any.
        unreached: Share of resamples in which it has none, in [0, 1].
    """

    value: float
    low: float
    high: float
    unreached: float


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

    `accuracy` is [points, samples] or [samples], and so is the result. NaN in samples where the LLM is no better than
    the SLM: there is no gap to recover.
    """
    return (accuracy - slm) / _gap(slm, llm)


def accuracy_targets(slm: Array, llm: Array, gap: float) -> Array:
    """The accuracy [samples] at which a share `gap` of the gap between both models is recovered, in (0, 1].

    1 is the LLM's own accuracy, which needs no gap; for less it is NaN where the LLM is no better than the SLM.
    """
    return llm if gap == 1 else slm + gap * _gap(slm, llm)


def _gap(slm: Array, llm: Array) -> Array:
    return np.where(llm - slm > TOLERANCE, llm - slm, np.nan)


def curve_over_share(share: Array, values: Array, slm: Array, llm: Array) -> tuple[Array, Array]:
    """A method's curve over LLM share, from the SLM alone at 0 to the LLM alone at 1.

    From the measured points [points, samples], in any order, and the values at both ends [samples] to shares, sorted in
    each sample, and values, both [points + 2, samples]. Points (ends included) of the same share get their mean value.
    """
    x = np.vstack([np.zeros_like(slm), share, np.ones_like(llm)])
    y = np.vstack([slm, values, llm])
    order = np.argsort(x, axis=0, kind="stable")
    x, y = np.take_along_axis(x, order, 0), np.take_along_axis(y, order, 0)
    same = x[:, None] == x[None]  # [points + 2, points + 2, samples]
    return x, (same * y[None]).sum(axis=1) / same.sum(axis=1)


def average_gap_recovered(share: Array, accuracy: Array, slm: Array, llm: Array) -> Array:
    """Average performance gap recovered [samples] over LLM share 0 to 1, by trapezoid (APGR; Ong et al. 2024).

    Random routing has 0.5 where its accuracy grows evenly with the share. The measured curve is taken as it is, bumps
    included; a method above the LLM's accuracy can have more than 1. NaN where the LLM is no better than the SLM.
    Arguments as for `curve_over_share`.
    """
    x, y = curve_over_share(share, accuracy, slm, llm)
    return np.asarray(np.trapezoid(gap_recovered(y, slm, llm), x, axis=0))


def at_share(x: Array, y: Array, wanted: float) -> Array:
    """The value [samples] at an LLM share in [0, 1], linear between the points of `curve_over_share`."""
    right = np.clip((x < wanted).sum(axis=0), 1, len(x) - 1)
    return _between(x, y, right - 1, right, wanted)


def cost_at_accuracy(cost: Array, accuracy: Array, target: Array) -> Array:
    """The least cost [samples] at which a method reaches an accuracy [samples].

    The method's curve is the Pareto frontier of its measured points [points, samples] (cheapest first, each more
    accurate than all cheaper ones), with straight lines between neighbours; a line's middle is what sending each
    question to one of the two thresholds at random gives. Cost need not grow with LLM share. Below the cheapest point's
    accuracy the cheapest point is what it costs. NaN where no point reaches the target, or the target is NaN.
    """
    cost, best = _frontier(cost, accuracy)
    enough = best >= target - TOLERANCE
    upper = enough.argmax(axis=0)
    lower = (best >= _pick(best, np.maximum(upper - 1, 0))).argmax(axis=0)  # of those as accurate, the cheapest
    return np.where(enough.any(axis=0), _between(best, cost, lower, upper, target), np.nan)


def least_cost(cost: Array, accuracy: Array, target: Array) -> Array:
    """The cost [samples] of the cheapest measured point [points, samples] with at least an accuracy [samples].

    Nothing is read between points. NaN where no point reaches the target, or the target is NaN.
    """
    least = np.where(accuracy >= target - TOLERANCE, cost, np.inf).min(axis=0)
    return np.where(np.isfinite(least), least, np.nan)


def left_out_means(chosen: Array, counts: Array, columns: Array) -> Array:
    """What chosen points come to on the questions that had no part in choosing them (out of bag; Efron 1983).

    Args:
        chosen: A point for each sample [samples], by its index; −1 where there was none. The first sample, the
            questions themselves, is not looked at.
        counts: The bootstrap's draws [samples, questions].
        columns: A value of each point for each question [points, questions].

    Returns:
        The mean over the questions that were not drawn, averaged over the samples with a choice, of the chosen point
        and of each point alone: [1 + points]; NaN where no sample has one.
    """
    samples = np.flatnonzero(chosen[1:] >= 0) + 1
    left_out = (counts[samples] == 0).astype(np.float64)
    samples, left_out = samples[left_out.any(axis=1)], left_out[left_out.any(axis=1)]
    if not len(samples):
        return np.full(1 + len(columns), np.nan)
    means = left_out @ columns.T / left_out.sum(axis=1, keepdims=True)
    return np.concatenate([[means[np.arange(len(samples)), chosen[samples]].mean()], means.mean(axis=0)])


def accuracy_at_cost(cost: Array, accuracy: Array, budget: Array) -> Array:
    """The best accuracy [samples] within a cost [samples], on the frontier of `cost_at_accuracy`.

    NaN where even the cheapest point costs more than the budget.
    """
    cost, best = _frontier(cost, accuracy)
    within = cost <= budget * (1 + TOLERANCE)
    reached = _pick(best, np.maximum(within.sum(axis=0) - 1, 0))
    lower, higher = (best >= reached).argmax(axis=0), best > reached
    upper = np.where(higher.any(axis=0), higher.argmax(axis=0), lower)
    return np.where(within[0], _between(cost, best, lower, upper, budget), np.nan)


class ResampledCurve(NamedTuple):
    """A method's measured points in every sample: arrays [points, samples], but for the first two and the last.

    Attributes:
        thresholds: [points].
        correct: 1 where a question was answered rightly, else 0 [points, questions].
        cost: Per answer, by unit.
        copies: Of the weights, by which each point was written; see `trainer.evaluation.record.Point`.
    """

    thresholds: Array
    correct: Array
    share: Array
    accuracy: Array
    cost: Mapping[str, Array]
    copies: Sequence[str]

    def at_share(self, wanted: float, slm: ResampledCurve, llm: ResampledCurve, unit: str | None = None) -> Array:
        """Accuracy [samples] at an LLM share, or the cost in a unit, between both models alone."""
        values, first, last = (each.cost[unit] if unit else each.accuracy for each in (self, slm, llm))
        return at_share(*curve_over_share(self.share, values, first[0], last[0]), wanted)

    def average_gap_recovered(self, slm: ResampledCurve, llm: ResampledCurve) -> Array:
        """See the function of this name; NaN for a single point, which has no curve."""
        recovered = average_gap_recovered(self.share, self.accuracy, slm.accuracy[0], llm.accuracy[0])
        return recovered if len(self.thresholds) > 1 else np.full_like(recovered, np.nan)


def bootstrap_p(differences: Array) -> float:
    """Two-sided p-value of a paired difference [samples] against 0, from its own resamples.

    Twice the smaller share of resamples on either side of 0, with one added above and below the line, so that it is
    never 0 (Davison & Hinkley 1997, chapter 4). A difference may be infinite. NaN where there is none to test.
    """
    drawn = differences[1:]
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or np.isnan(differences[0]):
        return math.nan
    smaller = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, 2 * (1 + int(smaller)) / (1 + len(drawn)))


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value of two methods' right answers to the same questions (McNemar 1947; binomial).

    Both are [questions]. 1 where they never differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    tail = sum(math.comb(differing, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**differing)


def front(cost: Array, accuracy: Array) -> list[int]:
    """Which of some points [points] are more accurate than all cheaper ones, the cheapest first."""
    found: list[int] = []
    for number in np.lexsort((-accuracy, cost)).tolist():
        if not found or accuracy[number] > accuracy[found[-1]] + TOLERANCE:
            found.append(number)
    return found


def _frontier(cost: Array, accuracy: Array) -> tuple[Array, Array]:
    """Cost of the points in ascending order, and the best accuracy up to each: both [points, samples]."""
    order = np.lexsort((-accuracy, cost), axis=0)
    return np.take_along_axis(cost, order, 0), np.maximum.accumulate(np.take_along_axis(accuracy, order, 0), axis=0)


def _pick(values: Array, index: NDArray[np.intp]) -> Array:
    """One value per sample: [points, samples] at [samples]."""
    return np.take_along_axis(values, index[None], 0)[0]


def _between(x: Array, y: Array, lower: NDArray[np.intp], upper: NDArray[np.intp], wanted: Array | float) -> Array:
    """Where the line from one point to another is at x = `wanted` [samples]; no further than either of them."""
    x0, x1, y0, y1 = _pick(x, lower), _pick(x, upper), _pick(y, lower), _pick(y, upper)
    fraction = np.divide(wanted - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
    return y0 + np.clip(fraction, 0, 1) * (y1 - y0)
