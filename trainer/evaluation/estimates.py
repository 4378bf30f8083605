"""A measured point and a statistic with its interval, as they stand in a summary (JSON, rounded) and on a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict  # typing's own cannot be validated by pydantic before Python 3.12

from engine.operating_points import MEASURED_UNITS, Unit
from trainer.evaluation import statistics
from trainer.evaluation.method_names import Rate
from trainer.evaluation.record import Amount, Point
from trainer.evaluation.statistics import Array, ResampledCurve

_OFTEN = 0.05  # share of resamples without a value from which a reader must know of them
NOTES = {
    "†": "† More than 5 % of the resamples have no value, as a curve does not get there; "
    "the interval, or what was chosen in each, is of the others.",
    "‡": "‡ Across copies of the weights in different number formats, whose texts part at near ties.",
    "§": "§ No measured point of the rival gets there but the LLM alone, which stands for it.",
}
"""What marks in a table mean; see `with_notes`."""

NONE_SO_CHEAP = "none so cheap"
"""Stands for a difference at equal bytes where the other method has no point for so few."""


class EstimateSummary(TypedDict):
    """`statistics.Estimate` in JSON, null for what has no value; differences and savings have a paired p-value too."""

    value: float | None
    low: float | None
    high: float | None
    unreached: Rate
    p_value: Rate | None


Units = dict[Unit, EstimateSummary]


class PointSummary(TypedDict):
    """An operating point: rates in [0, 1] and costs per answer.

    `weights_copy` is what the copy of the weights was kept in; not there where that was not noted.
    """

    threshold: float
    accuracy: Rate
    accuracy_low: Rate
    accuracy_high: Rate
    llm_share: Rate
    bytes: Amount
    flops: Amount
    seconds: Amount
    weights_copy: NotRequired[str]


def resampled(points: Sequence[Point], counts: Array) -> ResampledCurve:
    """Points in every sample of a bootstrap, in their order; `counts` [samples, questions] are its draws."""
    names = "correct", "tokens", "llm_tokens", *MEASURED_UNITS
    columns = {name: np.stack([point.column(name) for point in points]) for name in names}
    totals = {name: statistics.sums(column, counts) for name, column in columns.items()}
    return ResampledCurve(
        np.array([point.threshold for point in points]),
        columns["correct"],
        totals["llm_tokens"] / totals["tokens"],
        totals["correct"] / counts.shape[1],
        {unit: totals[unit] / counts.shape[1] for unit in MEASURED_UNITS},
        [point.weights_copy for point in points],
    )


def point_at(curve: ResampledCurve, number: int) -> PointSummary:
    """One of the points, as it was measured."""
    accuracy = statistics.estimate(curve.accuracy[number])
    point: PointSummary = {
        "threshold": float(curve.thresholds[number]),
        "accuracy": digits(accuracy.value),
        "accuracy_low": digits(accuracy.low),
        "accuracy_high": digits(accuracy.high),
        "llm_share": digits(curve.share[number, 0]),
        "bytes": digits(curve.cost["bytes"][number, 0]),
        "flops": digits(curve.cost["flops"][number, 0]),
        "seconds": digits(curve.cost["seconds"][number, 0]),
    }
    if copied := curve.copies[number]:
        point["weights_copy"] = copied
    return point


def estimated(samples: Array, tested: Array | None = None) -> EstimateSummary:
    """A statistic [samples]; `tested` are the differences [samples] whose p-value against 0 stands beside it."""
    estimate = statistics.estimate(samples)
    value = digits_or_none(estimate.value)
    return {
        "value": value,
        "low": None if value is None else digits_or_none(estimate.low),  # an interval around nothing would mislead
        "high": None if value is None else digits_or_none(estimate.high),
        "unreached": digits(estimate.unreached),
        "p_value": None if tested is None else digits_or_none(statistics.bootstrap_p(tested)),
    }


def estimates(samples: Any) -> Any:
    """Estimates of the statistics in a dict of dicts."""
    if isinstance(samples, dict):
        return {name: estimates(each) for name, each in samples.items()}
    return estimated(samples)


def difference(first: Array, second: Array) -> EstimateSummary:
    """Of two statistics [samples], tested against 0."""
    return estimated(first - second, first - second)


def won(saving: Array, ours: Array, theirs: Array) -> Array:
    """A saving [samples] to test against 0; costs are NaN where a method does not get there.

    Of two methods the one that alone gets there has won that sample.
    """
    missed, missed_by_them = np.isnan(ours), np.isnan(theirs)
    tested = np.where(missed == missed_by_them, np.nan_to_num(saving), np.where(missed, -np.inf, np.inf))
    tested[0] = np.nan if missed[0] and missed_by_them[0] else tested[0]
    return tested


def digits_or_none(value: float) -> float | None:
    """As `digits`; None for what is not finite."""
    return digits(value) if math.isfinite(value) else None


def digits(value: float) -> float:
    """Five significant digits, far below any interval here, so that other processors' last bits do not show."""
    return float(f"{value:.5g}") + 0.0  # no negative zero


def in_words(estimate: EstimateSummary, places: int = 0, unit: str = " %") -> str:
    """A statistic with its interval, in percent; a dash for what has no value."""
    value = estimate["value"]
    return "–" if value is None else interval(value, estimate["low"], estimate["high"], places, unit)


def surely(text: str, difference: EstimateSummary) -> str:
    """What is said of a difference: bold where its interval lies above 0, and with an arrow where it lies below."""
    if is_surely_less(difference):
        return f"{text} ↓"
    return f"**{text}**" if (difference["low"] or 0.0) > 0 else text


def is_surely_less(difference: EstimateSummary) -> bool:
    """Whether its whole interval lies below 0; not where it has no value."""
    return (difference["high"] or 0.0) < 0


def in_points(difference: EstimateSummary) -> str:
    """A difference to a rival at equal cost, in points; `NONE_SO_CHEAP` where the rival has nothing there."""
    return NONE_SO_CHEAP if difference["value"] is None else in_words(difference, 1, " points") + dagger(difference)


def dagger(estimate: EstimateSummary) -> str:
    """What stands behind a comparison of two costs where the first of `NOTES` is to be read with it."""
    return "†" if estimate["unreached"] > _OFTEN else ""


def double_dagger(points: Iterable[PointSummary]) -> str:
    """What stands behind a comparison of points that different copies of the weights wrote; see `NOTES`."""
    return "‡" if len({point.get("weights_copy") for point in points}) > 1 else ""


def notes(text: str) -> list[str]:
    """What the marks of a table mean, of those that it has."""
    return [note for mark, note in NOTES.items() if mark in text]


def with_notes(text: str) -> str:
    """A table, and below it what its marks mean, if it has any."""
    return "\n\n".join([text, *notes(text)])


def interval(value: float, low: float | None, high: float | None, places: int = 0, unit: str = " %") -> str:
    """A share with its interval, in percent."""
    text = percent(value, places, unit)
    if low is None or high is None:
        return text
    return f"{text} ({percent(low, places, '')} to {percent(high, places, '')})"


def percent(share: float, places: int = 0, unit: str = " %") -> str:
    """A share in percent."""
    rounded = round(100 * share, places) + 0.0  # no negative zero
    return f"{rounded:.{places}f}{unit}".replace("-", "−")
