"""From the answers of an evaluation to its summary, `assets/results/<preset>--<task>.json`, and back from disk.

Knows which statistics a summary holds; what they are is `trainer.statistics`. Knows no models and draws nothing. The
same answers give the same summary, to the bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict  # typing's own cannot be validated by pydantic before Python 3.12

from trainer import statistics
from trainer.errors import TrainerError
from trainer.results import (
    FIXED,
    UNITS,
    Amount,
    Evaluation,
    MethodName,
    Name,
    Point,
    Rate,
    Unit,
    main_method,
    method_order,
    read_json,
)
from trainer.statistics import Array

TARGETS = (0.8, 0.9, 0.95, 1.0)  # shares of the gap; 1 is the LLM's own accuracy
SHARES = (0.1, 0.2, 0.25, 0.3, 0.5)  # LLM shares at which methods are compared


class Estimate(TypedDict):
    """`statistics.Estimate` in JSON, null for what has no value; differences and savings have a paired p-value too."""

    value: float | None
    low: float | None
    high: float | None
    unreached: Rate
    p_value: Rate | None


Units = dict[Unit, Estimate]


class PointSummary(TypedDict):
    """An operating point: rates in [0, 1] and costs per answer."""

    threshold: float
    accuracy: Rate
    accuracy_low: Rate
    accuracy_high: Rate
    llm_share: Rate
    bytes: Amount
    flops: Amount
    seconds: Amount


class MethodSummary(TypedDict):
    """A method's curve by threshold, and its APGR: null without a curve (one point) or without a gap."""

    points: Annotated[list[PointSummary], Field(min_length=1)]
    gap_recovered: float | None
    gap_recovered_low: float | None
    gap_recovered_high: float | None


class EqualShare(TypedDict):
    """Difference of accuracies at an LLM share; McNemar is between the two measured points nearest to it."""

    accuracy: Estimate
    nearest: tuple[PointSummary, PointSummary]
    p_mcnemar: Rate


class Against(TypedDict):
    """The main method against another. Keys are those of `TARGETS` and `SHARES`.

    `savings` are 1 − cost / the other's cost at equal accuracy; their p-value counts the resamples, too, in which only
    one of the two gets there. `equal_cost` are differences of accuracy at the cost that the main method has at an LLM
    share. What needs a curve is empty or null where one is a single point.
    """

    savings: dict[str, Units]
    equal_cost: dict[str, Units]
    equal_share: dict[str, EqualShare]
    gap_recovered: Estimate | None


class Comparisons(TypedDict):
    """`method` is the main one, null without a CITER router; `targets` are accuracies, the rest is by method."""

    method: str | None
    targets: dict[str, float | None]
    cost_at_target: dict[str, dict[str, Units]]
    accuracy_at_share: dict[str, dict[str, Estimate]]
    gap_recovered_at_share: dict[str, dict[str, Estimate]]
    against: dict[str, Against]


class Summary(TypedDict):
    """One pair and task: a file of `assets/results`."""

    pair: str
    preset: Name
    task: Name
    questions: int
    max_new_tokens: int
    command: str
    revision: str
    hardware: str
    resamples: int
    seed: int
    methods: dict[MethodName, MethodSummary]
    comparisons: Comparisons


class Curve(NamedTuple):
    """A method's points by threshold, in every sample of the bootstrap (see `trainer.statistics`)."""

    points: list[Point]
    share: Array  # [points, samples], as are the accuracy and each unit's cost
    accuracy: Array
    cost: dict[Unit, Array]


Curves = dict[str, Curve]  # by method


def summarise(evaluation: Evaluation, resamples: int = 2000, seed: int = 0, main: str | None = None) -> Summary:
    """All statistics of an evaluation, with 95 % intervals of a paired bootstrap over its questions.

    Args:
        evaluation: With the methods "slm" and "llm", the ends of every curve.
        resamples: Of the bootstrap; the same questions are drawn for all points and methods.
        seed: Of the bootstrap.
        main: The method that the others are compared with; None takes the last of CITER's.

    Raises:
        TrainerError: One of the two ends is missing, or the main method.
    """
    names = sorted({point.method for point in evaluation.points}, key=method_order)
    missing = [name for name in ("slm", "llm") if name not in names]
    if missing:
        raise TrainerError(f"The evaluation has no answers of {missing}, the ends of every curve: evaluate them too")
    if main and main not in names:
        raise TrainerError(f"the evaluation has no method {main!r} to compare the others with: {', '.join(names)}")
    counts = statistics.resample(len(evaluation.questions), resamples, seed)
    curves = {name: _curve([p for p in evaluation.points if p.method == name], counts) for name in names}
    return {
        "pair": evaluation.pair,
        "preset": evaluation.preset,
        "task": evaluation.task,
        "questions": len(evaluation.questions),
        "max_new_tokens": evaluation.max_new_tokens,
        "command": evaluation.command,
        "revision": evaluation.revision,
        "hardware": evaluation.hardware,
        "resamples": resamples,
        "seed": seed,
        "methods": {name: _method(curve, curves) for name, curve in curves.items()},
        "comparisons": _compare(curves, main or main_method(curves)),
    }


