"""The charts beside the answers to the paper's reviewers: bars with the figures of the tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainer.test_plane import ABOVE_0, write_plane
from tests.trainer.test_reviewers import AWAY, MORE, benchmarks, changed
from tests.trainer.test_tasks import timed
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.summary import summarise
from trainer.report.charts import answers

close = pytest.approx


@pytest.fixture(scope="module")
def summary(tmp_path_factory) -> Any:
    written = write_plane(tmp_path_factory.mktemp("plane"), ABOVE_0 | MORE | AWAY)
    return summarise(read_evaluation(written), 200, main="citer-joint")


def values(several) -> dict[str, list[float | None]]:
    return {each.name: [value and value[0] for value in each.values] for each in several}


def test_bytes_and_flops_are_of_the_learned_point_and_seconds_of_the_fastest_that_was_timed(summary):
    seconds = timed(("citer-r2", 0.3, "auto", 0.5, 1.25), ("slm", 1.0, 4, 0.5, 0.8))
    drawn = values(answers.units([summary], [seconds]))
    assert drawn == {"bytes": [close(0.36)], "FLOPs": [close(0.36)], "seconds, measured": [close(0.8)]}
    assert answers.units([summary], [seconds])[2].values == [close((0.8, 0.4, 1.6))], "as fast by 0.625 to 2.5 times"
    assert "seconds, measured" not in values(answers.units([summary], []))


def test_speculative_decoding_stands_beside_the_learned_point_where_it_was_tuned(summary):
    drawn = {"learned router": [close(0.36)], "speculative decoding, tuned": [close(0.48)]}
    assert values(answers.speculative([summary])) == drawn
    families = {n: f for n, f in summary["plane"]["families"].items() if n != "assisted-tuned"}
    assert answers.speculative([changed(summary, plane={**summary["plane"], "families": families})]) == []


def test_rounds_come_in_their_order_with_no_bar_where_a_task_has_none(summary):
    fewer = changed(summary, methods={n: m for n, m in summary["methods"].items() if n != "citer-r2"})
    drawn = {each.name: each.values for each in answers.rounds([summary, fewer])}
    assert list(drawn) == ["CITER without rollouts", "CITER round 1", "CITER round 2"]
    own = summary["methods"]["citer-r2"]
    bounds = (own["gap_recovered"], own["gap_recovered_low"], own["gap_recovered_high"])
    assert drawn["CITER round 2"] == [bounds, None] and bounds[1] < bounds[0] < bounds[2]


def test_the_router_for_all_stands_between_the_tasks_own_and_confidence(summary):
    found = [summary["methods"][name]["gap_recovered"] for name in ("citer-r2", "citer-joint", "confidence")]
    drawn = values(answers.jointly([summary]))
    assert list(drawn) == ["the task’s own", "one for all", "SLM confidence"]
    assert [gap for (gap,) in drawn.values()] == found


def test_routers_of_another_task_are_drawn_where_they_were_measured_beside_confidence(summary, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "write_images", lambda images, report: images)
    without = changed(summary, methods={n: m for n, m in summary["methods"].items() if n != "citer-of-sums"})
    images: Any = answers.write_answers("tiny", [summary, without], [], tmp_path)
    figure = images[tmp_path / "tiny-answer-away.png"][0]
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert [title.text for title in figure.layout.annotations] == ["sums, 100 questions"], "only where it was measured"
    assert list(drawn) == ["SLM confidence", "CITER on several tasks", "SLM only", "LLM only", "CITER of sums"]
    assert drawn["CITER of sums"] == [0.4, 0.56]
    assert tmp_path / "tiny-answer-away.png" not in answers.write_answers("tiny", [without], [], tmp_path)

    methods = {**summary["methods"], "citer-others": summary["methods"]["citer-of-sums"]}
    images = answers.write_answers("tiny", [changed(summary, methods=methods)], [], tmp_path)
    looks = {trace.name: trace.marker.symbol for trace in images[tmp_path / "tiny-answer-away.png"][0].data}
    assert looks["CITER on the other tasks"] != looks["CITER of sums"], "a colour-blind reader tells them apart"


def test_a_steps_parts_are_drawn_in_milliseconds_the_dearest_of_the_slms_first(summary, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "write_images", lambda images, report: images)
    steps = {"SLM": {"router": 0.2, "linear layers": 8.0}, "LLM": {"router": 0.0, "linear layers": 25.0}}
    profile = {"steps": {name: {"unprofiled": 20.0, "parts": parts} for name, parts in steps.items()}}
    folder = benchmarks(tmp_path, profile=profile)
    images: Any = answers.write_answers("tiny", [summary], [], tmp_path, benchmarks=folder)
    figure = images[tmp_path / "tiny-answer-overhead.png"][0]
    assert {bar.name: dict(zip(bar.x, bar.y, strict=True)) for bar in figure.data} == {
        "a step of the SLM": {"linear layers": 8.0, "router": 0.2},
        "a step of the LLM": {"linear layers": 25.0, "router": 0.0},
    }
    assert figure.data[0].x[0] == "linear layers" and not figure.layout.shapes, "no line where nothing is a share"


def test_an_interval_is_drawn_only_where_there_is_one():
    sure, unsure = answers.Bars("bytes", [(0.5, 0.5, 0.5)]), answers.Bars("gap", [(0.5, 0.4, 0.7), None])
    figure: Any = answers.grouped(["sums", "products"], [sure, unsure], "share")
    first, second = figure.data
    assert first.error_y.array is None
    assert (second.error_y.array[0], second.error_y.arrayminus[0]) == (close(0.2), close(0.1)) and second.y[1] is None


def test_each_question_with_bars_gets_a_picture(summary, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "write_images", lambda images, report: list(images))
    written = answers.write_answers("tiny", [summary], [], tmp_path)
    names = ["units", "speculative", "rounds", "jointly", "away"]
    assert written == [tmp_path / f"tiny-answer-{name}.png" for name in names]
