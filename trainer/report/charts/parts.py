"""What charts of results are made of: the looks of methods, axes, and lines, bands and points for Plotly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from trainer.evaluation.estimates import PointSummary
from trainer.evaluation.method_names import OTHERS, is_citer, label
from trainer.evaluation.summary import Summary


class Look(NamedTuple):
    """How a method is drawn: a colour of Okabe and Ito (2008), and a dash and a symbol for those who see none."""

    colour: str
    dash: str
    symbol: str


# One colour per family, dashes within it. SLM and LLM are as on the page.
LOOKS = {
    "slm": Look("#56B4E9", "solid", "circle"),
    "llm": Look("#E69F00", "solid", "circle"),
    "oracle": Look("#000000", "solid", "star"),
    "assisted": Look("#000000", "solid", "x"),
    "assisted-tuned": Look("#000000", "solid", "x-open"),
    "random": Look("#7F7F7F", "longdash", "hexagon-open"),
    "confidence": Look("#D55E00", "solid", "square"),
    "entropy": Look("#D55E00", "dot", "square-open"),
    "margin": Look("#D55E00", "dashdot", "square-x-open"),
    "query": Look("#CC79A7", "dash", "triangle-up"),
    "co-llm": Look("#009E73", "longdashdot", "diamond-wide"),
    "co-llm-data": Look("#009E73", "solid", "diamond"),
    "citer-shortcut": Look("#56B4E9", "dot", "triangle-down"),
    OTHERS: Look("#0072B2", "longdash", "hourglass"),
}
MAIN = Look("#0072B2", "solid", "circle")
EARLIER = [Look("#0072B2", "dash", "circle-open"), Look("#0072B2", "dot", "diamond-open")]
OF_OTHER_TASKS = [
    Look("#56B4E9", "solid", "diamond"),
    Look("#009E73", "solid", "triangle-up"),
    Look("#CC79A7", "solid", "triangle-down"),
    Look("#E69F00", "solid", "pentagon"),
    Look("#7F7F7F", "solid", "star"),
]
UNKNOWN = [Look("#000000", "dash", "cross"), Look("#009E73", "dot", "pentagon"), Look("#CC79A7", "dashdot", "hexagram")]

WITH_INTERVALS = ("random", "confidence")  # and the main method; more bands than these hide the curves
FOLDED = ("entropy", "margin")  # near twins of confidence: in the legend, drawn on a click
MARKS = {
    "slm": "bottom right",
    "llm": "top left",
    "oracle": "top center",
    "assisted": "bottom center",
    "assisted-tuned": "bottom right",
}

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


def band(summary: Summary, name: str, points: Sequence[PointSummary]) -> Any:
    """The 95 % interval around a line over LLM share; hidden and shown with it."""
    back = points[::-1]
    return go.Scatter(
        x=[point["llm_share"] for point in [*points, *back]],
        y=[*(point["accuracy_high"] for point in points), *(point["accuracy_low"] for point in back)],
        legendgroup=name,
        showlegend=False,
        fill="toself",
        fillcolor=look_of(summary, name).colour,
        opacity=0.13,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )


def line(summary: Summary, name: str, points: Sequence[PointSummary], x: str) -> Any:
    """A method's points in their order; the main method over a cost with its intervals."""
    own, main = look_of(summary, name), name == summary["comparisons"]["method"]
    return go.Scatter(
        **data_of(points, x),
        name=label(name),
        legendgroup=name,
        showlegend=True,
        visible="legendonly" if name in FOLDED else True,
        mode="lines+markers",
        line={"color": own.colour, "dash": own.dash, "width": 3 if main else 1.75},
        marker={"color": own.colour, "symbol": own.symbol, "size": 8 if main else 7},
        error_y=error_bars(points, own.colour) if main and x != "llm_share" else None,
    )


def mark(summary: Summary, name: str, points: Sequence[PointSummary], x: str) -> Any:
    """Points that stand by themselves, with the method's label."""
    own = look_of(summary, name)
    return go.Scatter(
        **data_of(points, x),
        name=label(name),
        showlegend=False,
        mode="markers+text",
        text=[label(name)] * len(points),
        textposition=MARKS[name],
        cliponaxis=False,
        marker={"color": own.colour, "symbol": own.symbol, "size": 11, "line": {"color": "#000000", "width": 1}},
    )


def data_of(points: Sequence[PointSummary], x: str) -> dict[str, Any]:
    """Where points stand over an x, and what they say under the mouse."""
    about = ("threshold", "accuracy_low", "accuracy_high", "llm_share", "bytes", "seconds")
    return {
        "x": [point[x] for point in points],
        "y": [point["accuracy"] for point in points],
        "customdata": [[point[field] for field in about] for point in points],
        "hovertemplate": HOVER,
    }


def look_of(summary: Summary, name: str) -> Look:
    """How a method is drawn; earlier rounds and unknown names take what is left."""
    if name == summary["comparisons"]["method"]:
        return MAIN
    if name in LOOKS:
        return LOOKS[name]
    looks = EARLIER if is_citer(name) else UNKNOWN
    alike = [each for each in summary["methods"] if each not in LOOKS and is_citer(each) == is_citer(name)]
    return looks[alike.index(name) % len(looks)]


def layout_of(**axes: dict[str, Any]) -> dict[str, Any]:
    """The layout of all charts, with these axes."""
    line = {"showline": True, "linecolor": "#333333", "gridcolor": "#E5E5E5", "zeroline": False, "ticks": "outside"}
    return {
        "template": "plotly_white",
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 14, "color": "#111111"},
        "legend": {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top"},
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "hoverlabel": {"namelength": -1},
        **{name: {**line, **axis} for name, axis in axes.items()},
    }


def error_bars(points: Sequence[PointSummary], colour: str) -> dict[str, Any]:
    """The 95 % intervals of points' accuracy, as Plotly draws them."""
    return bars([(point["accuracy"], point["accuracy_low"], point["accuracy_high"]) for point in points], colour)


def bars(intervals: Sequence[tuple[float, float, float]], colour: str) -> dict[str, Any]:
    """Intervals, each as (value, low, high), as Plotly draws them."""
    return {
        "type": "data",
        "array": [high - value for value, _, high in intervals],
        "arrayminus": [value - low for value, low, _ in intervals],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }
