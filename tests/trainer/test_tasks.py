"""The table of all tasks: the best learned point beside each rival's, chosen the same way, and what was wanted."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

import pytest

from tests.trainer.test_plane import ABOVE_0, write_plane
from tests.trainer.test_record import POINTS, close, summary_of
from trainer.evaluation.estimates import NOTES, in_words
from trainer.evaluation.plane import LEARNED
from trainer.evaluation.record import MACHINES, read_evaluation
from trainer.evaluation.summary import summarise
from trainer.report.report import render, render_short
from trainer.report.tasks import RIVALS, short_table, tasks_section, wanted
from trainer.report.tasks_seconds import learned_seconds, measured_seconds
from trainer.shards import JOINT


@pytest.fixture(scope="module")
def summary(tmp_path_factory) -> Any:
    return summarise(read_evaluation(write_plane(tmp_path_factory.mktemp("plane"))), 500)


def changed(summary, **fields) -> Any:
    return {**summary, **fields}


def cells(text: str, first: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [line for line in lines if line[0] == first]


def test_the_learned_family_is_routers_at_any_acceptance_and_rivals_are_at_acceptance_0(summary):
    families = summary["plane"]["families"]
    learned = families[LEARNED]["0.9"]["point"]
    assert (learned["method"], learned["acceptance"], learned["bytes"]) == ("citer-r2", 0.3, 36e6)
    rival = families["confidence-0"]["0.9"]
    assert (rival["point"]["acceptance"], rival["point"]["bytes"]) == (0, 80e6), "at 0.3 it would be cheaper"
    assert rival["learned"]["bytes"]["value"] == close(36 / 80)
    assert families["assisted-tuned"]["0.9"]["learned"]["seconds"]["value"] == close(36 / 48)
    assert not {"co-llm", "query", "citer-shortcut"} & families.keys(), "they were not measured"


def test_citer_without_rollouts_is_a_rival_and_no_learned_point_of_ours(tmp_path):
    points = {**ABOVE_0, ("citer-shortcut", 0.5, 0.0, "auto"): (60, 0.1, 30), ("kept", 0.5, 0.3, 8): (57, 0.1, 34)}
    families: Any = summarise(read_evaluation(write_plane(tmp_path, points)), 50).get("plane", {})["families"]
    assert families["citer-shortcut"]["0.9"]["point"]["bytes"] == 30e6
    assert families[LEARNED]["0.9"]["point"]["method"] == "kept"
    assert families["citer-shortcut"]["0.9"]["learned"]["bytes"]["value"] == close(34 / 30)


def test_a_row_says_what_the_best_learned_point_costs_beside_each_rival(summary):
    (row,) = cells(short_table([summary]), "sums")
    assert row[1:6] == ["100", "20.0 %", "60.0 %", "citer-r2@0.3 < 0.5", "36 %"]
    assert row[6].startswith("**45 % (") and row[7:10] == ["", "", ""] and row[10].startswith("**75 % (")


def test_rivals_that_were_measured_above_acceptance_0_stand_in_a_table_of_their_own(tmp_path, summary):
    only_confidence = cells(tasks_section([summary, summary]), "sums")[2]
    assert only_confidence[1].startswith("82 % (") and only_confidence[1].endswith("), confidence@0.3 < 0.5")
    assert len(only_confidence) == 2, "the others were measured at acceptance 0, or not at all"
    points = {
        **ABOVE_0,
        ("random", 0.2, 0.3, "auto"): (57, 0.2, 72),
        ("entropy", 0.5, 0.3, "auto"): (57, 0.1, 48),
        ("margin", 0.5, 0.3, 8): (57, 0.1, 40),
        ("query-refit", 0.5, 0.3, "auto"): (57, 0.1, 45),
        ("citer-shortcut", 0.5, 0.0, "auto"): (60, 0.1, 30),
    }
    more: Any = summarise(read_evaluation(write_plane(tmp_path, points)), 50)
    assert "query" not in more["plane"]["families"], "it was fitted again, and not measured at acceptance 0"
    assert more["plane"]["families"][LEARNED]["0.9"]["point"]["bytes"] == 36e6, "rivals are none of ours"
    _, random, _, certainty, query = cells(tasks_section([more, more]), "sums")[2]
    assert random.startswith("50 % (") and random.endswith("), random@0.3 < 0.2")
    assert certainty.startswith("90 % (") and certainty.endswith("), margin@0.3/8 < 0.5"), "the cheaper of both"
    assert query.startswith("80 % (") and query.endswith("), query-refit@0.3 < 0.5")


def test_what_was_wanted_and_not_found_is_not_bold(tmp_path):
    points = {**ABOVE_0, ("assisted-tuned", 0.5, 1.0, 4): (60, 0.4, 38)}
    (row,) = cells(short_table([summarise(read_evaluation(write_plane(tmp_path, points)), 50)]), "sums")
    assert row[10].startswith("95 % (")


def test_how_a_choice_holds_on_questions_that_had_no_part_in_it_stands_below(summary):
    left_out = summary["plane"]["families"][LEARNED]["0.9"]["left_out"]
    assert 0.8 < left_out["gap_recovered"] < 1.2 and 0.36 <= left_out["bytes"] < 0.37
    row = cells(tasks_section([summary, summary]), "sums")[4]
    assert row[1].endswith(" at 36 %") and row[3:6] == ["", "", ""] and row[6].endswith(" at 48 %")
    families = {
        name: {key: {**each, "left_out": None} for key, each in of.items()}
        for name, of in summary["plane"]["families"].items()
    }
    for targets in families.values():
        for each in targets.values():
            del each["left_out"]
    before: Any = changed(summary, plane={**summary["plane"], "families": families})
    assert "leaves out" not in tasks_section([before, before])


def test_what_the_router_saves_beside_confidence_stands_for_all_tasks_side_by_side(summary):
    saved = summary["comparisons"]["against"]["confidence"]["savings"]["0.9"]["bytes"]
    text = tasks_section([summary, summary])
    row = cells(text[text.index("bytes that the router saves") :], "sums")[0]
    assert row[1] == "CITER round 2" and row[3].startswith(in_words(saved)) and ", p = " in row[3]


def test_where_many_resamples_miss_the_target_a_dagger_and_its_note_say_so(summary):
    (row,) = cells(short_table([summary]), "sums")
    assert "†" not in row[10]
    families: Any = summary["plane"]["families"]
    rival = families["assisted-tuned"]["0.9"]
    often = {**rival, "learned": {**rival["learned"], "bytes": {**rival["learned"]["bytes"], "unreached": 0.3}}}
    marked = changed(summary, plane={**summary["plane"], "families": {**families, "assisted-tuned": {"0.9": often}}})
    (row,) = cells(short_table([marked]), "sums")
    assert row[10].endswith("**†")
    for text in (tasks_section([marked, marked]), render_short([marked])):
        assert NOTES["†"] in text and NOTES["‡"] not in text


def test_where_two_copies_of_the_weights_wrote_what_is_compared_a_mark_and_its_note_say_so(summary):
    families = summary["plane"]["families"]
    by_copy = {LEARNED: "int8", "assisted-tuned": "bf16", "confidence-0": "int8"}
    told = {
        family: {"0.9": {**(at := families[family]["0.9"]), "point": {**at["point"], "weights_copy": copy}}}
        for family, copy in by_copy.items()
    }
    marked = changed(summary, plane={**summary["plane"], "families": {**families, **told}})
    (row,) = cells(short_table([marked]), "sums")
    assert row[10].endswith("‡") and "‡" not in row[6]
    for text in (tasks_section([marked, marked]), render_short([marked])):
        assert NOTES["‡"] in text
    assert "‡" not in short_table([summary])


def test_where_the_llm_alone_stands_for_a_rival_a_mark_and_its_note_say_so(tmp_path):
    points = {**ABOVE_0, ("co-llm", 0.5, 0.0, "auto"): (30, 0.2, 20)}
    told = summarise(read_evaluation(write_plane(tmp_path, points)), 50)
    (row,) = cells(short_table([told]), "sums")
    assert row[7].endswith("§") and "§" not in row[6] + row[10]
    assert NOTES["§"] in render_short([told])


def test_points_know_the_copy_of_the_weights_that_their_stage_names_and_the_page_of_results_says_it(tmp_path):
    write_plane(tmp_path)
    for stage, copy in (("answers", "bf16"), ("plane", "int8")):
        path = tmp_path / f"{stage}.json"
        about = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
        path.write_text(json.dumps({**about, "weights_copy": copy}), encoding="utf-8")
    mixed = summarise(read_evaluation(tmp_path), 50)
    by_method = {
        name: {point.get("weights_copy") for point in each["points"]} for name, each in mixed["methods"].items()
    }
    assert by_method["confidence"] == {"bf16"} and by_method["assisted-tuned"] == {"int8"}
    families: Any = mixed.get("plane", {})["families"]
    learned = families[LEARNED]["0.9"]["point"]
    assert (learned["acceptance"], learned["weights_copy"]) == (0, "bf16"), (
        "of ours, only what the LLM's own copy wrote"
    )
    assert families["assisted-tuned"]["0.9"]["point"]["weights_copy"] == "int8"
    text = render([mixed], tmp_path, tmp_path)
    assert "Written by copies of the weights, of which two kinds part at near ties: in bf16: " in text
    assert "; in int8: speculative decoding, tuned, " in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and " points (" in line]
    saved = {line.split("|")[1].strip(): line for line in rows}
    assert "‡" in saved["speculative decoding, tuned"] and "‡" not in saved["SLM confidence"]


def test_less_than_all_is_found_only_where_the_whole_interval_is_below():
    rival = next(rival for rival in RIVALS if rival.surely)
    ratio: Any = {"value": 0.8, "low": 0.6, "high": 1.02, "unreached": 0.0, "p_value": 0.1}
    surely: Any = {**ratio, "high": 0.99}
    assert not rival.met(ratio) and rival.met(surely)


def test_what_was_found_on_too_few_of_enough_tasks_is_called_missed():
    found, other = ({"confidence-0": {"value": each, "low": each, "high": each}} for each in (0.8, 0.9))
    several: Any = ([found] * 4 + [other], [found] * 3 + [other] * 2, [other] * 2)
    told = [wanted(tasks, "bytes") for tasks in several]
    assert [text.partition("SLM confidence at most 85 %: ")[2].partition(";")[0] for text in told] == [
        "4 of 5",
        "3 of 5, **missed** (4 wanted)",
        "0 of 2",
    ]


def test_several_tasks_have_a_section_with_bytes_and_seconds_and_one_has_none(summary):
    other = changed(summary, task="products", hardware=JOINT.join(["a laptop", "a server"]))
    text = tasks_section([summary, other])
    assert len(cells(text, "sums")) == 5
    assert len(cells(text, "products")) == 4, "seconds of two machines do not stand beside each other"
    assert "Wanted of the bytes, and on how many tasks it was found: SLM confidence at most 85 %: 2 of 2;" in text
    counts = "SLM confidence at most 85 %: 1 of 1; Co-LLM style at most 73 %: not measured;"
    assert f"Wanted of the modelled seconds, and on how many tasks it was found: {counts}" in text
    assert tasks_section([summary]) == ""


def timed(*points, questions=20, task="sums", hardware="a laptop") -> Any:
    """Measured seconds of the LLM alone, and of settings (method, acceptance, max_draft, threshold, times as fast)."""
    points = (("llm", 0.0, "auto", 0.0, 1.0), *points)
    names = ("method", "acceptance", "max_draft", "threshold")
    each = [
        dict(zip(names, setting, strict=True))
        | {"speedup": {"value": times, "low": times / 2, "high": times * 2, "unreached": 0.0, "p_value": None}}
        | {"bytes_ratio": {"value": 0.5, "low": 0.4, "high": 0.6, "unreached": 0.0, "p_value": None}}
        | {"llm_passes": 10, "modelled": 2.0, "seconds": 3 / times}
        for *setting, times in points
    ]
    passes = {"slm": {"1": 0.02}, "llm": {"1": 0.05}}
    return {"task": task, "questions": questions, "points": each, "hardware": hardware, "passes": passes}


def test_measured_seconds_are_those_of_the_fastest_timed_setting_that_gets_there(summary):
    learned = ("citer-r2", 0.3, "auto", 0.5)
    several = timed((*learned, 1.25), ("citer-r2", 0.3, "auto", 0.499, 9.0), ("slm", 1.0, 4, 0.5, 0.8))
    row, _ = cells(measured_seconds([summary], [several]), "sums")
    learned, rival = "citer-r2@0.3 < 0.5: 80 % (40 to 160), bytes 50 % (40 to 60)", "slm@1/4: 125 % (62 to 250)"
    # Ten passes of 0.02 s in 2 s are a tenth of it.
    assert row == ["sums", "20", learned, "", "", "", "", f"{rival}, as published about 112 %"]


def test_the_fastest_timed_setting_of_a_learned_router_is_told_alone_of_its_own_task(summary):
    points = [("citer-r2", 0.3, "auto", 0.5, 1.25), ("citer-r2", 0.0, "auto", 0.6, 1.0), ("slm", 1.0, 4, 0.5, 2.0)]
    assert (
        learned_seconds(summary, [timed(*points, task="products"), timed(*points)])
        == "80 % (40 to 160), citer-r2@0.3 < 0.5"
    )
    assert learned_seconds(summary, [timed(*points, questions=19)]) == ""
    assert learned_seconds(summary, [timed(*points, hardware=JOINT.join(["a laptop", "a server"]))]) == ""
    assert learned_seconds(summary, [timed(points[2])]) == ""


@pytest.mark.parametrize(("dials", "threshold"), [((0.3, "auto"), 0.5), ((0.0, "auto"), 0.6)])
def test_a_learned_setting_of_another_copy_of_the_weights_than_the_llms_is_no_timed_one_of_ours(
    summary, dials, threshold
):
    several = timed(("citer-r2", *dials, threshold, 1.25), ("slm", 1.0, 4, 0.5, 0.8))
    assert cells(measured_seconds([summary], [several]), "sums")[0][2] != ""
    other = deepcopy(summary)
    own = [each for points in other["plane"]["curves"].values() for each in points if each["method"] == "citer-r2"]
    for point in (*own, *other["methods"]["citer-r2"]["points"]):
        point["weights_copy"] = "bf16"
    assert cells(measured_seconds([other], [several]), "sums")[0][2] == ""


def test_measured_seconds_say_how_far_the_model_of_them_is_off(summary):
    text = measured_seconds([summary], [timed(("citer-r2", 0.3, "auto", 0.5, 1.25), ("slm", 1.0, 4, 0.5, 0.8))])
    # By the model two seconds each; measured 3 by the LLM alone, 3 / 1.25 and 3 / 0.8 by the others.
    assert text.endswith("(below 100 % it is too kind to routing): sums 80 to 125 %.")


def test_measured_seconds_stand_beside_each_timed_rivals_and_what_was_wanted_is_counted_below(summary):
    points = [("citer-r2", 0.3, "auto", 0.5, 1.25), ("confidence", 0.0, "auto", 0.7, 1.0), ("slm", 1.0, 4, 0.5, 0.8)]
    text = measured_seconds([summary], [timed(*points)])
    # The LLM alone / 1.25 beside the LLM alone itself; of the rival that takes 1 / 0.8 a tenth is not as published.
    row = ["sums", "**80 %**", "", "", "", "**64 %, as published about 71 %**"]
    assert cells(text, "sums")[1] == row
    counts = ["SLM confidence at most 85 %: 1 of 1", "Co-LLM style at most 73 %: not measured"]
    assert f"Wanted of the measured seconds, and on how many tasks it was found: {'; '.join(counts)};" in text
    assert "speculative decoding, tuned at most 85 %: 1 of 1." in text


def test_speculative_decoding_is_beaten_only_where_it_would_be_as_it_is_published(summary):
    text = measured_seconds([summary], [timed(("citer-r2", 0.3, "auto", 0.5, 1.25), ("slm", 1.0, 4, 0.5, 1.0))])
    assert cells(text, "sums")[1][-1] == "80 %, as published about 89 %"
    assert "speculative decoding, tuned at most 85 %: 0 of 1." in text


def test_where_low_confidence_ends_drafts_the_time_as_published_is_a_bound_and_the_fastest_is_chosen_by_it(summary):
    learned, passed_faster = ("citer-r2", 0.3, "auto", 0.5, 1.25), ("confidence", 1.0, "auto", 0.6, 1.05)
    many = timed(learned, ("slm", 1.0, 4, 0.5, 1.0), passed_faster)
    _, _, drafts, early = many["points"]
    early["llm_passes"] = 0  # of these nothing is spared
    assert cells(measured_seconds([summary], [many]), "sums")[0][-1].startswith("slm@1/4: 100 %")
    early["llm_passes"], drafts["llm_passes"] = 10, 0
    text = measured_seconds([summary], [many])
    assert re.fullmatch(r"confidence@1 < 0\.6: 95 % .*, as published at least 86 %", cells(text, "sums")[0][-1])
    assert cells(text, "sums")[1][-1] == "84 %, as published at most 93 %"


def test_seconds_beside_a_rival_have_a_paired_interval_where_both_are_known_question_by_question(summary):
    both = timed(("citer-r2", 0.3, "auto", 0.5, 1.25), ("confidence", 0.0, "auto", 0.7, 1.0))
    _, ours, theirs = both["points"]
    theirs["by_question"] = [1.0 + number for number in range(20)]
    assert "**80 %**" in cells(measured_seconds([summary], [both]), "sums")[1]
    ours["by_question"] = [0.9 * each for each in theirs["by_question"]]
    # The answers differ twentyfold, and are a tenth faster each: what is paired is sure.
    assert cells(measured_seconds([summary], [both]), "sums")[1][1] == "90 % (90 to 90)"


def test_the_llm_alone_stands_for_a_rival_in_seconds_where_it_is_faster_and_never_for_ours(summary):
    ours, rival, drafts = ("citer-r2", 0.3, "auto", 0.5), ("confidence", 0.0, "auto", 0.7), ("slm", 1.0, 4, 0.5, 0.8)
    text = measured_seconds([summary], [timed((*ours, 0.8), (*rival, 0.5), drafts)])
    assert cells(text, "sums")[0][3].startswith("confidence < 0.7: 200 %"), "its own stands in the table above"
    assert cells(text, "sums")[1][1:] == ["125 %, LLM only", "", "", "", "100 %, as published about 111 %"]
    assert "SLM confidence at most 85 %: 0 of 1; Co-LLM style at most 73 %: not measured" in text
    text = measured_seconds([summary], [timed((*ours, 0.8), (*rival, 1.25))])
    assert cells(text, "sums")[1][1] == "156 %"


def test_the_llm_alone_stands_in_seconds_for_a_rival_of_which_nothing_else_gets_there(summary):
    learned, families = ("citer-r2", 0.3, "auto", 0.5, 1.25), summary["plane"]["families"]
    plane = {**summary["plane"], "families": {**families, "co-llm": families["confidence-0"]}}
    there = changed(likelihoods(summary, (0.3, 0.2), (0.6, 1.0)), plane=plane)
    assert len(cells(measured_seconds([there], [timed(learned)]), "sums")) == 1, "it gets there, and was not timed"
    text = measured_seconds([changed(likelihoods(summary, (0.3, 0.2)), plane=plane)], [timed(learned)])
    assert cells(text, "sums")[1][1:] == ["", "80 %, LLM only", "", "", ""]
    assert "Co-LLM style at most 73 %: 0 of 1" in text


def test_without_a_timed_rival_or_a_timed_learned_setting_there_is_no_table_of_them(summary):
    for alone in (("citer-r2", 0.3, "auto", 0.5, 1.25), ("confidence", 0.0, "auto", 0.7, 1.0)):
        text = measured_seconds([summary], [timed(alone)])
        assert len(cells(text, "sums")) == 1 and "Wanted" not in text


def test_a_setting_that_does_not_get_there_is_in_no_row_however_fast_it_is(summary):
    fast = ("confidence", 0.0, "auto", 0.3, 5.0)
    assert fast[3] in [point["threshold"] for point in summary["methods"]["confidence"]["points"]]
    (row,) = cells(measured_seconds([summary], [timed(fast)]), "sums")
    assert row[2:] == [""] * 6


def likelihoods(summary, *points) -> Any:
    """The summary with Co-LLM-style points (threshold, accuracy) only."""
    template = summary["methods"]["confidence"]["points"][0]
    own = [{**template, "threshold": threshold, "accuracy": accuracy} for threshold, accuracy in points]
    method = {**summary["methods"]["confidence"], "points": own}
    return changed(summary, methods={**summary["methods"], "co-llm": method})


@pytest.mark.parametrize(
    ("threshold", "found"),
    [(2.17e-13, False), (5.752e-11, True), (5.75e-11, True), (5.8e-11, False), (0.0, False), (0.999, False)],
)
def test_a_timed_threshold_is_the_nearest_that_was_evaluated_however_small_it_is(summary, threshold, found):
    evaluated = likelihoods(summary, (2.17046e-13, 0.0), (5.75173e-11, 1.0), (0.99904, 0.0), (0.99949, 1.0))
    timed_there = timed(("co-llm", 0.0, "auto", threshold, 1.25))
    (row,) = cells(measured_seconds([evaluated], [timed_there]), "sums")
    assert bool(row[4]) == found


def test_speculative_decoding_is_timed_under_no_other_name_than_its_own_or_what_ends_its_drafts(summary):
    for name, found in (("assisted-tuned", True), ("slm", True), ("confidence", True), ("citer-r2", False)):
        (row,) = cells(measured_seconds([summary], [timed((name, 1.0, 4, 0.5, 0.8))]), "sums")
        assert bool(row[-1]) == found, name


def test_the_fastest_setting_that_gives_the_llms_text_stands_for_speculative_decoding_tuned_for_bytes_or_not(summary):
    several = timed(
        ("assisted-tuned", 1.0, 4, 0.5, 0.8), ("confidence", 1.0, "auto", 0.2, 0.9), ("slm", 0.3, 5, 0.0, 2.0)
    )
    (row,) = cells(measured_seconds([summary], [several]), "sums")
    assert row[-1].startswith("confidence@1 < 0.2: 111 %")


def test_a_few_timed_questions_have_no_row_among_all_tasks(summary):
    few = timed(("citer-r2", 0.3, "auto", 0.5, 1.25), questions=19)
    assert measured_seconds([summary], [few]) == "" == measured_seconds([summary], [])


def test_seconds_that_were_measured_on_different_machines_are_left_out_with_a_word(summary):
    point, other = ("citer-r2", 0.3, "auto", 0.5, 1.25), changed(summary, task="products")
    both = [timed(point), timed(point, task="products", hardware=JOINT.join(["a laptop", "a server"]))]
    text = measured_seconds([summary, other], both)
    assert cells(text, "sums") and not cells(text, "products")
    assert text.endswith(f"Without products. {MACHINES}")
    assert measured_seconds([other], both) == ""


def test_the_page_has_it_before_the_tasks_own_parts(summary, tmp_path):
    text = render([summary, changed(summary, task="products")], tmp_path, tmp_path)
    assert text.index(": all tasks") < text.index(": sums, 100 questions")


def test_the_readme_leaves_the_tiny_pair_out_where_there_is_another_and_names_the_machines(summary):
    real = changed(summary, preset="cpu", task="products", hardware="three cores; two cores")
    assert cells(render_short([summary, real]), "products") and not cells(render_short([summary, real]), "sums")
    assert render_short([real]).endswith("Small ⇄ Large · NF4, on three cores; two cores.")
    assert cells(render_short([summary]), "sums")


def test_an_evaluation_at_acceptance_0_alone_has_a_row_without_ratios(tmp_path):
    ends = {key: value for key, value in POINTS.items() if key[0] in ("slm", "llm")}
    (row,) = cells(render_short([summary_of(tmp_path, ends)]), "sums")
    assert row == ["sums", "100", "20.0 %", "60.0 %", *[""] * 7]
