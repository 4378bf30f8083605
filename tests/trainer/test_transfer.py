"""Agreement with the LLM's own text on prompts of another kind: from prompts to a section of the results."""

from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine import Request
from engine.grading import agreement
from engine.pair import ROUTERS
from engine.router import Router
from trainer import TrainerError
from trainer.__main__ import main
from trainer.commands.evaluating import PROMPTS
from trainer.evaluation import statistics, transfer
from trainer.evaluation.estimates import NOTES, EstimateSummary, in_points
from trainer.evaluation.methods import build_methods
from trainer.evaluation.summary import BesideConfidence, load_summary
from trainer.fit.card import given_at_start, render_card
from trainer.json_files import read_lines
from trainer.report import transfer_report
from trainer.report.report import RESULTS, render
from trainer.shards import JOINT
from trainer.ship import beside_confidence, curve_of, free_text_curves, ship, untrained_curves

TEXTS = ["Start with 12. Add 30. What is the result?", "A box has 3 red pens. How many pens?", "Ben has $20."]
NAMES = ["slm", "llm", "confidence", "confidence@0.5", "random"]


def quiet(_):
    pass


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "texts.json"
    path.write_text(json.dumps(TEXTS))
    return transfer.read_prompts([path])


@pytest.fixture(scope="module")
def measured(tiny_pair, prompts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    methods = build_methods(NAMES, tiny_pair, None, chosen=dict.fromkeys(NAMES, (0.5, 0.9)))
    return folder, transfer.measure(tiny_pair, prompts, methods, folder, 40, quiet)


def test_agreement_is_that_of_each_text_with_the_llms_own(tiny_pair, prompts, measured):
    lines = read_lines(sorted(measured[0].glob("*.jsonl")), transfer.FreeText)
    assert len(lines) == len(TEXTS) * (1 + 1 + 2 + 2 + 2)
    for prompt in prompts:
        llm = tiny_pair.generate(Request(prompt.question, policy="llm", max_new_tokens=40))
        for acceptance in (0.0, 0.5):
            setting = Request(prompt.question, 0.9, "confidence", acceptance=acceptance, max_new_tokens=40)
            trace = tiny_pair.generate(setting)
            (line,) = (
                each
                for each in lines
                if (each.question, each.method, each.acceptance, each.threshold)
                == (prompt.id, "confidence", acceptance, 0.9)
            )
            same = agreement([event.id for event in trace.events], [event.id for event in llm.events])
            assert line.text == trace.text and line.agreement == round(same, 5)


def test_what_was_measured_says_by_which_copy_of_the_weights(measured):
    assert json.loads((measured[0] / "transfer.json").read_text())["weights_copy"] == "none"


def test_the_llm_agrees_with_itself_for_all_of_its_bytes_and_the_slm_for_fewer(measured):
    methods = measured[1]["methods"]
    (llm,), (slm,) = methods["llm"]["points"], methods["slm"]["points"]
    assert llm["agreement"]["value"] == llm["bytes_ratio"]["value"] == llm["llm_share"] == 1
    assert slm["llm_share"] == 0 and slm["bytes_ratio"]["value"] < 0.6
    assert methods["llm"]["at_budget"] == {}


@pytest.mark.parametrize("name", ["random", "confidence@0.5"])
def test_methods_are_compared_with_confidence_at_acceptance_0_and_equal_bytes(measured, name):
    methods = measured[1]["methods"]
    assert methods["confidence"]["beside"] == {}
    budgets = {f"{share:g}" for share in transfer.BUDGETS}
    assert set(methods[name]["beside"]) == set(methods[name]["at_budget"]) == budgets
    for share in budgets:
        ours, theirs = (methods[each]["at_budget"][share]["value"] for each in (name, "confidence"))
        assert methods[name]["beside"][share]["value"] == pytest.approx(ours - theirs, abs=1e-4)


def test_each_point_stands_beside_what_confidence_has_for_as_many_bytes(measured):
    methods = measured[1]["methods"]
    assert "beside_confidence" not in methods["confidence"] and "beside_confidence" not in methods["llm"]
    rule = [(each["bytes_ratio"]["value"], each["agreement"]["value"]) for each in ends_and_points(methods)]
    cost, agreed = np.array(rule).T[:, :, None]
    points, beside = (methods["confidence@0.5"][name] for name in ("points", "beside_confidence"))
    for point, found in zip(points, beside, strict=True):
        assert (found["threshold"], found["acceptance"], found["max_draft"]) == (point["threshold"], 0.5, "auto")
        (best,) = statistics.accuracy_at_cost(cost, agreed, np.array([point["bytes_ratio"]["value"]]))
        assert found["accuracy"]["value"] == pytest.approx(point["agreement"]["value"] - best, abs=2e-4)


def ends_and_points(methods):
    """All that SLM confidence can be run at."""
    return [point for name in ("slm", "llm", "confidence") for point in methods[name]["points"]]


def test_the_card_says_how_free_text_stands_beside_confidence_where_the_router_starts(measured, tmp_path):
    beside = beside_confidence([], "random", measured[1])
    assert [each["threshold"] for each in beside[transfer.TASK]] == [0.5, 0.9]
    card = Router.load(ROUTERS / "tiny").card
    curves = free_text_curves(measured[1], "random")
    text = given_at_start(replace(card, threshold=0.9, acceptance=0.0), curves, beside)
    assert re.search(r"\| free-text \(agreement with the LLM alone\) \|.*points \([^|]*\)†? \|\n", text)
    assert beside_confidence([], "citer", measured[1]) == {}


def test_the_card_says_where_confidence_is_the_safer_rule():
    def point(*accuracy, threshold=0.5) -> BesideConfidence:
        value, low, high = accuracy
        estimate: EstimateSummary = {"value": value, "low": low, "high": high, "unreached": 0.0, "p_value": None}
        return {"acceptance": 0.3, "max_draft": "auto", "threshold": threshold, "accuracy": estimate}

    card = Router.load(ROUTERS / "tiny").card
    own = {"sums": [point(-0.1, -0.2, -0.01), point(-0.1, -0.2, 0.01, threshold=0.7), point(None, None, None)]}
    text = render_card(card, beside=own, others={"words": [point(0.05, -0.01, 0.1)], "maps": [point(None, None, None)]})
    assert "Of the 2 settings" in text and "at 1 worse" in text
    assert "sums at 0.5, acceptance 0.3 (−10.0 points (−20.0 to −1.0))" in text
    assert "at acceptance 0 for as many bytes: on words 5.0 points (−1.0 to 10.0). On maps they moved fewer" in text
    assert "safer rule" not in render_card(card), "nothing was measured of it"


def test_a_budget_that_many_resamples_do_not_reach_is_marked(measured):
    summary = copy.deepcopy(measured[1])
    for share, marked in ((0.0, False), (0.4, True)):
        summary["methods"]["random"]["at_budget"]["0.6"]["unreached"] = share
        (line,) = (line for line in transfer_report.budgets_table(summary).splitlines() if line.startswith("| random"))
        assert ("†;" in line) == marked
    assert NOTES["†"] in transfer_report.budgets_table(summary)


def test_drafts_of_the_slm_that_the_llm_judges_are_no_end_of_the_other_curves(tiny_pair, prompts, tmp_path, measured):
    names = [*NAMES, "slm@0.5"]
    methods = build_methods(names, tiny_pair, None, chosen=dict.fromkeys(names, (0.5, 0.9)))
    more = transfer.measure(tiny_pair, prompts, methods, tmp_path, 40, quiet)
    assert more is not None
    assert more["methods"]["confidence"] == measured[1]["methods"]["confidence"]


def test_stages_of_different_copies_of_the_weights_are_not_set_side_by_side(tmp_path, measured):
    shutil.copytree(measured[0], tmp_path / "out")
    about = json.loads((tmp_path / "out" / "transfer.json").read_text())
    (tmp_path / "out" / "a.json").write_text(json.dumps({**about, "weights_copy": "int8"}))
    for shard in (tmp_path / "out").glob("transfer-*"):
        shutil.copy(shard, shard.with_name(shard.name.replace("transfer", "a")))
    with pytest.raises(TrainerError, match="its weights_copy is"):
        transfer.summarised(tmp_path / "out")


def test_another_stage_joins_with_thresholds_of_its_own(tiny_pair, prompts, tmp_path, measured):
    shutil.copytree(measured[0], tmp_path / "out")
    names = ["slm", "llm", "confidence"]
    methods = build_methods(names, tiny_pair, None, chosen=dict.fromkeys(names, (0.99,)))
    joined = transfer.measure(tiny_pair, prompts, methods, tmp_path / "out", 40, quiet, stage="transfer-high")
    assert joined is not None and joined["methods"].keys() == measured[1]["methods"].keys()
    assert [point["threshold"] for point in joined["methods"]["confidence"]["points"]] == [0.5, 0.9, 0.99]
    assert joined["methods"]["confidence"]["points"][:2] == measured[1]["methods"]["confidence"]["points"]
    assert len(joined["methods"]["slm"]["points"]) == 1
    with pytest.raises(TrainerError, match=r"transfer-short\.json: its max_new_tokens is 30, but 40 in transfer"):
        transfer.measure(tiny_pair, prompts, methods, tmp_path / "out", 30, quiet, stage="transfer-short")
    with pytest.raises(TrainerError, match=r"transfer-high\.json has confidence at threshold 0\.99 already"):
        transfer.measure(tiny_pair, prompts, methods, tmp_path / "out", 40, quiet, stage="transfer-again")
    assert not [*(tmp_path / "out").glob("transfer-short*"), *(tmp_path / "out").glob("transfer-again*")]


def test_what_was_measured_stands_in_the_results(measured, tmp_path):
    path = transfer.write_transfer(measured[1], tmp_path)
    assert path.name == "tiny.transfer.json" and transfer.load_transfer(path) == measured[1]
    text = render([load_summary(RESULTS / "tiny--arithmetic.json")], tmp_path, tmp_path)
    assert (
        "prompts of another kind" in text and "| SLM confidence@0.5 < 0.9 |" in text and "| LLM only | 100.0 %" in text
    )


def test_thresholds_that_lie_close_to_each_other_are_told_apart_among_the_settings(measured):
    curve = measured[1]["methods"]["confidence"]
    points: Any = [{**point, "threshold": each} for point, each in zip(curve["points"], (0.9996, 0.9999), strict=True)]
    methods: Any = {"confidence": {**curve, "points": points}}
    close: Any = {**measured[1], "methods": methods}
    text = transfer_report.points_table(close)
    assert "| SLM confidence < 0.9996 |" in text and "| SLM confidence < 0.9999 |" in text


def test_a_setting_has_its_threshold_also_where_it_is_the_methods_only_one(measured):
    lists = ("points", "beside_confidence")
    methods = {
        title: {name: value[:1] if name in lists else value for name, value in curve.items()}
        for title, curve in measured[1]["methods"].items()
    }
    summary: Any = {**measured[1], "methods": methods}
    text = transfer_report.points_table(summary)
    assert "| SLM confidence@0.5 < 0.5 |" in text and "| random < 0.5 |" in text
    assert "| SLM only |" in text and "| LLM only |" in text, "they have none"


def test_each_setting_stands_beside_confidence_at_as_many_bytes(measured):
    summary = measured[1]
    rows = [line.strip("| ").split(" | ") for line in transfer_report.points_table(summary).splitlines()[2:]]
    told = {row[0]: row[4] for row in rows if len(row) == 5}
    point, *_ = summary["methods"]["random"]["beside_confidence"]
    assert in_points(point["accuracy"]) in told[f"random < {point['threshold']:g}"]
    assert not [setting for setting in told if setting.startswith(("SLM confidence <", "LLM only"))]


def test_a_router_ships_what_it_gave_on_free_text_before_its_tasks_which_say_where_to_start(measured, tmp_path):
    away = measured[1]
    at_0, at_half = free_text_curves(away, "confidence")
    assert (at_0.task, at_0.quality, at_0.questions, at_0.acceptance) == ("free-text", "same", len(TEXTS), 0)
    assert (at_half.acceptance, at_half.max_draft) == (0.5, "auto")
    for curve, title in ((at_0, "confidence"), (at_half, "confidence@0.5")):
        found = [(point.threshold, point.accuracy, point.llm_share, point.bytes) for point in curve.points]
        points = away["methods"][title]["points"]
        assert found == [
            (each["threshold"], each["agreement"]["value"], each["llm_share"], each["cost"]["bytes"]) for each in points
        ]
        assert curve.llm.accuracy == 1 and curve.llm.bytes > curve.slm.bytes
    assert free_text_curves(away, "citer-joint") == []
    task = load_summary(RESULTS / "tiny--arithmetic.json")
    curves = [*free_text_curves(away, "confidence"), curve_of(task, "citer-r2")]
    untrained = untrained_curves([task], away)
    shipped = ship(ROUTERS / "tiny", curves, tmp_path / "mine", untrained)
    points = Router.load(tmp_path / "mine").operating_points
    assert points is not None
    assert [curve.task for curve in points.curves] == ["free-text", "free-text", "arithmetic"]
    assert [curve.task for curve in points.of("confidence")] == ["free-text"] * 2 + ["arithmetic"] * 5
    assert shipped.card.threshold == ship(ROUTERS / "tiny", curves[2:], tmp_path / "other").card.threshold


def test_of_several_lengths_of_drafts_the_longest_is_the_curve_of_its_acceptance(measured):
    methods = measured[1]["methods"]
    both: Any = {**measured[1], "methods": {"confidence@0.5/4": methods["confidence"], **methods}}
    assert free_text_curves(both, "confidence") == free_text_curves(measured[1], "confidence")


def test_both_models_alone_are_needed(tiny_pair, prompts, tmp_path):
    methods = build_methods(["llm"], tiny_pair, None)
    with pytest.raises(TrainerError, match="put slm and llm among the methods"):
        transfer.measure(tiny_pair, prompts, methods, tmp_path / "out", 40, quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '[""]', '["a", null]', "[", json.dumps(["x" * 30_000])])
