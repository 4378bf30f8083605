"""Evaluations on disk and their summaries: what is read, what is refused, and figures known beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.operating_points import Curve, OperatingPoint, Quality
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
from trainer.evaluation.record import Unfinished, read_evaluation
from trainer.evaluation.summary import load_summary, summarise, write_summary
from trainer.ship import operating_point

ABOUT = {
    "pair": "Small ⇄ Large · NF4",
    "preset": "tiny",
    "task": "sums",
    "command": "python -m trainer evaluate --preset tiny",
    "revision": "0123abc",
    "hardware": "two cores",
    "max_new_tokens": 64,
}

# (method, threshold): right answers of 100, LLM share, bytes. The SLM alone is dear, as on CommonsenseQA.
POINTS = {
    ("slm", 0.0): (20, 0.0, 90),
    ("llm", 0.0): (60, 1.0, 100),
    ("oracle", 0.0): (58, 0.05, 30),
    ("assisted", 0.0): (60, 1.0, 50),
    ("random", 0.25): (30, 0.25, 92),
    ("random", 0.5): (40, 0.5, 94),
    ("random", 0.75): (50, 0.75, 97),
    ("confidence", 0.3): (40, 0.1, 40),
    ("confidence", 0.5): (50, 0.25, 50),
    ("confidence", 0.7): (60, 0.5, 80),
    ("citer-r1", 0.5): (50, 0.1, 40),
    ("citer-r1", 0.6): (55, 0.5, 90),
    ("citer-r2", 0.5): (50, 0.1, 40),
    ("citer-r2", 0.6): (60, 0.25, 60),
    ("citer-r2", 0.7): (62, 0.5, 70),
}


def lines(points, questions=100):
    """Every method is right on the first questions, as many as it says: the same ones are hard for all."""
    for (method, threshold), (right, share, size) in points.items():
        for number in range(questions):
            yield {
                "question": f"q{number}",
                "method": method,
                "threshold": threshold,
                "correct": number < right,
                "tokens": 20,
                "llm_tokens": round(20 * share),
                "bytes": size * 1e6,
                "flops": size * 1e7,
                "seconds": size / 100,
                "finish": "eos",
                "text": "The answer is\u2028 7.",
            }


def write_evaluation(folder, points=None, questions=100, **about):
    """Writes an evaluation, its answers spread over two files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"q{number}" for number in range(questions)]
    (folder / "evaluation.json").write_text(json.dumps({**ABOUT, "questions": names, **about}), encoding="utf-8")
    written = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines(points or POINTS, questions)]
    half = len(written) // 2
    for number, part in enumerate((written[:half], written[half:])):
        (folder / f"answers-{number:05d}.jsonl").write_text("".join(part), encoding="utf-8")
    return folder


def summary_of(folder, points=None, questions=100, resamples=200, **about):
    return summarise(read_evaluation(write_evaluation(folder, points, questions, **about)), resamples)


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return summary_of(tmp_path_factory.mktemp("evaluation"), resamples=2000)


def close(value):
    return pytest.approx(value, abs=1e-4)


