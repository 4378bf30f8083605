"""Questions and their prompts: from files, and what is refused or left out."""

from __future__ import annotations

import json
import re

import datasets
import pytest

from engine.grading import grade
from tests.support.paths import ROOT
from tools import benchmarks
from tools.arithmetic import questions
from trainer import TrainerError
from trainer.questions import (
    Question,
    check_apart,
    load_questions,
    named_questions,
    prompt,
    read_questions,
    task_named_by,
    texts_of,
)
from trainer.shards import digest

GOOD = {"id": "1", "question": "Why?", "reference": "So.", "answer": "x"}
CHOICES = {"label": ["A", "B"], "text": ["one", "two"]}


def rows(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def numbered(path, name, count, **fields):
    return str(rows(path, *(GOOD | {"id": f"{name}{n}"} | fields for n in range(count))))


def test_answers_on_disk_stay_those_of_their_questions():
    """The prompts, and what shards know a question by: how it is graded must not disown its answers."""
    choice = Question("c", "Which?", "", "B", (("A", "one"), ("B", "two")))
    assert prompt(choice) == (
        "Which?\nA. one\nB. two\n"
        'Explain in one or two sentences, then finish with "the answer is" and the letter in parentheses.'
    )
    boxed = "Why?\nReason step by step, and put the final answer within \\boxed{}."
    assert prompt(Question("n", "Why?", "", "41")) == prompt(Question("l", "Why?", "", "x^2")) == boxed
    assert prompt(Question("a", "Add 2.", "", "41", stated_family="arithmetic")) == "Add 2."
    assert digest([Question("q", "?", "", "41", stated_family="latex")]) == digest([Question("q", "?", "", "41")])
    assert digest([Question("q", "?", "", "41")]) != digest([Question("q", "?", "", "42")])
    dev = load_questions([str(ROOT / "assets" / "arithmetic" / "dev.jsonl")], 5)
    assert digest(dev).startswith("dcfb6518a05b7386"), "folders begun with them go on"
    assert dev == list(questions("dev", 5, 0)), "the files are what the tool writes"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "JSON"),
        ("[1]", "object"),
        ({"id": "2"}, "question"),
        (GOOD, "'1'"),
        (GOOD | {"id": "2", "answer": ""}, "answer.*empty"),
        (GOOD | {"id": "2", "reference": "y" * 100_000}, "reference.*20000"),
        (GOOD | {"id": "2", "question": "nul\0"}, "NUL"),
        (GOOD | {"id": "2", "reference": "half \ud83d"}, "JSON"),
        (GOOD | {"id": "2", "answer": True}, "answer.*string"),
        (GOOD | {"id": "2", "choices": {"label": ["A"], "text": ["x", "y"]}}, "1 labels for 2"),
        (GOOD | {"id": "2", "choices": CHOICES}, "'x' is not among the labels A, B"),
        (GOOD | {"id": "2", "choices": {"label": ["A", "a"], "text": ["x", "y"]}}, "same label"),
        (GOOD | {"id": "2", "family": "essay"}, "family.*latex"),
        (GOOD | {"id": "2", "family": "number"}, "'x' is not a number"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_with_its_line_and_the_rest_is_read(tmp_path, line, reason):
    path, said = rows(tmp_path / "rows.jsonl", GOOD, line, "", GOOD | {"id": "3"}), []
    assert [question.id for question in read_questions(path, said.append)] == ["1", "3"]
    (told,) = said
    assert told.startswith(f"{path}:2: ") and len(told) < len(str(path)) + 200
    assert re.search(reason, told)


def test_a_row_may_use_every_form_of_a_field(tmp_path):
    path = rows(
        tmp_path / "rows.jsonl",
        {"id": 1, "question": "Why?", "answer": 41, "reference": None, "choices": None},
        {"id": 2, "question": "Why?", "answer": 0.5, "reference": "  ", "choices": {"label": [], "text": []}},
        {"id": 3, "question": "Which?", "answer": "B", "choices": ["one", " two"]},
        {"id": 4, "question": "Which\u2028one?", "answer": "2", "choices": {"label": ["1", "2"], "text": [3, 4]}},
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b"\\u2028", b"\xe2\x80\xa8"))
    found = read_questions(path, pytest.fail)
    assert [q.answer for q in found] == ["41", "0.5", "B", "2"] and not any(q.reference for q in found)
    assert [q.family for q in found] == ["number", "number", "choice", "choice"]
    assert found[2].choices == (("A", "one"), ("B", " two")) and found[3].choices == (("1", "3"), ("2", "4"))


def test_a_json_file_is_a_list_of_general_prompts_named_by_their_places(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(["Hello", "Bye"]))
    assert [(each.id, prompt(each)) for each in read_questions(path)] == [("rows-0", "Hello"), ("rows-1", "Bye")]
    for content, named in ((["Hello", " "], "1 = .*empty"), ([GOOD], "JSON lines"), ([], "at least 1")):
        path.write_text(json.dumps(content))
        with pytest.raises(TrainerError, match=named):
            read_questions(path)


@pytest.mark.parametrize("content", [b"", b"{}\n[]\n", b'{"id": "caf\xe9"}', b'[{"id": 1},', b'"text"'])
def test_a_file_that_cannot_be_used_or_is_not_there_is_refused_by_name(tmp_path, content):
    (tmp_path / "own.json").write_bytes(content)
    for path in (tmp_path / "own.json", tmp_path / "nowhere" / "own.json", tmp_path):
        with pytest.raises(TrainerError, match=path.name):
            load_questions([str(path)], 5, report=lambda _: None)


