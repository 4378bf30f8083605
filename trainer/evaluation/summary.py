"""From the answers of an evaluation to its summary, `assets/results/<preset>--<task>.json`, and back from disk.

Here stands which statistics a summary holds; `trainer.evaluation.statistics` computes them. The same answers give the
same summary, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import (
    Annotated,
    Literal,
    NotRequired,  # typing's own TypedDict is not for pydantic before Python 3.12
)

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from engine.operating_points import MEASURED_UNITS, MaxDraft, Unit, bootstrap_counts
from trainer import TrainerError
from trainer.evaluation import statistics
from trainer.evaluation.estimates import (
    EstimateSummary,
    PointSummary,
    Units,
    difference,
    digits,
    estimated,
    estimates,
    point_at,
    resampled,
    won,
)
from trainer.evaluation.method_names import (
    FIXED,
    SPECULATIVE,
    MethodName,
    Name,
    Rate,
    from_other_tasks,
    is_citer,
    main_method,
    method_order,
)
from trainer.evaluation.plane import Plane, plane_of
from trainer.evaluation.record import Evaluation, Point
from trainer.evaluation.statistics import Array, ResampledCurve
from trainer.json_files import read_json, write_result

TARGETS = (0.8, 0.9, 0.95, 1.0)  # shares of the gap; 1 is the LLM's own accuracy
COMPARED_SHARES = (0.1, 0.2, 0.25, 0.3, 0.5)  # LLM shares at which methods are compared


RULE = "confidence"
"""SLM confidence: it needs no training, so a router has to be better."""


class MethodSummary(TypedDict):
    """A method's curve by threshold, and its APGR: null without a curve (one point) or without a gap."""

    points: Annotated[list[PointSummary], Field(min_length=1)]
    gap_recovered: float | None
    gap_recovered_low: float | None
    gap_recovered_high: float | None


class EqualShare(TypedDict):
    """Difference of accuracies at an LLM share; McNemar is between the two measured points nearest to it."""

    accuracy: EstimateSummary
    nearest: tuple[PointSummary, PointSummary]
    p_mcnemar: Rate


class Against(TypedDict):
    """The main method against another. Keys are those of `TARGETS` and `COMPARED_SHARES`.

    `savings` are 1 − cost / the other's cost at equal accuracy; their p-value counts the resamples, too, in which only
    one of the two gets there. `equal_cost` are differences of accuracy at the cost that the main method has at an LLM
    share. What needs a curve is empty or null where one is a single point.
    """

    savings: dict[str, Units]
    equal_cost: dict[str, Units]
    equal_share: dict[str, EqualShare]
    gap_recovered: EstimateSummary | None


class BesideConfidence(TypedDict):
    """A measured point beside SLM confidence at acceptance 0.

    `accuracy` is the point's less what SLM confidence's curve has for as many bytes; null where none of it is so cheap.
    """

    acceptance: Rate
    max_draft: MaxDraft
    threshold: float
    accuracy: EstimateSummary


class Comparisons(TypedDict):
    """`method` is the main one, null without a CITER router; `targets` are accuracies, the rest is by method.

    `beside_confidence` has, by method, the points of CITER routers, of those that learned elsewhere, and of the main
    method, at any acceptance. It is not there without SLM confidence, nor in summaries from before it was asked for.
    """

    method: str | None
    targets: dict[str, float | None]
    cost_at_target: dict[str, dict[str, Units]]
    accuracy_at_share: dict[str, dict[str, EstimateSummary]]
    gap_recovered_at_share: dict[str, dict[str, EstimateSummary]]
    against: dict[str, Against]
    beside_confidence: NotRequired[dict[str, list[BesideConfidence]]]


class Summary(TypedDict):
    """One pair and task: a file of `assets/results`.

    `methods` and what compares them are at acceptance 0; `plane` is there where others were measured, too. `routers`
    are those of `Evaluation`, and not there in summaries from before.
    """

    pair: str
    preset: Name
    task: Name
    questions: int
    max_new_tokens: int
    command: str
    revision: str
    hardware: str
    routers: NotRequired[dict[str, str]]
    resamples: int
    seed: int
    methods: dict[MethodName, MethodSummary]
    comparisons: Comparisons
    plane: NotRequired[Plane]


