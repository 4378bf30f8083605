"""What the reviewers of the paper asked, answered from what was measured here: a table for each question.

Each says which figure it is; where nothing was measured, there is no table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from statistics import fmean
from typing import (
    Annotated,
    Any,
    NotRequired,  # typing's own TypedDict is not for pydantic before Python 3.12
)

from pydantic import Field
from typing_extensions import TypedDict

from engine.bench.markdown import code, table
from engine.bench.table import PROFILE
from engine.operating_points import MEASURED_UNITS, Curve
from engine.provenance import hardware
from trainer.evaluation.estimates import (
    NONE_SO_CHEAP,
    EstimateSummary,
    PointSummary,
    double_dagger,
    in_points,
    percent,
    surely,
    with_notes,
)
from trainer.evaluation.method_names import OTHERS, from_other_tasks, is_citer, label, method_order, spelled_threshold
from trainer.evaluation.plane import GAPS, LEARNED, Reached
from trainer.evaluation.record import on_one_machine
from trainer.evaluation.seconds import SecondsSummary
from trainer.evaluation.statistics import TOLERANCE
from trainer.evaluation.summary import RULE, Summary, alone
from trainer.json_files import read_json
from trainer.report.plane_report import setting
from trainer.report.tasks import TARGET, across_copies, of_llm, reached
from trainer.report.tasks_seconds import learned_seconds
from trainer.ship import curve_of

JOINTLY, ALONE, SHORTCUT, TUNED = "citer-joint", "citer", "citer-shortcut", "assisted-tuned"


class _Step(TypedDict):
    """Milliseconds: of its parts with the profiler, which slows the whole, and of the whole without."""

    parts: dict[str, float]
    unprofiled: Annotated[float, Field(gt=0)]


class _Run(TypedDict):
    command: str
    revision: str
    machine: dict[str, Any]


class Profile(_Run):
    """A stored profile, whose command is no longer here: steps by what they are of, "SLM" and "LLM" among them."""

    steps: dict[str, _Step]


class _Spread(TypedDict):
    median: float


class _Overhead(TypedDict):
    share_of_slm_step: _Spread


class _Extras(TypedDict):
    overhead: NotRequired[_Overhead]


class _Benchmark(_Run):
    extras: _Extras


def reviewers_section(
    summaries: Sequence[Summary],
    benchmarks: Path | None = None,
    timed: Sequence[SecondsSummary] = (),
    chart: Callable[[str, str], str] = lambda name, about: "",
) -> str:
    """All answers for the tasks of one pair.

    Args:
        summaries: At least one.
        benchmarks: A folder that may hold the pair's benchmark and a profile of its steps.
        timed: Measured seconds of these tasks, in any order.
        chart: Gives the picture of a name and what it shows as Markdown; empty where it was not drawn.
    """
    overhead = _overhead(benchmarks, summaries[0]["preset"]) if benchmarks else ""
    questions = [
        ("overhead", "What does the router itself cost?", overhead),
        ("units", "Does a gain in bytes hold in FLOPs and in seconds?", _units(summaries, timed)),
        ("speculative", "How is it beside speculative decoding?", _speculative(summaries)),
        ("rounds", "What does each round bring?", _rounds(summaries)),
        ("jointly", "One router for all tasks, or one for each?", _jointly(summaries)),
        ("away", "What is a router worth away from its task?", _away(summaries)),
    ]
    answered = [
        "\n\n".join(filter(None, [f"### {question}", chart(name, question), answer]))
        for name, question, answer in questions
        if answer
    ]
    title = f"## {summaries[0]['pair']}: what the reviewers of the paper asked"
    return "\n\n".join([title, *answered]) if answered else ""


def profile_of(benchmarks: Path, preset: str) -> Profile | None:
    """The profile of a pair's steps; None where none was taken. A TrainerError where it is damaged."""
    path = benchmarks / f"{preset}{PROFILE}"
    advice = "take the stored one, since the command that wrote it is no longer here"
    return read_json(path, Profile, advice) if path.exists() else None


