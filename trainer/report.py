"""The README's results section and the charts, from the summaries under `assets/results`.

Knows summaries and Markdown; measures nothing. It writes only between `<!-- results -->` and `<!-- /results -->`, so
that what people wrote around them stays. Which method wins is read off the figures, whoever it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from engine import section
from engine.section import code, table
from trainer.charts import write_charts
from trainer.errors import TrainerError
from trainer.results import JOINT, label
from trainer.summary import Estimate, PointSummary, Summary, load_summary

RESULTS, README = Path("assets/results"), Path("README.md")
SECTION = "results"

# Saving in cost at equal accuracy to beat: the figures of the paper (Zheng et al. 2025), and this project's own.
TO_BEAT = {
    "confidence": (0.15, "own"),
    "co-llm": (0.27, "paper"),
    "co-llm-data": (0.27, "paper"),
    "query": (0.30, "paper"),
    "citer-shortcut": (0.42, "paper"),
}
TRAINING_FREE = ("assisted", "random", "confidence", "entropy", "margin")
# What the tiny pair's router must show at 25 % LLM share; another pair's gap may be too small for the second.
GAP_AT_QUARTER, ABOVE_RANDOM = 0.60, 0.25
QUARTER = "0.25"  # the LLM share at which methods are compared in words
SURELY = 0.05  # the p-value below which a difference is more than chance
OFTEN = 0.05  # share of resamples without a value from which a reader must know of them
MACHINES = "The stages ran on different machines, so seconds cannot be compared and are left out."
NOTE = "† In more than 5 % of the resamples one of the two does not get there; the interval is over the others."


def report(results: Path = RESULTS, readme: Path = README, tell: Callable[[str], None] = print) -> None:
    """Draws the charts of all summaries and rewrites the README's results section.

    Args:
        results: Folder of the summaries; the charts are written beside them.
        readme: A Markdown file with both markers.
        tell: Told what was written, and how to get PNGs where there is no exporter.

    Raises:
        TrainerError: No summaries, a damaged one, or a marker is missing.
    """
    text = _read(readme)
    _filled(text, "", readme)  # refuses bad markers before the charts, which take seconds
    summaries = _summaries(results)
    for summary in summaries:
        for path in write_charts(summary, results, tell):
            tell(f"wrote {path}")
    readme.write_text(_filled(text, render(summaries, results, readme.parent), readme), encoding="utf-8")
    tell(f"wrote the results of {len(summaries)} tasks to {readme}")


def check(results: Path = RESULTS, readme: Path = README) -> bool:
    """Whether the README's results section is what `report` would write now; changes nothing.

    Raises:
        TrainerError: As `report`.
    """
    text = _read(readme)
    return text == _filled(text, render(_summaries(results), results, readme.parent), readme)


def render(summaries: Iterable[Summary], results: Path, base: Path) -> str:
    """The section as Markdown, one part per pair and task.

    Args:
        summaries: In the order in which they are to stand.
        results: Folder of the charts; what is not there is not linked.
        base: Folder of the file that the links stand in.
    """
    return "\n\n".join(_part(summary, results, base) for summary in summaries)


def _part(summary: Summary, results: Path, base: Path) -> str:
    main = summary["comparisons"]["method"]
    compared = [_savings(summary, main), _at_quarter(summary, main), _training_free(summary, main)] if main else []
    made = (
        f"{code(summary['command'])}, revision {summary['revision']}, on {summary['hardware']}; at most "
        f"{summary['max_new_tokens']} new tokens an answer; in brackets 95 % intervals from {summary['resamples']:,} "
        "resamples of the questions."
    )
    if not _one_machine(summary):
        made += f" {MACHINES}"
    title = f"### {summary['pair']}: {summary['task']}, {summary['questions']} questions"
    return "\n\n".join(filter(None, [title, _chart(summary, results, base), _curves(summary), *compared, made]))


def _chart(summary: Summary, results: Path, base: Path) -> str:
    name = f"{summary['preset']}--{summary['task']}"
    page, image = results / f"{name}.html", results / f"{name}.png"
    shown = (
        f"![Accuracy over LLM share and over bytes]({_link(image, base)})" if image.exists() else "Interactive charts"
    )
    if page.exists():
        return f"[{shown}]({_link(page, base)})"
    return shown if image.exists() else ""


def _curves(summary: Summary) -> str:
    """One row per method: its point nearest to 25 % LLM share in full, those nearest to 10 and 50 % in short."""
    llm = summary["methods"]["llm"]["points"][0]["bytes"]
    rows = []
    for name, method in summary["methods"].items():
        points, gap = method["points"], method["gap_recovered"]
        at = _nearest(points, 0.25)
        beside = [_nearest(points, share) for share in (0.1, 0.5)] if len(points) > 1 else []
        rows.append(
            [
                f"**{label(name)}**" if name == summary["comparisons"]["method"] else label(name),
                _percent(at["llm_share"]),
                f"{_percent(at['accuracy'], 1)} ({_range(at['accuracy_low'], at['accuracy_high'], 1)})",
                _percent(at["bytes"] / llm) if llm else "",
                f"{at['seconds']:.3g}" if _one_machine(summary) else "",
                *(f"{_percent(each['accuracy'], 1)} at {_percent(each['llm_share'])}" for each in beside),
                *[""] * (2 - len(beside)),
                "" if gap is None else _interval(gap, method["gap_recovered_low"], method["gap_recovered_high"]),
            ]
        )
    head = ["LLM share", "accuracy", "bytes of LLM only", "seconds, modelled", "near 10 % share", "near 50 % share"]
    return table(["method, near 25 % share", *head, "average gap recovered"], rows)


def _savings(summary: Summary, main: str) -> str:
    comparisons = summary["comparisons"]
    rows = []
    for other, against in comparisons["against"].items():
        bar, source = TO_BEAT.get(other, (None, ""))
        cells = [_saving(summary, main, other, gap, bar) for gap in against["savings"]]
        equal = against["equal_cost"].get(QUARTER, {}).get("bytes")
        rows.append(
            [
                label(other),
                *cells,
                "" if bar is None else f"{_percent(bar)} ({source})",
                _estimate(equal, 1, " points") if equal and equal["value"] is not None else "none so cheap",
            ]
        )
    targets = [
        ("the LLM’s accuracy" if gap == "1" else f"{_percent(float(gap))} of the gap")
        + ("" if accuracy is None else f": {_percent(accuracy, 1)}")
        for gap, accuracy in comparisons["targets"].items()
    ]
    found = table(["against", *targets, "to beat", "accuracy at equal bytes"], rows)
    lead = (
        f"Share of the bytes that {label(main)} saves at equal accuracy (bold: at least what is to beat), and how much "
        "more accurate it is for the bytes that it moves at 25 % LLM share. Whatever has a threshold can be set to "
        "either model alone, too:"
    )
    return f"{lead}\n\n{found}" + (f"\n\n{NOTE}" if "†" in found else "")


def _saving(summary: Summary, main: str, other: str, gap: str, bar: float | None) -> str:
    comparisons = summary["comparisons"]
    saving = comparisons["against"][other]["savings"][gap]["bytes"]
    if saving["value"] is not None:
        text = _interval(saving["value"], saving["low"], saving["high"])
        mark = "†" if saving["unreached"] > OFTEN else ""
        return (f"**{text}**" if bar is not None and saving["value"] >= bar else text) + mark
    if comparisons["targets"][gap] is None:
        return "no gap"
    reached = [_reaches(summary, name, gap) for name in (main, other)]
    if not any(reached):
        return "reached by neither"
    return f"reached by {label(other if reached[1] else main)} alone"


def _reaches(summary: Summary, method: str, gap: str) -> bool:
    return summary["comparisons"]["cost_at_target"][method][gap]["bytes"]["value"] is not None


def _at_quarter(summary: Summary, main: str) -> str:
    """In words: the accuracy at 25 % LLM share, and how it differs from random and from the SLM's confidence."""
    comparisons = summary["comparisons"]
    curves, against = comparisons["accuracy_at_share"], comparisons["against"]
    if main not in curves:
        return ""
    bars = summary["preset"] == "tiny"
    ours, gap = curves[main][QUARTER], comparisons["gap_recovered_at_share"][main][QUARTER]
    text = f"At 25 % LLM share {label(main)} has an accuracy of {_estimate(ours, 1)}"
    if gap["value"] is not None:
        text += f" and recovers {_estimate(gap)} of the gap{_bar(gap['value'], GAP_AT_QUARTER, ' %') if bars else ''}"
    if "random" in curves:
        above = against["random"]["equal_share"][QUARTER]["accuracy"]
        apart = (ours["low"] or 0) > (curves["random"][QUARTER]["high"] or 0)
        text += f"; its difference from random is {_estimate(above, 1, ' points')}"
        text += _bar(above["value"] or 0, ABOVE_RANDOM, " points") if bars else ""
        text += f", and their intervals {'do not overlap' if apart else 'overlap'}"
    if "confidence" in curves:
        equal = against["confidence"]["equal_share"][QUARTER]
        text += (
            f"; from {label('confidence')} {_estimate(equal['accuracy'], 1, ' points')}, p = "
            f"{equal['accuracy']['p_value'] or 1:.2g} (McNemar at the nearest points: {equal['p_mcnemar']:.2g})"
        )
    return text + "."