def test_sources_are_mixed_evenly_without_a_gap_from_an_offset_on(tmp_path):
    sources = [numbered(tmp_path / "a.jsonl", "a", 2), numbered(tmp_path / "b.jsonl", "b", 4)]
    assert [question.id for question in load_questions(sources, 10)] == ["a0", "b0", "a1", "b1", "b2", "b3"]
    assert load_questions(sources, 4) + load_questions(sources, 10, offset=4) == load_questions(sources, 6)


def test_questions_are_found_by_their_ids_in_the_order_of_these(tmp_path):
    sources = [numbered(tmp_path / f"{name}.jsonl", name, 3) for name in "ab"]
    assert [question.id for question in named_questions(sources, ["b1", "a2", "a0"])] == ["b1", "a2", "a0"]
    with pytest.raises(TrainerError, match=r"a\.jsonl: 1 of 2 questions are not there, e\.g\. 'b7'"):
        named_questions(sources[:1], ["a0", "b7"])


def test_what_leaves_no_question_or_two_of_one_id_is_refused_with_the_way_out(tmp_path):
    source = numbered(tmp_path / "q.jsonl", "q", 3)
    for count, offset in ((1, 3), (0, 0)):
        with pytest.raises(TrainerError, match=rf"first {offset}"):
            load_questions([source], count, offset=offset)
    twin = numbered(tmp_path / "twin.jsonl", "q", 2)
    with pytest.raises(TrainerError, match="'q0'"):
        load_questions([source, twin], 3)


def test_a_file_names_its_task_or_its_folder_does():
    files = ("data/csqa/train.jsonl", "data/csqa/dev.jsonl", "my/questions.jsonl", "free-text.json")
    assert [task_named_by(each) for each in files] == ["csqa", "csqa", "questions", "free-text"]


def test_questions_to_evaluate_on_are_others_than_those_to_train_on_by_text_and_by_id():
    def asked(name, text, *choices):
        return Question(name, text, "", "A", tuple(zip("AB", choices, strict=False)))

    trained = texts_of([asked("q1", "Which?", "a", "b"), asked("q2", "Who?")])
    check_apart(trained, [asked("q3", "Which?", "a", "c"), asked("q4", "Why?")], "way out")
    for questions_, named in (
        ([asked("q3", "Which?", "a", "b"), asked("q4", "Why?")], r"1 questions.*'q3'.*way out"),
        ([asked("q1", "Where?")], "1 questions.*'q1'"),
    ):
        with pytest.raises(TrainerError, match=named):
            check_apart(trained, questions_, "way out")
    with pytest.raises(TrainerError, match="'q1'"):
        check_apart({"q1": ""}, [asked("q1", "Where?")], "way out")  # whose text nobody knows


ROWS = {
    "csqa": {
        "id": "075e",
        "question": "Where does a person keep milk cold?",
        "choices": {"label": list("ABCDE"), "text": ["oven", "fridge", "lake", "desk", "bag"]},
        "answerKey": "B",
    },
    "arc-challenge": {
        "id": "NYSEDREGENTS_2013_8_4",
        "question": "Which of these is hottest?",
        "choices": {"text": ["ice", "water", "steam"], "label": ["1", "2", "3"]},
        "answerKey": "3",
    },
    "mmlu-psychology": {"question": "Who studies behaviour?", "choices": ["a baker", "a doctor"], "answer": 1},
    "gsm8k": {
        "question": "Ann sold 48 clips in April and half as many in May. How many clips did she sell?",
        "answer": "Ann sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72",
    },
    "math": {"problem": "What is half of $1 + x$ where $x = 2$?", "solution": "So \\boxed{}, $\\boxed{\\frac{3}{2}}$."},
}


def test_the_hubs_benchmarks_become_files_of_questions_that_can_be_graded(tmp_path, monkeypatch, capsys):
    by_repo = {each.repo: name for name, each in benchmarks.BENCHMARKS.items()}
    broken = {"answer": "no number", "solution": "5"}
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, *_, **__: [ROWS[by_repo[repo]], broken])
    monkeypatch.setattr("sys.argv", ["x", "gsm8k", "math", "--out", str(tmp_path)])
    benchmarks.main()
    assert "gsm8k train: row 1 is left out: the answer has no ####" in capsys.readouterr().out
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, *_, **__: [ROWS[by_repo[repo]]])
    monkeypatch.setattr("sys.argv", ["x", "csqa", "arc-challenge", "mmlu-psychology", "--out", str(tmp_path)])
    benchmarks.main()
    found = {name: read_questions(tmp_path / name / "dev.jsonl", pytest.fail)[0] for name in ROWS}
    assert [each.answer for each in found.values()] == ["B", "C", "B", "72", "\\frac{3}{2}"]
    assert [each.family for each in found.values()] == [*["choice"] * 3, "number", "latex"]
    assert found["csqa"].id == "csqa-dev-075e" and found["gsm8k"].id == "gsm8k-dev-0"
    assert found["arc-challenge"].choices == (("A", "ice"), ("B", "water"), ("C", "steam")), "numbers become letters"
    assert found["gsm8k"].reference.endswith("She sold 48+24 = 72 clips.\nThe answer is \\boxed{72}.")
    assert grade(found["gsm8k"], found["gsm8k"].reference) and grade(found["math"], "\\boxed{\\dfrac32}")
