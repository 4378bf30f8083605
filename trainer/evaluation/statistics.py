"""Statistics over questions: how a setting is chosen, what it is worth on other questions, and how sure that is.

Arrays are [questions] or [settings, questions], and nothing here knows more of a setting than its numbers. Intervals
are percentiles of a bootstrap over questions (Efron & Tibshirani 1993, chapter 13). All of them draw the same
questions, so two methods are compared on the same ones (paired). "Significantly" means that the 95 % interval of such a
paired difference leaves out zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.operating_points import bootstrap_counts

Array = NDArray[np.float64]
Half = NDArray[np.bool_]

RECOVERED = 0.9
"""A setting is good enough if it recovers this share of the gap between both models' right answers."""

RESAMPLES, SEED = 2000, 0
_ROUNDING = 1e-9  # shares of right answers are k/n, far apart compared with this


class Estimate(NamedTuple):
    """A statistic on the questions as they are, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Whether it is significantly above 0."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether it is significantly below 0."""
        return self.high < 0


def draws(questions: int, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """How often each question is drawn in each resample: [1 + resamples, questions]; the first row is ones."""
    return bootstrap_counts(questions, resamples, seed)


def estimate(samples: Array) -> Estimate:
    """The first of the samples, and the interval of the others."""
    low, high = np.percentile(samples[1:], [2.5, 97.5])
    return Estimate(float(samples[0]), float(low), float(high))


def mean(values: Array, counts: Array) -> Estimate:
    """The mean over questions; of differences of two methods it is the paired difference."""
    return estimate(counts @ values / counts.sum(axis=1))


def ratio(values: Array, others: Array, counts: Array) -> Estimate:
    """Sum / sum of the others on the same questions."""
    return estimate((counts @ values) / (counts @ others))


def first_half(questions: Sequence[str]) -> Half:
    """Which questions are in the first half [questions]: as many as in the second, or one more, by a hash of the id."""
    order = np.argsort([zlib.crc32(each.encode()) for each in questions], kind="stable")
    first = np.zeros(len(questions), dtype=bool)
    first[order[: -(-len(questions) // 2)]] = True
    return first


def wanted(slm: Array, llm: Array, share: float = RECOVERED) -> float:
    """The share of right answers [questions] that recovers a share of the gap; the SLM's where there is no gap."""
    return float(slm.mean() + share * max(0.0, llm.mean() - slm.mean()))


def cheapest(right: Array, size: Array, enough: float) -> int:
    """The number of the cheapest setting [settings, questions] that is right often enough.

    Where none is, it is the one that is right most often, and of equals the cheapest.
    """
    rights, sizes = right.mean(axis=1), size.mean(axis=1)
    good = rights >= min(enough, rights.max()) - _ROUNDING
    return int(np.where(good, sizes, np.inf).argmin())


class Judged(NamedTuple):
    """What a method comes to on questions that its settings were not chosen on.

    Attributes:
        chosen: For each half the number of the setting that answers it: the other half chose it.
        right, bytes: [questions].
    """

    chosen: tuple[int, int]
    right: Array
    bytes: Array


def judged(right: Array, size: Array, slm: Array, llm: Array, first: Half) -> Judged:
    """Lets each half of the questions judge the setting that the other half chose (two-fold cross-validation).

    Args:
        right, size: Of a method's settings [settings, questions].
        slm, llm: Right answers of both models alone [questions]; they say what is good enough.
        first: Which questions are the first half.
    """
    chosen = [
        cheapest(right[:, half], size[:, half], wanted(slm[half], llm[half])) if half.any() else 0
        for half in (~first, first)
    ]
    own = np.where(first, chosen[0], chosen[1])
    every = np.arange(right.shape[1])
    return Judged((chosen[0], chosen[1]), right[own, every], size[own, every])


def spread(size: Array, most: int) -> list[int]:
    """At most so many of the settings [settings, questions], from the cheapest to the most expensive at even steps.

    So methods of which more was measured have no more tries. Right answers have no part in it.
    """
    order = size.mean(axis=1).argsort(kind="stable")
    steps = np.linspace(0, len(order) - 1, min(most, len(order)))
    return sorted(int(each) for each in order[steps.round().astype(int)])


def right_for(right: Array, size: Array, budget: Array) -> Array:
    """The best share of right answers [samples] that settings [settings, samples] give within a mean cost [samples].

    It is read on straight lines between the settings, as sending each question to one of two at random gives, and is
    NaN where even the cheapest setting costs more.
    """
    order = size.argsort(axis=0, kind="stable")
    size = np.take_along_axis(size, order, 0)
    best = np.maximum.accumulate(np.take_along_axis(right, order, 0), axis=0)
    found = [np.interp(b, x, y, left=np.nan) for b, x, y in zip(budget * (1 + _ROUNDING), size.T, best.T, strict=True)]
    return np.array(found)