def _overhead(benchmarks: Path, preset: str) -> str:
    """What the router and the rest of a step cost; empty without a profile."""
    read, whole = profile_of(benchmarks, preset), benchmarks / f"{preset}.json"
    if read is None:
        return ""
    step = read["steps"]["SLM"]
    router, head = step["parts"]["router"], step["parts"]["lm_head"]
    parts = [
        f"{router:.2f} of the {step['unprofiled']:.1f} ms of a step in which the SLM writes, so "
        f"{percent(router / step['unprofiled'], 1)}: the part was timed with a profiler, the step without, since a "
        f"profiler slows it ({_source(read)}). It is small beside a pass; each of its layers waits for weights that "
        "the pass has driven out of the processor’s caches.",
        _everything_else(whole) if whole.exists() else "",
        "Where a router looks at the SLM’s logits, as the rule of SLM confidence does, the SLM’s `lm_head` is applied "
        f"to the LLM’s tokens, too: {head:.1f} ms each, with the profiler.",
    ]
    return " ".join(filter(None, parts))


def _everything_else(path: Path) -> str:
    """In words, what of a step is no pass; empty where that was not measured."""
    read: _Benchmark = read_json(path, _Benchmark, "write it anew with `python -m engine.bench --json`")
    if "overhead" not in read["extras"]:
        return ""
    share = read["extras"]["overhead"]["share_of_slm_step"]["median"]
    return (
        "With the policy, sampling, the token’s event and all bookkeeping, so all that is neither a pass of the SLM "
        f"nor its `lm_head`, it is {percent(share, 1)} of such a step ({_source(read)})."
    )


def _source(run: _Run) -> str:
    return f"{code(run['command'])}, revision {run['revision']}, on {hardware(run['machine'])}"


def _units(summaries: Sequence[Summary], timed: Sequence[SecondsSummary]) -> str:
    rows, flops = [], []
    for summary in summaries:
        own = reached(summary, LEARNED)
        if own and own["point"] and "plane" in summary:
            flops.append(own["point"]["flops"] / alone(summary, "llm")["flops"])
            moved, computed, modelled = (of_llm(summary, own["point"][unit], unit) for unit in MEASURED_UNITS)
            seconds = learned_seconds(summary, timed) or (f"{modelled}, modelled" if on_one_machine(summary) else "")
            rows.append([summary["task"], setting(own["point"], summary["plane"]), moved, computed, seconds])
    if not rows:
        return ""
    return (
        "The learned point that moves the fewest bytes at 90 % of the gap, as a share of LLM only. An LLM that catches "
        "up computes for every token that it reads, and the SLM’s come on top, so FLOPs "
        f"{'do not fall' if min(flops) >= 1 else 'hardly fall'}; how often its weights are read does. Seconds are "
        "measured. They are those of the fastest timed setting of a learned router there, which may be another point. "
        "Where none was timed, the point’s own are modelled, if all stages ran on one machine:\n\n"
        + table(["task", "point", "bytes", "FLOPs", "seconds"], rows)
    )


def _speculative(summaries: Sequence[Summary]) -> str:
    rows = []
    for summary in summaries:
        if reached(summary, TUNED):
            found = [
                reached(summary, family, target) for target in ("llm", "0.9", "0.8") for family in (LEARNED, TUNED)
            ]
            rows.append([summary["task"], *(_least(summary, each) for each in found)])
    if not rows:
        return ""
    head = [
        f"{name}, {what}"
        for what in ("within a point of the LLM", "90 % of the gap", "80 % of the gap")
        for name in ("learned", "speculative")
    ]
    return (
        "Tuned on training questions, speculative decoding gives the LLM’s text whatever is asked for, up to near "
        "ties. With a bf16 copy two tokens that are nearly equal may change places with a pass’s length; where that "
        "costs right answers by chance, it is not within a point of the LLM. A router may give less for less. Bytes "
        "of LLM only:\n\n" + with_notes(table(["task", *head], rows))
    )


