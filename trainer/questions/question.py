"""A question of any task, the prompt it is asked with, and how a row of data becomes one.

A row that cannot be used is reported with its place and skipped, so that one bad row does not end a run of hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from engine.grading import Family
from engine.grading.number import parse
from trainer import Report, TrainerError

ARITHMETIC = "arithmetic"
"""The `--data` name of the synthetic language of the tiny pair."""

Split = Literal["train", "dev"]

FIELDS = "id, question, [choices], reference, answer, [family]"
MAX_CHARACTERS = 20_000  # of one row's texts; longer is a broken file, not a question
MAX_LABEL = 8  # characters; a label is a letter or a number
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Question:
    id: str  # unique within its file
    question: str
    reference: str  # a worked answer; empty where there is none
    answer: str  # a letter, a number or an expression, without words; empty for a general prompt
    choices: tuple[tuple[str, str], ...] = ()  # (label, text) of a multiple-choice question
    stated_family: Family | None = None  # where it does not follow from the answer

    @property
    def family(self) -> Family:
        """The stated family; else it follows from the choices and the answer."""
        if self.stated_family:
            return self.stated_family
        if self.choices:
            return "choice"
        return "latex" if parse(self.answer) is None else "number"


def prompt(question: Question) -> str:
    """What the models are asked: a template for choices, one for numbers and expressions; other texts as they are."""
    if not question.answer or question.family == "arithmetic":
        return question.question
    if question.family == "choice":
        options = "\n".join(f"{label}. {text}" for label, text in question.choices)
        return (
            f"{question.question}\n{options}\n"
            'Explain in one or two sentences, then finish with "the answer is" and the letter in parentheses.'
        )
    return f"{question.question}\nReason step by step, and put the final answer within \\boxed{{}}."


def read_rows(rows: Iterable[tuple[str, Any]], name: str, report: Report) -> list[Question]:
    """Questions of the rows that can be used.

    Args:
        rows: Where each stands, for the report, and the row; or the exception that reading it raised.

    Raises:
        TrainerError: No row can be used.
    """
    questions: dict[str, Question] = {}
    for place, row in rows:
        try:
            if isinstance(row, Exception):
                raise row
            question = row if isinstance(row, Question) else question_of(row)
            if question.id in questions:
                raise ValueError(f"the id {question.id!r} is taken by an earlier row")
            questions[question.id] = question
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            report(f"{place}: skipped: {f'no field {error}' if isinstance(error, KeyError) else error}")
    if not questions:
        raise TrainerError(f"{name} has no usable row: give UTF-8 with one JSON object per line, with {FIELDS}")
    return list(questions.values())


def general_prompt(name: str, text: str) -> Question | ValueError:
    """A text as a question that has no answer; the reason where it is none."""
    fits = text.strip() and len(text) <= MAX_CHARACTERS and not _NO_TEXT.search(text)
    return Question(name, text, "", "") if fits else ValueError(f"no prompt of 1 to {MAX_CHARACTERS:,} characters")


def question_of(row: Any) -> Question:
    """The question of one row with the fields `FIELDS`.

    `choices` is {"label": [...], "text": [...]} or a list of texts, which are then labelled A, B, C and so on.

    Raises:
        ValueError: The row cannot be used; the message is the reason.
        KeyError: A field is missing.
    """
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    reference = "" if row.get("reference") is None else _text(row["reference"], "reference")
    question = Question(
        id=_text(row["id"], "id"),
        question=_text(row["question"], "question"),
        reference=reference if reference.strip() else "",
        answer=_text(row["answer"], "answer"),
        choices=_choices(row.get("choices")),
        stated_family=row.get("family"),
    )
    for field in ("id", "question", "answer"):
        if not getattr(question, field).strip():
            raise ValueError(f"the {field} is empty")
    size = len(question.question) + len(question.reference) + len(question.answer)
    size += sum(len(text) for _, text in question.choices)
    if size > MAX_CHARACTERS:
        raise ValueError(f"{size:,} characters, at most {MAX_CHARACTERS:,} are read")
    _check_answer(question)
    return question


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"the {field} is not a text")
    text = str(value)
    if _NO_TEXT.search(text):
        raise ValueError(f"the {field} holds a NUL or half a surrogate pair, which is no text")
    return text


def _choices(value: Any) -> tuple[tuple[str, str], ...]:
    if not value:
        return ()
    if isinstance(value, list):
        value = {"label": list(LETTERS[: len(value)]), "text": value}
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in ("label", "text")):
        raise ValueError('the choices are neither a list of texts nor {"label": [...], "text": [...]}')
    labels, texts = ([_text(each, f"choices' {key}") for each in value[key]] for key in ("label", "text"))
    if len(labels) != len(texts):
        raise ValueError(f"{len(labels)} labels for {len(texts)} choices")
    if len({label.casefold() for label in labels}) < len(labels):
        raise ValueError("two choices have the same label")
    if not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise ValueError(f"a label is empty or longer than {MAX_LABEL} characters")
    return tuple(zip(labels, texts, strict=True))


def _check_answer(question: Question) -> None:
    """Refuses a family that there is not, and an answer that its family's grader could never find right."""
    if question.stated_family not in (None, *get_args(Family)):
        raise ValueError(f"the family is not one of {', '.join(get_args(Family))}")
    labels = [label for label, _ in question.choices]
    if (question.family == "choice") != bool(labels):
        raise ValueError(f"the family is {question.family}, and there are {len(labels)} choices")
    if labels and question.answer not in labels:
        raise ValueError(f"the answer {question.answer[:40]!r} is not among the labels {', '.join(labels)}")
    if question.family == "number" and parse(question.answer) is None:
        raise ValueError(f"the answer {question.answer[:40]!r} is not a number")
    if question.family == "arithmetic" and not (question.answer.isascii() and question.answer.isdigit()):
        raise ValueError(f"the answer {question.answer[:40]!r} is not a whole number")
