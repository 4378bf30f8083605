"""The meter and the two plots in the browser: the component, and what is sent to it.

A change of unit or prices gives a new view of the same events: everything is folded again, nothing is run again. The
script that draws is `assets/page/dashboard.js`.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import plotly

from app.components import Panel, to_json
from app.meter import meter
from app.plots import cost_figure, cost_points, score_figure, score_points
from app.runs import Kept, Run
from app.sessions import View
from engine import Tally

# The library's own copy, so that no request leaves the machine and the figures are those of the installed version.
PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def dashboard() -> Panel:
    """The component; its messages are those of `app.live.FigureNews`."""
    gr.set_static_paths([PLOTLY_JS])
    return Panel(
        "dashboard",
        "dashboard",
        parts=("plotly",),
        figures=[score_figure(), cost_figure("bytes")],  # empty axes from the start; drawing them also warms plotly up
        plotly=f"gradio_api/file={PLOTLY_JS.as_posix()}",
    )


def dashboard_message(
    run: Run, view: View, start: int = 0, kept: Kept | None = None, tally: Tally | None = None
) -> str | None:
    """Meter and points of a run in a view, as JSON; None while the run has no token.

    Args:
        run: Whose events are folded.
        view: Unit and prices.
        start: How many tokens' points the browser already has in this view; 0 sends the figures too.
        kept: Of which run's points the browser may keep the first, instead of `start`.
        tally: Has folded the events up to `start`, or none; folds the others.
    """
    done = run.finished.is_set()  # before the events: a run that is done by now has all of them
    events = list(run.events)
    if not events:
        return None
    if kept and kept.count:
        start = kept.count
    if done and view.unit == "seconds":
        # The extremes follow this run's own median pass, so at the end the whole curves are settled anew.
        start, tally = 0, None
    tally = tally or new_tally(run, view)
    first = tally.count
    series = tally.add(events[first:])[start - first :]
    message = {
        "run": run.id,
        "n": run.number,
        "view": view.number,
        "from": start,
        "kept": [kept.number, start] if kept and start else None,
        "threshold": run.request.threshold,
        "count": len(events) - start,
        "over": done,
        "meter": meter(events, tally.total, view.unit),
        "points": [score_points(events, start), cost_points(series, view.unit, start)],
        "figures": [score_figure(), cost_figure(view.unit)] if start == 0 else None,
    }
    return to_json(message)


def new_tally(run: Run, view: View) -> Tally:
    """What folds a run's events in a view."""
    return Tally(run.prompt_tokens, run.pair.slm_cost, run.pair.llm_cost, view.prices)