def test_an_evaluation_is_read_with_its_answers_in_the_order_of_the_questions(tmp_path):
    folder = write_evaluation(tmp_path)
    about = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    about["questions"].reverse()
    (folder / "evaluation.json").write_text(json.dumps(about), encoding="utf-8")
    evaluation = read_evaluation(folder)
    assert [(p.method, p.threshold) for p in evaluation.points] == sorted(POINTS)
    assert all([a.question for a in p.answers] == about["questions"] for p in evaluation.points)
    assert evaluation.points[-1].column("correct").sum() == 20
    assert evaluation.points[-1].answers[0].text == "The answer is\u2028 7."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: line[:50], "EOF"),
        (lambda line: "", "EOF"),
        (lambda line: line.replace('"tokens": 20', '"tokens": "20"'), "tokens"),
        (lambda line: line.replace('"tokens": 20', '"tokens": 0'), "tokens"),
        (lambda line: line.replace('"llm_tokens": 0', '"llm_tokens": 21'), "21 of 20"),
        (lambda line: line.replace('"correct": true', '"correct": 1'), "correct"),
        (lambda line: line.replace('"bytes": 90000000.0', '"bytes": NaN'), "bytes"),
        (lambda line: line.replace('"seconds": 0.9', '"seconds": -1'), "seconds"),
        (lambda line: line.replace('"finish": "eos", ', ""), "finish"),
        (lambda line: line.replace("q3", "q7000"), "'q7000' is not one of"),
        (lambda line: line.replace("q3", "q2"), "'q2' twice"),
    ],
)
def test_a_line_that_is_no_answer_is_named_with_its_file_and_number(tmp_path, change, reason):
    path = write_evaluation(tmp_path) / "answers-00000.jsonl"
    content = path.read_text(encoding="utf-8").split("\n")
    assert change(content[3]) != content[3]
    content[3] = change(content[3])
    path.write_text("\n".join(content), encoding="utf-8")
    with pytest.raises(TrainerError, match=r"answers-00000\.jsonl:4: ") as caught:
        read_evaluation(tmp_path)
    assert reason in str(caught.value)


def test_a_line_that_is_not_utf_8_is_named_too(tmp_path):
    path = write_evaluation(tmp_path) / "answers-00001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"The", b"\xff\xfe", 1))
    with pytest.raises(TrainerError, match=r"answers-00001\.jsonl:1: "):
        read_evaluation(tmp_path)


def test_missing_answers_send_back_to_evaluate(tmp_path):
    path = write_evaluation(tmp_path) / "answers-00001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))  # bytes: U+2028 ends no line of them
    with pytest.raises(TrainerError, match=r"citer-r2 at threshold 0\.7 has \d+ of 100 answers; run evaluate again"):
        read_evaluation(tmp_path)


def test_a_stage_that_has_none_of_its_answers_yet_is_not_left_out_without_a_word(tmp_path):
    asked = [["citer-r2", [0.6, 0.7], None], ["kept", [0.5], None, 0.3, "auto"]]
    write_evaluation(tmp_path, methods=asked)
    with pytest.raises(Unfinished, match=r"kept@0\.3 at threshold 0\.5 has 0 of 100 answers; run evaluate again"):
        read_evaluation(tmp_path)


def test_a_summary_in_the_same_folder_is_no_stage(tmp_path):
    summary = summary_of(tmp_path)
    write_summary(summary, tmp_path)
    assert len(read_evaluation(tmp_path).points) == len(POINTS)


def test_shards_of_every_stage_are_read_and_those_still_being_written_are_not(tmp_path):
    folder = write_evaluation(tmp_path)
    (folder / "answers-00001.jsonl").rename(folder / "assisted-00000.jsonl")
    for name in ("partial-assisted-00001.jsonl", "partial-00001.jsonl"):  # the second from before
        (folder / name).write_text('{"question": "q0", "meth', encoding="utf-8")
    assert len(read_evaluation(folder).points) == len(POINTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("data", "d1"), ("pair", "Other ⇄ Large"), ("preset", "cpu"), ("task", "products"), ("max_new_tokens", 65)],
)
def test_stages_of_different_runs_are_refused_with_the_field_and_both_values(tmp_path, name, value):
    path = write_evaluation(tmp_path, data="d0") / "evaluation.json"
    own = json.loads(path.read_text(encoding="utf-8"))
    (tmp_path / "plane.json").write_text(json.dumps({**own, name: value}), encoding="utf-8")
    with pytest.raises(TrainerError, match=rf"plane\.json: its {name} is {value}, but {own[name]} in evaluation\.json"):
        read_evaluation(tmp_path)