def _training_free(summary: Summary, main: str) -> str:
    """In words: at which targets baselines without training move fewer bytes than the router, and at which more."""
    wins, losses = [], []
    for other in TRAINING_FREE:
        if other not in summary["comparisons"]["against"]:
            continue
        for sign, found in ((-1, wins), (1, losses)):
            where = [
                text for gap in summary["comparisons"]["targets"] if (text := _won(summary, main, other, gap, sign))
            ]
            if where:
                found.append(f"{label(other)} at {', '.join(where)} %")
    won = f"a baseline without training wins: {'; '.join(wins)}" if wins else "no baseline without training wins"
    lost = f"{label(main)} wins against: {'; '.join(losses)}" if losses else f"{label(main)} wins against none of them"
    stars = f" (* p is at least {SURELY:g}, over resamples of the questions)" if "*" in won + lost else ""
    return f"By bytes at these shares of the gap recovered, {won}. {lost[0].upper()}{lost[1:]}{stars}."


def _won(summary: Summary, main: str, other: str, gap: str, sign: int) -> str:
    """The target in percent, if the main method (sign 1) or the other (−1) wins there; with a star if not surely."""
    saving = summary["comparisons"]["against"][other]["savings"][gap]["bytes"]
    text = f"{100 * float(gap):.0f}"
    lead = saving["value"]
    if lead is None:
        lead = _reaches(summary, main, gap) - _reaches(summary, other, gap)
    if lead * sign <= 0:
        return ""
    p_value = saving["p_value"]
    return text if p_value is not None and p_value < SURELY else f"{text}*"


