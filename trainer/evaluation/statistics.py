"""Statistics over questions: how a setting is chosen, what it is worth on other questions, and how sure that is.

Arrays are [questions] or [settings, questions]. Intervals are percentiles of a bootstrap over questions (Efron &
Tibshirani 1993, chapter 13). All of them draw the same questions, so comparisons are paired. "Significantly" means that
the 95 % interval of a paired difference leaves out zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.rows import Array, MethodSetting, Results

Half = NDArray[np.bool_]

RECOVERED = 0.9
"""A setting is good enough if it recovers this share of the gap between both models' right answers."""

CONFIDENCE = "confidence"
"""SLM confidence: it needs no training, so a router has to be better."""

RESAMPLES, SEED = 2000, 0
_ROUNDING = 1e-9  # shares of right answers are k/n, far apart compared with this


class Estimate(NamedTuple):
    """A statistic on the questions as they are, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        return self.low > 0

    @property
    def below(self) -> bool:
        return self.high < 0


def draws(questions: int, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """How often each question is drawn in each resample: [1 + resamples, questions]; the first row is ones."""
    drawn = np.random.default_rng(seed).integers(questions, size=(resamples, questions))
    cells = drawn + questions * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * questions).reshape(resamples, questions)
    return np.vstack([np.ones((1, questions)), counts.astype(np.float64)])


def estimate(samples: Array) -> Estimate:
    low, high = np.percentile(samples[1:], [2.5, 97.5])
    return Estimate(float(samples[0]), float(low), float(high))


def mean(values: Array, counts: Array) -> Estimate:
    """The mean over questions; for differences of two methods it is the paired difference."""
    return estimate(counts @ values / counts.sum(axis=1))


def ratio(values: Array, others: Array, counts: Array) -> Estimate:
    """The ratio of two sums over the same questions."""
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


class Task(NamedTuple):
    """Settings of a method on a task, [settings, questions], and both models alone, [questions]."""

    right: Array
    size: Array  # bytes
    slm: Array  # right answers
    llm: Array
    llm_size: Array
    first: Half  # which questions are the first half


class Judged(NamedTuple):
    """What a method comes to on questions that its settings were not chosen on."""

    chosen: tuple[int, int]  # the number of each half's setting; the other half chose it
    right: Array  # [questions]
    bytes: Array


def best(tasks: Sequence[Task], halves: Sequence[Half]) -> int:
    """The number of the cheapest setting that recovers enough of the gap, each task counting alike.

    Only the questions of each task's half have a say. Where no setting recovers enough, the one that is right most
    often is taken.
    """
    each = [
        (task.right[:, half].mean(axis=1), task.size[:, half].mean(axis=1) / task.llm_size[half].mean())
        for task, half in zip(tasks, halves, strict=True)
    ]
    right, size = np.mean(each, axis=0)
    enough = np.mean([wanted(task.slm[half], task.llm[half]) for task, half in zip(tasks, halves, strict=True)])
    good = right >= min(enough, right.max()) - _ROUNDING
    return int(np.where(good, size, np.inf).argmin())


def judged(tasks: Sequence[Task]) -> list[Judged]:
    """Lets each half of the questions judge the setting that the other half chose (two-fold cross-validation).

    The same settings have to be given for all tasks; one setting is chosen for all of them.
    """
    others, firsts = [~task.first for task in tasks], [task.first for task in tasks]
    one, other = (best(tasks, halves) if all(map(np.any, halves)) else 0 for halves in (others, firsts))
    return [
        Judged((one, other), *(np.where(task.first, each[one], each[other]) for each in (task.right, task.size)))
        for task in tasks
    ]


def spread(size: Array, most: int) -> list[int]:
    """At most so many settings, from the cheapest to the most expensive at even steps: no method has more tries."""
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


def common_settings(results: Sequence[Results], method: str) -> list[str]:
    """The settings of a method that were measured on every task, in the order of the first."""
    return [
        each.setting
        for each in results[0].settings
        if each.method == method and all(each in task.settings for task in results)
    ]


def task_of(results: Results, method: str, settings: Sequence[str]) -> Task:
    own = [results.settings.index(MethodSetting(method, setting)) for setting in settings]
    slm, llm = (results.of(each)[0] for each in ("slm", "llm"))
    return Task(
        results.right[own],
        results.bytes[own],
        results.right[slm],
        results.right[llm],
        results.bytes[llm],
        first_half(results.questions),
    )


def is_worse_than_confidence(results: Results, method: str, setting: str) -> bool:
    """Whether a setting is significantly worse than what SLM confidence has for as many bytes, at any acceptance."""
    settings = results.numbers(CONFIDENCE)
    if not settings:
        return False
    counts = draws(len(results.questions))
    own = results.settings.index(MethodSetting(method, setting))
    points = [*settings, results.of("slm")[0], results.of("llm")[0]]
    right, size = (counts @ each[own] / len(results.questions) for each in (results.right, results.bytes))
    rights, sizes = (each[points] @ counts.T / len(results.questions) for each in (results.right, results.bytes))
    difference = right - right_for(rights, sizes, size)
    there = np.isfinite(difference)
    return bool(there[0]) and estimate(difference[there]).below
