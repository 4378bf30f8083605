"""What the router that is shipped for a pair gives where it starts: as in its card, from the results of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.benchmark.markdown import table
from engine.operating_points import Curve, TimedSetting
from engine.router import CARD, Router, RouterCard
from trainer.evaluation.estimates import in_points, percent, with_notes
from trainer.evaluation.method_names import spelled_threshold
from trainer.evaluation.summary import BesideConfidence, Summary
from trainer.ship import Beside, beside_confidence, curves_of, is_surely_worse, nearest_beside


def start_section(summaries: Sequence[Summary], folder: Path) -> str:
    """A row per task whose main method is the shipped router; empty without such tasks.

    That it is the same router is known from its curves: those that it was shipped with are those of the summaries.

    Args:
        summaries: Of one pair.
        folder: The router's; it need not be there.
    """
    if not (folder / CARD).exists():
        return ""
    router = Router.load(folder)
    measured = router.operating_points
    shipped, timed = (measured.curves, measured.timed) if measured else ((), ())
    curves, beside = [], {}
    for summary in summaries:
        main = summary["comparisons"]["method"]
        own = [curve for curve in curves_of(summary, main) if curve in shipped] if main else []
        if main and own:
            curves += own
            beside |= beside_confidence([summary], main)
    text = given_at_start(router.card, curves, beside, timed)
    return f"Where the shipped router `{router.name}` starts: {text[0].lower()}{text[1:]}" if text else ""


def given_at_start(
    card: RouterCard, curves: Sequence[Curve], beside: Beside, timed: Sequence[TimedSetting] = ()
) -> str:
    """What it gives where it starts, per task; empty where nothing was measured at that acceptance."""
    own = [curve for curve in curves if curve.acceptance == card.acceptance]
    if not own:
        return ""
    points = {curve.task: point for curve in own if (point := nearest_beside(curve, card.threshold, beside))}
    agreed = "".join(f" (of {curve.task} the agreement)" for curve in own if curve.quality != "right")
    head = ["right answers", "questions", "SLM only", "LLM only", "here", "LLM tokens", "bytes of LLM only"]
    rows = [_at_start(curve, card.threshold) for curve in own]
    seconds = {curve.task: _seconds(curve, card.threshold, timed) for curve in own}
    if any(seconds.values()):
        head.append("seconds of LLM only, measured")
        rows = [[*row, seconds[each.task]] for row, each in zip(rows, own, strict=True)]
    if points:
        head.append("beside SLM confidence at equal bytes")
        rows = [[*row, _beside(points.get(each.task), card.threshold)] for row, each in zip(rows, own, strict=True)]
    lead = (
        f"Threshold {card.threshold:g}, acceptance {card.acceptance:g}, in generated answers. What was not measured "
        "there is read on a straight line between the thresholds beside it; the last is the LLM alone."
    )
    lead += " Seconds are of the nearest threshold that was timed." if any(seconds.values()) else ""
    return "\n\n".join([lead, with_notes(table(head, rows)), *([_on_which_tasks(points, agreed)] if points else [])])


def _at_start(curve: Curve, threshold: float) -> list[str]:
    at = curve.at(threshold)
    size = curve.relative_cost(at, "bytes")
    found = (curve.slm.accuracy, curve.llm.accuracy, at.accuracy, at.llm_share, size)
    task = curve.task if curve.quality == "right" else f"{curve.task} (agreement with the LLM alone)"
    return [task, str(curve.questions), *(f"{value:.1%}" for value in found)]


def _seconds(curve: Curve, threshold: float, timed: Sequence[TimedSetting]) -> str:
    """Of the router's setting nearest to a threshold that was timed on the task; empty where none was."""
    dials = "router", curve.task, curve.acceptance, curve.max_draft or "auto"
    there = (each for each in timed if (each.policy, each.task, each.acceptance, each.max_draft) == dials)
    own = min(there, key=lambda each: abs(each.threshold - threshold), default=None)
    return _at(f"{percent(own.times)} ({own.questions} questions)", own.threshold, threshold) if own else ""


def _at(text: str, threshold: float, start: float) -> str:
    """With the threshold at which it was measured, where that is not the start."""
    return text if round(threshold, 4) == start else f"{text}, at threshold {spelled_threshold(threshold)}"


def _beside(point: BesideConfidence | None, start: float) -> str:
    if point is None:
        return ""
    accuracy, threshold = point["accuracy"], point["threshold"]
    return _at(in_points(accuracy), threshold, start)


def _on_which_tasks(points: Mapping[str, BesideConfidence], agreed: str) -> str:
    """What the last column is, and on which tasks its whole interval is below 0; `agreed` on what has no accuracy."""
    worse = [task for task, point in points.items() if is_surely_worse(point)]
    return (
        f"In the last column is the accuracy{agreed} at the measured threshold nearest to the start, less what SLM "
        "confidence has at acceptance 0 for as many bytes (a straight line between its measured points), with 95 % "
        "intervals paired over the questions. By the whole interval it is worse on "
        f"{', '.join(worse) or 'none of them'}."
    )