def _least(summary: Summary, found: Reached | None) -> str:
    """The bytes of a family's cheapest point there."""
    if not found or not found["point"]:
        return _bytes(summary, None)
    return _bytes(summary, found["point"]["bytes"]) + double_dagger([found["point"], alone(summary, "llm")])


def _rounds(summaries: Sequence[Summary]) -> str:
    names = rounds_of(summaries)
    shown = [summary for summary in summaries if len(summary["methods"].keys() & set(names)) > 1]
    if not shown:
        return ""
    rows = [[each["task"], *(_at_target(each, name) for name in names)] for each in shown]
    return (
        "Bytes of LLM only at 90 % of the gap at acceptance 0 (between measured points a straight line), and the "
        "average gap recovered. “Without rollouts” is the paper’s shortcut; each round’s texts are finished by the "
        "router of the one before:\n\n" + with_notes(table(["task", *map(label, names)], rows))
    )


def rounds_of(summaries: Sequence[Summary]) -> list[str]:
    """The methods that are CITER without rollouts and its rounds, in that order."""
    found = {name for each in summaries for name in each["methods"] if is_citer(name)} - {JOINTLY, ALONE}
    return sorted(found, key=lambda name: (name != SHORTCUT, method_order(name)))


def _jointly(summaries: Sequence[Summary]) -> str:
    shown = [summary for summary in summaries if JOINTLY in summary["methods"]]
    if not shown:
        return ""
    rows = []
    for summary in shown:
        own = own_router(summary)
        cells = (_at_target(summary, name) for name in (own, JOINTLY, RULE))
        rows.append([summary["task"], label(own), *cells])
    each = (
        "Bytes of LLM only at 90 % of the gap at acceptance 0, and the average gap recovered, of the cheapest "
        "router that learned from the task alone, of one that learned from several tasks, and of SLM confidence:\n\n"
        + with_notes(table(["task", "its own is", "its own", "one for several", "SLM confidence"], rows))
    )
    return "\n\n".join(filter(None, [each, _one_threshold(summaries)]))


def _one_threshold(summaries: Sequence[Summary]) -> str:
    """What one threshold for all tasks gives; empty with fewer than two tasks."""
    both = [summary for summary in summaries if {JOINTLY, RULE} <= summary["methods"].keys()]
    shown = [summary for summary in both if summary["methods"][RULE]["gap_recovered"] is not None]
    if len(shown) < 2:
        return ""
    rows = [
        [percent(gap), *(_in_common([curve_of(each, name) for each in shown], gap) for name in (JOINTLY, RULE))]
        for gap in GAPS
    ]
    return (
        f"Each task had a threshold of its own there. With one for all {len(shown)} tasks, bytes of LLM only at which "
        "so much of the gap is recovered, both averaged over the tasks, and that threshold (a task that was not "
        "measured at it is read between its own, or from its last to the LLM alone):\n\n"
        + table(["gap", *map(label, (JOINTLY, RULE))], rows)
    )


def _in_common(curves: Sequence[Curve], gap: float) -> str:
    """The cheapest of all measured thresholds that gets there on the average."""
    found = []
    for threshold in {point.threshold for curve in curves for point in curve.points}:
        at = [(curve, curve.at(threshold)) for curve in curves]
        recovered = fmean((p.accuracy - c.slm.accuracy) / (c.llm.accuracy - c.slm.accuracy) for c, p in at)
        if recovered >= gap - TOLERANCE:
            found.append((fmean(c.relative_cost(p, "bytes") for c, p in at), threshold))
    return f"{percent(min(found)[0])} at {spelled_threshold(min(found)[1])}" if found else "not reached"


