"""The dashboard: meter and two plots of the text on the page, drawn by `assets/page/dashboard/dashboard.js`.

A change of unit or prices gives a new view of the same events: everything is folded again, nothing is run again. The
plots are Plotly figures in plain dicts; their points travel apart, so that a growing text sends only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

from app.components import Panel, to_json
from app.figures import meter, significant, times_llm
from app.running.run import Run, SharedPrefix, Written
from app.running.session import View
from engine import Costs, Role, Tally, TokenEvent

# The library's own copy, so that no request leaves the machine and the figures are those of the installed version.
PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PLOTLY_URL = f"gradio_api/file={PLOTLY_JS.as_posix()}"  # once `dashboard` lets gradio serve it

SLM_COLOUR, LLM_COLOUR = "#56B4E9", "#E69F00"  # Okabe–Ito: told apart with any colour vision
HEIGHT = 200
UNIT_AXES = {
    "bytes": {"title": {"text": "bytes moved"}, "tickformat": "~s", "ticksuffix": "B"},
    "flops": {"title": {"text": "FLOPs"}, "tickformat": "~s"},
    "seconds": {"title": {"text": "seconds"}, "tickformat": "~g", "ticksuffix": " s"},
    "price": {"title": {"text": "price"}, "tickformat": "~g"},
}

Points = list[dict[str, list[Any]]]
"""Per trace of a figure, its new `x` and `y`."""


def dashboard() -> Panel:
    """The component; its messages are those of `app.stream.updates.FigureUpdates`."""
    gr.set_static_paths([PLOTLY_JS])
    return Panel(
        "dashboard/dashboard",
        "dashboard",
        figures=[score_figure(), cost_figure("bytes")],  # empty axes from the start
        plotly=PLOTLY_URL,
    )


def dashboard_message(
    run: Run,
    view: View,
    start: int = 0,
    shared: SharedPrefix | None = None,
    tally: Tally | None = None,
    written: Written | None = None,
) -> str | None:
    """Meter and points of a run in a view, as JSON; None while the run has no token.

    Args:
        start: How many tokens' points the browser already has in this view; 0 sends the figures too.
        shared: Which points of another run the browser may keep, instead of `start`.
        tally: Has folded the events up to `start`, or none; folds the others.
        written: The text, where `start` follows from it; None takes it as it is now.
    """
    done = run.finished.is_set()  # before the events: a run that is done by now has all of them
    text, cuts = written or run.written
    events = list(text)
    if not events:
        return None
    if shared and shared.count:
        start = shared.count
    tally = tally or new_tally(run, view)
    first = tally.count
    series = tally.add(events[first:])[start - first :]
    message = {
        "run": run.id,
        "n": run.number,
        "view": view.number,
        "cuts": len(cuts),
        "from": start,
        "kept": [shared.number, start] if shared and start else None,
        "threshold": run.request.setting.threshold,
        "count": len(events) - start,
        "over": done,
        "unit": view.unit,
        "cost": None if run.fixed else _cost_at(run.request.setting.policy, events, times_llm(tally.total, view.unit)),
        "meter": meter(events, tally.total, view.unit, not run.pair.llm.local),
        "points": [score_points(events, start), cost_points(series, view.unit, start)],
        "figures": [score_figure(), cost_figure(view.unit)] if start == 0 else None,
    }
    return to_json(message)


def _cost_at(policy: str, events: Sequence[TokenEvent], times: float | None) -> dict[str, str | float | None] | None:
    """What the text says of its policy at these dials; None where they were turned while it was written."""
    settings = {(event.threshold, event.acceptance) for event in events}
    if len(settings) > 1:
        return None
    ((threshold, acceptance),) = settings
    return {"policy": policy, "threshold": threshold, "acceptance": acceptance, "times": times}


def new_tally(run: Run, view: View) -> Tally:
    """What folds a run's events in a view."""
    return Tally(run.prompt_tokens, run.pair.slm_cost, run.pair.llm_cost, view.prices)


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
    return [{"x": tokens, "y": [significant(value) for value in column]} for column in columns]


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
