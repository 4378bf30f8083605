"""Seconds as they pass, and agreement with the LLM's own text on prompts of another kind."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

from engine import Request, Setting, build_request
from engine.grading import agreement
from tests.support.fake_labels import quiet
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation import seconds, statistics, transfer
from trainer.evaluation.methods import build_methods
from trainer.json_files import read_lines
from trainer.questions.sources import load_questions
from trainer.ship import beside_confidence, free_text_curves

QUESTIONS = load_questions(["arithmetic"], 3, "dev")
TEXTS = ["Start with 12. Add 30. What is the result?", "A box has 3 red pens. How many pens?", "Ben has $20."]
NAMES = ["slm", "llm", "confidence", "confidence@0.5", "random"]


# --- seconds


def timed(pair, folder):
    methods = seconds.points_of(("slm", "confidence:0.6", "confidence@1/4:0.6"), pair)
    return seconds.measure(pair, QUESTIONS, methods, folder, "arithmetic", 40, quiet)


def answers_in(folder):
    return [read_lines([path], seconds.TimedAnswer) for path in sorted(folder.glob("*.jsonl"))]


@pytest.fixture(scope="module")
def folder(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seconds")
    timed(tiny_pair, folder)
    return folder


def test_every_point_answers_every_question_and_methods_take_turns(folder):
    answers, summary = answers_in(folder), seconds.summarised(folder)
    assert [len(each) for each in answers] == [4] * 3
    assert [(p["method"], p["acceptance"], p["max_draft"], p["threshold"]) for p in summary["points"]] == [
        ("llm", 0, "auto", 0),
        ("slm", 0, "auto", 0),
        ("confidence", 0, "auto", 0.6),
        ("confidence", 1, 4, 0.6),
    ]
    assert len({each[0].answer.method for each in answers}) > 1, "another one begins"
    for each in answers:
        texts = {(one.answer.method, one.answer.acceptance): one.answer.text for one in each}
        assert texts["confidence", 1.0] == texts["llm", 0.0]


def test_a_speedup_is_the_llms_seconds_over_a_points_own_paired_by_question(folder):
    summary: Any = seconds.summarised(folder)
    llm, slm = summary["points"][:2]
    own = [each for answers in answers_in(folder) for each in answers]
    for point in (llm, slm):
        assert point["by_question"] == [each.measured for each in own if each.answer.method == point["method"]]
    assert llm["speedup"]["value"] == 1 and slm["bytes_ratio"]["value"] < 1
    assert slm["speedup"]["value"] == pytest.approx(sum(llm["by_question"]) / sum(slm["by_question"]), rel=1e-3)
    ratio: Any = seconds.seconds_ratio(llm, slm)
    assert ratio["value"] == pytest.approx(slm["speedup"]["value"], rel=1e-3)
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    older = [{name: value for name, value in each.items() if name != "by_question"} for each in (llm, slm)]
    ratio = seconds.seconds_ratio(*older)  # type: ignore[arg-type]
    assert ratio["value"] == pytest.approx(slm["speedup"]["value"], rel=1e-3) and ratio["low"] is None


def test_a_question_that_was_timed_is_not_asked_again(tiny_pair, folder):
    kept, lost = sorted(folder.glob("*.jsonl"))[:2]
    before = kept.read_bytes()
    lost.unlink()
    timed(tiny_pair, folder)
    assert kept.read_bytes() == before and lost.exists()


def test_a_point_that_means_nothing_is_refused_by_name(tiny_pair):
    for points, named in ((["confidence:half"], "'half'"), (["slm", "slm"], "twice"), (["guess:0.5"], "guess")):
        with pytest.raises(TrainerError, match=named):
            seconds.points_of(points, tiny_pair)


# --- free text


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "texts.json"
    path.write_text(json.dumps(TEXTS))
    return transfer.read_prompts([path])


@pytest.fixture(scope="module")
def measured(tiny_pair, prompts, tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("transfer")
    methods = build_methods(NAMES, tiny_pair, None, chosen=dict.fromkeys(NAMES, (0.5, 0.9)))
    return folder, transfer.measure(tiny_pair, prompts, methods, folder, 40, quiet)


def test_agreement_is_that_of_each_text_with_the_llms_own(tiny_pair, prompts, measured):
    lines = read_lines(sorted(measured[0].glob("*.jsonl")), transfer.FreeText)
    assert len(lines) == len(TEXTS) * (1 + 1 + 2 + 2 + 2)
    by_setting = {(each.question, each.method, each.acceptance, each.threshold): each for each in lines}
    for prompt in prompts:
        llm = tiny_pair.generate(build_request(prompt.question, policy="llm", max_new_tokens=40))
        for acceptance in (0.0, 0.5):
            setting = Request(prompt.question, Setting("confidence", 0.9, acceptance), max_new_tokens=40)
            trace = tiny_pair.generate(setting)
            line = by_setting[prompt.id, "confidence", acceptance, 0.9]
            same = agreement([event.id for event in trace.events], [event.id for event in llm.events])
            assert line.text == trace.text and line.agreement == round(same, 5)
    (llm,), (slm,) = (measured[1]["methods"][name]["points"] for name in ("llm", "slm"))
    assert llm["agreement"]["value"] == llm["bytes_ratio"]["value"] == llm["llm_share"] == 1
    assert slm["llm_share"] == 0 and slm["bytes_ratio"]["value"] < 0.6


def test_methods_are_compared_with_confidence_at_acceptance_0_and_equal_bytes(measured):
    methods = measured[1]["methods"]
    assert methods["confidence"]["beside"] == {} == methods["llm"]["at_budget"]
    assert "beside_confidence" not in methods["confidence"]
    for name in ("random", "confidence@0.5"):
        for share in (f"{each:g}" for each in transfer.BUDGETS):
            ours, theirs = (methods[each]["at_budget"][share]["value"] for each in (name, "confidence"))
            assert methods[name]["beside"][share]["value"] == pytest.approx(ours - theirs, abs=1e-4)
    rule = [point for name in ("slm", "llm", "confidence") for point in methods[name]["points"]]
    cost, agreed = np.array([(each["bytes_ratio"]["value"], each["agreement"]["value"]) for each in rule]).T[:, :, None]
    points, beside = (methods["confidence@0.5"][name] for name in ("points", "beside_confidence"))
    for point, found in zip(points, beside, strict=True):
        (best,) = statistics.accuracy_at_cost(cost, agreed, np.array([point["bytes_ratio"]["value"]]))
        assert found["accuracy"]["value"] == pytest.approx(point["agreement"]["value"] - best, abs=2e-4)


def test_another_stage_joins_with_thresholds_of_its_own_and_of_the_same_kind(tiny_pair, prompts, tmp_path, measured):
    shutil.copytree(measured[0], tmp_path / "out")
    names = ["slm", "llm", "confidence"]
    methods = build_methods(names, tiny_pair, None, chosen=dict.fromkeys(names, (0.99,)))
    joined: Any = transfer.measure(tiny_pair, prompts, methods, tmp_path / "out", 40, quiet, stage="high")
    assert [point["threshold"] for point in joined["methods"]["confidence"]["points"]] == [0.5, 0.9, 0.99]
    assert joined["methods"]["confidence"]["points"][:2] == measured[1]["methods"]["confidence"]["points"]
    for tokens, stage, named in ((30, "short", "max_new_tokens is 30, but 40"), (40, "again", r"0\.99 already")):
        with pytest.raises(TrainerError, match=named):
            transfer.measure(tiny_pair, prompts, methods, tmp_path / "out", tokens, quiet, stage=stage)
        assert not [*(tmp_path / "out").glob(f"{stage}*")]
    about = json.loads((tmp_path / "out" / "high.json").read_text())
    (tmp_path / "out" / "high.json").write_text(json.dumps({**about, "weights_copy": "int8"}))
    with pytest.raises(TrainerError, match="weights_copy"):
        transfer.summarised(tmp_path / "out")
    with pytest.raises(TrainerError, match="slm and llm"):
        transfer.measure(tiny_pair, prompts, methods[1:], tmp_path / "no", 40, quiet)


def test_its_curves_are_shipped_with_seconds_only_where_all_ran_on_one_machine(measured):
    at_0, at_half = free_text_curves(measured[1], "confidence")
    assert (at_0.task, at_0.quality, at_0.questions, at_0.acceptance) == ("free-text", "same", len(TEXTS), 0)
    assert (at_half.acceptance, at_half.max_draft, at_half.llm.accuracy) == (0.5, "auto", 1)
    points = measured[1]["methods"]["confidence"]["points"]
    assert [(p.threshold, p.accuracy, p.bytes) for p in at_0.points] == [
        (each["threshold"], each["agreement"]["value"], each["cost"]["bytes"]) for each in points
    ]
    joined: Any = {**measured[1], "hardware": "one core; two cores"}
    assert {p.seconds for p in free_text_curves(joined, "confidence")[0].points} == {None}
    assert None not in {p.seconds for p in at_0.points}
    assert [each["threshold"] for each in beside_confidence([], "random", measured[1])["free-text"]] == [0.5, 0.9]


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '[""]', '["a", null]', "[", json.dumps(["x" * 30_000])])
def test_a_file_that_is_no_list_of_texts_is_refused_by_name(tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(TrainerError, match=r"bad\.json"):
        transfer.read_prompts([tmp_path / "bad.json"])


def test_the_command_measures_and_goes_on(tmp_path, capsys):
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS[:2]))
    asked = ["transfer", "--preset", "tiny", "--prompts", str(tmp_path / "texts.json"), "--methods", "confidence"]
    asked += ["--thresholds", "0.5", "--max-new-tokens", "10", "--out", str(tmp_path / "out")]
    asked += ["--results", str(tmp_path / "results")]
    assert main(asked) == 0 and transfer.load_transfer(tmp_path / "results" / "tiny.transfer.json")["prompts"] == 2
    assert main(asked) == 0 and "already" in capsys.readouterr().out