def _away(summaries: Sequence[Summary]) -> str:
    others = routers_of_other_tasks(summaries)
    rows = []
    for summary in summaries:
        if any(name in summary["methods"] for name in others):
            cells = ("<br>".join(_beside(summary, name, others)) for name in (JOINTLY, *others))
            rows.append([summary["task"], *cells])
    if not rows:
        return ""
    lead = (
        "Right answers and bytes of LLM only at acceptance 0, of routers that did not learn from the task: from all "
        "others together, or from one of them. Behind the semicolon stands what that is beside SLM confidence’s curve "
        "at as many bytes (points, 95 % intervals, paired over the questions; bold: surely more, ↓: surely less; "
        f"“{NONE_SO_CHEAP}”: it has none for so few). {label(JOINTLY)} did learn from it, among others: its point "
        "nearest to theirs in LLM share."
    )
    return f"{lead}\n\n{with_notes(table(['task', *map(label, [JOINTLY, *others])], rows))}"


def routers_of_other_tasks(summaries: Sequence[Summary]) -> list[str]:
    """The methods that did not learn from the task, of those that were measured on any of these; `OTHERS` first."""
    found = {name for each in summaries for name in filter(from_other_tasks, each["methods"])}
    return sorted(found, key=lambda name: (name != OTHERS, name))


def other_task_points(
    summary: Summary, method: str, others: Sequence[str]
) -> list[tuple[PointSummary, EstimateSummary]]:
    """A method's points at acceptance 0, each with what it has more right than SLM confidence for as many bytes.

    Of the router for all tasks only the one nearest in LLM share to the mean of what `others` have on this task; none
    where they have nothing.
    """
    measured = {name: summary["methods"].get(name, {"points": []})["points"] for name in (method, *others)}
    shares = [point["llm_share"] for name in others for point in measured[name]]
    points = measured[method]
    if method == JOINTLY:
        points = sorted(points, key=lambda point: abs(point["llm_share"] - fmean(shares)))[:1] if shares else []
    beside = {
        each["threshold"]: each["accuracy"]
        for each in summary["comparisons"].get("beside_confidence", {}).get(method, [])
        if not each["acceptance"]
    }
    return [(point, beside[point["threshold"]]) for point in points if point["threshold"] in beside]


def _beside(summary: Summary, method: str, others: Sequence[str]) -> list[str]:
    found = other_task_points(summary, method, others)
    mark = across_copies(summary, RULE, method) if found else ""
    cells = []
    for point, more in found:
        words = surely(in_points(more), more) + (mark if more["value"] is not None else "")
        cells.append(f"{percent(point['accuracy'])} for {of_llm(summary, point['bytes'], 'bytes')}; {words}")
    return cells


def own_router(summary: Summary) -> str:
    """Of the routers that learned from the task alone, with rollouts if any did, the cheapest at the target.

    The last where none gets there; "" without any. One for all tasks must not be held against a weak one.
    """
    own = sorted(filter(is_citer, summary["methods"].keys() - {JOINTLY}), key=method_order, reverse=True)
    with_rollouts = [name for name in own if name != SHORTCUT]

    def cost(name: str) -> float:
        value = summary["comparisons"]["cost_at_target"][name][TARGET]["bytes"]["value"]
        return inf if value is None else value

    return min(with_rollouts or own, key=cost, default="")


def _at_target(summary: Summary, method: str) -> str:
    """Its bytes and its gap; empty where it was not measured."""
    if method not in summary["methods"]:
        return ""
    cost = summary["comparisons"]["cost_at_target"][method][TARGET]["bytes"]["value"]
    gap = summary["methods"][method]["gap_recovered"]
    mark = across_copies(summary, "llm", method)
    return f"{_bytes(summary, cost)}; {'–' if gap is None else percent(gap)}{mark}"


def _bytes(summary: Summary, cost: float | None) -> str:
    return "not reached" if cost is None else of_llm(summary, cost, "bytes")
