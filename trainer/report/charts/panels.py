"""One figure of all tasks of a pair, small panels: accuracy over bytes, and its twin over measured seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.io import to_html
from plotly.subplots import make_subplots

from engine.files import write_text
from trainer.evaluation.estimates import PointSummary
from trainer.evaluation.method_names import label, spelled
from trainer.evaluation.plane import PlanePoint
from trainer.evaluation.seconds import SecondsSummary, TimedPoint, is_comparable, llm_alone, share_of_llm
from trainer.evaluation.statistics import front
from trainer.evaluation.summary import RULE, Summary, alone
from trainer.report.charts.figures import SCRIPT, write_images
from trainer.report.charts.parts import (
    ACCURACY,
    LOOKS,
    MAIN,
    OF_OTHER_TASKS,
    Look,
    bars,
    error_bars,
    layout_of,
    look_of,
)
from trainer.report.tasks_seconds import evaluated_accuracy

DRAWN = ("confidence", "query", "co-llm", "co-llm-data")
"""Methods at acceptance 0 that are drawn where they were measured; more lines than these hide each other."""

POINTS = ("slm", "llm", "assisted-tuned")
SHARE = {"tickformat": ".0%", "range": [0.2, 1.4]}
"""What costs more than that stands in the tables."""
AROUND_LLM = 0.08
"""Accuracy below and above the LLM's that a panel of seconds shows: more would crowd the settings worth timing."""
FRONT = "front of the plane"
COLUMNS = 3  # of panels; five beside each other are too small to read in a README
WIDTH, HEIGHT, LEGEND = 340, 320, 120  # pixels, of a panel and of the lines below all


def bytes_panels(summaries: Sequence[Summary]) -> go.Figure:
    """Accuracy over bytes as a share of the LLM's own: the main method with its intervals, rivals, and the front."""
    panels = [(_title(summary["task"], summary["questions"]), _bytes_traces(summary)) for summary in summaries]
    return _figure(panels, "bytes of LLM only")


def seconds_panels(summaries: Sequence[Summary], timed: Sequence[SecondsSummary]) -> go.Figure:
    """Accuracy over measured seconds as a share of the LLM's own, one text at a time, with intervals in time.

    The accuracy is that of the evaluation, as so few questions are timed; a setting that was not evaluated is not
    drawn. Behind them the front: of the drawn settings those than which none is both faster and as often right.

    Args:
        timed: Of the same tasks, in the same order.
    """
    panels = [
        (f"{own['task']}, {about['questions']} of {own['questions']} timed", _seconds_traces(own, about))
        for own, about in zip(summaries, timed, strict=True)
    ]
    figure = _figure(panels, "seconds of LLM only, measured").update_xaxes(range=[0.6, 1.5])
    for number, own in enumerate(summaries):
        llm = alone(own, "llm")["accuracy"]
        figure.layout[f"yaxis{number + 1 if number else ''}"].range = [llm - AROUND_LLM, llm + AROUND_LLM]
    return figure


def other_task_panels(summaries: Sequence[Summary], routers: Sequence[str]) -> go.Figure:
    """Accuracy over bytes of routers that did not learn from the task beside SLM confidence and the main method.

    Args:
        summaries: Each with one of the routers at least.
        routers: Names of methods; one without a look of its own has it by its place.
    """
    left = cycle(OF_OTHER_TASKS)
    looks = {name: LOOKS.get(name) or next(left) for name in routers}
    panels = []
    for summary in summaries:
        methods, main = summary["methods"], summary["comparisons"]["method"]
        whole = alone(summary, "llm")["bytes"]
        lines = [name for name in (RULE, main) if name in methods]
        traces = [_line(summary, name, methods[name]["points"], whole, name == main) for name in lines]
        traces += [_mark(name, LOOKS[name], methods[name]["points"], whole) for name in ("slm", "llm")]
        traces += [_mark(n, look, methods[n]["points"], whole) for n, look in looks.items() if n in methods]
        panels.append((_title(summary["task"], summary["questions"]), traces))
    return _figure(panels, "bytes of LLM only")


