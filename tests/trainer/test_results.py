"""Evaluations on disk and their summaries: what is read, what is refused, and figures known beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fake_results import (
    ABOUT,
    ABOVE_0,
    AT_0,
    plane_of,
    summary_of,
    write_evaluation,
    write_plane,
)
from trainer import TrainerError
from trainer.evaluation.method_names import (
    label,
    main_method,
    method_order,
    parsed,
    spelled,
    spelled_threshold,
    title_of,
)
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.record import Unfinished, read_evaluation
from trainer.evaluation.summary import load_summary, summarise, write_summary


@pytest.fixture(scope="module")
def summary(tmp_path_factory) -> Any:
    return summary_of(tmp_path_factory.mktemp("evaluation"), resamples=2000)


@pytest.fixture(scope="module")
def plane(tmp_path_factory) -> Any:
    return plane_of(tmp_path_factory.mktemp("plane"), resamples=500)


def close(value):
    return pytest.approx(value, abs=1e-4)


def test_an_evaluation_is_read_with_its_answers_in_the_order_of_the_questions(tmp_path):
    about = json.loads((write_plane(tmp_path) / "evaluation.json").read_text("utf-8"))
    about["questions"].reverse()
    (tmp_path / "evaluation.json").write_text(json.dumps(about), "utf-8")
    evaluation = read_evaluation(tmp_path)
    assert {(p.method, p.threshold) for p in evaluation.points if not p.acceptance} == set(AT_0)
    assert len(evaluation.points) == len(AT_0) + len(ABOVE_0)
    assert all([a.question for a in p.answers] == about["questions"] for p in evaluation.points)
    assert evaluation.points[0].answers[0].text == "The answer is\u2028 7.", "no line ends within a text"
    assert {p.answers[0].taken_back for p in evaluation.points} == {None, 3}, "older lines do not know it"


def test_missing_answers_send_back_to_evaluate(tmp_path):
    path = write_plane(tmp_path) / "plane-00001.jsonl"
    path.write_bytes(path.read_bytes()[:-1].rpartition(b"\n")[0])
    with pytest.raises(TrainerError, match=r"citer-r2@0\.3 at threshold 0\.6 has 99 of 100 .*evaluate"):
        read_evaluation(tmp_path)
    begun = {**ABOUT, "questions": [f"q{n}" for n in range(100)], "methods": [["kept", [0.5], None, 0.3, "auto"]]}
    write_evaluation(tmp_path / "b")
    (tmp_path / "b" / "more.json").write_text(json.dumps(begun), "utf-8")
    with pytest.raises(Unfinished, match=r"kept@0\.3 .* 0 of 100"):
        read_evaluation(tmp_path / "b")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"q3"', '"q7000"', "q7000"),
        ('"q3"', '"q2"', "twice"),
        ('"llm_tokens": 0', '"llm_tokens": 21', "21 of 20"),
        ('"tokens": 20', '"tokens": 0', "tokens"),
        ('"correct": true', '"correct": 1', "correct"),
        ('"bytes": 90000000.0', '"bytes": NaN', "bytes"),
    ],
)
def test_a_line_that_is_no_answer_of_this_evaluation_is_named_with_its_number(tmp_path, old, new, reason):
    path = write_evaluation(tmp_path) / "evaluation-00000.jsonl"
    content = path.read_text("utf-8").split("\n")
    assert old in content[3]
    content[3] = content[3].replace(old, new)
    path.write_text("\n".join(content), "utf-8")
    with pytest.raises(TrainerError, match=rf"evaluation-00000\.jsonl:4: .*{reason}"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("data", "d1"), ("pair", "Other ⇄ Large"), ("task", "products"), ("max_new_tokens", 65)]
)
def test_stages_of_different_runs_are_refused_with_the_field_and_both_values(tmp_path, name, value):
    own = json.loads((write_evaluation(tmp_path, data="d0") / "evaluation.json").read_text("utf-8"))
    (tmp_path / "more.json").write_text(json.dumps({**own, name: value}), "utf-8")
    with pytest.raises(TrainerError, match=rf"more\.json: .*{name} is {value}, but {own[name]}"):
        read_evaluation(tmp_path)


def test_the_machines_of_all_stages_are_named_once_and_a_stage_may_have_another_name(tmp_path):
    own = json.loads((write_evaluation(tmp_path, stage="routers") / "routers.json").read_text("utf-8"))
    for name, hardware in (("plane", "one core; two cores"), ("rest", "four cores; one core")):
        (tmp_path / f"{name}.json").write_text(json.dumps({**own, "hardware": hardware}), "utf-8")
    found = read_evaluation(tmp_path)
    assert set(found.hardware.split("; ")) == {"one core", "two cores", "four cores"}
    assert (found.task, found.command, len(found.points)) == ("sums", ABOUT["command"], len(AT_0))


@pytest.mark.parametrize("about", [{"questions": []}, {"questions": ["q0", "q0"]}, {"task": "../up"}, {"preset": 3}])
def test_an_evaluation_that_makes_no_sense_is_refused_by_its_file(tmp_path, about):
    path = write_evaluation(tmp_path) / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **about}), "utf-8")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(TrainerError, match=r"evaluation\.json"):
            read_evaluation(folder)


def test_a_method_is_asked_for_with_acceptance_drafts_and_thresholds_and_written_as_it_is_read():
    assert parsed("confidence") == ("confidence", "", 0.0, "auto", ())
    assert parsed("router=some/folder@0.3/8:0.5,0.75") == ("router", "some/folder", 0.3, 8, (0.5, 0.75))
    assert parsed("r=a/b@c@.5/auto") == ("r", "a/b@c", 0.5, "auto", ())
    assert parsed(r"router=C:\routers\mine@1:0") == ("router", r"C:\routers\mine", 1.0, "auto", (0.0,))
    assert parsed("router=a:b/c") == ("router", "a:b/c", 0.0, "auto", ()) and title_of("r=a:b/c@0.3:0.5") == "r@0.3"
    for text in ("confidence", "confidence@0.3", "confidence@1/8"):
        assert spelled(*parsed(text)[0:1], *parsed(text)[2:4]) == text
    assert spelled("assisted", 1.0, 5) == "assisted", "speculative decoding is at acceptance 1 by its name"


def test_a_setting_out_of_range_is_refused_by_name():
    for text, named in (
        ("confidence@1.5", "1.5"),
        ("confidence@0.3/0", "'0'.* 1 to 1024"),
        ("confidence:0.5,", "'0.5,'"),
        ("confidence:nan", "finite"),
        ("confidence:0.5,0.50", "once"),
    ):
        with pytest.raises(TrainerError, match=named):
            parsed(text)


def test_a_threshold_has_the_digits_that_tell_it_from_its_neighbours_and_from_1():
    assert spelled_threshold(0.53142, ()) == "0.531"
    assert spelled_threshold(0.53142, (0.53144, 0.53136)) == "0.53142"
    assert spelled_threshold(1.00001, (1.0,)) == "1.00001" and spelled_threshold(0.99999, ()) == "0.99999"


def test_methods_have_an_order_and_names_and_a_later_round_goes_before_an_earlier_one():
    names = ["zeta", "citer-r10", "citer-r2", "citer", "alpha", "llm", "slm", "co-llm"]
    ordered = ["slm", "llm", "co-llm", "citer", "citer-r2", "citer-r10", "alpha", "zeta"]
    assert sorted(names, key=method_order) == ordered
    assert [label(name) for name in ("slm", "citer-r2", "zeta")] == ["SLM only", "CITER round 2", "zeta"]
    assert main_method(names) == "citer-r10" and main_method(["citer-shortcut", "citer"]) == "citer"
    assert main_method(["co-llm", "citation"]) is None


def test_a_summary_has_every_point_by_threshold_with_its_means_and_interval(summary):
    assert [p["threshold"] for p in summary["methods"]["confidence"]["points"]] == [0.3, 0.5, 0.7]
    point = summary["methods"]["confidence"]["points"][1]
    means = {"accuracy": 0.5, "llm_share": 0.25, "bytes": 5e7, "flops": 5e8, "seconds": 0.5}
    assert {name: point[name] for name in means} == means
    assert (point["accuracy_low"], point["accuracy_high"]) == pytest.approx((0.4, 0.6), abs=0.02)


def test_the_llm_share_is_that_of_all_tokens_and_not_the_mean_over_answers(tmp_path):
    path = write_evaluation(tmp_path, {**AT_0, ("margin", 0.5): (30, 0.5, 50)}) / "evaluation-00001.jsonl"
    content = path.read_text("utf-8").split("\n")
    first = next(n for n, line in enumerate(content) if '"margin"' in line)
    content[first] = content[first].replace('"tokens": 20', '"tokens": 1020')
    path.write_text("\n".join(content), "utf-8")
    points = summarise(read_evaluation(tmp_path), 20)["methods"]["margin"]["points"]
    assert points[0]["llm_share"] == close(1000 / 3000)  # 100 · 10 / (1020 + 99 · 20)


def test_the_average_gap_recovered_is_that_of_the_curve_and_single_points_have_none(summary):
    gaps = {name: method["gap_recovered"] for name, method in summary["methods"].items()}
    # (0, 0) (0.1, 0.5) (0.25, 0.75) (0.5, 1) (1, 1), and (0, 0) (0.1, 0.75) (0.25, 1) (0.5, 1.05) (1, 1)
    assert gaps["confidence"] == close(0.1 * 0.25 + 0.15 * 0.625 + 0.25 * 0.875 + 0.5)
    assert gaps["citer-r2"] == close(0.1 * 0.375 + 0.15 * 0.875 + 0.25 * 1.025 + 0.5 * 1.025)
    assert gaps["random"] == close(0.5) and [gaps[n] for n in ("slm", "llm", "oracle", "assisted")] == [None] * 4


def test_savings_at_equal_accuracy_are_those_computed_by_hand(summary):
    comparisons = summary["comparisons"]
    assert comparisons["method"] == "citer-r2" and comparisons["targets"]["0.9"] == 0.56
    savings = comparisons["against"]["confidence"]["savings"]
    for gap, saved in (("0.8", 1 - 44 / 56), ("0.9", 1 - 52 / 68), ("1", 1 - 60 / 80)):
        assert [savings[gap][unit]["value"] for unit in ("bytes", "flops", "seconds")] == [close(saved)] * 3
    assert 0 < savings["1"]["bytes"]["low"] <= savings["1"]["bytes"]["value"] <= savings["1"]["bytes"]["high"]
    assert comparisons["against"]["llm"]["savings"]["1"]["bytes"]["value"] == close(1 - 60 / 100)
    random = comparisons["cost_at_target"]["random"]
    assert random["1"]["bytes"]["value"] == 100e6, "with the LLM alone at the end of its curve"
    never = comparisons["against"]["slm"]["savings"]["1"]["bytes"]
    assert (never["value"], never["unreached"]) == (None, 1) and never["p_value"] < 0.01, "it has lost"


def test_accuracy_at_equal_share_and_at_equal_cost_are_those_computed_by_hand(summary):
    comparisons = summary["comparisons"]
    assert comparisons["accuracy_at_share"]["confidence"]["0.3"]["value"] == close(0.52)
    assert comparisons["gap_recovered_at_share"]["citer-r2"]["0.25"]["value"] == 1
    confidence = comparisons["against"]["confidence"]
    assert confidence["equal_share"]["0.25"]["accuracy"]["value"] == close(0.1)
    # 60 MB at 25 % share; confidence has 50 + 10/30 · 10 right there
    assert confidence["equal_cost"]["0.25"]["bytes"]["value"] == close(0.6 - 0.5333)
    steady = comparisons["against"]["random"]["equal_share"]["0.25"]
    assert steady["accuracy"]["p_value"] == close(2 / 2001), "no resample is on the other side"
    assert steady["p_mcnemar"] == pytest.approx(2 / 2**30, rel=1e-3)  # 30 questions, all in favour


def test_without_a_gap_nothing_is_recovered_but_the_llms_accuracy_is_still_a_target(tmp_path):
    summary = summary_of(tmp_path, {**AT_0, ("llm", 0.0): (20, 1.0, 100)})
    assert summary["methods"]["citer-r2"]["gap_recovered"] is None
    assert summary["comparisons"]["targets"] == {"0.8": None, "0.9": None, "0.95": None, "1": 0.2}
    savings = summary["comparisons"]["against"]["llm"]["savings"]
    assert (savings["0.9"]["bytes"]["value"], savings["1"]["bytes"]["value"]) == (None, close(0.6))


def test_baselines_alone_have_no_main_method_and_both_ends_and_a_named_one_must_be_there(tmp_path):
    points = {key: value for key, value in AT_0.items() if not key[0].startswith("citer")}
    comparisons = summary_of(tmp_path / "a", points)["comparisons"]
    assert (comparisons["method"], comparisons["against"]) == (None, {})
    for missing in ("slm", "llm"):
        with pytest.raises(TrainerError, match=missing):
            summary_of(tmp_path / missing, {key: value for key, value in AT_0.items() if key[0] != missing})
    evaluation = read_evaluation(tmp_path / "a")
    assert summarise(evaluation, 20, main="confidence")["comparisons"]["method"] == "confidence"
    with pytest.raises(TrainerError, match=r"citer-r9.*slm"):
        summarise(evaluation, 20, main="citer-r9")


def test_the_same_answers_give_the_same_file_bit_for_bit_and_it_reads_back(tmp_path, plane):
    first, again = (write_summary(plane_of(tmp_path / n, resamples=50), tmp_path / f"{n}-results") for n in "ab")
    assert first.name == "tiny--sums.json" and first.read_bytes() == again.read_bytes()
    assert load_summary(write_summary(plane, tmp_path)) == plane
    assert len(read_evaluation(tmp_path / "a").points) == len(AT_0) + len(ABOVE_0)


def test_the_front_is_cheapest_first_and_each_point_more_accurate_than_all_cheaper_ones(plane):
    """The oracle is not on it, as nobody can run it."""
    front = [(point["method"], point["acceptance"], point["accuracy"]) for point in plane["plane"]["front"]]
    above = [("citer-r2", 0.3, 0.59), ("confidence", 1.0, 0.6), ("citer-r2", 0.3, 0.61)]
    assert front == [*above, ("citer-r2", 0.0, 0.62)]
    assert plane["plane"]["curves"]["slm@0.3/5"][0]["taken_back"] == 3


def test_the_least_cost_of_a_family_is_that_of_its_cheapest_measured_point(plane):
    families = plane["plane"]["families"]
    assert plane["plane"]["targets"] == {"llm": 0.59, "0.8": 0.52, "0.9": 0.56, "0.95": 0.58}
    least = {name: reached["0.9"]["point"]["bytes"] / 1e6 for name, reached in families.items()}
    above = {"plane": 36, "learned": 36, "confidence": 44, "assisted-tuned": 48, "assisted": 50}
    assert least == {**above, "acceptance-0": 60, "confidence-0": 80}
    assert families["assisted-tuned"]["llm"]["ratio"]["bytes"]["value"] == close(36 / 48)
    assert families["confidence-0"]["0.9"]["learned"]["bytes"]["value"] == close(36 / 80)
    cost = families["plane"]["llm"]["cost"]["bytes"]
    assert (cost["low"], cost["high"]) == (36e6, 47e6), "resamples choose their own points"
    left_out = families[LEARNED]["0.9"]["left_out"]
    assert 0.8 < left_out["gap_recovered"] < 1.2 and 0.36 <= left_out["bytes"] < 0.37
