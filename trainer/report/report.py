"""From the summaries under `assets/results` to their charts, to `docs/results.md`, and to the README's short table.

In both files only what stands between `<!-- results -->` and `<!-- /results -->` is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from engine.benchmark.markdown import SectionError, code, filled, read, table
from engine.files import write_text
from engine.models.sources import ROUTERS
from trainer import TrainerError
from trainer.evaluation.estimates import (
    NONE_SO_CHEAP,
    EstimateSummary,
    PointSummary,
    dagger,
    in_points,
    in_words,
    interval,
    notes,
    percent,
    with_notes,
)
from trainer.evaluation.method_names import SPECULATIVE, from_other_tasks, label
from trainer.evaluation.plane import AT_0
from trainer.evaluation.record import MACHINES, on_one_machine
from trainer.evaluation.seconds import SUFFIX as SECONDS
from trainer.evaluation.seconds import SecondsSummary, load_seconds
from trainer.evaluation.summary import Summary, load_summary
from trainer.evaluation.transfer import SUFFIX as TRANSFER
from trainer.evaluation.transfer import load_transfer
from trainer.report.charts.answers import ANSWER, write_answers
from trainer.report.charts.figures import write_charts
from trainer.report.charts.panels import write_panels
from trainer.report.plane_report import PLANE_IMAGE, plane_section
from trainer.report.reviewers import reviewers_section
from trainer.report.seconds_report import seconds_section
from trainer.report.start_report import start_section
from trainer.report.tasks import RIVALS, Rival, across_copies, of_llm, short_table, tasks_section
from trainer.report.tasks_seconds import measured_seconds
from trainer.report.transfer_report import transfer_section
from trainer.shards import JOINT

BENCHMARKS = Path("assets/benchmarks")
RESULTS, PAGE, README = Path("assets/results"), Path("docs/results.md"), Path("README.md")

TRAINING_FREE = ("assisted", "assisted-tuned", "random", "confidence", "entropy", "margin")
# What the tiny pair's router must show at 25 % LLM share; another pair's gap may be too small for the second.
GAP_AT_QUARTER, ABOVE_RANDOM = 0.60, 0.25
QUARTER = "0.25"  # the LLM share at which methods are compared in words
_NOT_NOTED = "bf16, or fp32 on some processors (not noted)"  # before evaluations named the copy of the weights
SURELY = 0.05  # the p-value below which a difference is more than chance


def report(
    results: Path = RESULTS, page: Path = PAGE, readme: Path = README, tell: Callable[[str], None] = print
) -> None:
    """Draws the charts of all summaries beside them, and rewrites the results sections of both files.

    A TrainerError if there are no summaries, one is damaged, or a marker is missing.
    """
    _rewritten(results, page, readme)  # refuses bad markers before the charts, which take seconds
    summaries = _summaries(results)
    for summary in summaries:
        for path in write_charts(summary, results, tell):
            tell(f"wrote {path}")
    for preset, several in _several(summaries).items():
        timed = _all_timed(several, results)
        drawn = write_panels(preset, several, timed, results, tell)
        for path in (*drawn, *write_answers(preset, several, timed, results, tell, benchmarks=BENCHMARKS)):
            tell(f"wrote {path}")
    for path, (_, text) in _rewritten(results, page, readme).items():
        write_text(path, text)
        tell(f"wrote the results to {path}")


def check(results: Path = RESULTS, page: Path = PAGE, readme: Path = README) -> bool:
    """Whether both results sections are what `report` would write now. Changes nothing; raises as `report` does."""
    return all(before == after for before, after in _rewritten(results, page, readme).values())


def _rewritten(results: Path, page: Path, readme: Path) -> dict[Path, tuple[str, str]]:
    """The text of both files, as it is and as it has to be."""
    summaries = _summaries(results)
    sections = {page: render(summaries, results, page.parent), readme: render_short(summaries)}
    try:
        return {path: (text := read(path), filled(text, "results", body, path)) for path, body in sections.items()}
    except SectionError as error:
        raise TrainerError(str(error)) from None


def _summaries(results: Path) -> list[Summary]:
    paths = [path for path in sorted(results.glob("*--*.json")) if not path.name.endswith(SECONDS)]
    summaries = [load_summary(path) for path in paths]
    if not summaries:
        raise TrainerError(f"{results} holds no summaries: run `python -m trainer evaluate`, or name their folder")
    return summaries


def render_short(summaries: Sequence[Summary]) -> str:
    """A row for each task of real pairs; of the tiny pair if there are no others."""
    shown = [summary for summary in summaries if summary["preset"] != "tiny"] or summaries
    pairs = ", ".join(dict.fromkeys(summary["pair"] for summary in shown))
    machines = dict.fromkeys(machine for summary in shown for machine in summary["hardware"].split(JOINT))
    rows = short_table(shown)
    bars = [rival.bar.removeprefix("at most ") for rival in RIVALS]
    return (
        f"{rows}\n\n"
        "Each row has the cheapest measured setting of a router that learned, of those that recover 90 % of the gap "
        "between both models. *Bytes of LLM only*: its bytes as a share of the LLM alone's. Each column after that: as "
        "a share of those of that rival's cheapest such setting, at acceptance 0 but for speculative decoding. In "
        f"brackets 95 % intervals over the questions. Bold: what was wanted (at most {', '.join(bars[:-1])} and "
        f"{bars[-1]}). " + " ".join([f"{pairs}, on {JOINT.join(machines)}.", *notes(rows)])
    )


def render(summaries: Iterable[Summary], results: Path, base: Path) -> str:
    """All figures as Markdown: what concerns all tasks first, then a part per pair and task.

    Charts are linked from folder `base` to folder `results`; what is not there is not linked.
    """
    summaries = list(summaries)
    parts = [_panels(summaries, results, base)]
    for preset, own in _several(summaries).items():
        timed = _all_timed(own, results)
        parts += [
            tasks_section(own),
            measured_seconds(own, timed),
            start_section(own, ROUTERS / preset),
            reviewers_section(own, BENCHMARKS, timed, partial(_answer, results, base, preset)),
        ]
    parts += [transfer_section(load_transfer(path)) for path in sorted(results.glob(f"*{TRANSFER}"))]
    parts += [_part(summary, results, base) for summary in summaries]
    return "\n\n".join(filter(None, parts))


def _part(summary: Summary, results: Path, base: Path) -> str:
    main = summary["comparisons"]["method"]
    compared = [_savings(summary, main), _at_quarter(summary, main), _training_free(summary, main)] if main else []
    source = (
        f"{code(summary['command'])}, revision {summary['revision']}, on {summary['hardware']}; at most "
        f"{summary['max_new_tokens']} new tokens an answer; in brackets 95 % intervals from {summary['resamples']:,} "
        f"resamples of the questions.{'' if on_one_machine(summary) else f' {MACHINES}'}"
    )
    title = f"## {summary['pair']}: {summary['task']}, {summary['questions']} questions"
    plane = [_plane_chart(summary, results, base), plane_section(summary)]
    parts = [title, _chart(summary, results, base), _curves(summary), *compared, *plane, _seconds(summary, results)]
    parts += [source, _copies(summary)]
    return "\n\n".join(filter(None, parts))


def _copies(summary: Summary) -> str:
    """What was written by which copy of the weights, in words; empty where all of it was by one."""
    curves = summary["plane"]["curves"] if "plane" in summary else {}
    points = [*((name, method["points"]) for name, method in summary["methods"].items()), *curves.items()]
    by_copy: dict[str, dict[str, None]] = {}
    for name, several in points:
        for point in several:
            by_copy.setdefault(point.get("weights_copy", _NOT_NOTED), {})[name] = None
    if len(by_copy) < 2:
        return ""
    told = (f"in {copy}: {', '.join(map(label, names))}" for copy, names in sorted(by_copy.items()))
    return f"Written by copies of the weights, of which two kinds part at near ties: {'; '.join(told)}."


def _several(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """The summaries of each preset that has more than one task."""
    by_preset: dict[str, list[Summary]] = {}
    for summary in summaries:
        by_preset.setdefault(summary["preset"], []).append(summary)
    return {preset: several for preset, several in by_preset.items() if len(several) > 1}


def _all_timed(summaries: Sequence[Summary], results: Path) -> list[SecondsSummary]:
    return [each for summary in summaries if (each := load_seconds(summary["preset"], summary["task"], results))]


def _seconds(summary: Summary, results: Path) -> str:
    timed = load_seconds(summary["preset"], summary["task"], results)
    return seconds_section(timed) if timed else ""


def _panels(summaries: Sequence[Summary], results: Path, base: Path) -> str:
    """The figures of all tasks of a pair, where they were drawn."""
    parts = []
    for preset in _several(summaries):
        for name, about in ((f"{preset}-tasks", "bytes"), (f"{preset}-tasks-seconds", "measured seconds")):
            page, image = (results / f"{name}{suffix}" for suffix in (".html", ".png"))
            if page.exists() and image.exists():
                shown, linked = (os.path.relpath(path, base) for path in (image, page))
                parts.append(f"[![Accuracy over {about}, a panel per task]({shown})]({linked})")
    return "\n\n".join(parts)


def _answer(results: Path, base: Path, preset: str, name: str, about: str) -> str:
    """The chart of an answer to the paper's reviewers; empty where it was not drawn."""
    return _picture(results / f"{preset}{ANSWER}{name}.png", base, about)