def test_a_stage_from_before_that_states_less_is_read_with_the_others(tmp_path):
    write_evaluation(tmp_path, data="d0")
    old = {"data": "d0", "preset": "tiny", "max_new_tokens": 64, "questions": 48, "hardware": "one core"}
    (tmp_path / "assisted.json").write_text(json.dumps(old), encoding="utf-8")
    assert read_evaluation(tmp_path).hardware == "two cores; one core"


def test_machines_of_a_stage_that_ran_on_several_are_told_once(tmp_path):
    own = json.loads((write_evaluation(tmp_path) / "evaluation.json").read_text(encoding="utf-8"))
    for name, hardware in (("plane", "one core; two cores"), ("router", "four cores; one core")):
        (tmp_path / f"{name}.json").write_text(json.dumps({**own, "hardware": hardware}), encoding="utf-8")
    assert read_evaluation(tmp_path).hardware == "two cores; one core; four cores"


def test_a_folder_whose_first_stage_has_another_name_is_read(tmp_path):
    path = write_evaluation(tmp_path) / "evaluation.json"
    path.rename(tmp_path / "plane.json")
    found = read_evaluation(tmp_path)
    assert (found.task, len(found.points)) == ("sums", len(POINTS))
    assert found.command == ABOUT["command"]


def test_a_folder_that_was_never_evaluated_says_what_to_run(tmp_path):
    with pytest.raises(TrainerError, match=r"evaluation\.json.*trainer evaluate"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("about", [{"questions": []}, {"questions": ["q0", "q0"]}, {"task": "../up"}, {"preset": 3}])
def test_an_evaluation_that_makes_no_sense_is_refused(tmp_path, about):
    path = write_evaluation(tmp_path) / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **about}), encoding="utf-8")
    with pytest.raises(TrainerError, match=r"evaluation\.json"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("missing", ["slm", "llm"])
def test_both_models_alone_are_needed(tmp_path, missing):
    points = {key: value for key, value in POINTS.items() if key[0] != missing}
    with pytest.raises(TrainerError, match=missing):
        summary_of(tmp_path, points)


@pytest.mark.parametrize(
    ("threshold", "others", "text"),
    [
        (0.53142, (), "0.531"),
        (0.53142, (0.53142, 0.6), "0.531"),
        (0.53142, (0.53144, 0.53136), "0.53142"),
        (0.99999, (), "0.99999"),
        (1.0, (0.9999,), "1"),
        (1.00001, (1.0,), "1.00001"),
        (2.17046290608338e-13, (2.1709e-13,), "2.17e-13"),
        (0.1 + 0.2, (0.3,), "0.30000000000000004"),
    ],
)
def test_a_threshold_has_the_digits_that_tell_it_from_its_neighbours_and_from_1(threshold, others, text):
    assert spelled_threshold(threshold, others) == text


def test_a_summary_holds_every_point_by_threshold_with_its_means(summary):
    assert summary["questions"] == 100
    assert list(summary["methods"]) == [
        "slm",
        "llm",
        "oracle",
        "assisted",
        "random",
        "confidence",
        "citer-r1",
        "citer-r2",
    ]
    points = summary["methods"]["confidence"]["points"]
    assert [p["threshold"] for p in points] == [0.3, 0.5, 0.7]
    assert points[1] == {
        "threshold": 0.5,
        "accuracy": 0.5,
        "accuracy_low": pytest.approx(0.40, abs=0.02),
        "accuracy_high": pytest.approx(0.60, abs=0.02),
        "llm_share": 0.25,
        "bytes": 50e6,
        "flops": 50e7,
        "seconds": 0.5,
    }


def test_the_llm_share_is_that_of_all_tokens_and_not_the_mean_over_answers(tmp_path):
    folder = write_evaluation(tmp_path, {**POINTS, ("margin", 0.5): (30, 0.5, 50)})
    path = folder / "answers-00001.jsonl"
    content = path.read_text(encoding="utf-8").split("\n")
    first = next(n for n, line in enumerate(content) if '"margin"' in line)
    content[first] = content[first].replace('"tokens": 20', '"tokens": 1020')  # 100 · 10 / (1020 + 99 · 20)
    path.write_text("\n".join(content), encoding="utf-8")
    points = summarise(read_evaluation(folder), 20)["methods"]["margin"]["points"]
    assert points[0]["llm_share"] == close(1000 / 3000)


def test_the_average_gap_recovered_is_that_of_the_curve_and_single_points_have_none(summary):
    gaps = {name: method["gap_recovered"] for name, method in summary["methods"].items()}
    assert gaps["random"] == close(0.5)
    # (0, 0) (0.1, 0.5) (0.25, 0.75) (0.5, 1) (1, 1)
    assert gaps["confidence"] == close(0.1 * 0.25 + 0.15 * 0.625 + 0.25 * 0.875 + 0.5)
    # (0, 0) (0.1, 0.75) (0.25, 1) (0.5, 1.05) (1, 1)
    assert gaps["citer-r2"] == close(0.1 * 0.375 + 0.15 * 0.875 + 0.25 * 1.025 + 0.5 * 1.025)
    assert [gaps[name] for name in ("slm", "llm", "oracle", "assisted")] == [None] * 4
    method = summary["methods"]["citer-r2"]
    assert method["gap_recovered_low"] < method["gap_recovered"] < method["gap_recovered_high"]


def test_the_main_method_is_the_last_round_and_is_compared_with_every_other(summary):
    comparisons = summary["comparisons"]
    assert comparisons["method"] == "citer-r2"
    assert list(comparisons["against"]) == [name for name in summary["methods"] if name != "citer-r2"]


def test_savings_at_equal_accuracy_are_those_computed_by_hand(summary):
    comparisons = summary["comparisons"]
    assert comparisons["targets"] == {"0.8": 0.52, "0.9": 0.56, "0.95": 0.58, "1": 0.6}
    assert comparisons["cost_at_target"]["citer-r2"]["0.8"]["bytes"]["value"] == 44e6
    assert comparisons["cost_at_target"]["confidence"]["0.8"]["bytes"]["value"] == 56e6
    savings = comparisons["against"]["confidence"]["savings"]
    for unit in ("bytes", "flops", "seconds"):
        assert savings["0.8"][unit]["value"] == close(1 - 44 / 56)
        assert savings["0.9"][unit]["value"] == close(1 - 52 / 68)
        assert savings["1"][unit]["value"] == close(1 - 60 / 80)
    assert 0 < savings["1"]["bytes"]["low"] <= savings["1"]["bytes"]["value"] <= savings["1"]["bytes"]["high"]
    assert comparisons["against"]["assisted"]["savings"]["1"]["bytes"]["value"] == close(1 - 60 / 50)
    assert comparisons["against"]["llm"]["savings"]["1"]["bytes"]["value"] == close(1 - 60 / 100)


def test_what_never_reaches_the_target_has_no_saving_but_has_lost(summary):
    saving = summary["comparisons"]["against"]["slm"]["savings"]["1"]["bytes"]
    assert (saving["value"], saving["low"], saving["high"], saving["unreached"]) == (None, None, None, 1)
    assert saving["p_value"] < 0.01
    assert summary["comparisons"]["cost_at_target"]["slm"]["1"]["bytes"]["value"] is None


def test_a_method_with_a_threshold_reaches_the_llms_accuracy_with_the_llm_alone(summary):
    at = summary["comparisons"]["cost_at_target"]["random"]
    assert at["1"]["bytes"]["value"] == 100e6
    assert at["0.8"]["bytes"]["value"] == close(97.6e6), "a fifth of the way from its last point to the LLM alone"
    assert summary["comparisons"]["against"]["random"]["savings"]["1"]["bytes"]["value"] == close(1 - 60 / 100)


def test_resamples_in_which_only_one_method_reaches_the_target_count_as_won(tmp_path):
    # The rival is right on one question more than 95 % of the gap takes, so in many resamples it is short of it.
    savings = summary_of(tmp_path, {**POINTS, ("assisted", 0.0): (59, 1.0, 65)})["comparisons"]["against"]["assisted"]
    saving = savings["savings"]["0.95"]["bytes"]
    assert saving["unreached"] > 0.1 and saving["value"] == close(1 - 56 / 65)
    assert (saving["low"] or 0) > 0 and (saving["p_value"] or 1) < 0.05, "it never loses"
    dearer = summary_of(tmp_path / "b", {**POINTS, ("assisted", 0.0): (59, 1.0, 45)})["comparisons"]["against"]
    saving = dearer["assisted"]["savings"]["0.95"]["bytes"]
    assert (saving["high"] or 0) < 0 and (saving["p_value"] or 0) > 0.1, (
        "it loses, but in many resamples it alone gets there"
    )


def test_accuracy_at_equal_share_and_at_equal_cost_are_those_computed_by_hand(summary):
    comparisons = summary["comparisons"]
    confidence = comparisons["against"]["confidence"]
    assert comparisons["accuracy_at_share"]["citer-r2"]["0.25"]["value"] == 0.6
    assert comparisons["gap_recovered_at_share"]["citer-r2"]["0.25"]["value"] == 1
    assert comparisons["accuracy_at_share"]["confidence"]["0.3"]["value"] == close(0.52)
    assert "oracle" not in comparisons["accuracy_at_share"]
    assert confidence["equal_share"]["0.25"]["accuracy"]["value"] == close(0.1)
    # 60 MB at 25 % share; confidence has 50 + 10/30 · 10 right there
    assert confidence["equal_cost"]["0.25"]["bytes"]["value"] == close(0.6 - 0.5333)
    assert comparisons["against"]["oracle"]["equal_share"] == {}
    assert comparisons["against"]["oracle"]["equal_cost"]["0.25"]["bytes"]["value"] == close(0.02)
    difference = confidence["gap_recovered"]
    assert difference is not None and difference["value"] == close(0.9375 - 0.8375)


def test_a_steady_difference_is_significant_in_both_paired_tests(summary):
    equal = summary["comparisons"]["against"]["random"]["equal_share"]["0.25"]
    assert equal["accuracy"]["value"] == close(0.3)
    assert equal["accuracy"]["low"] > 0.2
    assert equal["accuracy"]["p_value"] == close(2 / 2001)
    assert [p["threshold"] for p in equal["nearest"]] == [0.6, 0.25]
    assert equal["p_mcnemar"] == pytest.approx(2 / 2**30, rel=1e-3)  # 30 questions, all in favour


def test_a_tie_is_no_saving_no_difference_and_not_significant(tmp_path):
    twin = {("margin", threshold): value for (name, threshold), value in POINTS.items() if name == "citer-r2"}
    against = summary_of(tmp_path, {**POINTS, **twin})["comparisons"]["against"]["margin"]
    for saving in against["savings"].values():
        assert (saving["bytes"]["value"], saving["bytes"]["low"], saving["bytes"]["high"]) == (0, 0, 0)
    for equal in against["equal_share"].values():
        assert (equal["accuracy"]["value"], equal["accuracy"]["p_value"], equal["p_mcnemar"]) == (0, 1, 1)
    for equal in against["equal_cost"].values():
        assert (equal["bytes"]["value"], equal["bytes"]["p_value"]) == (0, 1)
    assert against["gap_recovered"] is not None and against["gap_recovered"]["value"] == 0


def test_without_a_gap_nothing_is_recovered_but_the_llms_accuracy_is_still_a_target(tmp_path):
    summary = summary_of(tmp_path, {**POINTS, ("llm", 0.0): (20, 1.0, 100)})
    assert summary["methods"]["citer-r2"]["gap_recovered"] is None
    assert summary["methods"]["citer-r2"]["gap_recovered_low"] is None
    assert summary["comparisons"]["targets"] == {"0.8": None, "0.9": None, "0.95": None, "1": 0.2}
    savings = summary["comparisons"]["against"]["llm"]["savings"]
    assert savings["0.9"]["bytes"]["value"] is None
    assert savings["1"]["bytes"]["value"] == close(0.6)


def test_one_question_alone_has_intervals_of_no_width(tmp_path):
    points = {key: (right >= 50, share, size) for key, (right, share, size) in POINTS.items()}
    summary = summary_of(tmp_path, points, questions=1)
    point = summary["methods"]["citer-r2"]["points"][0]
    assert (point["accuracy"], point["accuracy_low"], point["accuracy_high"]) == (1, 1, 1)
    assert summary["comparisons"]["against"]["llm"]["savings"]["1"]["bytes"]["low"] == close(0.6)


def test_baselines_alone_are_summarised_without_a_main_method(tmp_path):
    points = {key: value for key, value in POINTS.items() if not key[0].startswith("citer")}
    comparisons = summary_of(tmp_path, points)["comparisons"]
    assert (comparisons["method"], comparisons["against"]) == (None, {})
    assert comparisons["accuracy_at_share"]["confidence"]["0.25"]["value"] == 0.5


def test_the_same_answers_give_the_same_file_bit_for_bit_and_it_reads_back(tmp_path, summary):
    first = write_summary(summary_of(tmp_path / "a"), tmp_path / "first")
    again = write_summary(summary_of(tmp_path / "b"), tmp_path / "again")
    assert first.name == "tiny--sums.json"
    assert first.read_bytes() == again.read_bytes()
    assert load_summary(write_summary(summary, tmp_path)) == summary


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda text: text[: len(text) // 2], "EOF"),
        (lambda text: text.replace('"revision"', '"version"'), "revision"),
        (lambda text: text.replace('"accuracy": 0.2', '"accuracy": 1.2', 1), r"methods\.slm\.points\.0\.accuracy"),
        (lambda text: text.replace('"preset": "tiny"', '"preset": "../tiny"'), "preset"),
    ],
)
def test_a_damaged_summary_is_refused_with_the_field_that_is_wrong(tmp_path, summary, change, field):
    path = write_summary(summary, tmp_path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(TrainerError, match=rf"tiny--sums\.json: .*{field}"):
        load_summary(path)


def test_methods_have_an_order_and_names_for_people_and_unknown_ones_come_last():
    names = ["zeta", "citer-r10", "citer-r2", "citer", "alpha", "llm", "slm", "co-llm"]
    assert sorted(names, key=method_order) == [
        "slm",
        "llm",
        "co-llm",
        "citer",
        "citer-r2",
        "citer-r10",
        "alpha",
        "zeta",
    ]
    assert [label(name) for name in ("slm", "citer-r2", "zeta")] == ["SLM only", "CITER round 2", "zeta"]


def test_the_method_that_others_are_compared_with_can_be_named(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path))
    comparisons = summarise(evaluation, 20, main="confidence")["comparisons"]
    assert comparisons["method"] == "confidence"
    assert "confidence" not in comparisons["against"]
    with pytest.raises(TrainerError, match="no method 'citer-r9' to compare the others with: slm"):
        summarise(evaluation, 20, main="citer-r9")