def write_summary(summary: Summary, folder: Path = Path("assets/results")) -> Path:
    """Writes a summary as `<preset>--<task>.json`; the same summary is the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{summary['preset']}--{summary['task']}.json"
    path.write_text(json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def load_summary(path: Path) -> Summary:
    """Reads what `write_summary` wrote.

    Raises:
        TrainerError: It cannot be read, or is no summary; the message names the first field that is wrong.
    """
    return read_json(path, Summary, "make it again with `python -m trainer evaluate`")


def _curve(points: list[Point], counts: Array) -> Curve:
    def summed(name: str) -> Array:
        return statistics.sums(np.stack([point.column(name) for point in points]), counts)

    questions = counts.shape[1]
    cost: dict[Unit, Array] = {unit: summed(unit) / questions for unit in UNITS}
    return Curve(points, summed("llm_tokens") / summed("tokens"), summed("correct") / questions, cost)


def _method(curve: Curve, curves: Curves) -> MethodSummary:
    gap = _estimate(_average_gap(curve, curves))
    return {
        "points": [_point(curve, number) for number in range(len(curve.points))],
        "gap_recovered": gap["value"],
        "gap_recovered_low": gap["low"],
        "gap_recovered_high": gap["high"],
    }


def _point(curve: Curve, number: int) -> PointSummary:
    accuracy = statistics.estimate(curve.accuracy[number])
    return {
        "threshold": curve.points[number].threshold,
        "accuracy": _digits(accuracy.value),
        "accuracy_low": _digits(accuracy.low),
        "accuracy_high": _digits(accuracy.high),
        "llm_share": _digits(curve.share[number, 0]),
        "bytes": _digits(curve.cost["bytes"][number, 0]),
        "flops": _digits(curve.cost["flops"][number, 0]),
        "seconds": _digits(curve.cost["seconds"][number, 0]),
    }


def _compare(curves: Curves, main: str | None) -> Comparisons:
    slm, llm = curves["slm"].accuracy[0], curves["llm"].accuracy[0]
    targets = {f"{gap:g}": statistics.accuracy_targets(slm, llm, gap) for gap in TARGETS}
    routed = {name: _accuracy_at_shares(curve, curves) for name, curve in curves.items() if len(curve.points) > 1}
    return {
        "method": main,
        "targets": {gap: _estimate(target)["value"] for gap, target in targets.items()},
        "cost_at_target": {
            name: {gap: _units(_costs(_choice(name, curves), target)) for gap, target in targets.items()}
            for name in curves
        },
        "accuracy_at_share": {
            name: {share: _estimate(accuracy) for share, accuracy in row.items()} for name, row in routed.items()
        },
        "gap_recovered_at_share": {
            name: {share: _estimate(statistics.gap_recovered(accuracy, slm, llm)) for share, accuracy in row.items()}
            for name, row in routed.items()
        },
        "against": {name: _against(main, name, curves, targets) for name in curves if main and name != main},
    }


def _against(main: str, other: str, curves: Curves, targets: dict[str, Array]) -> Against:
    ours, theirs = curves[main], curves[other]
    choices = _choice(main, curves), _choice(other, curves)
    costs = {gap: [_costs(choice, target) for choice in choices] for gap, target in targets.items()}
    against: Against = {
        "savings": {gap: {unit: _saving(a[unit], b[unit]) for unit in UNITS} for gap, (a, b) in costs.items()},
        "equal_cost": {},
        "equal_share": {},
        "gap_recovered": None,
    }
    if len(ours.points) > 1:
        against["equal_cost"] = {f"{share:g}": _equal_cost(ours, choices, curves, share) for share in SHARES}
    if len(ours.points) > 1 and len(theirs.points) > 1:
        rows = _accuracy_at_shares(ours, curves), _accuracy_at_shares(theirs, curves)
        for share in SHARES:
            near = _nearest(ours, share), _nearest(theirs, share)
            right = [curve.points[n].column("correct") > 0 for curve, n in zip((ours, theirs), near, strict=True)]
            against["equal_share"][f"{share:g}"] = {
                "accuracy": _difference(rows[0][f"{share:g}"] - rows[1][f"{share:g}"]),
                "nearest": (_point(ours, near[0]), _point(theirs, near[1])),
                "p_mcnemar": _digits(statistics.mcnemar(right[0], right[1])),
            }
        against["gap_recovered"] = _difference(_average_gap(ours, curves) - _average_gap(theirs, curves))
    return against


def _average_gap(curve: Curve, curves: Curves) -> Array:
    """[samples]; NaN for a single point, which has no curve."""
    slm, llm = curves["slm"].accuracy[0], curves["llm"].accuracy[0]
    recovered = statistics.average_gap_recovered(curve.share, curve.accuracy, slm, llm)
    return recovered if len(curve.points) > 1 else np.full_like(recovered, np.nan)


def _accuracy_at_shares(curve: Curve, curves: Curves) -> dict[str, Array]:
    ends = curves["slm"].accuracy[0], curves["llm"].accuracy[0]
    path = statistics.curve_over_share(curve.share, curve.accuracy, *ends)
    return {f"{share:g}": statistics.at_share(*path, share) for share in SHARES}


def _choice(method: str, curves: Curves) -> Curve:
    """The points that a method can be run at: those measured, and either model alone, where every threshold ends."""
    own, *ends = (curves[name] for name in ([method] if method in FIXED else [method, "slm", "llm"]))
    return Curve(
        own.points,
        np.vstack([own.share, *(end.share for end in ends)]),
        np.vstack([own.accuracy, *(end.accuracy for end in ends)]),
        {unit: np.vstack([own.cost[unit], *(end.cost[unit] for end in ends)]) for unit in UNITS},
    )


def _costs(curve: Curve, target: Array) -> dict[Unit, Array]:
    return {unit: statistics.cost_at_accuracy(curve.cost[unit], curve.accuracy, target) for unit in UNITS}


def _saving(ours: Array, theirs: Array) -> Estimate:
    """1 − ours / theirs, costs [samples]; of two methods the one that alone gets there has won that sample."""
    missed, missed_by_them = np.isnan(ours), np.isnan(theirs)
    saving = 1 - ours / theirs
    won = np.where(missed == missed_by_them, np.nan_to_num(saving), np.where(missed, -np.inf, np.inf))
    won[0] = np.nan if missed[0] and missed_by_them[0] else won[0]
    return {**_estimate(saving), "p_value": _p_value(won)}


def _equal_cost(ours: Curve, choices: Sequence[Curve], curves: Curves, share: float) -> Units:
    """Differences of accuracy between two methods' choices; the budget is what our curve costs at an LLM share."""

    def difference(unit: Unit) -> Array:
        ends = curves["slm"].cost[unit][0], curves["llm"].cost[unit][0]
        budget = statistics.at_share(*statistics.curve_over_share(ours.share, ours.cost[unit], *ends), share)
        a, b = (statistics.accuracy_at_cost(choice.cost[unit], choice.accuracy, budget) for choice in choices)
        return a - b

    return {unit: _difference(difference(unit)) for unit in UNITS}


def _nearest(curve: Curve, share: float) -> int:
    return int(np.abs(curve.share[:, 0] - share).argmin())


def _units(samples: dict[Unit, Array]) -> Units:
    return {unit: _estimate(each) for unit, each in samples.items()}


def _difference(samples: Array) -> Estimate:
    return {**_estimate(samples), "p_value": _p_value(samples)}


def _p_value(differences: Array) -> float | None:
    found = statistics.bootstrap_p(differences)
    return _digits(found) if math.isfinite(found) else None


def _estimate(samples: Array) -> Estimate:
    found = statistics.estimate(samples)
    value, low, high = (_digits(x) if math.isfinite(x) else None for x in (found.value, found.low, found.high))
    if value is None:  # an interval around nothing would mislead
        low = high = None
    return {"value": value, "low": low, "high": high, "unreached": _digits(found.unreached), "p_value": None}


def _digits(value: float) -> float:
    """Five significant digits, far below any interval here, so that other processors' last bits do not show."""
    return float(f"{value:.5g}") + 0.0  # no negative zero
