"""A question of any task, the prompt it is asked with, and whether questions are apart from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.grading import Family
from engine.grading.number import parse
from trainer import TrainerError


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


def texts_of(questions: Sequence[Question]) -> dict[str, str]:
    """By the question's id a short hash of what it asks: its text with its choices, whatever it is called."""
    return {
        each.id: hashlib.sha256(json.dumps([each.question, each.choices]).encode()).hexdigest()[:16]
        for each in questions
    }


def check_apart(trained: Mapping[str, str], asked: Sequence[Question], way_out: str) -> None:
    """Refuses, by a TrainerError, questions to evaluate on of which some are trained on, or are called as those are.

    Args:
        trained: As `texts_of` gives it.
        way_out: What to do where a question is trained on.
    """
    texts, own = set(trained.values()), texts_of(asked)
    if both := sorted(name for name, text in own.items() if text in texts):
        raise TrainerError(f"{len(both)} questions are to be trained and evaluated on, e.g. {both[0]!r}: {way_out}")
    if alike := sorted(trained.keys() & own.keys()):
        raise TrainerError(
            f"{len(alike)} questions to evaluate on have the same id as others to train on, e.g. {alike[0]!r}: "
            "number them anew"
        )