def test_a_method_is_asked_for_with_its_acceptance_and_the_length_of_its_drafts():
    assert parsed("confidence") == ("confidence", "", 0.0, "auto", ())
    assert parsed("router=some/folder@0.3") == ("router", "some/folder", 0.3, "auto", ())
    assert parsed("confidence@1/8") == ("confidence", "", 1.0, 8, ())
    assert parsed("r=a/b@c@.5/auto") == ("r", "a/b@c", 0.5, "auto", ())
    for text in ("confidence", "confidence@0.3", "confidence@1/8"):
        asked = parsed(text)
        assert spelled(asked.name, asked.acceptance, asked.max_draft) == text
    assert spelled("assisted", 1.0, 5) == "assisted", "speculative decoding is at acceptance 1 by its name"


def test_thresholds_stand_behind_a_colon_that_is_no_part_of_a_folder():
    assert parsed("confidence:0.5") == ("confidence", "", 0.0, "auto", (0.5,))
    assert parsed("router=some/folder@0.3/8:0.5,0.75") == ("router", "some/folder", 0.3, 8, (0.5, 0.75))
    assert parsed(r"router=C:\routers\mine@1:0") == ("router", r"C:\routers\mine", 1.0, "auto", (0.0,))
    assert parsed("router=a:b/c") == ("router", "a:b/c", 0.0, "auto", ())
    assert title_of("router=a:b/c@0.3:0.5") == "router@0.3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("confidence@1.5", "acceptance 1.5 is not from 0"),
        ("confidence@0.3/0", "a draft of '0' tokens; give a whole number from 1 to 1024, or auto"),
        ("confidence@0.3/long", "a draft of 'long' tokens"),
        ("confidence:", "'' is no threshold; write METHOD:THRESHOLD"),
        ("confidence:0.5,", "'0.5,' is no threshold"),
        ("confidence:nan", "finite numbers, each of them once"),
        ("confidence:0.5,0.50", "finite numbers, each of them once"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(text, message):
    with pytest.raises(TrainerError, match=message):
        parsed(text)


def test_the_main_method_is_a_later_round_before_an_earlier_and_rollouts_before_none():
    assert main_method(["citer-r2", "citer-r10", "citer", "confidence"]) == "citer-r10"
    assert main_method(["citer-shortcut", "citer"]) == "citer"
    assert main_method(["citer-shortcut", "co-llm"]) == "citer-shortcut"
    assert main_method(["citer-r1", "citer-joint", "citer-shortcut"]) == "citer-r1"
    assert main_method(["co-llm", "citation"]) is None


def routed(*routed, slm=0.2, acceptance=0.0, task="sums", quality: Quality = "right"):
    """A router's curve of these (threshold, accuracy, bytes); the LLM is right in 60 %."""

    def point(threshold, accuracy, size):
        return OperatingPoint(threshold, accuracy, 0.0, 1.0, 0.5, size, 0.0, 0.0, acceptance)

    about = dict.fromkeys(("pair", "command", "revision", "hardware"), "-")
    points = tuple(point(*each) for each in routed)
    return Curve(task, 100, **about, slm=point(0, slm, 10), llm=point(2, 0.6, 100), points=points, quality=quality)


def shipped_at(*points, **more):
    """Where a router with such a curve starts."""
    return operating_point([routed(*points, **more)])[0]


def test_a_router_starts_at_its_cheapest_point_within_two_points_of_the_llm():
    assert shipped_at((0.2, 0.57, 30), (0.4, 0.58, 50), (0.6, 0.61, 70)) == 0.4
    assert shipped_at((0.2, 0.5, 30), (0.4, 0.57, 50), (0.6, 0.57, 40)) == 0.6, (
        "none is: the best, of equal ones the cheapest"
    )


def test_a_router_starts_where_it_routes_even_if_one_model_alone_is_cheaper():
    assert shipped_at((0.2, 0.59, 30), (0.6, 0.62, 70), slm=0.59) == 0.2, "the SLM alone is as good and cheaper"
    assert shipped_at((0.2, 0.59, 130), (0.6, 0.62, 170)) == 0.2, "the LLM alone is cheaper than all routed points"


def test_a_router_does_not_start_at_the_slms_own_drafts():
    assert shipped_at((0.0, 0.6, 20), (0.4, 0.61, 60), acceptance=0.3) == 0.4


def test_a_router_for_several_tasks_starts_where_their_mean_accuracy_is_within_two_points_of_the_llm():
    early = routed((0.2, 0.6, 40), (0.9, 0.6, 90))
    late = routed((0.2, 0.2, 20), (0.6, 0.54, 50), (0.9, 0.58, 70), task="products")
    assert operating_point([early]) == (0.2, 0) and operating_point([late]) == (0.9, 0)
    assert operating_point([early, late]) == (0.9, 0), "at 0.6 three points are missing on the average"
    better = routed((0.2, 0.2, 20), (0.6, 0.56, 50), (0.9, 0.58, 70), task="products")
    assert operating_point([early, better]) == (0.9, 0), "0.6 would be cheaper, but was not measured on both"
    apart = routed((0.1, 0.2, 20), (0.6, 0.56, 50), (0.95, 0.58, 70), task="products")
    assert operating_point([early, apart]) == (0.6, 0), "where nothing was measured on both, it is read between"


def test_a_router_starts_only_where_free_text_was_measured_too():
    plain, verified = routed((0.9, 0.6, 60)), routed((0.4, 0.6, 40), (0.7, 0.6, 50), acceptance=0.3)
    free = [routed((0.9, 0.5, 60), task="free-text", quality="same")]
    assert operating_point([plain, verified, *free]) == (0.9, 0), "at 0.3 it was not"
    free.append(routed((0.6, 0.5, 50), task="free-text", quality="same", acceptance=0.3))
    assert operating_point([plain, verified, *free]) == (0.7, 0.3), "its first threshold there is 0.6"


def test_a_router_measured_on_all_tasks_at_no_acceptance_is_refused():
    apart = [routed((0.9, 0.6, 60)), routed((0.4, 0.6, 40), task="products", acceptance=0.3)]
    with pytest.raises(TrainerError, match="no acceptance has been measured on all of these tasks"):
        operating_point(apart)


def test_a_router_does_not_start_where_it_is_surely_worse_than_confidence_on_a_task_or_free_text():
    def beside(threshold, high):
        estimate = {"value": -0.1, "low": -0.2, "high": high, "unreached": 0.0, "p_value": None}
        return {"acceptance": 0.0, "max_draft": "auto", "threshold": threshold, "accuracy": estimate}

    sums = routed((0.2, 0.6, 30), (0.5, 0.6, 40), (0.9, 0.6, 60))
    curves: list[Curve] = [sums, routed((0.2, 0.5, 30), (0.9, 0.6, 60), task="free-text", quality="same")]
    known: Any = {"free-text": [beside(0.3, -0.01), beside(0.9, 0.01)]}
    assert operating_point(curves) == (0.2, 0)
    assert operating_point(curves, known) == (0.9, 0), "the point nearest to 0.5 is that of 0.3"
    assert operating_point(curves, known | {"sums": [beside(0.9, -0.01)]}) == (0.2, 0), "nothing would be left"


def test_a_router_starts_at_the_acceptance_that_gets_there_for_the_fewest_bytes():
    plain, verified = routed((0.9, 0.6, 70)), routed((0.4, 0.6, 50), acceptance=0.3)
    assert operating_point([plain, verified]) == (0.4, 0.3)
    assert operating_point([plain, routed((0.4, 0.6, 80), acceptance=0.3)]) == (0.9, 0)
    assert operating_point([plain, routed((0.4, 0.5, 20), acceptance=0.3)]) == (0.9, 0), "it is not as right"
    other = routed((0.9, 0.6, 70), task="products")
    assert operating_point([plain, other, verified]) == (0.9, 0), "products were not measured at that acceptance"
    late = routed((0.8, 0.6, 40), acceptance=0.3, task="products")
    assert operating_point([plain, other, verified, late]) == (0.9, 0), "at 0.3 no threshold was measured on both"
    both = routed((0.4, 0.6, 50), (0.8, 0.6, 55), acceptance=0.3)
    assert operating_point([plain, other, both, late]) == (0.8, 0.3), "what 0.4 gives of products is not known"