def _picture(image: Path, base: Path, about: str) -> str:
    """An image as Markdown that lies in folder `base`; empty where it was not drawn."""
    return f"![{about}]({Path(os.path.relpath(image, base)).as_posix()})" if image.exists() else ""


def _chart(summary: Summary, results: Path, base: Path) -> str:
    page, image = (results / f"{summary['preset']}--{summary['task']}{suffix}" for suffix in (".html", ".png"))
    to_page, to_image = (Path(os.path.relpath(path, base)).as_posix() for path in (page, image))
    shown = f"![Accuracy over LLM share and over bytes]({to_image})" if image.exists() else ""
    return f"[{shown or 'Interactive charts'}]({to_page})" if page.exists() else shown


def _plane_chart(summary: Summary, results: Path, base: Path) -> str:
    image = results / f"{summary['preset']}--{summary['task']}{PLANE_IMAGE}"
    return _picture(image, base, "Accuracy over bytes, by acceptance") if "plane" in summary else ""


def _curves(summary: Summary) -> str:
    """One row per method: its point nearest to 25 % LLM share in full, those nearest to 10 and 50 % in short."""
    rows = []
    for name, method in summary["methods"].items():
        points, gap = method["points"], method["gap_recovered"]
        at = _nearest(points, 0.25)
        beside = [_nearest(points, share) for share in (0.1, 0.5)] if len(points) > 1 else []
        rows.append(
            [
                f"**{label(name)}**" if name == summary["comparisons"]["method"] else label(name),
                # Earlier files count all tokens of speculative decoding as the LLM's, later ones those that it wrote.
                "" if name in SPECULATIVE else percent(at["llm_share"]),
                *_accuracy_and_bytes(summary, at),
                f"{at['seconds']:.3g}" if on_one_machine(summary) else "",
                *(f"{percent(each['accuracy'], 1)} at {percent(each['llm_share'])}" for each in beside),
                *[""] * (2 - len(beside)),
                "" if gap is None else interval(gap, method["gap_recovered_low"], method["gap_recovered_high"]),
            ]
        )
    head = ["LLM share", "accuracy", "bytes of LLM only", "seconds, modelled", "near 10 % share", "near 50 % share"]
    return table(["method, near 25 % share", *head, "average gap recovered"], rows)


