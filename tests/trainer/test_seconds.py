"""Seconds of answers: measured one text at a time, methods taking turns, taken up again, and told beside the model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trainer import TrainerError
from trainer.evaluation import seconds
from trainer.evaluation.record import MACHINES
from trainer.evaluation.summary import load_summary
from trainer.json_files import read_lines
from trainer.questions.sources import load_questions
from trainer.report.report import RESULTS, render
from trainer.report.seconds_report import seconds_section, seconds_table
from trainer.shards import JOINT
from trainer.ship import timed_settings

QUESTIONS = load_questions(["arithmetic"], 3, "dev")
POINTS = ("slm", "confidence:0.6", "confidence@1/4:0.6")


def measured(pair, folder, questions=QUESTIONS, points=POINTS):
    methods = seconds.points_of(points, pair)
    return seconds.measure(pair, questions, methods, folder, "arithmetic", 40, lambda _: None)


def answers_in(folder):
    return [read_lines([path], seconds.TimedAnswer) for path in sorted(folder.glob("*.jsonl"))]


@pytest.fixture(scope="module")
def folder(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seconds")
    measured(tiny_pair, folder)
    return folder


@pytest.fixture(scope="module")
def summary(folder):
    return seconds.summarised(folder)


def test_every_point_answers_every_question_and_the_llm_alone_is_always_among_them(folder, summary):
    assert [len(answers) for answers in answers_in(folder)] == [4] * 3
    assert [(p["method"], p["acceptance"], p["max_draft"], p["threshold"]) for p in summary["points"]] == [
        ("llm", 0, "auto", 0),
        ("slm", 0, "auto", 0),
        ("confidence", 0, "auto", 0.6),
        ("confidence", 1, 4, 0.6),
    ]


def test_what_was_measured_says_by_which_copy_of_the_weights(folder):
    assert json.loads((folder / "seconds.json").read_text())["weights_copy"] == "none"


def test_the_order_of_turns_differs_from_question_to_question(folder):
    assert len({answers[0].answer.method for answers in answers_in(folder)}) > 1


def test_a_speedup_is_the_llms_seconds_over_a_points_own_and_that_of_the_llm_is_one(folder, summary):
    answers = [each for answers in answers_in(folder) for each in answers]
    llm, slm = (sum(each.measured for each in answers if each.answer.method == m) for m in ("llm", "slm"))
    assert summary["points"][0]["speedup"]["value"] == 1
    assert summary["points"][1]["speedup"]["value"] == pytest.approx(llm / slm, rel=1e-3)
    assert summary["points"][1]["bytes_ratio"]["value"] < 1


def test_a_point_has_its_seconds_question_by_question_in_the_order_of_the_llms(folder, summary):
    for point, (method, acceptance) in zip(summary["points"][:2], [("llm", 0.0), ("slm", 0.0)], strict=True):
        own = [each for answers in answers_in(folder) for each in answers]
        own = [each.measured for each in own if (each.answer.method, each.answer.acceptance) == (method, acceptance)]
        assert point["by_question"] == own
    ratio: Any = seconds.seconds_ratio(summary["points"][0], summary["points"][1])
    assert ratio["value"] == pytest.approx(summary["points"][1]["speedup"]["value"], rel=1e-3)
    assert ratio["low"] <= ratio["value"] <= ratio["high"]


def test_what_was_measured_before_each_answers_seconds_were_kept_is_read_and_has_no_interval(summary, tmp_path):
    points = [{name: value for name, value in each.items() if name != "by_question"} for each in summary["points"]]
    before: Any = {**summary, "points": points}
    seconds.write_seconds(before, tmp_path)
    read: Any = seconds.load_seconds(before["preset"], before["task"], tmp_path)
    ratio = seconds.seconds_ratio(read["points"][0], read["points"][1])
    assert ratio["value"] == pytest.approx(summary["points"][1]["speedup"]["value"], rel=1e-3)
    assert ratio["low"] is None and ratio["high"] is None


def test_at_acceptance_1_the_answers_are_the_llms_own(folder):
    for answers in answers_in(folder):
        texts = {(each.answer.method, each.answer.acceptance): each.answer.text for each in answers}
        assert texts["confidence", 1.0] == texts["llm", 0.0]


def test_a_question_that_was_measured_is_not_asked_again(tiny_pair, folder):
    kept, lost = sorted(folder.glob("*.jsonl"))[:2]
    before = kept.read_bytes()
    lost.unlink()
    measured(tiny_pair, folder)
    assert kept.read_bytes() == before and lost.exists()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (["confidence:half"], "'half' is no threshold"),
        (["slm", "slm"], "stands there twice"),
        (["guess:0.5"], "is no method"),
        (["confidence@2:0.5"], "acceptance 2"),
        (["slm:0.5"], "slm: it has no threshold; leave out :0.5"),
    ],
)
def test_a_point_that_means_nothing_is_refused_by_name(tiny_pair, points, said):
    with pytest.raises(TrainerError, match=said):
        seconds.points_of(points, tiny_pair)


def test_a_method_is_timed_at_each_threshold_behind_its_name(tiny_pair):
    methods = seconds.points_of(["confidence@1/4:0.6,0.8", "random"], tiny_pair)
    timed = [("llm", (0.0,)), ("confidence@1/4", (0.6,)), ("confidence@1/4", (0.8,)), ("random", (0.0,))]
    assert [(each.title, each.thresholds) for each in methods] == timed


def test_seconds_of_different_machines_do_not_stand_beside_each_other(summary):
    elsewhere: Any = {**summary, "hardware": JOINT.join(["a laptop", "a server"])}
    text = seconds_section(elsewhere)
    assert MACHINES in text and "on a laptop; a server" in text and "| " not in text
    assert MACHINES not in seconds_section(summary)


def test_a_router_ships_what_was_timed_of_its_own_settings_and_of_those_without_training(summary):
    router, alone, slm = (dict(summary["points"][n]) for n in (3, 2, 1))
    mine: Any = {**summary, "points": [summary["points"][0], slm, alone, {**router, "method": "mine"}]}
    timed = timed_settings([mine], "mine")
    assert [(each.policy, each.threshold, each.acceptance, each.max_draft) for each in timed] == [
        ("confidence", 0.6, 0.0, "auto"),
        ("router", 0.6, 1.0, 4),
    ]
    assert [each.times for each in timed] == [
        pytest.approx(each["seconds"] / summary["points"][0]["seconds"], rel=1e-3) for each in (alone, router)
    ]
    assert {(each.task, each.questions) for each in timed} == {("arithmetic", 3)}
    mine["hardware"] = JOINT.join(["a laptop", "a server"])
    assert timed_settings([mine], "mine") == []


def test_thresholds_that_lie_close_to_each_other_are_told_apart_in_the_table(summary):
    template = summary["points"][2]
    close: Any = {**summary, "points": [{**template, "threshold": each} for each in (0.9996, 0.9999)]}
    text = seconds_table(close)
    assert "| confidence < 0.9996 |" in text and "| confidence < 0.9999 |" in text


def test_the_report_has_a_table_of_them_where_they_were_measured(summary, tmp_path):
    evaluated = load_summary(RESULTS / "tiny--arithmetic.json")
    assert "Seconds, measured" not in render([evaluated], tmp_path, tmp_path)
    seconds.write_seconds(summary, tmp_path)
    text = render([evaluated], tmp_path, tmp_path)
    assert "Seconds, measured** on 3 of these questions" in text
    assert "| confidence@1/4 < 0.6 |" in text
