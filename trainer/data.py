"""Questions of every task, the prompts they are asked with, and local files of them.

Knows the fields of a question, templates and files; knows no models, and of benchmarks and the built-in arithmetic only
their names. A row that cannot be used is reported with its file and line and skipped, so that one bad row does not end
a run of hours.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, get_args

from trainer.errors import TrainerError
from trainer.number import parse

ARITHMETIC = "arithmetic"
"""The `--data` name of the synthetic language of the tiny pair."""

Split = Literal["train", "dev"]
Family = Literal["choice", "number", "latex", "arithmetic"]
"""What kind of answer a question has, which decides its prompt and its grader."""

FIELDS = "id, question, [choices], reference, answer, [family]"
MAX_CHARACTERS = 20_000  # of one row's texts; longer is a broken file, not a question
MAX_LABEL = 8  # characters; a label is a letter or a number
NO_TEXT = re.compile("[\0\ud800-\udfff]")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Question:
    """One question of any task.

    Attributes:
        id: Unique within its file.
        question: As asked.
        reference: A worked answer; empty where there is none.
        answer: The bare final answer: a letter, a number or an expression.
        choices: (label, text) pairs of a multiple-choice question; else empty.
        stated_family: What the data says its family is, where that cannot be told from the answer.
    """

    id: str
    question: str
    reference: str
    answer: str
    choices: tuple[tuple[str, str], ...] = ()
    stated_family: Family | None = None

    @property
    def family(self) -> Family:
        """The stated family; else choices, the id and the answer tell."""
        if self.stated_family:
            return self.stated_family
        if self.choices:
            return "choice"
        if self.id.startswith(ARITHMETIC):
            return "arithmetic"
        return "latex" if parse(self.answer) is None else "number"


def prompt(question: Question) -> str:
    """What the models are asked: one template for choices, one for numbers and expressions; arithmetic as it is."""
    if question.family == "choice":
        options = "\n".join(f"{label}. {text}" for label, text in question.choices)
        return (
            f"{question.question}\n{options}\n"
            'Explain in one or two sentences, then finish with "the answer is" and the letter in parentheses.'
        )
    if question.family == "arithmetic":
        return question.question
    return f"{question.question}\nReason step by step, and put the final answer within \\boxed{{}}."


def load_questions(
    sources: list[str],
    limit: int,
    split: Split = "train",
    seed: int = 0,
    report: Callable[[str], None] = print,
    need_reference: bool = True,
    offset: int = 0,
) -> list[Question]:
    """Questions of each source, taken in turn, so that a mixture is even.

    Args:
        sources: Paths of JSONL or JSON files, names of benchmarks, or `ARITHMETIC`. A name is a path where it has a
            separator or a suffix, or where there is such a file.
        limit: Questions in all, at most.
        split: For benchmarks and `ARITHMETIC`; a file is one split.
        seed: For `ARITHMETIC`.
        report: Told of rows that were skipped, with file and line.
        need_reference: Leave out questions that have no reference.
        offset: So many of the mixed questions are skipped first.

    Raises:
        TrainerError: A source cannot be had, two share an id, or no question is left.
    """
    if limit < 1 or offset < 0:
        raise TrainerError(f"{limit} questions after the first {offset}: ask for 1 or more, after 0 or more")
    named = ", ".join(sources)
    lists = [_load(source, offset + limit, split, seed, report) for source in sources]
    if need_reference:
        lists = [[question for question in each if question.reference] for each in lists]
    mixed = [question for group in zip_longest(*lists) for question in group if question is not None]
    if not mixed:
        raise TrainerError(
            f"{named}: no question with a reference (a worked answer). The multiple-choice benchmarks have none: "
            "let the LLM write them (--reference llm), or give a file with a `reference` in each row"
        )
    id_, count = Counter(question.id for question in mixed).most_common(1)[0]
    if count > 1:
        raise TrainerError(f"{named}: {count} questions have the id {id_!r}; answers are kept by id, make them differ")
    if offset >= len(mixed):
        raise TrainerError(f"{named}: no question is left after the first {offset}, there are {len(mixed)}")
    return mixed[offset : offset + limit]


def read_jsonl(path: Path, report: Callable[[str], None] = print) -> list[Question]:
    """Reads one question per line; a file named .json may also be one list of such objects.

    Args:
        path: Of objects with the fields `FIELDS`. `choices` is {"label": [...], "text": [...]} or a list of texts,
            which are then labelled A, B, C and so on; `family` is one of `Family`.
        report: Told of each row that is skipped, as `path:line: skipped: reason`, or of its item in a list.

    Raises:
        TrainerError: The file cannot be read, or has no usable row.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise TrainerError(f"{path} cannot be read: {error}. Give a UTF-8 file of JSON lines with {FIELDS}") from error
    return read_rows(_items(path, content), str(path), report)


