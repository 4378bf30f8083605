"""Questions with references, from local JSONL or the built-in arithmetic, and the prompts they are asked with.

Knows files and templates; knows no models. A row that cannot be used is reported with its file and line, and skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from trainer.errors import TrainerError

ARITHMETIC = "arithmetic"
"""The `--data` name of the synthetic language of the tiny pair."""

Split = Literal["train", "dev"]

MAX_CHARACTERS = 20_000  # of one row's texts; longer is a broken file, not a question


@dataclass(frozen=True)
class Question:
    """One question of any task.

    Attributes:
        id: Unique within its file.
        question: As asked.
        reference: A worked answer; empty where there is none.
        answer: The bare final answer: a letter, a number or an expression.
        choices: (label, text) pairs of a multiple-choice question; else empty.
    """

    id: str
    question: str
    reference: str
    answer: str
    choices: tuple[tuple[str, str], ...] = ()


def prompt(question: Question) -> str:
    """What the models are asked, one template per task family: multiple choice, or a number."""
    if question.choices:
        options = "\n".join(f"{label}. {text}" for label, text in question.choices)
        return (
            f"{question.question}\n{options}\n"
            'Explain in one or two sentences, then finish with "the answer is" and the letter in parentheses.'
        )
    if question.id.startswith(ARITHMETIC):
        return question.question
    return f"{question.question}\nReason step by step, and put the final answer within \\boxed{{}}."


def load_questions(
    sources: list[str], limit: int, split: Split = "train", seed: int = 0, report: Callable[[str], None] = print
) -> list[Question]:
    """The first questions with a reference of each source, taken in turn, so that a mixture is even.

    Args:
        sources: Paths of JSONL files, or `ARITHMETIC`.
        limit: Questions in all.
        split: "train" or "dev", for `ARITHMETIC`.
        seed: For `ARITHMETIC`.
        report: Told of rows that were skipped, with file and line.

    Raises:
        TrainerError: A file cannot be read, or all together have no usable row.
    """
    lists = [_arithmetic(split, limit, seed) if s == ARITHMETIC else read_jsonl(Path(s), report) for s in sources]
    mixed = [q for group in zip_longest(*lists) for q in group if q is not None and q.reference]
    if not mixed:
        raise TrainerError(f"{', '.join(sources)}: no question with a reference; labels need one per question")
    return mixed[:limit]


def read_jsonl(path: Path, report: Callable[[str], None] = print) -> list[Question]:
    """Reads one question per line, with the fields `id, question, [choices], reference, answer`.

    Raises:
        TrainerError: The file cannot be read.
    """
    found: list[Question] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    found.append(_question(json.loads(line)))
                except (ValueError, KeyError, TypeError) as error:
                    reason = f"no field {error}" if isinstance(error, KeyError) else error
                    report(f"{path}:{number}: skipped: {reason}")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainerError(f"{path} cannot be read as UTF-8 JSON lines: {error}") from error
    return found


def _question(row: dict[str, Any]) -> Question:
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    choices = row.get("choices") or {"label": [], "text": []}
    question = Question(
        id=str(row["id"]),
        question=row["question"],
        reference=row.get("reference") or "",
        answer=str(row["answer"]),
        choices=tuple(zip(choices["label"], choices["text"], strict=True)),
    )
    if not question.question.strip():
        raise ValueError("the question is empty")
    size = len(question.question) + len(question.reference)
    if size > MAX_CHARACTERS:
        raise ValueError(f"{size:,} characters, at most {MAX_CHARACTERS:,} are read")
    return question


def _arithmetic(split: Split, count: int, seed: int) -> list[Question]:
    from trainer.arithmetic import questions  # which builds on `Question`

    return list(questions(split, count, seed))
