"""What was measured, as rows: a method's answer at a setting to a question. A Parquet file holds those of a task.

`datasets.load_dataset("parquet", data_files=...)` reads such a file; here it becomes arrays (setting × question).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from engine.errors import first_fault
from engine.events import Role, TokenEvent
from engine.models.files import replacing
from trainer import TrainerError
from trainer.stored import AGAIN, read_metadata, read_table, write_table

Array = NDArray[np.float64]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # part of a file's name

RESULTS = Path("assets/results")
ROUTER = "router"
"""The method that is this project's own."""

GENERAL = "free-text"
"""The task of prompts that have no right answer: `right` is then how much of the LLM's own text is in the answer."""

SCHEMA = pa.schema(
    {
        "question": pa.string(),
        "method": pa.string(),
        "setting": pa.string(),
        "right": pa.float32(),
        "bytes": pa.int64(),
        "flops": pa.float32(),
        "tokens": pa.int32(),
        "llm_tokens": pa.int32(),
        "llm_passes": pa.int32(),
        "taken_back": pa.int32(),
        "authors": pa.list_(pa.int16()),
        "seconds": pa.float32(),
        "text": pa.string(),
        "made": pa.string(),
    }
)
_ABOUT = "citer"
_PAGE = 1 << 24  # bytes: one page a column, so that equal texts are near each other and pack well


@dataclass(frozen=True)
class Row:
    question: str
    method: str  # what is compared, e.g. "router" or "co-llm"; several of its settings are measured
    setting: str  # in the notation of `engine.setting`
    right: float  # 1 or 0; on general prompts the agreement with the LLM's own text, in [0, 1]
    bytes: int  # of the answer written alone, its prompt included; the same for FLOPs
    flops: float
    tokens: int
    llm_tokens: int  # those of them that the LLM wrote
    llm_passes: int | None  # how often the LLM read
    taken_back: int | None  # drafted tokens that the LLM did not keep; charged, and not among `tokens`
    authors: list[int] | None  # lengths of the runs of tokens by one author, the SLM's first
    seconds: float | None  # of the answer written alone on an idle machine, where that was measured
    text: str
    made: str  # revision, machine and number format


@dataclass(frozen=True)
class About:
    """What rows are of; `routers` has the SHA-256 of the weights behind each method that has any."""

    pair: str
    preset: Name
    task: Name
    max_new_tokens: int
    routers: dict[str, str]


class MethodSetting(NamedTuple):
    method: str
    setting: str


@dataclass(frozen=True, eq=False)
class Results:
    """The rows of a task as arrays [settings, questions]; `seconds` are NaN where none were measured."""

    about: About
    questions: tuple[str, ...]
    settings: tuple[MethodSetting, ...]
    right: Array
    bytes: Array
    flops: Array
    tokens: Array
    llm_tokens: Array
    seconds: Array
    made: tuple[str, ...]

    def numbers(self, method: str) -> list[int]:
        return [n for n, each in enumerate(self.settings) if each.method == method]

    def of(self, method: str) -> list[int]:
        """The numbers of a method's settings; a TrainerError where it was not measured."""
        if found := self.numbers(method):
            return found
        raise TrainerError(f"{self.about.task} was not answered by {method!r}: evaluate it, too")


def check_task(task: str) -> None:
    """Refuses, by a TrainerError before hours are spent, a task's name that cannot be part of a file's name."""
    try:
        TypeAdapter(Name).validate_python(task)
    except ValidationError as error:
        raise TrainerError(f"{task!r} cannot be the name of a task: {first_fault(error, whole='')}") from None


def authors_of(events: Iterable[TokenEvent]) -> list[int]:
    """Lengths of the runs of tokens by one author, the SLM's first."""
    runs, last = [0], Role.SLM
    for event in events:
        if event.role is not last:
            runs.append(0)
            last = event.role
        runs[-1] += 1
    return runs


def write_rows(path: Path, rows: Sequence[Row], about: About) -> None:
    """Writes a file whole or not at all; the same rows are the same bytes."""
    rows = sorted(rows, key=lambda row: (row.question, row.method, row.setting))
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    metadata = {_ABOUT: json.dumps(asdict(about), ensure_ascii=False)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        write_table(new, table, metadata, compression_level=19, data_page_size=_PAGE, dictionary_pagesize_limit=_PAGE)


def read_rows(path: Path) -> tuple[list[Row], About]:
    """Reads what `write_rows` wrote; a TrainerError names a file that is damaged."""
    return [Row(**row) for row in read_table(path, SCHEMA).to_pylist()], _about(path)


def load_results(path: Path) -> Results:
    """The rows of a file as arrays. A TrainerError unless every setting has answered every question once."""
    table = read_table(path, SCHEMA)
    names = list(zip(*(table[name].to_pylist() for name in ("method", "setting")), strict=True))
    settings, questions = list(dict.fromkeys(names)), sorted(set(table["question"].to_pylist()))
    number, place = {each: n for n, each in enumerate(settings)}, {each: n for n, each in enumerate(questions)}
    at = np.array([number[each] for each in names]), np.array([place[each] for each in table["question"].to_pylist()])
    there = np.zeros((len(settings), len(questions)), dtype=int)
    np.add.at(there, at, 1)
    if not len(names) or not (there == 1).all():
        where = np.argwhere(there != 1)
        wrong = f"{settings[where[0][0]]} has {there[tuple(where[0])]} answers to {questions[where[0][1]]}"
        raise TrainerError(f"{path}: {wrong if len(where) else 'it is empty'}; run evaluate again to go on")

    def column(name: str) -> Array:
        values = np.full(there.shape, np.nan)
        values[at] = table[name].to_numpy(zero_copy_only=False)
        return values

    made = dict(zip(names, table["made"].to_pylist(), strict=True))
    columns = {name: column(name) for name in ("right", "bytes", "flops", "tokens", "llm_tokens", "seconds")}
    return Results(
        _about(path),
        tuple(questions),
        tuple(MethodSetting(*each) for each in settings),
        **columns,
        made=tuple(made[each] for each in settings),
    )


def load_all(folder: Path) -> dict[str, Results]:
    """The results of every task of a pair, by the task's name; a TrainerError where there are none."""
    found = [load_results(path) for path in sorted(folder.glob("*.parquet"))]
    if not found:
        raise TrainerError(f"{folder} holds no results: run `python -m trainer evaluate`, or name their folder")
    if len(pairs := {each.about.pair for each in found}) > 1:
        raise TrainerError(f"{folder} holds results of {' and '.join(sorted(pairs))}: give each pair its own folder")
    return {each.about.task: each for each in found}


def _about(path: Path) -> About:
    try:
        return TypeAdapter(About).validate_json(read_metadata(path).get(_ABOUT, ""))
    except (ValidationError, OSError, ValueError) as error:
        reason = first_fault(error, whole="") if isinstance(error, ValidationError) else error
        raise TrainerError(f"{path} is damaged ({reason}); {AGAIN}") from None
