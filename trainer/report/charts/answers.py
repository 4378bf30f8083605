"""A small chart for each question of the paper's reviewers, beside the answer in words and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go

from trainer.evaluation.method_names import label
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.seconds import SecondsSummary, share_of_llm
from trainer.evaluation.summary import RULE, Summary, alone
from trainer.report.charts.figures import write_images
from trainer.report.charts.panels import other_task_panels
from trainer.report.charts.parts import LOOKS, MAIN, bars, layout_of
from trainer.report.reviewers import JOINTLY, TUNED, Profile, own_router, profile_of, rounds_of, routers_of_other_tasks
from trainer.report.tasks import reached
from trainer.report.tasks_seconds import fastest_learned

WIDTH, HEIGHT = 900, 360  # pixels
ANSWER = "-answer-"
"""Between the preset and a chart's name in its file's."""

RECOVERED = "gap recovered on average"
MILLISECONDS = "ms, with the profiler"
WHOLE = {"color": "#333333", "width": 1, "dash": "dot"}
COLOURS = ("#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#000000", "#7F7F7F")
"""Of Okabe and Ito (2008), for what is no method with a look of its own."""

Interval = tuple[float, float, float]
"""A value with its bounds, which are the value where none are known."""


class Bars(NamedTuple):
    """What a colour stands for, and a bar for each group: none where nothing was measured."""

    name: str
    values: Sequence[Interval | None]
    colour: str = ""


def write_answers(
    preset: str,
    summaries: Sequence[Summary],
    timed: Sequence[SecondsSummary],
    folder: Path,
    report: Callable[[str], None] = print,
    *,
    benchmarks: Path | None = None,
) -> list[Path]:
    """Writes `<preset>-answer-<name>.png` of each question that has bars; see `write_charts`."""
    tasks = [summary["task"] for summary in summaries]
    charts = {
        "units": (tasks, units(summaries, timed), "share of LLM only’s"),
        "speculative": (tasks, speculative(summaries), "bytes of LLM only"),
        "rounds": (tasks, rounds(summaries), RECOVERED),
        "jointly": (tasks, jointly(summaries), RECOVERED),
    }
    images = {
        folder / f"{preset}{ANSWER}{name}.png": (grouped(*drawn), WIDTH, HEIGHT)
        for name, drawn in charts.items()
        if any(any(each.values) for each in drawn[1])
    }
    profile = profile_of(benchmarks, preset) if benchmarks else None
    if profile:
        parts, drawn = overhead(profile)
        images[folder / f"{preset}{ANSWER}overhead.png"] = (grouped(parts, drawn, MILLISECONDS, None), WIDTH, HEIGHT)
    routers = routers_of_other_tasks(summaries)
    if measured := [summary for summary in summaries if summary["methods"].keys() & set(routers)]:
        figure: Any = other_task_panels(measured, routers)
        images[folder / f"{preset}{ANSWER}away.png"] = (figure, figure.layout.width, figure.layout.height)
    return write_images(images, report)


def grouped(groups: Sequence[str], several: Sequence[Bars], title: str, whole: float | None = 1) -> go.Figure:
    """Bars side by side for each group, as for each task, with intervals where they are known.

    With `whole` they are shares of something, and a line stands there; without they are amounts.
    """
    figure = go.Figure()
    for number, each in enumerate(several):
        values = [value and value[0] for value in each.values]
        spread = [value or (0.0, 0.0, 0.0) for value in each.values]
        known = any(low < high for _, low, high in spread)
        colour = each.colour or COLOURS[number % len(COLOURS)]
        bar = go.Bar(x=list(groups), y=values, name=each.name, marker={"color": colour})
        figure.add_trace(bar.update(error_y=bars(spread, "#333333") if known else None))
    axis = {"title": title, "tickformat": ".0%" if whole is not None else None}
    figure.update_layout(layout_of(yaxis=axis, xaxis={}), barmode="group", bargap=0.25)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"})
    figure.update_layout(margin={"t": 60, "b": 40})
    return figure if whole is None else figure.add_hline(y=whole, line=WHOLE)


def overhead(profile: Profile) -> tuple[list[str], list[Bars]]:
    """The parts of a step, dearest of the SLM's first, and of each model's step what they take, with the profiler."""
    steps = {name: profile["steps"][name]["parts"] for name in ("SLM", "LLM")}
    parts = sorted(steps["SLM"] | steps["LLM"], key=lambda part: -steps["SLM"].get(part, 0.0))
    return parts, [
        Bars(f"a step of the {name}", [_amount(own.get(part)) for part in parts], LOOKS[name.lower()].colour)
        for name, own in steps.items()
    ]


def units(summaries: Sequence[Summary], timed: Sequence[SecondsSummary]) -> list[Bars]:
    """Bytes and FLOPs of the cheapest learned point at 90 % of the gap, and measured seconds of the fastest there."""
    found: dict[str, list[Interval | None]] = {"bytes": [], "FLOPs": [], "seconds, measured": []}
    for summary in summaries:
        own, llm = reached(summary, LEARNED), alone(summary, "llm")
        point = own["point"] if own else None
        found["bytes"].append(_share(point["bytes"] if point else None, llm["bytes"]))
        found["FLOPs"].append(_share(point["flops"] if point else None, llm["flops"]))
        fastest = fastest_learned(summary, timed)
        found["seconds, measured"].append(share_of_llm(fastest[1]) if fastest else None)
    return [Bars(name, values) for name, values in found.items() if any(values)]


def speculative(summaries: Sequence[Summary]) -> list[Bars]:
    """Bytes at 90 % of the gap of the cheapest learned point and of tuned speculative decoding, where it was tuned."""
    tuned = [_at_90(summary, TUNED) for summary in summaries]
    learned = Bars("learned router", [_at_90(summary, LEARNED) for summary in summaries], MAIN.colour)
    return [learned, Bars(label(TUNED), tuned, LOOKS[TUNED].colour)] if any(tuned) else []


def rounds(summaries: Sequence[Summary]) -> list[Bars]:
    """The average gap recovered without rollouts and after each round."""
    return [Bars(label(name), [_gap(summary, name) for summary in summaries]) for name in rounds_of(summaries)]


def jointly(summaries: Sequence[Summary]) -> list[Bars]:
    """The average gap recovered by the task's own router, by that of all tasks and by SLM confidence."""
    if not any(JOINTLY in summary["methods"] for summary in summaries):
        return []
    return [
        Bars("the task’s own", [_gap(summary, own_router(summary)) for summary in summaries]),
        Bars("one for all", [_gap(summary, JOINTLY) for summary in summaries], MAIN.colour),
        Bars(label(RULE), [_gap(summary, RULE) for summary in summaries], LOOKS[RULE].colour),
    ]


def _at_90(summary: Summary, family: str) -> Interval | None:
    """The bytes of a family's cheapest point at 90 % of the gap, of LLM only's."""
    found = reached(summary, family)
    cost = found["cost"]["bytes"]["value"] if found else None
    return _share(cost, alone(summary, "llm")["bytes"])


def _gap(summary: Summary, name: str) -> Interval | None:
    if name not in summary["methods"]:
        return None
    fields = ("gap_recovered", "gap_recovered_low", "gap_recovered_high")
    value, low, high = (summary["methods"][name][field] for field in fields)
    return None if value is None else (value, value if low is None else low, value if high is None else high)


def _share(cost: float | None, whole: float) -> Interval | None:
    return _amount(cost / whole) if cost is not None and whole else None


def _amount(value: float | None) -> Interval | None:
    return None if value is None else (value, value, value)
