"""Where questions come from: local files, the benchmarks by name, and the built-in arithmetic."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from trainer import Report, TrainerError
from trainer.questions import benchmarks
from trainer.questions.arithmetic import questions
from trainer.questions.question import ARITHMETIC, FIELDS, Question, Split, general_prompt, read_rows

FURTHEST = 20_000  # questions among which those of some ids are looked for: arithmetic has no last one


def load_questions(
    sources: Sequence[str],
    limit: int,
    split: Split = "train",
    report: Report = print,
    need_reference: bool = True,
    offset: int = 0,
) -> list[Question]:
    """Questions of each source, taken in turn, so that a mixture is even.

    Args:
        sources: Paths of JSONL or JSON files, names of benchmarks, or `ARITHMETIC`.
        split: For benchmarks and `ARITHMETIC`; a file is one split.
        need_reference: Leave out questions that have no reference.
        offset: So many of the mixed questions are skipped first.

    Raises:
        TrainerError: A source cannot be had, two share an id, or no question is left.
    """
    if limit < 1 or offset < 0:
        raise TrainerError(f"{limit} questions after the first {offset}: ask for 1 or more, after 0 or more")
    named = ", ".join(sources)
    lists = [_load(source, offset + limit, split, report) for source in sources]
    if need_reference:
        lists = [[question for question in each if question.reference] for each in lists]
    mixed = [question for group in zip_longest(*lists) for question in group if question is not None]
    if not mixed:
        raise TrainerError(
            f"{named}: no question with a reference (a worked answer). The multiple-choice benchmarks have none: "
            "let the LLM write them (`answer`, then `label --answers`), or give a file with a `reference` in each row"
        )
    id_, count = Counter(question.id for question in mixed).most_common(1)[0]
    if count > 1:
        raise TrainerError(f"{named}: {count} questions have the id {id_!r}; answers are kept by id, make them differ")
    if offset >= len(mixed):
        raise TrainerError(f"{named}: no question is left after the first {offset}, there are {len(mixed)}")
    return mixed[offset : offset + limit]


def named_questions(sources: Sequence[str], ids: Collection[str], split: Split = "train") -> list[Question]:
    """The questions with these ids, in their order; a TrainerError if some are not in the sources."""
    limit = len(ids)
    while True:
        found = {question.id: question for question in load_questions(sources, limit, split, need_reference=False)}
        missing = [id_ for id_ in ids if id_ not in found]
        if not missing:
            return [found[id_] for id_ in ids]
        if len(found) < limit or limit > FURTHEST:
            raise TrainerError(
                f"{', '.join(sources)}: {len(missing)} of {len(ids)} questions are not there, e.g. {missing[0]!r}: "
                "name the data that was answered"
            )
        limit *= 4


def read_jsonl(path: Path, report: Report = print) -> list[Question]:
    """Reads one row per line, as `question_of` takes them; a file named .json may also be a list of rows or prompts.

    Each row that is skipped is reported as `path:line: skipped: reason`, or with its number in the list.

    Raises:
        TrainerError: The file cannot be read, or has no usable row.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise TrainerError(f"{path} cannot be read: {error}. Give a UTF-8 file of JSON lines with {FIELDS}") from error
    return read_rows(_rows(path, content), str(path), report)


def is_file(source: str) -> bool:
    """Whether a source is a path, and so one split: it has a separator or a suffix, or there is such a file."""
    path = Path(source)
    return path.name != source or bool(path.suffix) or path.is_file()


def count_in_files(sources: Sequence[str]) -> int | None:
    """Questions in all of some files; None where a source is no file, and has as many as anybody asks for."""
    if not all(map(is_file, sources)):
        return None
    return sum(len(read_jsonl(Path(source), lambda _: None)) for source in sources)


def _load(source: str, count: int, split: Split, report: Report) -> list[Question]:
    if is_file(source):
        return read_jsonl(Path(source), report)
    if source == ARITHMETIC:
        return list(questions(split, count, seed=0))
    if source in benchmarks.BENCHMARKS:
        return benchmarks.load(source, split, report)
    raise TrainerError(f"{source}: neither a file nor one of {', '.join([ARITHMETIC, *benchmarks.BENCHMARKS])}")


def _rows(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    """Each row of a file and where it stands; for a row that is not UTF-8 or not JSON the exception.

    A text in a list is a general prompt, named by file and place.
    """
    if path.suffix == ".json":
        whole = _parsed(content)
        if not isinstance(whole, Exception):
            rows = whole if isinstance(whole, list) else [whole]
            for number, row in enumerate(rows):
                general = isinstance(whole, list) and isinstance(row, str)
                yield f"{path}: item {number + 1}", general_prompt(f"{path.stem}-{number}", row) if general else row
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
