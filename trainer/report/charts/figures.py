"""Charts of a summary: interactive HTML that works offline, and a PNG where there is an exporter.

Plotly's script lies once beside all pages of a folder (`plotly.min.js`), since it weighs 4.8 MB.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from engine.files import write_text
from engine.operating_points import Unit
from trainer.evaluation.method_names import FIXED, SPECULATIVE, from_other_tasks, label, method_order
from trainer.evaluation.plane import Plane, PlanePoint
from trainer.evaluation.summary import Summary
from trainer.report.charts.parts import (
    ACCURACY,
    AXES,
    MARKS,
    WITH_INTERVALS,
    band,
    data_of,
    layout_of,
    line,
    look_of,
    mark,
)
from trainer.report.plane_report import PLANE_IMAGE, setting

SCRIPT = "plotly.min.js"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "hexagon", "star")
PNG_HINT = "no PNG ({reason}): `pip install kaleido` and have Chrome or Chromium on PATH, or name it in BROWSER_PATH"


def accuracy_over(summary: Summary, x: Literal["llm_share"] | Unit) -> go.Figure:
    """Accuracy over LLM share or over the cost of an answer: a line per method, a point for what has no threshold."""
    return go.Figure(_traces(summary, x)).update_layout(layout_of(xaxis=AXES[x], yaxis=ACCURACY))


def gap_bars(summary: Summary) -> go.Figure:
    """Average performance gap recovered with its 95 % interval, a bar per method that has a curve and a gap."""
    names, values, low, high = [], [], [], []
    for name, method in summary["methods"].items():
        if (value := method["gap_recovered"]) is not None:
            names.append(name)
            values.append(value)
            low.append(0 if method["gap_recovered_low"] is None else value - method["gap_recovered_low"])
            high.append(0 if method["gap_recovered_high"] is None else method["gap_recovered_high"] - value)
    bars = go.Bar(
        x=values,
        y=[label(name) for name in names],
        orientation="h",
        marker={"color": [look_of(summary, name).colour for name in names]},
        error_x={"type": "data", "array": high, "arrayminus": low, "color": "#333333", "thickness": 1.5},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    axis = {"title": "average performance gap recovered", "tickformat": ".0%", "zeroline": True}
    return go.Figure(bars).update_layout(layout_of(xaxis=axis, yaxis={"autorange": "reversed", "showgrid": False}))


def overview(summary: Summary) -> go.Figure:
    """Accuracy over LLM share and over bytes side by side: the PNG."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, x in enumerate(("llm_share", "bytes"), 1):
        for trace in _traces(summary, x):
            if trace.visible != "legendonly":
                figure.add_trace(trace.update(showlegend=bool(trace.showlegend) and column == 1), row=1, col=column)
    title = f"{summary['pair']}: {summary['task']}, {summary['questions']} questions"
    figure.update_layout(layout_of(xaxis=AXES["llm_share"], xaxis2=AXES["bytes"], yaxis=ACCURACY))
    return figure.update_layout(title={"text": title, "font": {"size": 16}}, margin={"t": 50})


def plane_charts(summary: Summary) -> dict[str, go.Figure]:
    """Of each method that was measured at more than one acceptance `plane_over_bytes`, that of the main one first."""
    plane = summary.get("plane")
    if plane is None:
        return {}
    acceptances: dict[str, set[float]] = {}
    for point in chain.from_iterable(plane["curves"].values()):
        acceptances.setdefault(point["method"], set()).add(point["acceptance"])
    several = [name for name, each in acceptances.items() if len(each) > 1 and name not in FIXED]
    several.sort(key=lambda name: (name != summary["comparisons"]["method"], method_order(name)))
    return {name: plane_over_bytes(summary, plane, name) for name in several}


def plane_over_bytes(summary: Summary, plane: Plane, method: str) -> go.Figure:
    """Accuracy over bytes: a line per acceptance of a method, the front of the whole plane, and its rivals as points.

    The front is drawn in steps: between two of its points there is no setting.
    """
    methods = summary["methods"]
    own = [points for points in plane["curves"].values() if points[0]["method"] == method]
    # Tuned speculative decoding is the one to beat; untuned it stands for it where it was not tuned.
    rivals = [name for name in ("slm", "llm", *SPECULATIVE[::-1]) if name in methods][:3]
    traces = [
        _front(plane),
        *(_at_acceptance(points, number) for number, points in enumerate(own)),
        *(mark(summary, name, methods[name]["points"], "bytes") for name in rivals),
    ]
    return go.Figure(traces).update_layout(layout_of(xaxis=AXES["bytes"], yaxis=ACCURACY))


