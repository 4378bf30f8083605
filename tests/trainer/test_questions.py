"""Questions, their prompts, and what is made of files that are not as they should be."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

from trainer import TrainerError
from trainer.questions import benchmarks
from trainer.questions.question import Question, prompt
from trainer.questions.sources import load_questions, read_jsonl
from trainer.shards import digest
from trainer.tiny.arithmetic import questions

GOOD = {"id": "1", "question": "Why?", "reference": "So.", "answer": "x"}
CHOICES = {"label": ["A", "B"], "text": ["one", "two"]}


def rows(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def numbered(path, name, count, **fields):
    rows(path, *(GOOD | {"id": f"{name}{n}"} | fields for n in range(count)))
    return str(path)


@pytest.mark.parametrize(
    ("question", "family"),
    [
        (Question("q", "?", "", "A", (("A", "x"),)), "choice"),
        (Question("q", "?", "", "41", stated_family="arithmetic"), "arithmetic"),
        (Question("arithmetic-1", "?", "", "41"), "number"),
        (Question("q", "?", "", "1,800"), "number"),
        (Question("q", "?", "", "\\frac{3}{4}"), "number"),
        (Question("q", "?", "", "x^2"), "latex"),
        (Question("q", "?", "", "3 apples"), "latex"),
        (Question("q", "?", "", "41", stated_family="latex"), "latex"),
    ],
)
def test_the_family_is_what_is_stated_or_else_what_the_answer_looks_like(question, family):
    assert question.family == family
    for other in (replace(question, reference="So."), copy.deepcopy(question), pickle.loads(pickle.dumps(question))):
        assert other.family == family


def test_shards_know_a_question_by_the_same_fields_whatever_its_family():
    """How an answer is graded must not disown answers on disk."""
    assert digest([Question("q", "?", "", "41", stated_family="latex")]) == digest([Question("q", "?", "", "41")])
    assert digest([Question("q", "?", "", "41")]) != digest([Question("q", "?", "", "42")])


def test_prompts_are_the_ones_that_answers_on_disk_were_asked_with():
    choice = Question("c", "Which?", "", "B", (("A", "one"), ("B", "two")))
    assert prompt(choice) == (
        "Which?\nA. one\nB. two\n"
        'Explain in one or two sentences, then finish with "the answer is" and the letter in parentheses.'
    )
    boxed = "Why?\nReason step by step, and put the final answer within \\boxed{}."
    assert prompt(Question("n", "Why?", "", "41")) == prompt(Question("l", "Why?", "", "x^2")) == boxed
    assert prompt(Question("a", "Add 2.", "", "41", stated_family="arithmetic")) == "Add 2."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not JSON"),
        ('"not an object"', "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 50_000, "not JSON"),
        ('{"id": "2", "question": "Why?", "answer": ' + "1" * 5_000 + "}", "not JSON"),
        ({"id": "2"}, "no field 'question'"),
        ({"question": "Why?", "answer": "x"}, "no field 'id'"),
        ({"id": "2", "question": "Why?"}, "no field 'answer'"),
        (GOOD, "the id '1' is taken by an earlier row"),
        (GOOD | {"id": "2", "question": " "}, "the question is empty"),
        (GOOD | {"id": "2", "answer": ""}, "the answer is empty"),
        (GOOD | {"id": "2", "reference": "y" * 100_000}, "100,005 characters, at most 20,000"),
        (GOOD | {"id": "2", "choices": ["y" * 30_000, "z"], "answer": "A"}, "30,009 characters, at most 20,000"),
        (GOOD | {"id": "2", "question": "nul\0"}, "the question holds a NUL"),
        (GOOD | {"id": "2", "reference": "half \ud83d"}, "the reference holds a NUL or half a surrogate pair"),
        (GOOD | {"id": "2", "question": ["Why?"]}, "the question is not a text"),
        (GOOD | {"id": "2", "reference": {}}, "the reference is not a text"),
        (GOOD | {"id": "2", "answer": True}, "the answer is not a text"),
        (GOOD | {"id": None}, "the id is not a text"),
        (GOOD | {"id": "2", "choices": {"label": ["A"], "text": ["x", "y"]}}, "1 labels for 2 choices"),
        (GOOD | {"id": "2", "choices": CHOICES}, "the answer 'x' is not among the labels A, B"),
        (GOOD | {"id": "2", "choices": {"label": ["A", "a"], "text": ["x", "y"]}}, "two choices have the same label"),
        (GOOD | {"id": "2", "choices": {"label": ["", "a"], "text": ["x", "y"]}}, "a label is empty"),
        (GOOD | {"id": "2", "choices": {"label": "AB", "text": ["x", "y"]}}, "the choices are neither"),
        (GOOD | {"id": "2", "choices": "AB"}, "the choices are neither"),
        (GOOD | {"id": "2", "choices": ["x", None], "answer": "A"}, "the choices' text is not a text"),
        (GOOD | {"id": "2", "choices": ["x"] * 27, "answer": "A"}, "26 labels for 27 choices"),
        (GOOD | {"id": "2", "family": "essay"}, "the family is not one of choice, number, latex, arithmetic"),
        (GOOD | {"id": "2", "family": ["latex"]}, "the family is not one of"),
        (GOOD | {"id": "2", "family": "choice"}, "the family is choice, and there are 0 choices"),
        (GOOD | {"id": "2", "choices": CHOICES, "answer": "A", "family": "latex"}, "the family is latex"),
        (GOOD | {"id": "2", "family": "number"}, "the answer 'x' is not a number"),
        (GOOD | {"id": "2", "family": "arithmetic"}, "the answer 'x' is not a whole number"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_with_its_line_and_the_rest_is_read(tmp_path, line, reason):
    path, said = rows(tmp_path / "rows.jsonl", GOOD, line, "", GOOD | {"id": "3"}), []
    assert [question.id for question in read_jsonl(path, said.append)] == ["1", "3"]
    assert len(said) == 1
    assert said[0].startswith(f"{path}:2: skipped: {reason}")
    assert len(said[0]) < len(str(path)) + 200


def test_a_row_may_use_every_form_of_a_field(tmp_path):
    path = rows(
        tmp_path / "rows.jsonl",
        {"id": 1, "question": "Why?", "answer": 41, "reference": None, "choices": None},
        {"id": 2, "question": "Why?", "answer": 0.5, "reference": "  ", "choices": {"label": [], "text": []}},
        {"id": 3, "question": "Why?", "answer": "41", "family": "latex"},
        {"id": 4, "question": "Which?", "answer": "B", "choices": ["one", " two"]},
        {"id": 5, "question": "Which\u2028one?", "answer": "2", "choices": {"label": ["1", "2"], "text": [3, 4]}},
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b"\\u2028", b"\xe2\x80\xa8"))
    found = read_jsonl(path, pytest.fail)
    assert [(q.id, q.answer, q.reference, q.family) for q in found] == [
        ("1", "41", "", "number"),
        ("2", "0.5", "", "number"),
        ("3", "41", "", "latex"),
        ("4", "B", "", "choice"),
        ("5", "2", "", "choice"),
    ]
    assert found[3].choices == (("A", "one"), ("B", " two"))
    assert found[4].choices == (("1", "3"), ("2", "4"))


def test_a_json_list_is_read_and_its_bad_items_are_reported_by_number(tmp_path):
    path, said = tmp_path / "rows.json", []
    path.write_text(json.dumps([GOOD, {"id": "2"}, GOOD | {"id": "3"}], indent=2))
    assert [question.id for question in read_jsonl(path, said.append)] == ["1", "3"]
    assert said == [f"{path}: item 2: skipped: no field 'question'"]


def test_json_lines_are_read_from_a_json_file_too(tmp_path):
    path = rows(tmp_path / "rows.json", GOOD, GOOD | {"id": "2"})
    assert len(read_jsonl(path, pytest.fail)) == 2
    assert len(read_jsonl(rows(tmp_path / "one.json", GOOD), pytest.fail)) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "has no usable row"),
        ("blank.jsonl", b"\n \n", "has no usable row"),
        ("bad.jsonl", b"{}\n[]\n", "has no usable row"),
        ("latin1.jsonl", '{"id": "caf\xe9"}'.encode("latin-1"), "no usable row: give UTF-8"),
        ("weights.bin", bytes(range(256)) * 10, "no usable row: give UTF-8"),
        ("nul.jsonl", b"\0" * 100, "has no usable row"),
        ("cut.json", b'[{"id": 1},', "not JSON"),
        ("list.json", b"[]", "has no usable row"),
        ("text.json", b'"text"', "has no usable row"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainerError, match=rf"{name}.*{message}"):
        load_questions([str(tmp_path / name)], 5, report=lambda _: None)


def test_one_row_that_is_not_utf_8_is_skipped_with_its_line_and_the_others_are_read(tmp_path):
    path, said = tmp_path / "some.jsonl", []
    good = [
        json.dumps(GOOD | {"id": name, "question": "Caf\u00e9?"}, ensure_ascii=False).encode() for name in ("1", "3")
    ]
    path.write_bytes(b"\n".join([good[0], good[0].replace(b"\xc3", b""), good[1]]))
    assert [question.id for question in read_jsonl(path, said.append)] == ["1", "3"]
    assert len(said) == 1 and said[0].startswith(f"{path}:2: skipped: not UTF-8")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(TrainerError, match=r"nowhere\.jsonl cannot be read.*JSON lines"):
        load_questions([str(tmp_path / "nowhere.jsonl")], 5)
    with pytest.raises(TrainerError, match=rf"{tmp_path.name} cannot be read"):
        load_questions([str(tmp_path)], 5)


def test_sources_are_mixed_evenly_and_the_longer_one_goes_on(tmp_path):
    sources = [numbered(tmp_path / "a.jsonl", "a", 2), numbered(tmp_path / "b.jsonl", "b", 4)]
    assert [question.id for question in load_questions(sources, 10)] == ["a0", "b0", "a1", "b1", "b2", "b3"]


def test_questions_without_a_reference_leave_no_gap_in_the_mixture(tmp_path):
    rows(tmp_path / "a.jsonl", *(GOOD | {"id": f"a{n}", "reference": "So." if n > 1 else ""} for n in range(4)))
    sources = [str(tmp_path / "a.jsonl"), numbered(tmp_path / "b.jsonl", "b", 2)]
    assert [question.id for question in load_questions(sources, 3)] == ["a2", "b0", "a3"]
    assert [question.id for question in load_questions(sources, 3, need_reference=False)] == ["a0", "b0", "a1"]


def test_an_offset_skips_the_first_of_the_mixture(tmp_path):
    sources = [numbered(tmp_path / "a.jsonl", "a", 3), numbered(tmp_path / "b.jsonl", "b", 3)]
    first, rest = load_questions(sources, 4), load_questions(sources, 10, offset=4)
    assert first + rest == load_questions(sources, 6)
    assert load_questions(["arithmetic"], 5, offset=5) == load_questions(["arithmetic"], 10)[5:]
    with pytest.raises(TrainerError, match="no question is left after the first 6, there are 6"):
        load_questions(sources, 1, offset=6)
    with pytest.raises(TrainerError, match="0 questions after the first 0"):
        load_questions(sources, 0)


def test_without_any_reference_the_way_out_is_told(tmp_path):
    source = numbered(tmp_path / "dev.jsonl", "d", 3, reference="")
    with pytest.raises(TrainerError, match=r"dev\.jsonl: no question with a reference.*--reference llm"):
        load_questions([source], 3)
    assert len(load_questions([source], 3, need_reference=False)) == 3


def test_two_sources_with_the_same_id_are_refused(tmp_path):
    sources = [numbered(tmp_path / "a.jsonl", "q", 2), numbered(tmp_path / "b.jsonl", "q", 2)]
    with pytest.raises(TrainerError, match="2 questions have the id 'q0'"):
        load_questions(sources, 3)


def test_a_name_is_a_path_only_with_a_separator_a_suffix_or_such_a_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(benchmarks, "load", lambda *given: asked.append(given) or [Question("b", "?", "So.", "1")])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "math").mkdir()
    assert load_questions(["math"], 1, "dev", report=pytest.fail)[0].id == "b"
    assert asked == [("math", "dev", pytest.fail)]
    for source in ("./math", "gsm8k.jsonl"):
        with pytest.raises(TrainerError, match="cannot be read"):
            load_questions([source], 1)
    numbered(tmp_path / "csqa", "file", 1)
    assert load_questions(["csqa"], 1)[0].id == "file0"
    with pytest.raises(TrainerError, match="gsm9k: neither a file nor one of arithmetic, csqa, arc-challenge"):
        load_questions(["gsm9k"], 1)


def test_arithmetic_is_the_same_as_ever_and_needs_no_datasets():
    found = load_questions(["arithmetic"], 5, "dev")
    assert found == list(questions("dev", 5, 0)) and {each.family for each in found} == {"arithmetic"}
    assert digest(found).startswith("dcfb6518a05b7386"), "folders that were begun with them go on"
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from trainer.questions.sources import load_questions; print(len(load_questions(['arithmetic'], 3)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "3\n"
