"""From measured results to what a router is shipped with: its curves, and where on the first of them to start.

Beside them are shipped those of policies that need no training, so that the page can say what these cost, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from engine.operating_points import HARDLY_WORSE, Curve, OperatingPoint, OperatingPoints, TimedSetting
from engine.policy import POLICIES, REGISTRY
from engine.router import WEIGHTS, Router
from engine.setting import DraftLimit
from engine.weights.cache_folder import sha256_of
from engine.weights.files import filling
from trainer import TrainerError
from trainer.evaluation.estimates import PointSummary, digits, is_surely_less
from trainer.evaluation.method_names import parsed, spelled
from trainer.evaluation.record import on_one_machine
from trainer.evaluation.seconds import SecondsSummary, llm_alone
from trainer.evaluation.statistics import TOLERANCE
from trainer.evaluation.summary import BesideConfidence, Summary, alone
from trainer.evaluation.transfer import TASK, TransferPoint, TransferSummary
from trainer.fit.card import write_card
from trainer.labels.rollouts import fingerprint

UNTRAINED = tuple(name for name in POLICIES if REGISTRY[name].scores and not REGISTRY[name].needs_router)
"""Policies that a request may name and that need no training."""


Beside = Mapping[str, Sequence[BesideConfidence]]
"""By task what is known of a router's measured points beside SLM confidence."""


def nearest_beside(curve: Curve, threshold: float, beside: Beside) -> BesideConfidence | None:
    """Of what is known of a curve's measured points, that of the one nearest to a threshold."""
    dials = curve.acceptance, curve.max_draft or "auto"
    own = [each for each in beside.get(curve.task, ()) if (each["acceptance"], each["max_draft"]) == dials]
    return min(own, key=lambda each: abs(each["threshold"] - threshold), default=None)


def is_surely_worse(point: BesideConfidence | None) -> bool:
    """Whether its whole interval is below what SLM confidence has; not where that is not known."""
    return point is not None and is_surely_less(point["accuracy"])


def curve_of(summary: Summary, method: str, acceptance: float = 0.0) -> Curve:
    """The measured curve of a method at an acceptance, with both ends; a TrainerError if the summary lacks one of them.

    Above acceptance 0 it is that of the longest drafts measured, where "auto" counts as longest; and what the SLM
    drafts to that length without a router, if that was measured, is its threshold 0. Seconds are left out where the
    stages ran on different machines.
    """
    methods = summary["methods"]
    if missing := sorted({"slm", "llm", *([method] if acceptance == 0 else [])} - methods.keys()):
        raise TrainerError(f"the results of {summary['task']} have no {', '.join(missing)}")
    points: Sequence[PointSummary]
    longest: DraftLimit | None = None
    if acceptance == 0:
        points = methods[method]["points"]
    else:
        lengths = _lengths(summary, method).get(acceptance)
        if not lengths:
            name = spelled(method, acceptance)
            raise TrainerError(f"the results of {summary['task']} have no {name}: evaluate it at that acceptance")
        longest = _longest(lengths)
        curves = summary["plane"]["curves"] if "plane" in summary else {}
        titles = [spelled(name, acceptance, longest) for name in ("slm", method)]
        points = [point for title in titles for point in curves.get(title, [])]
    timed = on_one_machine(summary)
    return Curve(
        task=summary["task"],
        questions=summary["questions"],
        pair=summary["pair"],
        command=summary["command"],
        revision=summary["revision"],
        hardware=summary["hardware"],
        slm=_point(alone(summary, "slm"), timed),
        llm=_point(alone(summary, "llm"), timed),
        points=tuple(_point(point, timed, acceptance) for point in points),
        max_draft=longest,
    )


def curves_of(summary: Summary, method: str) -> list[Curve]:
    """Its curves at all acceptances that were measured, from 0 on."""
    return [curve_of(summary, method, acceptance) for acceptance in (0.0, *sorted(_lengths(summary, method)))]


def free_text_curves(summary: TransferSummary, method: str) -> list[Curve]:
    """A method's curves on prompts that have no right answer, whose accuracy is agreement with the LLM's own text.

    One for each acceptance at which it was measured, there may be none; above 0 as `curve_of` has them. Seconds are
    left out where the stages ran on different machines.
    """
    timed = on_one_machine(summary)
    slm, llm = (_free_text_point(summary["methods"][end]["points"][0], timed) for end in ("slm", "llm"))
    curves = []
    for acceptance, lengths in sorted(_lengths_of(summary["methods"], method).items()):
        longest = _longest(lengths)
        names = ["slm", method] if acceptance else [method]
        titles = [title for name in names if (title := spelled(name, acceptance, longest)) in summary["methods"]]
        points = [point for title in titles for point in summary["methods"][title]["points"]]
        curve = Curve(
            task=TASK,
            questions=summary["prompts"],
            pair=summary["pair"],
            command=summary["command"],
            revision=summary["revision"],
            hardware=summary["hardware"],
            slm=slm,
            llm=llm,
            points=tuple(_free_text_point(point, timed, acceptance) for point in points),
            max_draft=longest if acceptance else None,
            quality="same",
        )
        curves.append(curve)
    return curves


