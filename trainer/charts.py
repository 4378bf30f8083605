"""Charts of a summary: interactive HTML that works offline, and a PNG where there is an exporter.

Knows summaries, colours and Plotly; computes nothing and never sees a text that a model wrote. Plotly's script lies
once beside all pages of a folder (`plotly.min.js`), since it weighs 4.8 MB.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from trainer.results import Unit, is_citer, label
from trainer.summary import PointSummary, Summary

SCRIPT = "plotly.min.js"
PNG_HINT = "no PNG ({reason}): `pip install kaleido` and have Chrome or Chromium on PATH, or name it in BROWSER_PATH"


class Look(NamedTuple):
    """How a method is drawn: a colour of Okabe and Ito (2008), and a dash and a symbol for who sees none."""

    colour: str
    dash: str
    symbol: str


# One colour per family, dashes within it. SLM and LLM are as on the page.
LOOKS = {
    "slm": Look("#56B4E9", "solid", "circle"),
    "llm": Look("#E69F00", "solid", "circle"),
    "oracle": Look("#000000", "solid", "star"),
    "assisted": Look("#000000", "solid", "x"),
    "random": Look("#7F7F7F", "longdash", "hexagon-open"),
    "confidence": Look("#D55E00", "solid", "square"),
    "entropy": Look("#D55E00", "dot", "square-open"),
    "margin": Look("#D55E00", "dashdot", "square-x-open"),
    "query": Look("#CC79A7", "dash", "triangle-up"),
    "co-llm": Look("#009E73", "longdashdot", "diamond-wide"),
    "co-llm-data": Look("#009E73", "solid", "diamond"),
    "citer-shortcut": Look("#56B4E9", "dot", "triangle-down"),
}
MAIN = Look("#0072B2", "solid", "circle")
EARLIER = [Look("#0072B2", "dash", "circle-open"), Look("#0072B2", "dot", "diamond-open")]
UNKNOWN = [Look("#000000", "dash", "cross"), Look("#009E73", "dot", "pentagon"), Look("#CC79A7", "dashdot", "hexagram")]

WITH_INTERVALS = ("random", "confidence")  # and the main method; more bands than these hide the curves
FOLDED = ("entropy", "margin")  # near twins of confidence: in the legend, drawn on a click
MARKS = {"slm": "bottom right", "llm": "top left", "oracle": "top center", "assisted": "bottom center"}

AXES: dict[str, dict[str, Any]] = {
    "llm_share": {"title": "LLM share of the tokens", "tickformat": ".0%", "range": [-0.03, 1.03]},
    "bytes": {"title": "bytes moved per answer", "tickformat": "~s", "ticksuffix": "B", "rangemode": "tozero"},
    "flops": {"title": "FLOPs per answer", "tickformat": "~s", "rangemode": "tozero"},
    "seconds": {
        "title": "seconds per answer, modelled from measured passes",
        "ticksuffix": " s",
        "rangemode": "tozero",
    },
}
ACCURACY = {"title": "accuracy", "tickformat": ".0%"}
HOVER = (
    "%{fullData.name}, threshold %{customdata[0]:.4g}"
    "<br>accuracy %{y:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})"
    "<br>LLM share %{customdata[3]:.1%}<br>%{customdata[4]:.3s}B, ~%{customdata[5]:.3g} s per answer<extra></extra>"
)


def accuracy_by_share(summary: Summary) -> go.Figure:
    """Accuracy over LLM share: a line per method, labelled points for what has no threshold."""
    figure = go.Figure(_traces(summary, "llm_share"))
    return figure.update_layout(_layout(xaxis=AXES["llm_share"], yaxis=ACCURACY))


def accuracy_by_cost(summary: Summary, unit: Unit = "bytes") -> go.Figure:
    """Accuracy over cost per answer, each line in the order of its thresholds: cost need not grow with LLM share."""
    figure = go.Figure(_traces(summary, unit))
    return figure.update_layout(_layout(xaxis=AXES[unit], yaxis=ACCURACY))


def gap_bars(summary: Summary) -> go.Figure:
    """Average performance gap recovered with its 95 % interval, a bar per method that has a curve and a gap."""
    rows = [(name, m) for name, m in summary["methods"].items() if m["gap_recovered"] is not None]
    names = [label(name) for name, _ in rows]
    values = [method["gap_recovered"] or 0 for _, method in rows]
    low = [value - _value(method["gap_recovered_low"], value) for value, (_, method) in zip(values, rows, strict=True)]
    high = [
        _value(method["gap_recovered_high"], value) - value for value, (_, method) in zip(values, rows, strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker={"color": [_look(summary, name).colour for name, _ in rows]},
            error_x={"type": "data", "array": high, "arrayminus": low, "color": "#333333", "thickness": 1.5},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    axis = {"title": "average performance gap recovered", "tickformat": ".0%", "zeroline": True}
    return figure.update_layout(_layout(xaxis=axis, yaxis={"autorange": "reversed", "showgrid": False}))


def overview(summary: Summary) -> go.Figure:
    """Accuracy over LLM share and over bytes side by side: the PNG."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, x in enumerate(("llm_share", "bytes"), 1):
        for trace in _traces(summary, x):
            if trace.visible != "legendonly":
                figure.add_trace(trace.update(showlegend=bool(trace.showlegend) and column == 1), row=1, col=column)
    title = f"{summary['pair']}: {summary['task']}, {summary['questions']} questions"
    figure.update_layout(_layout(xaxis=AXES["llm_share"], xaxis2=AXES["bytes"], yaxis=ACCURACY))
    return figure.update_layout(title={"text": title, "font": {"size": 16}}, margin={"t": 50})