Curves = dict[str, ResampledCurve]  # by method
Costs = dict[str, dict[str, dict[Unit, Array]]]  # [samples] at the accuracy of a target, by method, target and unit


def summarise(evaluation: Evaluation, resamples: int = 2000, seed: int = 0, main: str | None = None) -> Summary:
    """All statistics of an evaluation, with 95 % intervals of a paired bootstrap over its questions.

    Args:
        evaluation: With the methods "slm" and "llm", the ends of every curve.
        resamples, seed: Of the bootstrap; the same questions are drawn for all points and methods.
        main: The method that the others are compared with; None takes the last of CITER's.

    Raises:
        TrainerError: One of the two ends is missing, or the main method.
    """
    # Elsewhere on the plane a curve does not begin with the SLM alone, and an LLM share is no measure of cost.
    plain = [point for point in evaluation.points if point.acceptance == 0 or point.method in SPECULATIVE]
    names = sorted({point.method for point in plain}, key=method_order)
    if missing := missing_ends(plain):
        raise TrainerError(
            f"the evaluation has no answers of {' and '.join(missing)}, the ends of every curve: evaluate them, too"
        )
    if main and main not in names:
        raise TrainerError(f"the evaluation has no method {main!r} to compare the others with: {', '.join(names)}")
    counts = bootstrap_counts(len(evaluation.questions), resamples, seed)
    curves = {name: resampled([p for p in plain if p.method == name], counts) for name in names}
    summary: Summary = {
        "pair": evaluation.pair,
        "preset": evaluation.preset,
        "task": evaluation.task,
        "questions": len(evaluation.questions),
        "max_new_tokens": evaluation.max_new_tokens,
        "command": evaluation.command,
        "revision": evaluation.revision,
        "hardware": evaluation.hardware,
        "routers": dict(evaluation.routers),
        "resamples": resamples,
        "seed": seed,
        "methods": {name: _method(curve, curves) for name, curve in curves.items()},
        "comparisons": _compare(curves, main := main or main_method(curves)),
    }
    if RULE in curves:
        summary["comparisons"]["beside_confidence"] = {
            name: [_beside_confidence(point, curves, counts) for point in evaluation.points if point.method == name]
            for name in curves
            if name == main or is_citer(name) or from_other_tasks(name)
        }
    if len(plain) < len(evaluation.points):
        summary["plane"] = plane_of(evaluation.points, counts)
    return summary


def missing_ends(points: Sequence[Point]) -> list[str]:
    """Which of both models alone, the ends of every curve, have no answers."""
    there = {point.method for point in points if point.acceptance == 0}
    return [name for name in ("slm", "llm") if name not in there]


def alone(summary: Summary, model: Literal["slm", "llm"]) -> PointSummary:
    """Either model alone, an end of every curve."""
    return summary["methods"][model]["points"][0]


def write_summary(summary: Summary, folder: Path = Path("assets/results")) -> Path:
    """Writes a summary as `<preset>--<task>.json`; the same summary is the same file."""
    return write_result(folder, f"{summary['preset']}--{summary['task']}.json", summary)


def load_summary(path: Path) -> Summary:
    """Reads what `write_summary` wrote; a TrainerError names the first field that is wrong."""
    return read_json(path, Summary, "make it again with `python -m trainer evaluate`")


def _method(curve: ResampledCurve, curves: Curves) -> MethodSummary:
    gap = estimated(curve.average_gap_recovered(curves["slm"], curves["llm"]))
    return {
        "points": [point_at(curve, number) for number in range(len(curve.thresholds))],
        "gap_recovered": gap["value"],
        "gap_recovered_low": gap["low"],
        "gap_recovered_high": gap["high"],
    }


