"""The two plots as Plotly figures in plain dicts: pure functions over events and costs.

Knows what is drawn and in which colours; not how it reaches the browser (`app.dashboard`) nor the theme's colours,
which the page's script fills in. Points are kept apart from the figure, so that a growing text sends only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Costs, Role, TokenEvent

SLM_COLOUR, LLM_COLOUR = "#56B4E9", "#E69F00"  # Okabe–Ito: told apart with any colour vision
HEIGHT = 200

Points = list[dict[str, list[Any]]]
"""Per trace of a figure, its new `x` and `y`."""

UNIT_AXES = {
    "bytes": {"title": {"text": "bytes moved"}, "tickformat": "~s", "ticksuffix": "B"},
    "flops": {"title": {"text": "FLOPs"}, "tickformat": "~s"},
    "seconds": {"title": {"text": "seconds"}, "tickformat": "~g", "ticksuffix": " s"},
    "price": {"title": {"text": "price"}, "tickformat": "~g"},
}


def score_figure() -> dict[str, Any]:
    """Score per token, one trace per author, and the threshold in force as steps."""
    marker = {"size": 6, "line": {"width": 0}}
    return {
        "data": [
            _trace("SLM", SLM_COLOUR, mode="markers", marker={**marker, "color": SLM_COLOUR, "symbol": "circle"}),
            _trace("LLM", LLM_COLOUR, mode="markers", marker={**marker, "color": LLM_COLOUR, "symbol": "diamond"}),
            _trace("threshold", None, mode="lines", line={"width": 1.5, "shape": "hv"}, hoverinfo="skip"),
        ],
        "layout": _layout(
            {"title": {"text": "routing score"}, "range": [-0.03, 1.05], "tickvals": [0, 0.25, 0.5, 0.75, 1]}
        ),
    }


def score_points(events: Sequence[TokenEvent], start: int = 0) -> Points:
    """Points of `score_figure` for the events from `start` on; unscored tokens have none."""
    points: Points = [{"x": [], "y": []} for _ in range(3)]
    for event in events[start:]:
        if event.score is None:
            continue
        for trace, value in ((0 if event.role is Role.SLM else 1, event.score), (2, event.threshold)):
            points[trace]["x"].append(event.index + 1)
            points[trace]["y"].append(round(value, 4))
    return points


def cost_figure(unit: str) -> dict[str, Any]:
    """Cumulative cost of the run between both extremes, in one of `engine.UNITS`."""
    return {
        "data": [
            _trace("LLM only", LLM_COLOUR, mode="lines", line={"width": 2, "dash": "dash", "color": LLM_COLOUR}),
            _trace("this run", None, mode="lines", line={"width": 2.5}),
            _trace("SLM only", SLM_COLOUR, mode="lines", line={"width": 2, "dash": "dot", "color": SLM_COLOUR}),
        ],
        "layout": _layout({**UNIT_AXES[unit], "rangemode": "tozero"}),
    }


def cost_points(series: Sequence[Costs], unit: str, start: int = 0) -> Points:
    """Points of `cost_figure` from the running costs of the tokens from `start` on."""
    tokens = list(range(start + 1, start + len(series) + 1))
    columns = ([getattr(getattr(costs, end), unit) for costs in series] for end in ("llm_only", "run", "slm_only"))
    return [{"x": tokens, "y": [_short(value) for value in column]} for column in columns]


def with_points(figure: dict[str, Any], points: Points) -> dict[str, Any]:
    """A figure that stands alone, for tests and exports."""
    return {**figure, "data": [{**trace, **new} for trace, new in zip(figure["data"], points, strict=True)]}


def _short(value: float) -> float:
    return float(f"{value:.5g}")  # more digits than a plot can show would only be sent


def _trace(name: str, colour: str | None, **more: Any) -> dict[str, Any]:
    # Without a colour the page's script gives the trace the theme's text colour.
    own = {} if colour else {"meta": "ink"}
    return {"type": "scatter", "name": name, "x": [], "y": [], **own, **more}


def _layout(yaxis: dict[str, Any]) -> dict[str, Any]:
    return {
        "height": HEIGHT,
        "margin": {"l": 64, "r": 8, "t": 10, "b": 38, "autoexpand": False},
        "uirevision": "keep",  # a zoom outlives the next update
        "showlegend": False,  # the page has its own, which wraps on a phone
        "xaxis": {"title": {"text": "token", "standoff": 4}, "rangemode": "tozero", "zeroline": False},
        "yaxis": {"zeroline": False, **yaxis},
        "hovermode": "closest",
        "dragmode": "zoom",
    }