def write_charts(summary: Summary, folder: Path, report: Callable[[str], None] = print) -> list[Path]:
    """Writes `<preset>--<task>.html` with all charts, Plotly's script beside it, and `<preset>--<task>.png`.

    Args:
        summary: What to draw.
        folder: Where; created.
        report: Told how to get a PNG where none could be made; the page is written all the same.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{summary['preset']}--{summary['task']}"
    page, script = folder / f"{name}.html", folder / SCRIPT
    script.write_text(get_plotlyjs(), encoding="utf-8")
    page.write_text(_page(summary), encoding="utf-8")
    try:
        overview(summary).write_image(folder / f"{name}.png", width=1200, height=480, scale=2)
    except RuntimeError as error:  # what plotly and kaleido raise without an exporter or a browser
        report(PNG_HINT.format(reason=(str(error).strip() or type(error).__name__).splitlines()[0]))
        return [page, script]
    return [page, script, folder / f"{name}.png"]


def _traces(summary: Summary, x: str) -> list[Any]:
    """Bands, then lines in the methods' order, so that the main one lies on top, then the single points."""
    methods = {name: method["points"] for name, method in summary["methods"].items()}
    if x == "llm_share":
        methods = {name: sorted(points, key=lambda point: point[x]) for name, points in methods.items()}
        methods.pop("assisted", None)  # its text is all the LLM's: it differs in cost only
    main = summary["comparisons"]["method"]
    # Over cost a curve may turn back, and a band would cross itself: there only the main method has its intervals.
    banded = [name for name in methods if x == "llm_share" and name in (*WITH_INTERVALS, main)]
    return [
        *(_band(summary, name, methods[name]) for name in banded),
        *(_line(summary, name, points, x) for name, points in methods.items() if name not in MARKS),
        *(_mark(summary, name, points, x) for name, points in methods.items() if name in MARKS),
    ]


def _band(summary: Summary, name: str, points: list[PointSummary]) -> Any:
    """The 95 % interval around a line over LLM share; hidden and shown with it."""
    share = [point["llm_share"] for point in points]
    low, high = [point["accuracy_low"] for point in points], [point["accuracy_high"] for point in points]
    return go.Scatter(
        x=share + share[::-1],
        y=high + low[::-1],
        legendgroup=name,
        showlegend=False,
        fill="toself",
        fillcolor=_look(summary, name).colour,
        opacity=0.13,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )


def _line(summary: Summary, name: str, points: list[PointSummary], x: str) -> Any:
    look, main = _look(summary, name), name == summary["comparisons"]["method"]
    return go.Scatter(
        **_data(points, x),
        name=label(name),
        legendgroup=name,
        showlegend=True,
        visible="legendonly" if name in FOLDED else True,
        mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 3 if main else 1.75},
        marker={"color": look.colour, "symbol": look.symbol, "size": 8 if main else 7},
        error_y=_error_bars(points, look.colour) if main and x != "llm_share" else None,
    )


def _mark(summary: Summary, name: str, points: list[PointSummary], x: str) -> Any:
    look = _look(summary, name)
    return go.Scatter(
        **_data(points, x),
        name=label(name),
        showlegend=False,
        mode="markers+text",
        text=[label(name)] * len(points),
        textposition=MARKS[name],
        cliponaxis=False,
        marker={"color": look.colour, "symbol": look.symbol, "size": 11, "line": {"color": "#000000", "width": 1}},
    )


def _data(points: list[PointSummary], x: str) -> dict[str, Any]:
    about = ("threshold", "accuracy_low", "accuracy_high", "llm_share", "bytes", "seconds")
    return {
        "x": [point[x] for point in points],
        "y": [point["accuracy"] for point in points],
        "customdata": [[point[field] for field in about] for point in points],
        "hovertemplate": HOVER,
    }


def _error_bars(points: list[PointSummary], colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [point["accuracy_high"] - point["accuracy"] for point in points],
        "arrayminus": [point["accuracy"] - point["accuracy_low"] for point in points],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }


def _look(summary: Summary, name: str) -> Look:
    if name == summary["comparisons"]["method"]:
        return MAIN
    if name in LOOKS:
        return LOOKS[name]
    looks, rest = (EARLIER if is_citer(name) else UNKNOWN), [each for each in summary["methods"] if each not in LOOKS]
    return looks[[each for each in rest if is_citer(each) == is_citer(name)].index(name) % len(looks)]


def _layout(**axes: dict[str, Any]) -> dict[str, Any]:
    line = {"showline": True, "linecolor": "#333333", "gridcolor": "#E5E5E5", "zeroline": False, "ticks": "outside"}
    return {
        "template": "plotly_white",
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 14, "color": "#111111"},
        "legend": {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top"},
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "hoverlabel": {"namelength": -1},
        **{name: {**line, **axis} for name, axis in axes.items()},
    }


def _value(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _page(summary: Summary) -> str:
    """All charts in one page. Ids are fixed, so that the same summary is the same file."""
    title = html.escape(f"{summary['pair']}: {summary['task']}")
    charts = {
        "Accuracy over LLM share": accuracy_by_share(summary),
        "Accuracy over bytes moved": accuracy_by_cost(summary),
        "Average performance gap recovered": gap_bars(summary),
    }
    parts = [
        f"<h2>{name}</h2>\n"
        + to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"chart-{number}",
            default_height="480px",
            config={"responsive": True, "displaylogo": False},
        )
        for number, (name, figure) in enumerate(charts.items())
    ]
    about = html.escape(f"{summary['questions']} questions · {summary['hardware']} · revision {summary['revision']}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 16px Helvetica, Arial, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }}</style>
<script src="{SCRIPT}"></script>
</head>
<body>
<h1>{title}</h1>
<p>{about}. Bands and bars are 95 % intervals over questions; those of the other methods stand in the labels
of their points. Seconds are modelled from measured passes. A click in the legend hides or shows a method.</p>
{chr(10).join(parts)}
</body>
</html>
"""
