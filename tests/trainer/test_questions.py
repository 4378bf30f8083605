"""Questions and their prompts: from files, from the five benchmarks, and what is refused or left out."""

from __future__ import annotations

import json
import re

import datasets
import pytest

from engine.grading import grade
from trainer import TrainerError
from trainer.questions.apart import check_apart, texts_of
from trainer.questions.arithmetic import questions
from trainer.questions.benchmarks import BENCHMARKS, load
from trainer.questions.question import Question, prompt
from trainer.questions.sources import load_questions, named_questions, read_jsonl
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
    assert digest(list(questions("dev", 5, 0))).startswith("dcfb6518a05b7386"), "folders begun with them go on"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "JSON"),
        ("[1]", "object"),
        ({"id": "2"}, "'question'"),
        (GOOD, "'1'"),
        (GOOD | {"id": "2", "answer": ""}, "answer is empty"),
        (GOOD | {"id": "2", "reference": "y" * 100_000}, "100,005"),
        (GOOD | {"id": "2", "question": "nul\0"}, "NUL"),
        (GOOD | {"id": "2", "reference": "half \ud83d"}, "surrogate"),
        (GOOD | {"id": "2", "answer": True}, "answer is not"),
        (GOOD | {"id": "2", "choices": {"label": ["A"], "text": ["x", "y"]}}, "1 labels for 2"),
        (GOOD | {"id": "2", "choices": CHOICES}, "'x' is not among the labels A, B"),
        (GOOD | {"id": "2", "choices": {"label": ["A", "a"], "text": ["x", "y"]}}, "same label"),
        (GOOD | {"id": "2", "family": "essay"}, "family .*latex"),
        (GOOD | {"id": "2", "family": "number"}, "'x' is not a number"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_with_its_line_and_the_rest_is_read(tmp_path, line, reason):
    path, said = rows(tmp_path / "rows.jsonl", GOOD, line, "", GOOD | {"id": "3"}), []
    assert [question.id for question in read_jsonl(path, said.append)] == ["1", "3"]
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
    found = read_jsonl(path, pytest.fail)
    assert [q.answer for q in found] == ["41", "0.5", "B", "2"] and not any(q.reference for q in found)
    assert [q.family for q in found] == ["number", "number", "choice", "choice"]
    assert found[2].choices == (("A", "one"), ("B", " two")) and found[3].choices == (("1", "3"), ("2", "4"))


def test_a_json_file_is_one_list_or_lines_and_bad_items_are_reported_by_number(tmp_path):
    path, said = tmp_path / "rows.json", []
    path.write_text(json.dumps([GOOD, {"id": "2"}, GOOD | {"id": "3"}], indent=2))
    assert [question.id for question in read_jsonl(path, said.append)] == ["1", "3"] and "item 2" in said[0]
    assert len(read_jsonl(rows(path, GOOD, GOOD | {"id": "2"}), pytest.fail)) == 2
    path.write_text(json.dumps(["Hello", " ", GOOD]))
    first, _ = read_jsonl(path, said.append)
    assert (first.id, prompt(first)) == ("rows-0", "Hello")
    assert len(said) == 2 and "item 2" in said[1] and "no prompt" in said[1]


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
    assert load_questions(["arithmetic"], 5, offset=5) == load_questions(["arithmetic"], 10)[5:]
    rows(tmp_path / "c.jsonl", *(GOOD | {"id": f"c{n}", "reference": "So." if n > 1 else ""} for n in range(4)))
    mixed = [str(tmp_path / "c.jsonl"), sources[0]]
    assert [question.id for question in load_questions(mixed, 3)] == ["c2", "a0", "c3"]
    assert [question.id for question in load_questions(mixed, 3, need_reference=False)] == ["c0", "a0", "c1"]


def test_questions_are_found_by_their_ids_in_the_order_of_these(tmp_path):
    sources = [numbered(tmp_path / "a.jsonl", "a", 3), "arithmetic"]
    last = load_questions(["arithmetic"], 9)[-1].id
    assert [question.id for question in named_questions(sources, [last, "a2", "a0"])] == [last, "a2", "a0"]
    with pytest.raises(TrainerError, match=r"a\.jsonl: 1 of 2 questions are not there, e\.g\. 'b7'"):
        named_questions(sources[:1], ["a0", "b7"])


def test_what_leaves_no_question_or_two_of_one_id_is_refused_with_the_way_out(tmp_path):
    source = numbered(tmp_path / "q.jsonl", "q", 3, reference="")
    with pytest.raises(TrainerError, match=r"q\.jsonl.*label --answers"):
        load_questions([source], 3)
    for count, offset in ((1, 3), (0, 0)):
        with pytest.raises(TrainerError, match=rf"first {offset}"):
            load_questions([source], count, need_reference=False, offset=offset)
    twin = numbered(tmp_path / "twin.jsonl", "q", 2)
    with pytest.raises(TrainerError, match="'q0'"):
        load_questions([source, twin], 3, need_reference=False)


def test_a_name_is_a_path_only_with_a_separator_a_suffix_or_such_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [GSM8K])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gsm8k").mkdir()
    assert load_questions(["gsm8k"], 1, "dev")[0].id == "gsm8k-dev-0"
    for source in ("./gsm8k", "gsm8k.jsonl"):
        with pytest.raises(TrainerError, match="gsm8k"):
            load_questions([source], 1)
    numbered(tmp_path / "csqa", "file", 1)
    assert load_questions(["csqa"], 1)[0].id == "file0"
    with pytest.raises(TrainerError, match=r"gsm9k: .*csqa"):
        load_questions(["gsm9k"], 1)


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