def untrained_curves(summaries: Sequence[Summary], free_text: TransferSummary | None = None) -> dict[str, list[Curve]]:
    """All curves of the policies without training that a request may name, by the policy's name."""
    curves = {name: free_text_curves(free_text, name) if free_text else [] for name in UNTRAINED}
    for name, found in curves.items():
        found += [curve for each in summaries if name in each["methods"] for curve in curves_of(each, name)]
    return {name: found for name, found in curves.items() if found}


def beside_confidence(
    summaries: Sequence[Summary], method: str, free_text: TransferSummary | None = None
) -> dict[str, list[BesideConfidence]]:
    """By task what is known of a method's points beside SLM confidence."""
    found = {each["task"]: each["comparisons"].get("beside_confidence", {}).get(method, []) for each in summaries}
    beside = {task: points for task, points in found.items() if points}
    curves = free_text["methods"].items() if free_text else ()
    free = [curve.get("beside_confidence", []) for title, curve in curves if parsed(title).name == method]
    return beside | ({TASK: [point for points in free for point in points]} if any(free) else {})


def timed_settings(timed: Sequence[SecondsSummary], method: str) -> list[TimedSetting]:
    """What was measured in seconds, on one machine, of a router's own settings and of those without training."""
    policies = {method: "router"} | {name: name for name in UNTRAINED}
    return [
        TimedSetting(
            policy=policies[point["method"]],
            task=summary["task"],
            questions=summary["questions"],
            threshold=point["threshold"],
            acceptance=point["acceptance"],
            max_draft=point["max_draft"],
            times=digits(point["seconds"] / llm_alone(summary)["seconds"]),
        )
        for summary in timed
        if on_one_machine(summary)
        for point in summary["points"]
        if point["method"] in policies
    ]


def _lengths(summary: Summary, method: str) -> dict[float, list[DraftLimit]]:
    """At which acceptances above 0, and with drafts of which lengths, a method was measured."""
    found = _lengths_of(summary["plane"]["curves"] if "plane" in summary else (), method)
    return {acceptance: lengths for acceptance, lengths in found.items() if acceptance > 0}


def _lengths_of(titles: Iterable[str], method: str) -> dict[float, list[DraftLimit]]:
    """By acceptance the lengths of drafts under which a method is among some titles."""
    lengths: dict[float, list[DraftLimit]] = {}
    for title in titles:
        name, _, acceptance, max_draft, _ = parsed(title)
        if name == method:
            lengths.setdefault(acceptance, []).append(max_draft)
    return lengths


def _longest(lengths: Sequence[DraftLimit]) -> DraftLimit:
    return "auto" if "auto" in lengths else max(lengths)


def _point(point: PointSummary, timed: bool, acceptance: float = 0.0) -> OperatingPoint:
    names = [each.name for each in fields(OperatingPoint) if each.name not in ("seconds", "acceptance")]
    seconds = point["seconds"] if timed else None
    return OperatingPoint(**{name: point[name] for name in names}, seconds=seconds, acceptance=acceptance)


def _free_text_point(point: TransferPoint, timed: bool, acceptance: float = 0.0) -> OperatingPoint:
    agreed, cost = point["agreement"], point["cost"]
    value = agreed["value"] or 0.0
    return OperatingPoint(
        threshold=point["threshold"],
        accuracy=value,
        accuracy_low=min(value, agreed["low"] or 0.0),
        accuracy_high=max(value, agreed["high"] or 0.0),
        llm_share=point["llm_share"],
        bytes=cost["bytes"],
        flops=cost["flops"],
        seconds=cost["seconds"] if timed else None,
        acceptance=acceptance,
    )