def _accuracy_and_bytes(summary: Summary, point: PointSummary) -> list[str]:
    accuracy = interval(point["accuracy"], point["accuracy_low"], point["accuracy_high"], 1)
    return [accuracy, of_llm(summary, point["bytes"], "bytes")]


def _savings(summary: Summary, main: str) -> str:
    rows = []
    for other, against in summary["comparisons"]["against"].items():
        if from_other_tasks(other):
            continue  # no rivals: `reviewers` has them
        rival = next((each for each in RIVALS if other in (each.family, *AT_0.get(each.family, ()))), None)
        equal = against["equal_cost"].get(QUARTER, {}).get("bytes")
        rows.append(
            [
                label(other),
                *(_saving(summary, main, other, gap, rival) for gap in against["savings"]),
                f"{percent(rival.saving)} ({rival.source})" if rival else "",
                _at_equal_bytes(equal) + across_copies(summary, main, other) if equal else "",
            ]
        )
    targets = [
        ("the LLM’s accuracy" if gap == "1" else f"{percent(float(gap))} of the gap")
        + ("" if accuracy is None else f": {percent(accuracy, 1)}")
        for gap, accuracy in summary["comparisons"]["targets"].items()
    ]
    savings = table(["against", *targets, "of the paper, or own bar", "accuracy at equal bytes"], rows)
    lead = (
        f"Share of the bytes that {label(main)} saves at equal accuracy (bold: at least what CITER’s paper "
        "saves against that method, or this project’s own bar), and how much more accurate it is for the "
        "bytes that it moves at 25 % LLM share. Whatever has a threshold can be set to either model alone, too:"
    )
    return f"{lead}\n\n{with_notes(savings)}"


