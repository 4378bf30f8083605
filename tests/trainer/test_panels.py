"""One figure of all tasks of a pair: each panel says what its summary says, as a share of the LLM's own cost."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import pytest

from trainer.evaluation.method_names import label
from trainer.evaluation.seconds import load_seconds
from trainer.evaluation.summary import load_summary
from trainer.report.charts.panels import FRONT, bytes_panels, seconds_panels, write_panels
from trainer.report.report import RESULTS, render

TASKS = ("csqa", "gsm8k")
SUMMARIES = [load_summary(RESULTS / f"cpu--{task}.json") for task in TASKS]
TIMED = [timed for task in TASKS if (timed := load_seconds("cpu", task, RESULTS))]
assert len(TIMED) == len(TASKS)


def traces(figure: Any, number: int) -> dict[str, Any]:
    axis = "x" if number == 0 else f"x{number + 1}"
    return {trace.name: trace for trace in figure.data if (trace.xaxis or "x") == axis}


@pytest.mark.parametrize("number", [0, 1])
def test_a_panel_has_its_tasks_points_over_the_llms_bytes(number):
    summary, panel = SUMMARIES[number], traces(bytes_panels(SUMMARIES), number)
    whole = summary["methods"]["llm"]["points"][0]["bytes"]
    assert (*panel[label("llm")].x, *panel[label("llm")].y) == (1, summary["methods"]["llm"]["points"][0]["accuracy"])
    main = summary["comparisons"]["method"]
    points = summary["methods"][main]["points"]
    assert list(panel[label(main)].x) == [point["bytes"] / whole for point in points]
    assert list(panel[label(main)].error_y.array) == [p["accuracy_high"] - p["accuracy"] for p in points]
    assert list(panel[FRONT].y) == [point["accuracy"] for point in summary["plane"]["front"]]


def test_each_name_is_in_the_legend_once_and_each_panel_has_a_title():
    figure: Any = bytes_panels(SUMMARIES)
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert len(named) == len(set(named)) and set(named) == {trace.name for trace in figure.data}
    titles = [each.text for each in figure.layout.annotations]
    assert titles == [f"{s['task']}, {s['questions']} questions" for s in SUMMARIES]


def test_the_twin_has_measured_seconds():
    for number, (evaluated, summary) in enumerate(zip(SUMMARIES, TIMED, strict=True)):
        panel = traces(seconds_panels(SUMMARIES, TIMED), number)
        accuracy = evaluated["methods"]["llm"]["points"][0]["accuracy"]
        assert (*panel[label("llm")].x, *panel[label("llm")].y) == (1, accuracy), "of all questions, not of those timed"
        whole = next(point for point in summary["points"] if point["method"] == "llm")["seconds"]
        last = [point for point in summary["points"] if point["acceptance"] == 1][-1]
        drawn = panel[f"{label(last['method'])}, at the acceptance beside it"]
        assert (drawn.x[-1], drawn.y[-1]) == (pytest.approx(last["seconds"] / whole, rel=1e-3), accuracy)
        assert drawn.customdata[-1] == "1"
        low, high = last["speedup"]["low"], last["speedup"]["high"]
        assert low and drawn.x[-1] + drawn.error_x.array[-1] == pytest.approx(1 / low)
        assert high and drawn.x[-1] - drawn.error_x.arrayminus[-1] == pytest.approx(1 / high)
        assert drawn.marker.symbol != panel[label("llm")].marker.symbol, "what the LLM judged is told apart"
        front = list(zip(panel[FRONT].x, panel[FRONT].y, strict=True))
        for trace in panel.values():
            for right, share in zip(trace.y, trace.x, strict=True):
                assert any(x <= share + 1e-3 and y >= right for x, y in front), "none beats the front"


def test_a_timed_setting_that_was_not_evaluated_is_not_drawn():
    unknown: Any = {**TIMED[0]["points"][-1], "method": "citer-r9", "acceptance": 0.0}
    panel = traces(seconds_panels(SUMMARIES[:1], [{**TIMED[0], "points": [*TIMED[0]["points"], unknown]}]), 0)
    assert label("citer-r9") not in panel and label("llm") in panel


@pytest.mark.parametrize("count", [2, 4, 5, 6])
def test_three_panels_are_beside_each_other_and_the_legend_is_in_the_place_left(count):
    figure: Any = bytes_panels([SUMMARIES[0]] * count)
    columns = min(count, 3)
    tops = {round(figure.layout[f"yaxis{n + 1 if n else ''}"].domain[1], 6) for n in range(count)}
    assert len(tops) == -(-count // columns)
    assert figure.layout.width == 340 * columns + 40
    last = figure.layout[f"xaxis{count}"].domain[1]
    assert (figure.layout.legend.x > last) == bool(-count % columns)
    under = [n for n in range(count) if figure.layout[f"xaxis{n + 1 if n else ''}"].title.text]
    assert under == list(range(count - columns, count)), "the lowest panel of each column says what its axis is"


def test_they_are_written_as_pages_and_pictures_and_linked_from_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr(go.Figure, "write_image", lambda figure, path, **_: path.write_bytes(b"png"))
    enough: Any = [{**summary, "questions": 20} for summary in TIMED]
    made = write_panels("cpu", SUMMARIES, enough, tmp_path)
    assert sorted(path.name for path in made) == [
        "cpu-tasks-seconds.html",
        "cpu-tasks-seconds.png",
        "cpu-tasks.html",
        "cpu-tasks.png",
    ]
    assert "plotly.min.js" in (tmp_path / "cpu-tasks.html").read_text("utf-8")
    text = render(SUMMARIES, tmp_path, tmp_path)
    assert text.startswith("[![Accuracy over bytes, a panel per task](cpu-tasks.png)](cpu-tasks.html)")
    assert "panel per task" not in render(SUMMARIES[:1], tmp_path, tmp_path), "one task has no figure of several"


def test_seconds_of_different_machines_are_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(go.Figure, "write_image", lambda figure, path, **_: path.write_bytes(b"png"))
    several: Any = [{**summary, "questions": 20, "hardware": "a laptop; a server"} for summary in TIMED]
    assert {path.stem for path in write_panels("cpu", SUMMARIES, several, tmp_path)} == {"cpu-tasks"}


def test_without_an_exporter_the_pages_are_there_and_a_word(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("no browser")

    monkeypatch.setattr(go.Figure, "write_image", missing)
    told: list[str] = []
    few: Any = [{**each, "questions": 19} for each in TIMED]  # too few for a picture of seconds
    made = write_panels("cpu", SUMMARIES, few, tmp_path, told.append)
    assert [path.name for path in made] == ["cpu-tasks.html"] and "no PNG (no browser)" in told[0]