def write_charts(summary: Summary, folder: Path, report: Callable[[str], None] = print) -> list[Path]:
    """Writes `<preset>--<task>.html` with all charts, Plotly's script beside it, and `<preset>--<task>.png`.

    Of a summary with a plane its first chart becomes `<preset>--<task>-plane.png`. Returns what was written; where no
    PNG could be made, a line to `report` says how to get one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{summary['preset']}--{summary['task']}"
    page, script = folder / f"{name}.html", folder / SCRIPT
    write_text(script, get_plotlyjs())
    write_text(page, _page(summary))
    images = {folder / f"{name}.png": overview(summary)}
    for method, figure in list(plane_charts(summary).items())[:1]:
        title = {"text": f"{summary['pair']}: {summary['task']}, {label(method)}", "font": {"size": 16}}
        images[folder / f"{name}{PLANE_IMAGE}"] = figure.update_layout(title=title, margin={"t": 50})
    made = write_images({path: (figure, 1200, 480) for path, figure in images.items()}, report)
    return [page, script, *made]


def write_images(images: Mapping[Path, tuple[go.Figure, int, int]], report: Callable[[str], None]) -> list[Path]:
    """Writes figures as PNG, each with its width and height in pixels; none, and a word on it, without an exporter."""
    try:
        for path, (figure, width, height) in images.items():
            figure.write_image(path, width=width, height=height, scale=2)
    except RuntimeError as error:  # what plotly and kaleido raise without an exporter or a browser
        report(PNG_HINT.format(reason=(str(error).strip() or type(error).__name__).splitlines()[0]))
        return []
    return list(images)


def _traces(summary: Summary, x: str) -> list[Any]:
    """Bands, then lines in the methods' order, so that the main one lies on top, then the single points.

    A line follows LLM shares or, over cost, thresholds: cost need not grow with LLM share.
    """
    methods = {name: method["points"] for name, method in summary["methods"].items() if not from_other_tasks(name)}
    if x == "llm_share":
        methods = {name: sorted(points, key=lambda point: point[x]) for name, points in methods.items()}
        for name in SPECULATIVE:
            methods.pop(name, None)  # its text is all the LLM's: it differs in cost only
    main = summary["comparisons"]["method"]
    # Over cost a curve may turn back, and a band would cross itself: there only the main method has its intervals.
    banded = [name for name in methods if x == "llm_share" and name in (*WITH_INTERVALS, main)]
    return [
        *(band(summary, name, methods[name]) for name in banded),
        *(line(summary, name, points, x) for name, points in methods.items() if name not in MARKS),
        *(mark(summary, name, points, x) for name, points in methods.items() if name in MARKS),
    ]


def _at_acceptance(points: list[PlanePoint], number: int) -> Any:
    """A curve of the plane: the higher the acceptance, the darker, and by its place with a dash and a symbol."""
    first = points[0]
    colour = sample_colorscale("Viridis", [0.9 * (1 - first["acceptance"])])[0]
    draft = "" if first["max_draft"] == "auto" else f" / {first['max_draft']}"
    return go.Scatter(
        **data_of(points, "bytes"),
        name=f"acceptance {first['acceptance']:g}{draft}",
        mode="lines+markers",
        line={"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2},
        marker={"color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8},
    )


def _front(plane: Plane) -> Any:
    data = data_of(plane["front"], "bytes")
    return go.Scatter(
        **{**data, "hovertemplate": f"%{{text}}<br>{data['hovertemplate']}"},
        text=[setting(point, plane) for point in plane["front"]],
        name="front of the whole plane",
        mode="lines+markers",
        line={"color": "#7F7F7F", "width": 6, "shape": "hv"},
        marker={"color": "#7F7F7F", "symbol": "circle-open", "size": 15, "line": {"width": 2}},
        opacity=0.45,
    )


def _page(summary: Summary) -> str:
    """All charts in one page. Ids are fixed, so that the same summary is the same file."""
    title = html.escape(f"{summary['pair']}: {summary['task']}")
    charts = {
        "Accuracy over LLM share": accuracy_over(summary, "llm_share"),
        "Accuracy over bytes moved": accuracy_over(summary, "bytes"),
        "Average performance gap recovered": gap_bars(summary),
        **{
            f"{html.escape(label(name))} over the plane of threshold and acceptance": figure
            for name, figure in plane_charts(summary).items()
        },
    }
    settings: dict[str, Any] = {"full_html": False, "include_plotlyjs": False, "default_height": "480px"}
    settings["config"] = {"responsive": True, "displaylogo": False}
    parts = [
        f"<h2>{name}</h2>\n{to_html(figure, div_id=f'chart-{number}', **settings)}"
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
