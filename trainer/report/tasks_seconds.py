"""Measured seconds of all tasks beside each other: the fastest timed setting of each family at 90 % of the gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from engine.bench.markdown import table
from trainer.evaluation.estimates import EstimateSummary, digits, in_words, interval, percent
from trainer.evaluation.method_names import DIGITS, SPECULATIVE
from trainer.evaluation.plane import LEARNED, Plane, belongs
from trainer.evaluation.record import MACHINES, on_one_machine
from trainer.evaluation.seconds import (
    ENOUGH,
    SecondsSummary,
    TimedPoint,
    is_comparable,
    llm_alone,
    seconds_ratio,
    share_of_llm,
)
from trainer.evaluation.statistics import TOLERANCE
from trainer.evaluation.summary import MethodSummary, Summary, alone
from trainer.report.seconds_report import timed_setting
from trainer.report.tasks import FAMILIES, RIVALS, TARGET, wanted

DRAFTING = (*SPECULATIVE, "slm", "confidence")
"""Under which names speculative decoding is timed, at acceptance 1: by that of what ends its drafts, too."""


class _Evaluated(NamedTuple):
    method: str
    acceptance: float
    max_draft: int | str
    threshold: float
    accuracy: float
    weights_copy: str | None


Fastest = dict[str, TimedPoint]  # by family


class _TimedTask(NamedTuple):
    """What was timed of a task, the fastest setting of each family, and what the learned one is held against."""

    about: SecondsSummary
    fastest: Fastest
    rivals: Fastest


def measured_seconds(summaries: Sequence[Summary], timed: Sequence[SecondsSummary]) -> str:
    """A row for each task of which enough questions were timed; empty without such tasks.

    Args:
        summaries: Of one pair; those without a plane have no row.
        timed: Of the same pair, in any order.
    """
    found: list[_TimedTask] = []
    elsewhere = []
    for summary in summaries:
        about, plane = _timed_of(summary, timed), summary.get("plane")
        if about and plane and not on_one_machine(about):
            elsewhere.append(summary["task"])
        elif about and plane:
            fastest = _fastest_of_each(summary["methods"], plane, about)
            found.append(_TimedTask(about, fastest, _rivals(summary["methods"], plane, about, fastest)))
    if not found:
        return ""
    parts = [*_shares(found), *_beside_rivals(found), _modelled(found)]
    parts += [f"Without {', '.join(elsewhere)}. {MACHINES}"] if elsewhere else []
    return "\n\n".join(filter(None, parts))


def fastest_learned(summary: Summary, timed: Sequence[SecondsSummary]) -> tuple[SecondsSummary, TimedPoint] | None:
    """The fastest timed setting of a learned router at 90 % of the gap, and all that was timed; None without one."""
    about, plane = _timed_of(summary, timed), summary.get("plane")
    if not about or not plane or not is_comparable(about):
        return None
    point = _fastest(summary["methods"], plane, about, LEARNED)
    return (about, point) if point else None


def learned_seconds(summary: Summary, timed: Sequence[SecondsSummary]) -> str:
    """The setting of `fastest_learned` and its share of LLM only's seconds, in words; empty without one."""
    found = fastest_learned(summary, timed)
    return f"{_share(found[1])}, {timed_setting(found[1], found[0]['points'])}" if found else ""


def evaluated_accuracy(summary: Summary, point: TimedPoint) -> float | None:
    """What a timed setting has right of all evaluated questions; None where it was not evaluated.

    At acceptance 1 the text is the LLM's own.
    """
    if point["acceptance"] == 1:
        return alone(summary, "llm")["accuracy"]
    own = _nearest(list(_evaluated(summary["methods"], summary.get("plane"))), point)
    return own.accuracy if own else None


def _timed_of(summary: Summary, timed: Sequence[SecondsSummary]) -> SecondsSummary | None:
    """What was timed of a task, on enough questions."""
    return next((each for each in timed if each["task"] == summary["task"] and each["questions"] >= ENOUGH), None)


def _share(point: TimedPoint) -> str:
    """Its seconds of LLM only's, in words."""
    return interval(*share_of_llm(point))