CSQA = {
    "id": "075e483d21c29a511267ef62bedc0461",
    "question": "Where does a person keep milk cold?",
    "choices": {"label": list("ABCDE"), "text": ["oven", "fridge", "lake", "desk", "bag"]},
    "answerKey": "B",
}
ARC = {
    "id": "NYSEDREGENTS_2013_8_4",
    "question": "Which of these is hottest?",
    "choices": {"text": ["ice", "water", "steam"], "label": ["1", "2", "3"]},
    "answerKey": "3",
}
MMLU = {"question": "Who studies behaviour?", "choices": ["a baker", "a pilot", "a judge", "a doctor"], "answer": 3}
GSM8K = {
    "question": "Ann sold 48 clips in April and half as many in May. How many clips did she sell?",
    "answer": "Ann sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72",
}
MATH = {
    "problem": "What is half of $\\frac{1}{2} + x$ where $x = 1$?",
    "solution": "It is $\\frac{1}{2} \\cdot \\boxed{}$ \\ldots so $\\boxed{\\frac{3}{4}}$.",
}
ROWS = {"csqa": CSQA, "arc-challenge": ARC, "mmlu-psychology": MMLU, "gsm8k": GSM8K, "math": MATH}


def test_each_benchmark_asks_the_hub_for_its_set_and_becomes_questions_that_can_be_graded(monkeypatch):
    asked = []

    def load_dataset(repo, config, split):
        asked.append((repo, config, split))
        return datasets.Dataset.from_list([ROWS[name]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = {}
    for name in BENCHMARKS:
        (found[name],), _ = load(name, "train", pytest.fail), load(name, "dev", pytest.fail)
    splits = ["train", "validation", "train", "test", "dev+validation", "test", "train", "test", "train", "test"]
    assert [split for _, _, split in asked] == splits
    for name, repo, answer, family in (
        ("csqa", "tau/commonsense_qa", "B", "choice"),
        ("arc-challenge", "allenai/ai2_arc", "C", "choice"),
        ("mmlu-psychology", "cais/mmlu", "D", "choice"),
        ("gsm8k", "openai/gsm8k", "72", "number"),
        ("math", "DigitalLearningGmbH/MATH-lighteval", "\\frac{3}{4}", "latex"),
    ):
        assert repo in {each for each, _, _ in asked}
        assert (found[name].answer, found[name].family) == (answer, family)
    assert found["csqa"].id == "csqa-train-075e483d21c29a511267ef62bedc0461" and found["gsm8k"].id == "gsm8k-train-0"
    assert found["arc-challenge"].choices == (("A", "ice"), ("B", "water"), ("C", "steam")), "numbers become letters"
    assert found["gsm8k"].reference.endswith("She sold 48+24 = 72 clips.\nThe answer is \\boxed{72}.")
    assert grade(found["gsm8k"], found["gsm8k"].reference) and grade(found["math"], "\\boxed{\\dfrac34}")


def test_a_row_of_a_benchmark_that_cannot_be_used_is_reported_by_its_number(monkeypatch):
    for name, change, reason in (
        ("csqa", {"answerKey": ""}, "answer is empty"),
        ("arc-challenge", {"answerKey": "E"}, "'E'"),
        ("mmlu-psychology", {"answer": 4}, "'4'"),
        ("gsm8k", {"answer": "72"}, "####"),
        ("math", {"solution": "5"}, "boxed"),
    ):
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, rows=(ROWS[name], ROWS[name] | change), **__: rows)
        said: list[str] = []
        assert len(load(name, "dev", said.append)) == 1
        assert len(said) == 1 and said[0].startswith(f"{name} dev:1: ") and reason in said[0]


def test_a_machine_without_a_hub_is_told_of_local_files():
    with pytest.raises(TrainerError, match=r"csqa.*tau/commonsense_qa.*csqa\.jsonl"):
        load("csqa", "train")