def read_rows(rows: Iterator[tuple[str, Any]], name: str, report: Callable[[str], None]) -> list[Question]:
    """Questions of rows, without those that cannot be used.

    Args:
        rows: Where each stands, for the report, and the row; or the exception that reading it raised.
        name: Of the source.
        report: Told of each row that is skipped.

    Raises:
        TrainerError: No row can be used.
    """
    found: dict[str, Question] = {}
    for place, row in rows:
        try:
            if isinstance(row, Exception):
                raise row
            question = question_of(row)
            if question.id in found:
                raise ValueError(f"the id {question.id!r} is taken by an earlier row")
            found[question.id] = question
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            report(f"{place}: skipped: {f'no field {error}' if isinstance(error, KeyError) else error}")
    if not found:
        raise TrainerError(f"{name} has no usable row: give UTF-8 with one JSON object per line, with {FIELDS}")
    return list(found.values())


def question_of(row: Any) -> Question:
    """The question of one row with the fields `FIELDS`.

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
        stated_family=_family(row.get("family")),
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


def _load(source: str, count: int, split: Split, seed: int, report: Callable[[str], None]) -> list[Question]:
    # Both build on `Question`.
    from trainer.benchmarks import BENCHMARKS, load

    path = Path(source)
    if path.name != source or path.suffix or path.is_file():
        return read_jsonl(path, report)
    if source == ARITHMETIC:
        from trainer.arithmetic import questions

        return list(questions(split, count, seed))
    if source in BENCHMARKS:
        return load(source, split, report)
    raise TrainerError(f"{source}: neither a file nor one of {', '.join([ARITHMETIC, *BENCHMARKS])}")


def _items(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    """Each row of a file and where it stands; of a row that is not UTF-8 or not JSON the exception."""
    if path.suffix == ".json":
        whole = _parsed(content)
        if not isinstance(whole, Exception):
            rows = whole if isinstance(whole, list) else [whole]
            yield from ((f"{path}: item {number}", row) for number, row in enumerate(rows, 1))
            return
        if content.lstrip().startswith(b"["):
            raise TrainerError(f"{path}: {whole}. Mend it, or write one object per line into a .jsonl file")
    # Not `splitlines`, which also splits at line separators that JSON allows inside a text.
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield f"{path}:{number}", _parsed(line)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        return ValueError(f"not UTF-8 ({error.reason} at byte {error.start + 1})")
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON ({error})")


def _text(value: Any, field: str) -> str:
    """A text as it is, a number as a text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"the {field} is not a text")
    text = str(value)
    if NO_TEXT.search(text):
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


def _family(value: Any) -> Family | None:
    if value is not None and value not in get_args(Family):
        raise ValueError(f"the family is not one of {', '.join(get_args(Family))}")
    return value


def _check_answer(question: Question) -> None:
    """Refuses an answer that its family's grader could never find right."""
    labels = [label for label, _ in question.choices]
    if (question.family == "choice") != bool(labels):
        raise ValueError(f"the family is {question.family}, and there are {len(labels)} choices")
    if labels and question.answer not in labels:
        raise ValueError(f"the answer {question.answer[:40]!r} is not among the labels {', '.join(labels)}")
    if question.family == "number" and parse(question.answer) is None:
        raise ValueError(f"the answer {question.answer[:40]!r} is not a number")
    if question.family == "arithmetic" and not (question.answer.isascii() and question.answer.isdigit()):
        raise ValueError(f"the answer {question.answer[:40]!r} is not a whole number")