def _one_machine(summary: Summary) -> bool:
    return JOINT not in summary["hardware"]


def _nearest(points: list[PointSummary], share: float) -> PointSummary:
    return min(points, key=lambda point: abs(point["llm_share"] - share))


def _bar(value: float, bar: float, unit: str) -> str:
    return f" (bar: {_percent(bar, 0, unit)}, {'met' if value >= bar else 'not met'})"


def _estimate(found: Estimate, digits: int = 0, unit: str = " %") -> str:
    return "–" if found["value"] is None else _interval(found["value"], found["low"], found["high"], digits, unit)


def _interval(value: float, low: float | None, high: float | None, digits: int = 0, unit: str = " %") -> str:
    text = _percent(value, digits, unit)
    return text if low is None or high is None else f"{text} ({_range(low, high, digits)})"


def _range(low: float, high: float, digits: int = 0) -> str:
    return f"{_percent(low, digits, '')} to {_percent(high, digits, '')}"


def _percent(value: float, digits: int = 0, unit: str = " %") -> str:
    rounded = round(100 * value, digits) + 0.0  # no negative zero
    return f"{rounded:.{digits}f}{unit}".replace("-", "−")


def _link(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _summaries(results: Path) -> list[Summary]:
    paths = sorted(results.glob("*--*.json"))
    if not paths:
        raise TrainerError(
            f"{results} holds no summaries: run `python -m trainer evaluate` first, or name their folder"
        )
    return [load_summary(path) for path in paths]


def _read(readme: Path) -> str:
    try:
        return section.read(readme)
    except section.SectionError as error:
        raise TrainerError(str(error)) from None


def _filled(text: str, body: str, readme: Path) -> str:
    try:
        return section.filled(text, SECTION, body, readme)
    except section.SectionError as error:
        raise TrainerError(str(error)) from None