def _shares(found: Sequence[_TimedTask]) -> list[str]:
    """What each family takes of the LLM's seconds, as text and table."""
    lead = (
        "Seconds as they pass, one text at a time, as a share of LLM only's on the same questions: of each family the "
        "fastest timed setting that recovers 90 % of the gap in the evaluation (95 % intervals over the questions that "
        "were timed), and the bytes of the same texts: one machine wrote them all. Of speculative decoding, whose text "
        "is the LLM's, every setting that was timed counts, tuned for bytes or not. In this engine's loop the SLM "
        "proposes the token after a full draft, too; as speculative decoding is published the LLM adds it, which "
        "spares a pass of the SLM: about one for each of the LLM's where drafts run to their length, fewer where "
        "low confidence ends them. What that leaves, modelled, or leaves at least, stands behind it. Empty where no "
        "such setting was timed; all that were stand with each task:"
    )
    rows = []
    for about, fastest, _ in found:
        cells = (_in_words(fastest[family], family, about) if family in fastest else "" for family in FAMILIES)
        rows.append([about["task"], str(about["questions"]), *cells])
    return [lead, table(["task", "questions timed", *FAMILIES.values()], rows)]


def _in_words(point: TimedPoint, family: str, about: SecondsSummary) -> str:
    text = f"{timed_setting(point, about['points'])}: {_share(point)}"
    if family in SPECULATIVE:
        published = share_of_llm(point)[0] * _as_published(point, about)
        return f"{text}, as published {'about' if _drafts_in_full(point) else 'at least'} {percent(published)}"
    return f"{text}, bytes {in_words(point['bytes_ratio'])}"


def _as_published(point: TimedPoint, about: SecondsSummary) -> float:
    """What speculative decoding would take of its measured seconds if the LLM added the token after a full draft.

    Of drafts that end early, too, each counts as full, since how many were is not written down: it takes no less.
    """
    spared = point["llm_passes"] * about["passes"]["slm"]["1"]
    return 1 - spared / (point["modelled"] + (spared if point["method"] in SPECULATIVE else 0))  # which lacks them


def _drafts_in_full(point: TimedPoint) -> bool:
    """Whether nothing but their length ends its drafts."""
    return point["threshold"] == 0 or point["method"] == "slm"


def _beside_rivals(found: Sequence[_TimedTask]) -> list[str]:
    """The learned setting's seconds beside those of each rival, and what was wanted; empty without any rival."""
    tasks = [_ratios(each) for each in found]
    if not any(tasks):
        return []
    lead = (
        "The seconds of the learned setting there as a share of those of each rival's (95 % intervals, paired over the "
        "questions that were timed, where the seconds of each answer were kept, else the value alone; no resample "
        "chooses its settings). The LLM alone belongs to every rival but speculative decoding, not to ours: “LLM only” "
        "stands where it is faster than the rival's settings above, or is the only one of its measured points that "
        "gets there. Beside speculative decoding the first figure is to its time as it passed in this engine's loop, "
        "the second to its time as published, by which it is judged. Empty: a rival that gets there was not timed. "
        "Bold: what was wanted:"
    )
    rows = [
        [each.about["task"], *_cells(ratios, each.rivals)] for each, ratios in zip(found, tasks, strict=True) if ratios
    ]
    judged = [{family: ratio for family, (_, ratio) in ratios.items()} for ratios in tasks]
    head = ["task", *(f"of {rival.title}" for rival in RIVALS)]
    return [lead, table(head, rows), wanted(judged, "measured seconds")]


def _modelled(found: Sequence[_TimedTask]) -> str:
    """In words: how far the model of seconds is off, over all settings that were timed beside the LLM alone."""
    told = []
    for about, _, _ in found:
        llm = llm_alone(about)
        others = [each for each in about["points"] if each is not llm and each["method"] not in SPECULATIVE]
        alone = llm["modelled"] / llm["seconds"]
        off = [point["modelled"] / point["seconds"] / alone for point in others]
        told += [f"{about['task']} {percent(min(off), unit='')} to {percent(max(off))}"] if off else []
    if not told:
        return ""
    return (
        "How far the model of seconds is off: the modelled share of LLM only's seconds over the measured one, of all "
        f"timed settings (below 100 % it is too kind to routing): {'; '.join(told)}."
    )


def _rivals(methods: Mapping[str, MethodSummary], plane: Plane, about: SecondsSummary, fastest: Fastest) -> Fastest:
    """By rival the faster of its fastest timed setting and the LLM alone; none where it gets there and was not timed.

    Speculative decoding does not have the LLM alone.
    """
    found = {family: [point] for family, point in fastest.items() if family != LEARNED}
    for family in (rival.family for rival in RIVALS if rival.family not in SPECULATIVE):
        evaluated = list(_of_family(methods, plane, family))
        if family in found or (evaluated and not any(_gets_there(plane, each) for each in evaluated)):
            found.setdefault(family, []).append(llm_alone(about))
    return {family: _fastest_of(points) for family, points in found.items()}