def _at_equal_bytes(difference: EstimateSummary) -> str:
    return in_points(difference) if difference["value"] is not None else NONE_SO_CHEAP


def _saving(summary: Summary, main: str, other: str, gap: str, rival: Rival | None) -> str:
    comparisons = summary["comparisons"]
    saving = comparisons["against"][other]["savings"][gap]["bytes"]
    if saving["value"] is not None:
        text = f"**{in_words(saving)}**" if rival and saving["value"] >= rival.saving else in_words(saving)
        return text + dagger(saving) + across_copies(summary, main, other)
    if comparisons["targets"][gap] is None:
        return "no gap"
    reached = [label(name) for name in (main, other) if _reaches(summary, name, gap)]
    return f"reached by {reached[0]} alone" if reached else "reached by neither"


def _reaches(summary: Summary, method: str, gap: str) -> bool:
    return summary["comparisons"]["cost_at_target"][method][gap]["bytes"]["value"] is not None


def _at_quarter(summary: Summary, main: str) -> str:
    """In words: the accuracy at 25 % LLM share, and how it differs from random and from the SLM's confidence."""
    comparisons = summary["comparisons"]
    curves, against = comparisons["accuracy_at_share"], comparisons["against"]
    if main not in curves:
        return ""
    judged = summary["preset"] == "tiny"
    ours, gap = curves[main][QUARTER], comparisons["gap_recovered_at_share"][main][QUARTER]
    text = f"At 25 % LLM share {label(main)} has an accuracy of {in_words(ours, 1)}"
    if gap["value"] is not None:
        text += f" and recovers {in_words(gap)} of the gap"
        text += _bar(gap["value"], GAP_AT_QUARTER, " %") if judged else ""
    if QUARTER in against.get("random", {}).get("equal_share", {}):
        above, chance = against["random"]["equal_share"][QUARTER]["accuracy"], curves["random"][QUARTER]
        apart = (ours["low"] or 0) > (chance["high"] or 0) or (ours["high"] or 0) < (chance["low"] or 0)
        text += f"; its difference from random is {in_words(above, 1, ' points')}"
        text += _bar(above["value"] or 0, ABOVE_RANDOM, " points") if judged else ""
        text += f", and their intervals {'do not overlap' if apart else 'overlap'}"
    if QUARTER in against.get("confidence", {}).get("equal_share", {}):
        equal = against["confidence"]["equal_share"][QUARTER]
        text += (
            f"; from {label('confidence')} {in_words(equal['accuracy'], 1, ' points')}, p = "
            f"{equal['accuracy']['p_value'] or 1:.2g} (McNemar at the nearest points: {equal['p_mcnemar']:.2g})"
        )
    return text + "."


def _training_free(summary: Summary, main: str) -> str:
    """In words: at which targets baselines without training move fewer bytes than the router, and at which more."""
    wins, losses = (
        "; ".join(
            f"{label(other)} at {', '.join(targets)} %"
            for other in TRAINING_FREE
            if other in summary["comparisons"]["against"] and (targets := _won(summary, main, other, sign))
        )
        for sign in (-1, 1)
    )
    won = f"a baseline without training wins: {wins}" if wins else "no baseline without training wins"
    lost = f"{label(main)} wins against: {losses}" if losses else f"{label(main)} wins against none of them"
    stars = f" (* p is at least {SURELY:g}, over resamples of the questions)" if "*" in won + lost else ""
    return f"By bytes at these shares of the gap recovered, {won}. {lost[0].upper()}{lost[1:]}{stars}."


def _won(summary: Summary, main: str, other: str, sign: int) -> list[str]:
    """Targets in percent at which the main method (sign 1) or the other (−1) wins; with a star if not surely."""
    won = []
    for gap in summary["comparisons"]["targets"]:
        saving = summary["comparisons"]["against"][other]["savings"][gap]["bytes"]
        lead, p_value = saving["value"], saving["p_value"]
        if lead is None:
            lead = _reaches(summary, main, gap) - _reaches(summary, other, gap)
        if lead * sign > 0:
            won.append(f"{100 * float(gap):.0f}" + ("" if p_value is not None and p_value < SURELY else "*"))
    return won


def _nearest(points: list[PointSummary], share: float) -> PointSummary:
    return min(points, key=lambda point: abs(point["llm_share"] - share))


def _bar(value: float, bar: float, unit: str) -> str:
    return f" (bar: {percent(bar, 0, unit)}, {'met' if value >= bar else 'not met'})"