def test_a_file_that_is_no_list_of_texts_is_refused_by_name(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(TrainerError, match=r"bad\.json"):
        transfer.read_prompts([path])


def test_curves_of_stages_that_ran_on_different_machines_have_no_seconds(measured):
    for hardware, timed in (("one core", True), (f"one core{JOINT}two cores", False)):
        summary: Any = {**measured[1], "hardware": hardware}
        found = free_text_curves(summary, "confidence")
        points = [point for curve in found for point in (curve.slm, curve.llm, *curve.points)]
        assert points and all((point.seconds is not None) is timed for point in points)


def test_the_shipped_prompts_are_eighty_different_ones():
    prompts = transfer.read_prompts(PROMPTS)
    assert len({prompt.question for prompt in prompts}) == len(prompts) == 80


def test_the_command_measures_and_goes_on(tmp_path, capsys, monkeypatch):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(TEXTS[:2]))
    asked = ["transfer", "--preset", "tiny", "--prompts", str(path), "--methods", "confidence", "--thresholds", "0.5"]
    asked += ["--max-new-tokens", "20", "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    assert main(asked) == 0 and "beside confidence" in capsys.readouterr().out
    usual = [each for each in asked if each not in ("--thresholds", "0.5")]
    usual[usual.index(str(tmp_path / "out"))] = str(tmp_path / "usual")
    assert main(usual) == 0 and "(" in capsys.readouterr().out
    about = json.loads((tmp_path / "usual" / "transfer.json").read_text())
    assert [thresholds for _, thresholds, _ in about["methods"]] == [[0.0], [0.0], [0.7, 0.9, 0.98]]
    assert main(asked) == 0 and "are there already" in capsys.readouterr().out