def operating_point(curves: Sequence[Curve], beside: Beside | None = None) -> tuple[float, float]:
    """Threshold and acceptance where a router is used unless a person chooses otherwise, and rollouts are finished.

    The cheapest of the settings that were measured on all tasks at which accuracy, averaged over the tasks, is within
    `HARDLY_WORSE` of the LLM's. Where there is none, a task that was not measured at a threshold is read between its
    own; where there is none either, it is the most accurate setting. An acceptance at which a task was not measured, or
    a threshold below its first one there, does not count. Nor does what was not measured on free text, where that was:
    it is what a visitor writes. Nor, unless nothing is left, what is on a task, or on free text, surely worse than SLM
    confidence. Unlike in `Curve.cheapest_within` either model alone is not among them, nor, above acceptance 0, the
    SLM's drafts at threshold 0: a router that is shipped routes.

    Args:
        curves: One for each task and acceptance; each task has one at acceptance 0. Those of free text, if any, have no
            right answers, so that they say only where it was measured, unless they are alone.
        beside: See `beside_confidence`; of a task the point nearest to the threshold counts.

    Raises:
        TrainerError: No acceptance was measured on all tasks.
    """
    found = list(_settings_on_all_tasks(curves, beside or {})) or list(_settings_on_all_tasks(curves, {}))
    if not found:
        raise TrainerError("no acceptance has been measured on all of these tasks: evaluate the router at one on each")
    enough = [each for each in found if each.lost <= HARDLY_WORSE + TOLERANCE]
    best = min(enough, key=lambda each: (not each.measured, each.bytes)) if enough else min(found)
    return min(max(best.threshold, 0.001), 1.0), best.acceptance


class _Setting(NamedTuple):
    """A setting on all tasks: accuracy lost and relative bytes, averaged, and whether no task is read on a line."""

    lost: float
    bytes: float
    threshold: float
    acceptance: float
    measured: bool


def _settings_on_all_tasks(curves: Sequence[Curve], beside: Beside) -> Iterator[_Setting]:
    """All that a router may start at, without what is surely worse than SLM confidence on a task."""
    tasks = {curve.task for curve in curves}
    graded = [curve for curve in curves if curve.quality == "right"] or curves
    for acceptance in sorted({curve.acceptance for curve in graded}):
        measured_there = [curve for curve in curves if curve.acceptance == acceptance]
        if {curve.task for curve in measured_there} != tasks:
            continue
        first = max(curve.measured[0].threshold for curve in measured_there)
        own = [curve for curve in graded if curve.acceptance == acceptance]
        measured = {point.threshold for curve in own for point in curve.points if point.threshold > 0}
        for threshold in sorted(each for each in measured if each >= first):
            if any(is_surely_worse(nearest_beside(curve, threshold, beside)) for curve in measured_there):
                continue
            at = [(curve, curve.at(threshold)) for curve in own]
            lost = fmean(curve.llm.accuracy - point.accuracy for curve, point in at)
            cost = fmean(curve.relative_cost(point, "bytes") for curve, point in at)
            everywhere = all(any(point.threshold == threshold for point in curve.points) for curve in own)
            yield _Setting(lost, cost, threshold, acceptance, everywhere)


def check_measured(router: Path, method: str, results: Sequence[Summary | TransferSummary]) -> None:
    """Refuses, by a TrainerError, results of several pairs, or in which a method was another router than this one.

    Results from before they named their routers are believed.
    """
    pairs = {each["pair"] for each in results}
    if len(pairs) > 1:
        raise TrainerError(f"these results are of {' and '.join(sorted(pairs))}: ship those of one pair")
    own = fingerprint(Router.load(router).network)
    for each in results:
        if each.get("routers", {}).get(method, own) != own:
            what = each.get("task", TASK)
            raise TrainerError(f"{method} in the results of {what} is another router than {router}: name that one")


def ship(
    router: Path,
    curves: list[Curve],
    out: Path,
    untrained: Mapping[str, list[Curve]] | None = None,
    beside: Beside | None = None,
    timed: Sequence[TimedSetting] = (),
) -> Router:
    """Copies a router's folder to `out`, whose name becomes its own, with its curves and where to start.

    The curves with right answers say where (`operating_point`). The page shows the first of all unless it is asked for
    another. What is in `out` is replaced when all files are written, or not at all.

    Args:
        untrained: The curves of policies without training, by their names.
        beside: See `beside_confidence`.
        timed: See `timed_settings`.
    """
    shipped = Router.load(router)
    threshold, acceptance = operating_point(curves, beside)
    start = round(threshold, 4)  # a step of the page's slider: what is shown is what is in force
    shipped.card = replace(shipped.card, name=out.name, threshold=start, acceptance=acceptance)
    without_training = {name: tuple(own) for name, own in (untrained or {}).items()}
    with filling(out) as new:
        shipped.save(new)
        OperatingPoints(sha256_of(new / WEIGHTS), tuple(curves), without_training, tuple(timed)).save(new)
        write_card(shipped.card, new, curves)
    return shipped
