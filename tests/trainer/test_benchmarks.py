"""The five benchmarks, from rows of the shapes that the Hub serves; never the Hub itself."""

from __future__ import annotations

import subprocess
import sys

import datasets
import pytest

from engine.grading import grade
from trainer import TrainerError
from trainer.questions.benchmarks import BENCHMARKS, load
from trainer.questions.question import prompt
from trainer.questions.sources import load_questions

# Rows written for these tests, with the fields and types of each set's card.
CSQA = {
    "id": "075e483d21c29a511267ef62bedc0461",
    "question": "Where does a person keep milk cold?",
    "question_concept": "milk",
    "choices": {"label": list("ABCDE"), "text": ["oven", "fridge", "lake", "desk", "bag"]},
    "answerKey": "B",
}
ARC = {
    "id": "Mercury_SC_415702",
    "question": "Which of these warms the ground most?",
    "choices": {"text": ["wind", "the Sun", "rain", "clouds"], "label": list("ABCD")},
    "answerKey": "B",
}
ARC_NUMBERED = ARC | {
    "id": "NYSEDREGENTS_2013_8_4",
    "choices": {"text": ["ice", "water", "steam"], "label": ["1", "2", "3"]},
    "answerKey": "3",
}
MMLU = {
    "question": "Who studies behaviour?",
    "subject": "professional_psychology",
    "choices": ["a psychologist", "a baker", "a pilot", "a judge"],
    "answer": 0,
}
GSM8K = {
    "question": "Ann sold 48 clips in April and half as many in May. How many clips did she sell?",
    "answer": "Ann sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72",
}
MATH = {
    "problem": "What is half of $\\frac{1}{2} + x$ where $x = 1$?",
    "level": "Level 2",
    "type": "Algebra",
    "solution": "It is $\\frac{1}{2} \\cdot \\boxed{}$ \\ldots so $\\boxed{\\frac{3}{4}}$.",
}


@pytest.fixture
def hub(monkeypatch):
    """Serves `rows` for any set, and notes what was asked for."""

    class Hub:
        def __init__(self):
            self.rows, self.asked = [], []

        def load_dataset(self, repo, config, split):
            self.asked.append((repo, config, split))
            return datasets.Dataset.from_list(self.rows)

    served = Hub()
    monkeypatch.setattr(datasets, "load_dataset", served.load_dataset)
    return served


def one(hub, name, *rows):
    hub.rows = list(rows)
    return load(name, "train", pytest.fail)[-1]


def test_each_name_asks_the_hub_for_its_set_and_split(hub):
    for name, row in zip(BENCHMARKS, (CSQA, ARC, MMLU, GSM8K, MATH), strict=True):
        hub.rows = [row]
        load(name, "train")
        load(name, "dev")
    assert hub.asked == [
        ("tau/commonsense_qa", None, "train"),
        ("tau/commonsense_qa", None, "validation"),
        ("allenai/ai2_arc", "ARC-Challenge", "train"),
        ("allenai/ai2_arc", "ARC-Challenge", "test"),
        ("cais/mmlu", "professional_psychology", "dev+validation"),
        ("cais/mmlu", "professional_psychology", "test"),
        ("openai/gsm8k", "main", "train"),
        ("openai/gsm8k", "main", "test"),
        ("DigitalLearningGmbH/MATH-lighteval", "default", "train"),
        ("DigitalLearningGmbH/MATH-lighteval", "default", "test"),
    ]


def test_csqa_keeps_its_own_ids_and_letters(hub):
    question = one(hub, "csqa", CSQA)
    assert (question.id, question.answer) == ("csqa-train-075e483d21c29a511267ef62bedc0461", "B")
    assert question.choices[1] == ("B", "fridge")
    assert question.family == "choice"


def test_arc_choices_that_are_numbered_get_letters(hub):
    assert one(hub, "arc-challenge", ARC).answer == "B"
    question = one(hub, "arc-challenge", ARC_NUMBERED)
    assert (question.id, question.answer) == ("arc-challenge-train-NYSEDREGENTS_2013_8_4", "C")
    assert question.choices == (("A", "ice"), ("B", "water"), ("C", "steam"))


def test_mmlu_answers_are_letters_of_its_list(hub):
    question = one(hub, "mmlu-psychology", MMLU, MMLU | {"answer": 3})
    assert (question.id, question.answer) == ("mmlu-psychology-train-1", "D")
    assert "A. a psychologist\nB. a baker" in prompt(question)


def test_gsm8k_references_end_in_a_box_and_hold_no_annotations(hub):
    question = one(hub, "gsm8k", GSM8K)
    assert question.reference == (
        "Ann sold 48/2 = 24 clips in May.\nShe sold 48+24 = 72 clips.\nThe answer is \\boxed{72}."
    )
    assert (question.id, question.answer, question.family) == ("gsm8k-train-0", "72", "number")
    assert grade(question, question.reference)
    assert grade(question, GSM8K["answer"])


def test_math_answers_are_what_the_last_box_holds(hub):
    question = one(hub, "math", MATH, MATH | {"solution": "So $\\boxed{5}$."})
    assert (question.id, question.answer, question.family) == ("math-train-1", "5", "latex")
    question = one(hub, "math", MATH)
    assert question.answer == "\\frac{3}{4}"
    assert question.reference == MATH["solution"]
    assert grade(question, "\\boxed{\\dfrac34}")


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("csqa", CSQA | {"answerKey": ""}, "the answer is empty"),
        ("csqa", CSQA | {"question": ""}, "the question is empty"),
        ("arc-challenge", ARC | {"answerKey": "E"}, "the answer 'E' is not among the labels A, B, C, D"),
        ("mmlu-psychology", MMLU | {"answer": 4}, "the answer '4' is not among the labels A, B, C, D"),
        ("gsm8k", GSM8K | {"answer": "72"}, "the answer has no ####"),
        ("math", MATH | {"solution": "5"}, "the solution has no \\boxed"),
        ("math", {"question": "Why?"}, "no field 'solution'"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_by_its_number(monkeypatch, name, row, reason):
    good = {"csqa": CSQA, "arc-challenge": ARC, "mmlu-psychology": MMLU, "gsm8k": GSM8K, "math": MATH}[name]
    said = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [good, row])
    assert len(load(name, "dev", said.append)) == 1
    assert said == [f"{name} dev:1: skipped: {reason}"]


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("unknown split"), RuntimeError("odd")])
def test_a_machine_without_a_hub_is_told_of_local_files(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(TrainerError, match=rf"gsm8k: openai/gsm8k cannot be had.*{error}.*gsm8k\.jsonl.*reference"):
        load_questions(["gsm8k"], 5)


def test_offline_the_library_itself_raises_what_is_caught():
    with pytest.raises(TrainerError, match=r"csqa: tau/commonsense_qa cannot be had from the Hugging Face Hub"):
        load("csqa", "train")


def test_benchmarks_without_references_serve_evaluation_only(hub):
    hub.rows = [CSQA]
    assert len(load_questions(["csqa"], 5, "dev", need_reference=False)) == 1
    with pytest.raises(TrainerError, match="multiple-choice benchmarks have none"):
        load_questions(["csqa"], 5)


def test_the_names_are_known_without_importing_datasets():
    code = "import sys, trainer.questions.benchmarks, engine.grading; print('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
