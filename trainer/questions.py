"""Questions of any task: their prompts, and the files that they come from.

A file has JSON lines with `FIELDS`, or if it is named .json a list of general prompts. A line that cannot be used is
reported with its place and skipped.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict  # typing's own cannot be validated by pydantic before Python 3.12

from engine.errors import first_fault
from engine.grading import Family
from engine.grading.number import parse
from trainer import Report, TrainerError
from trainer.stored import read_json

FIELDS = "id, question, [choices], reference, answer, [family]"
MAX_CHARACTERS = 20_000  # of a text; a longer one is a broken file, not a question
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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
    """A TrainerError if a question to evaluate on is trained on, or has the id of one that is.

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


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL")
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _labelled(value: Any) -> Any:
    return {"label": list(_LETTERS[: len(value)]), "text": value} if isinstance(value, list) else value


_Text = Annotated[str, Field(max_length=MAX_CHARACTERS), AfterValidator(_without_nul)]
Prompt = Annotated[_Text, AfterValidator(_filled)]
"""A text that a model can be asked."""


class _Choices(TypedDict):
    label: list[Annotated[_Text, Field(min_length=1, max_length=8)]]
    text: list[_Text]


class _Row(BaseModel):
    """A line of a file. `choices` may be a list of texts, which are then labelled A, B, C and so on."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Prompt
    question: Prompt
    answer: Prompt
    reference: _Text | None = None
    choices: Annotated[_Choices | None, BeforeValidator(_labelled)] = None
    family: Family | None = None


def load_questions(sources: Sequence[str], limit: int, report: Report = print, offset: int = 0) -> list[Question]:
    """Questions of each file, taken in turn, so that a mixture is even; the first `offset` of them are skipped.

    A TrainerError if a file cannot be read, two questions share an id, or no question is left.
    """
    if limit < 1 or offset < 0:
        raise TrainerError(f"{limit} questions after the first {offset}: ask for 1 or more, after 0 or more")
    named = ", ".join(sources)
    lists = [read_questions(Path(source), report) for source in sources]
    mixed = [question for group in zip_longest(*lists) for question in group if question is not None]
    id_, count = Counter(question.id for question in mixed).most_common(1)[0]
    if count > 1:
        raise TrainerError(f"{named}: {count} questions have the id {id_!r}; answers are kept by id, make them differ")
    if offset >= len(mixed):
        raise TrainerError(f"{named}: no question is left after the first {offset}, there are {len(mixed)}")
    return mixed[offset : offset + limit]


def named_questions(sources: Sequence[str], ids: Collection[str]) -> list[Question]:
    """The questions with these ids, in their order; a TrainerError if some are not in the files."""
    found = {question.id: question for source in sources for question in read_questions(Path(source))}
    if missing := [id_ for id_ in ids if id_ not in found]:
        raise TrainerError(
            f"{', '.join(sources)}: {len(missing)} of {len(ids)} questions are not there, e.g. {missing[0]!r}: "
            "name the data that was answered"
        )
    return [found[id_] for id_ in ids]


def task_named_by(source: str) -> str:
    """The task of a file's questions, by its name, or by its folder's for files named train and dev."""
    path = Path(source).resolve()
    return path.parent.name if path.stem in ("train", "dev") else path.stem


def read_questions(path: Path, report: Report = print) -> list[Question]:
    """The questions of a file; a TrainerError if it cannot be read or has no usable line."""
    if path.suffix == ".json":
        way_out = f"give a JSON list of prompts, or JSON lines with {FIELDS} in a file named .jsonl"
        prompts = read_json(path, Annotated[list[Prompt], Field(min_length=1)], way_out)
        return [Question(f"{path.stem}-{number}", text, "", "") for number, text in enumerate(prompts)]
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise TrainerError(
            f"{path} cannot be read: {error}. Give a UTF-8 file of JSON lines with {FIELDS}; the paper's five sets are "
            "fetched by `python -m tools.benchmarks`"
        ) from error
    questions: dict[str, Question] = {}
    # Not `splitlines`, which also splits at line separators that JSON allows inside a text.
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            if line.strip():
                question = question_of(line)
                if question.id in questions:
                    raise ValueError(f"the id {question.id!r} is taken by an earlier row")
                questions[question.id] = question
        except ValueError as error:
            reason = first_fault(error, whole="") if isinstance(error, ValidationError) else error
            report(f"{path}:{number}: skipped: {reason}")
    if not questions:
        raise TrainerError(f"{path} has no usable row: give UTF-8 with one JSON object per line, with {FIELDS}")
    return list(questions.values())


def question_of(line: bytes) -> Question:
    """The question of one line; a ValueError if it cannot be used, also where no text could be graded as right."""
    row = _Row.model_validate_json(line)
    choices: _Choices = row.choices or {"label": [], "text": []}
    labels, texts, answer = choices["label"], choices["text"], row.answer
    if len(labels) != len(texts):
        raise ValueError(f"{len(labels)} labels for {len(texts)} choices")
    if len({label.casefold() for label in labels}) < len(labels):
        raise ValueError("two choices have the same label")
    reference = row.reference if row.reference and row.reference.strip() else ""
    choice = tuple(zip(labels, texts, strict=True))
    question = Question(row.id, row.question, reference, answer, choice, row.family)
    if (question.family == "choice") != bool(labels):
        raise ValueError(f"the family is {question.family}, and there are {len(labels)} choices")
    if labels and answer not in labels:
        raise ValueError(f"the answer {answer[:40]!r} is not among the labels {', '.join(labels)[:80]}")
    if question.family == "number" and parse(answer) is None:
        raise ValueError(f"the answer {answer[:40]!r} is not a number")
    if question.family == "arithmetic" and not (answer.isascii() and answer.isdigit()):
        raise ValueError(f"the answer {answer[:40]!r} is not a whole number")
    return question
