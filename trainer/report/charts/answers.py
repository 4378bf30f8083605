"""A small chart for each question of the paper's reviewers: bars by task, beside the table with the same figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go

from engine.operating_points import Unit
from trainer.evaluation.estimates import EstimateSummary
from trainer.evaluation.method_names import label
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.scale import UNITS, ScaleSummary
from trainer.evaluation.seconds import SecondsSummary
from trainer.evaluation.summary import RULE, Summary
from trainer.report.charts.figures import write_images
from trainer.report.charts.parts import MAIN, bars, layout_of
from trainer.report.reviewers import JOINTLY, TUNED, away_from_home, beside_confidence, own_router, rounds_of
from trainer.report.scale_report import share_of_confidence
from trainer.report.seconds_report import fastest_learned
from trainer.report.tasks import reached

WIDTH, HEIGHT = 900, 360  # pixels
ANSWER = "-answer-"
"""Between the preset and a chart's name in its file's."""

COLOURS = ("#56B4E9", MAIN.colour, "#009E73", "#E69F00", "#CC79A7", "#D55E00")  # of Okabe and Ito (2008)
RECOVERED = "gap recovered on average"

Interval = tuple[float, float, float]  # value, low, high


class Bars(NamedTuple):
    """What a colour stands for, and a bar for each task: none where nothing was measured."""

    name: str
    values: Sequence[Interval | None]


def write_answers(
    preset: str,
    summaries: Sequence[Summary],
    timed: Sequence[SecondsSummary],
    scale: ScaleSummary | None,
    folder: Path,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Writes `<preset>-answer-<name>.png` of each question that has bars; see `write_charts`."""
    tasks = [summary["task"] for summary in summaries]
    charts = {
        "units": (tasks, units(summaries, timed), "share of LLM only’s", 1),
        "speculative": (tasks, speculative(summaries), "bytes of LLM only", 1),
        "rounds": (tasks, rounds(summaries), RECOVERED, 1),
        "jointly": (tasks, jointly(summaries), RECOVERED, 1),
        "away": (tasks, away(summaries), "right, less SLM confidence", 0),
        "scale": (list(scale["cheapest"]) if scale else [], sizes(scale) if scale else [], "of SLM confidence’s", 1),
    }
    images = {
        folder / f"{preset}{ANSWER}{name}.png": (grouped(*drawn), WIDTH, HEIGHT)
        for name, drawn in charts.items()
        if any(any(each.values) for each in drawn[1])
    }
    return write_images(images, report)


def grouped(tasks: Sequence[str], several: Sequence[Bars], title: str, level: float) -> go.Figure:
    """Bars side by side for each task, with intervals where they are known, and a line where nothing is won."""
    figure = go.Figure()
    for number, each in enumerate(several):
        values = [value and value[0] for value in each.values]
        spread = [value or (0.0, 0.0, 0.0) for value in each.values]
        known = any(low < high for _, low, high in spread)
        bar = go.Bar(x=list(tasks), y=values, name=each.name, marker={"color": COLOURS[number % len(COLOURS)]})
        figure.add_trace(bar.update(error_y=bars(spread, "#333333") if known else None))
    axis = {"title": title, "tickformat": ".0%"}
    figure.update_layout(layout_of(yaxis=axis, xaxis={}), barmode="group", bargap=0.25)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"})
    figure.update_layout(margin={"t": 60, "b": 40})
    return figure.add_hline(y=level, line={"color": "#333333", "width": 1, "dash": "dot"})


def units(summaries: Sequence[Summary], timed: Sequence[SecondsSummary]) -> list[Bars]:
    """Bytes and FLOPs of the cheapest learned point at 90 % of the gap, and measured seconds of the fastest there."""
    found: dict[str, list[Interval | None]] = {"bytes": [], "FLOPs": [], "seconds, measured": []}
    for summary in summaries:
        own, llm = reached(summary, LEARNED), summary["methods"]["llm"]["points"][0]
        point = own["point"] if own else None
        for name, unit in (("bytes", "bytes"), ("FLOPs", "flops")):
            found[name].append(_plain(point[unit] / llm[unit]) if point else None)
        fastest = fastest_learned(summary, timed)
        speedup = fastest[1]["speedup"] if fastest else None
        turned = [1 / (speedup[end] or 1) for end in ("value", "high", "low")] if speedup else None
        found["seconds, measured"].append((turned[0], turned[1], turned[2]) if turned else None)
    return [Bars(name, values) for name, values in found.items() if any(values)]


def speculative(summaries: Sequence[Summary]) -> list[Bars]:
    """Bytes at 90 % of the gap of the cheapest learned point and of tuned speculative decoding."""
    families = {LEARNED: "learned router", TUNED: "speculative decoding, tuned"}
    return [
        Bars(name, [_at_target(summary, family, "bytes") for summary in summaries])
        for family, name in families.items()
        if any(reached(summary, TUNED) for summary in summaries)
    ]


def rounds(summaries: Sequence[Summary]) -> list[Bars]:
    """The average gap recovered without rollouts and after each round."""
    return [Bars(label(name), [_gap(summary, name) for summary in summaries]) for name in rounds_of(summaries)]


def jointly(summaries: Sequence[Summary]) -> list[Bars]:
    """The average gap recovered by the task's own router, by that of all tasks and by SLM confidence."""
    if not any(JOINTLY in summary["methods"] for summary in summaries):
        return []
    return [
        Bars("the task’s own", [_gap(summary, own_router(summary)) for summary in summaries]),
        Bars("one for all", [_gap(summary, JOINTLY) for summary in summaries]),
        Bars(label(RULE), [_gap(summary, RULE) for summary in summaries]),
    ]


def away(summaries: Sequence[Summary]) -> list[Bars]:
    """Right answers less SLM confidence's for as many bytes, of routers of another task and of that of all tasks."""
    measured = away_from_home(summaries)
    names = [JOINTLY, *measured] if measured else []
    return [
        Bars(
            label(name),
            [_estimated(found[0][1]) if (found := beside_confidence(s, name, measured)) else None for s in summaries],
        )
        for name in names
    ]


def sizes(scale: ScaleSummary) -> list[Bars]:
    """The learned point's cost of SLM confidence's with models of other sizes."""
    return [
        Bars(
            f"{unit}, {pair['pair']}",
            [_plain(share_of_confidence(found[number], unit)) for found in scale["cheapest"].values()],
        )
        for unit in UNITS
        for number, pair in enumerate(scale["pairs"])
    ]


def _at_target(summary: Summary, family: str, unit: Unit) -> Interval | None:
    found = reached(summary, family)
    cost = found["cost"][unit]["value"] if found else None
    return _plain(None if cost is None else cost / summary["methods"]["llm"]["points"][0][unit])


def _gap(summary: Summary, name: str) -> Interval | None:
    if name not in summary["methods"]:
        return None
    method = summary["methods"][name]
    value, low, high = (method[field] for field in ("gap_recovered", "gap_recovered_low", "gap_recovered_high"))
    return None if value is None else (value, low if low is not None else value, high if high is not None else value)


def _estimated(estimate: EstimateSummary) -> Interval | None:
    value, low, high = (estimate[end] for end in ("value", "low", "high"))
    return None if value is None else (value, low if low is not None else value, high if high is not None else value)


def _plain(value: float | None) -> Interval | None:
    return None if value is None else (value, value, value)