def _gets_there(plane: Plane, evaluated: _Evaluated | None) -> bool:
    """Whether a setting was evaluated and recovers as much of the gap as is asked for."""
    target = plane["targets"][TARGET]
    return evaluated is not None and target is not None and evaluated.accuracy >= target - TOLERANCE


def _ratios(task: _TimedTask) -> dict[str, tuple[EstimateSummary, EstimateSummary]]:
    """By rival the learned setting's seconds / its own, as they passed and as its bar is judged by."""
    ratios = {}
    for family, theirs in task.rivals.items() if LEARNED in task.fastest else ():
        passed = seconds_ratio(task.fastest[LEARNED], theirs)
        left = _as_published(theirs, task.about) if family in SPECULATIVE else 1.0
        ratios[family] = passed, _over(passed, left)
    return ratios


def _over(ratio: EstimateSummary, divisor: float) -> EstimateSummary:
    value, low, high = (
        None if bound is None else digits(bound / divisor) for bound in (ratio["value"], ratio["low"], ratio["high"])
    )
    return {**ratio, "value": value, "low": low, "high": high}


def _cells(ratios: Mapping[str, tuple[EstimateSummary, EstimateSummary]], rivals: Fastest) -> list[str]:
    cells = []
    for rival in RIVALS:
        passed, judged = ratios.get(rival.family, (None, None))
        text = in_words(passed) if passed else ""
        if judged and rival.family in SPECULATIVE:
            word = "about" if _drafts_in_full(rivals[rival.family]) else "at most"
            text += f", as published {word} {percent(judged['value'] or 0)}"
        elif judged and rivals[rival.family]["method"] == "llm":
            text += ", LLM only"
        cells.append(rival.bold(text, judged) if judged else text)
    return cells


def _fastest_of_each(methods: Mapping[str, MethodSummary], plane: Plane, about: SecondsSummary) -> Fastest:
    """The fastest timed setting of each family that gets to the target; without families that have none."""
    found = {family: _fastest(methods, plane, about, family) for family in FAMILIES}
    return {family: point for family, point in found.items() if point is not None}


def _fastest(
    methods: Mapping[str, MethodSummary], plane: Plane, about: SecondsSummary, family: str
) -> TimedPoint | None:
    """Of speculative decoding the fastest as published."""
    if plane["targets"][TARGET] is None:
        return None
    if family in SPECULATIVE:
        drafting = [each for each in about["points"] if each["method"] in DRAFTING and each["acceptance"] == 1]
        return min(drafting, key=lambda each: each["seconds"] * _as_published(each, about), default=None)
    evaluated = list(_of_family(methods, plane, family))
    there = [point for point in about["points"] if _gets_there(plane, _nearest(evaluated, point))]
    return _fastest_of(there) if there else None


def _fastest_of(points: Sequence[TimedPoint]) -> TimedPoint:
    return max(points, key=lambda point: point["speedup"]["value"] or 0)


def _nearest(evaluated: Sequence[_Evaluated], point: TimedPoint) -> _Evaluated | None:
    """What was evaluated at a timed setting; thresholds may lie so close that two of them are typed alike."""
    alike = [each for each in evaluated if _same(each, point)]
    return min(alike, key=lambda each: abs(each.threshold - point["threshold"]), default=None)


def _same(evaluated: _Evaluated, point: TimedPoint) -> bool:
    """Whether both may be one setting: the timed threshold is the evaluated one, typed with some digits or all."""
    dials = (evaluated.acceptance, evaluated.max_draft) == (point["acceptance"], point["max_draft"])
    typed = any(float(f"{evaluated.threshold:.{count}g}") == point["threshold"] for count in DIGITS)
    return point["method"] == evaluated.method and dials and typed


def _of_family(methods: Mapping[str, MethodSummary], plane: Plane, family: str) -> Iterator[_Evaluated]:
    """The evaluated settings of a family of routers."""
    copy = methods["llm"]["points"][0].get("weights_copy")
    for each in _evaluated(methods, plane):
        if belongs(family, each.method, each.acceptance, each.weights_copy == copy):
            yield each


def _evaluated(methods: Mapping[str, MethodSummary], plane: Plane | None) -> Iterator[_Evaluated]:
    """All evaluated settings; those that the plane has at acceptance 0 come twice."""
    at_0 = ((name, 0.0, "auto", point) for name, curve in methods.items() for point in curve["points"])
    curves = plane["curves"].values() if plane else ()
    above = ((each["method"], each["acceptance"], each["max_draft"], each) for curve in curves for each in curve)
    for method, acceptance, max_draft, point in chain(at_0, above):
        copy = point.get("weights_copy")
        yield _Evaluated(method, acceptance, max_draft, point["threshold"], point["accuracy"], copy)