def _compare(curves: Curves, main: str | None) -> Comparisons:
    slm, llm = curves["slm"].accuracy[0], curves["llm"].accuracy[0]
    targets = {f"{gap:g}": statistics.accuracy_targets(slm, llm, gap) for gap in TARGETS}
    costs: Costs = {
        name: {
            gap: {unit: statistics.cost_at_accuracy(*_choices(name, curves, unit), target) for unit in MEASURED_UNITS}
            for gap, target in targets.items()
        }
        for name in curves
    }
    routed = {
        name: {f"{share:g}": curve.at_share(share, curves["slm"], curves["llm"]) for share in COMPARED_SHARES}
        for name, curve in curves.items()
        if len(curve.thresholds) > 1
    }
    recovered = {
        name: {share: statistics.gap_recovered(accuracy, slm, llm) for share, accuracy in row.items()}
        for name, row in routed.items()
    }
    return {
        "method": main,
        "targets": {gap: estimated(target)["value"] for gap, target in targets.items()},
        "cost_at_target": estimates(costs),
        "accuracy_at_share": estimates(routed),
        "gap_recovered_at_share": estimates(recovered),
        "against": {name: _against(main, name, curves, costs) for name in curves if main and name != main},
    }


def _against(main: str, other: str, curves: Curves, costs: Costs) -> Against:
    ours, theirs = curves[main], curves[other]
    against: Against = {
        "savings": {
            gap: {unit: _saving(cost, costs[other][gap][unit]) for unit, cost in units.items()}
            for gap, units in costs[main].items()
        },
        "equal_cost": {},
        "equal_share": {},
        "gap_recovered": None,
    }
    if len(ours.thresholds) > 1:
        against["equal_cost"] = {
            f"{share:g}": {unit: _equal_cost(main, other, curves, share, unit) for unit in MEASURED_UNITS}
            for share in COMPARED_SHARES
        }
    if len(ours.thresholds) > 1 and len(theirs.thresholds) > 1:
        against["equal_share"] = {f"{share:g}": _equal_share(ours, theirs, curves, share) for share in COMPARED_SHARES}
        gaps = (curve.average_gap_recovered(curves["slm"], curves["llm"]) for curve in (ours, theirs))
        against["gap_recovered"] = difference(*gaps)
    return against


def _saving(ours: Array, theirs: Array) -> EstimateSummary:
    """1 − ours / theirs, costs [samples]."""
    saving = 1 - ours / theirs
    return estimated(saving, won(saving, ours, theirs))


def _equal_cost(main: str, other: str, curves: Curves, share: float, unit: Unit) -> EstimateSummary:
    """Difference of accuracy between two methods; the budget is what the main one's curve costs at an LLM share."""
    budget = curves[main].at_share(share, curves["slm"], curves["llm"], unit)
    return difference(*(statistics.accuracy_at_cost(*_choices(name, curves, unit), budget) for name in (main, other)))


def _equal_share(ours: ResampledCurve, theirs: ResampledCurve, curves: Curves, share: float) -> EqualShare:
    near = [(curve, int(np.abs(curve.share[:, 0] - share).argmin())) for curve in (ours, theirs)]
    return {
        "accuracy": difference(*(curve.at_share(share, curves["slm"], curves["llm"]) for curve in (ours, theirs))),
        "nearest": (point_at(*near[0]), point_at(*near[1])),
        "p_mcnemar": digits(statistics.mcnemar(*(curve.correct[number] > 0 for curve, number in near))),
    }


def _beside_confidence(point: Point, curves: Curves, counts: Array) -> BesideConfidence:
    """Here `curves` are those at acceptance 0; the point may be at any."""
    own = resampled([point], counts)
    rule = statistics.accuracy_at_cost(*_choices(RULE, curves, "bytes"), own.cost["bytes"][0])
    return {
        "acceptance": digits(point.acceptance),
        "max_draft": point.max_draft,
        "threshold": point.threshold,
        "accuracy": difference(own.accuracy[0], rule),
    }


def _choices(method: str, curves: Curves, unit: Unit) -> tuple[Array, Array]:
    """Cost and accuracy [points, samples] of all that a method can be run at: its points, and either model alone."""
    parts = [curves[name] for name in ([method] if method in FIXED else [method, "slm", "llm"])]
    return np.vstack([part.cost[unit] for part in parts]), np.vstack([part.accuracy for part in parts])