def write_panels(
    preset: str,
    summaries: Sequence[Summary],
    timed: Sequence[SecondsSummary],
    folder: Path,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Writes `<preset>-tasks` and `<preset>-tasks-seconds`, as HTML and as PNG; see `write_charts`.

    The second one only where every task was timed on enough questions, each on one machine. Returns what was written.
    """
    figures: dict[str, Any] = {f"{preset}-tasks": bytes_panels(summaries)}
    if len(timed) == len(summaries) and all(map(is_comparable, timed)):
        figures[f"{preset}-tasks-seconds"] = seconds_panels(summaries, timed)
    pages = []
    settings: dict[str, Any] = {"include_plotlyjs": SCRIPT, "div_id": "panels", "config": {"displaylogo": False}}
    for name, figure in figures.items():
        pages.append(folder / f"{name}.html")
        write_text(pages[-1], to_html(figure, **settings))
    images = {
        folder / f"{name}.png": (figure, figure.layout.width, figure.layout.height) for name, figure in figures.items()
    }
    return [*pages, *write_images(images, report)]


def _figure(panels: Sequence[tuple[str, list[Any]]], x: str) -> go.Figure:
    """Panels in rows; a name stands in the legend once, in the place that the last row leaves, or below."""
    columns = min(COLUMNS, len(panels))
    rows, free = -(-len(panels) // columns), -len(panels) % columns
    titles = [title for title, _ in panels]
    figure: Any = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.2
    )
    known: set[str] = set()
    for number, (_, traces) in enumerate(panels):
        for trace in traces:
            row, column = divmod(number, columns)
            figure.add_trace(trace.update(showlegend=trace.name not in known), row=row + 1, col=column + 1)
            known.add(trace.name)
    axes: dict[str, Any] = {}
    for number in range(len(panels)):
        which = number + 1 if number else ""  # as Plotly counts axes: the first has no number
        lowest, first = number + columns >= len(panels), number % columns == 0
        axes[f"xaxis{which}"] = {**SHARE, "title": x if lowest else None}
        axes[f"yaxis{which}"] = ACCURACY if first else {"tickformat": ACCURACY["tickformat"]}
    beside = {"x": 1 - free / columns + 0.06, "y": figure.layout[f"yaxis{len(panels)}"].domain[1]}
    below = {"orientation": "h", "x": 0, "y": -0.26 / rows}
    figure.update_layout(layout_of(**axes), legend={**(beside if free else below), "yanchor": "top"})
    figure.update_layout(width=WIDTH * columns + 40, height=HEIGHT * rows + (0 if free else LEGEND))
    return figure.update_layout(margin={"t": 40, "b": 60 if free else 60 + LEGEND})


def _title(task: str, questions: int) -> str:
    return f"{task}, {questions} questions"


def _bytes_traces(summary: Summary) -> list[Any]:
    methods, main = summary["methods"], summary["comparisons"]["method"]
    whole = alone(summary, "llm")["bytes"]
    plane = summary.get("plane")
    traces = [_front(plane["front"], [each["accuracy"] for each in plane["front"]], "bytes", whole)] if plane else []
    for name in (*DRAWN, main):
        if name in methods:
            traces.append(_line(summary, name, methods[name]["points"], whole, name == main))
    return traces + [_mark(name, LOOKS[name], methods[name]["points"][:1], whole) for name in POINTS if name in methods]


def _line(summary: Summary, name: str, points: Sequence[PointSummary], whole: float, main: bool) -> Any:
    look = look_of(summary, name)
    return go.Scatter(
        x=[point["bytes"] / whole for point in points],
        y=[point["accuracy"] for point in points],
        name=label(name),
        mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 3 if main else 1.75},
        marker={"color": look.colour, "symbol": look.symbol, "size": 7},
        error_y=error_bars(points, look.colour) if main else None,
        hovertemplate="%{fullData.name}<br>accuracy %{y:.1%} for %{x:.0%} of LLM only's bytes<extra></extra>",
    )


def _front(points: Sequence[PlanePoint | TimedPoint], accuracy: Sequence[float], cost: str, whole: float) -> Any:
    """In steps: between two of its points there is no setting. `cost` is the name of the points' field."""
    return go.Scatter(
        x=[point[cost] / whole for point in points],
        y=list(accuracy),
        text=[spelled(point["method"], point["acceptance"], point["max_draft"]) for point in points],
        name=FRONT,
        mode="lines",
        line={"color": "#7F7F7F", "width": 6, "shape": "hv"},
        opacity=0.45,
        hovertemplate=f"%{{text}}<br>accuracy %{{y:.1%}} for %{{x:.0%}} of LLM only's {cost}<extra></extra>",
    )


def _mark(name: str, look: Look, points: Sequence[PointSummary], whole: float) -> Any:
    return go.Scatter(
        x=[point["bytes"] / whole for point in points],
        y=[point["accuracy"] for point in points],
        name=label(name),
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 11, "line": {"color": "#000000", "width": 1}},
        hovertemplate="%{fullData.name}<br>accuracy %{y:.1%} for %{x:.0%} of LLM only's bytes<extra></extra>",
    )


def _seconds_traces(summary: Summary, timed: SecondsSummary) -> list[Any]:
    found = [(point, evaluated_accuracy(summary, point)) for point in timed["points"]]
    drawn = [(point, accuracy) for point, accuracy in found if accuracy is not None]
    alike: dict[tuple[str, bool], list[tuple[TimedPoint, float]]] = {}
    for point, accuracy in drawn:
        alike.setdefault((point["method"], point["acceptance"] > 0), []).append((point, accuracy))
    marks = [_timed(name, verified, points) for (name, verified), points in alike.items()]
    order = front(np.array([point["seconds"] for point, _ in drawn]), np.array([accuracy for _, accuracy in drawn]))
    best = [drawn[number] for number in order]
    steps = _front([point for point, _ in best], [right for _, right in best], "seconds", llm_alone(timed)["seconds"])
    return [steps, *marks]


def _timed(name: str, verified: bool, drawn: Sequence[tuple[TimedPoint, float]]) -> Any:
    look, points = LOOKS.get(name, MAIN), [point for point, _ in drawn]
    shares, highest = [share_of_llm(point) for point in points], max(accuracy for _, accuracy in drawn)
    # Of settings near each other all are read: SLM confidence's below, those of the others' highest above.
    below = [name == RULE or accuracy < highest for _, accuracy in drawn]
    return go.Scatter(
        x=[share for share, _, _ in shares],
        error_x=bars(shares, look.colour),
        y=[accuracy for _, accuracy in drawn],
        text=[spelled(point["method"], point["acceptance"], point["max_draft"]) for point in points],
        name=label(name) + (", at the acceptance beside it" if verified else ""),
        mode="markers+text" if verified else "markers",
        customdata=[f"{point['acceptance']:g}" for point in points],
        texttemplate="%{customdata}",
        textposition=["bottom center" if each else "top center" for each in below],
        marker={
            "color": look.colour,
            "symbol": look.symbol.removesuffix("-open") + "-open-dot" if verified else look.symbol,
            "size": 11,
            "line": {"color": "#000000", "width": 1},
        },
        hovertemplate="%{text}<br>accuracy %{y:.1%} in %{x:.0%} of LLM only's seconds<extra></extra>",
    )
