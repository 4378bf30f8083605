"""Stages in shards of some questions each, so that work which is interrupted or deleted is made again as it was.

`<stage>.json` says what the shards of a folder were made of. `trainer.workers` shares them among processes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypeVar

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict  # typing's own is not for pydantic before Python 3.12

from engine.errors import shown
from engine.models.files import write_json
from trainer import Report, TrainerError
from trainer.questions import Question
from trainer.stored import AGAIN, read_json
from trainer.workers import alone_at, make_all

if TYPE_CHECKING:
    from engine.pair import Pair

Value = TypeVar("Value")


class MadeOf(TypedDict):
    """What every `<stage>.json` says; a stage's own class adds what its readers need."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)  # pyright: ignore[reportGeneralTypeIssues]

    questions: Annotated[list[str], Field(min_length=1)]
    data: NotRequired[str]
    shard_size: NotRequired[Annotated[int, Field(ge=1)]]


@dataclass(frozen=True)
class Shards:
    """A folder with the shards of one stage."""

    folder: Path
    stage: str  # what the shards are, e.g. "labels"; in file names and messages
    size: int  # questions in a shard; a folder that was begun with another size keeps that
    suffix: str = ".parquet"  # "" where a shard is a folder
    made_of: type = MadeOf  # type of `<stage>.json`

    @property
    def about(self) -> Path:
        return self.folder / f"{self.stage}.json"

    def path(self, number: int) -> Path:
        return self.folder / f"{self.stage}-{number:05d}{self.suffix}"

    def run(
        self,
        settings: dict[str, Any],
        questions: Sequence[Question],
        make: Callable[[Sequence[Question], Path], None],
        report: Report = print,
    ) -> None:
        """Makes the missing shards, together with other processes that run the same; returns when all are there.

        If it fails before the first shard, it leaves nothing behind.

        Args:
            settings: What the shards depend on besides the questions.
            make: Writes one shard of some questions to a path.

        Raises:
            TrainerError: The folder holds shards of other questions or settings.
        """
        made_of = {**settings, "data": digest(questions), "questions": [q.id for q in questions]}
        new, begun = not self.folder.exists(), self.about.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise TrainerError(f"{self.folder} cannot be made ({reason}): choose another folder") from None
        try:
            size = self._claim(json.loads(json.dumps(made_of)))  # as it will be read: tuples become lists
            paths = [self.path(n) for n in range(-(-len(questions) // size))]
            make_all(paths, lambda n, path: make(questions[n * size : (n + 1) * size], path), self.stage, report)
        except BaseException:
            if not begun and not self._shards():
                self.about.unlink(missing_ok=True)
                if new and not any(self.folder.iterdir()):
                    self.folder.rmdir()
            raise

    def load(self) -> tuple[list[Path], dict[str, Any]]:
        """Paths of all shards in order, and their settings; a TrainerError if a shard is missing or `about` damaged."""
        paths, settings, _ = self._load()
        return paths, settings

    def by_question(
        self, read: Callable[[Path], Iterable[Mapping[str, Any]]], made: Callable[[Sequence[Mapping[str, Any]]], Value]
    ) -> tuple[ByQuestion[Value], dict[str, Any]]:
        """What the shards hold for each question, made of its rows when it is looked up, and the settings."""
        paths, settings, size = self._load()
        return ByQuestion(paths, settings["questions"], size, read, made), settings

    def _load(self) -> tuple[list[Path], dict[str, Any], int]:
        if not self.about.is_file():
            raise TrainerError(f"{self.folder} holds no {self.stage} ({self.about} is missing): make them first")
        settings = read_json(self.about, self.made_of, f"it is damaged: make the {self.stage} again")
        size = settings.pop("shard_size", self.size)
        count = -(-len(settings["questions"]) // size)
        paths = [self.path(n) for n in range(count)]
        if missing := sum(not path.exists() for path in paths):
            raise TrainerError(
                f"{self.folder}: {missing} of {count} shards are missing; run the same command again to go on"
            )
        if self.path(count).exists():
            raise TrainerError(
                f"{self.folder} has more shards than {self.about.name} speaks of, so they are of another run: make "
                f"the {self.stage} again in another folder"
            )
        return paths, settings, size

    def _shards(self) -> list[Path]:
        return list(self.folder.glob(f"{self.stage}-{'[0-9]' * 5}{self.suffix}"))

    def _claim(self, made_of: dict[str, Any]) -> int:
        """Writes what the shards are made of, or checks that it is the same; returns the questions in a shard."""
        with alone_at(self.about):
            if not self.about.exists():
                if left := self._shards():
                    raise TrainerError(
                        f"{left[0]} is there without {self.about.name}, which says what made it: choose another "
                        f"folder, or delete the shards of {self.stage} first"
                    )
                write_json(self.about, {**made_of, "shard_size": self.size})
                return self.size
        before = read_json(self.about, MadeOf, f"it is damaged: delete {self.folder}, or choose another")
        size = before.pop("shard_size", self.size)
        if other := sorted(key for key in made_of.keys() | before.keys() if made_of.get(key) != before.get(key)):
            raise TrainerError(
                f"{self.folder} holds {self.stage} made with other settings ({shown(', '.join(other))}): choose "
                "another folder"
            )
        return size


class ByQuestion(Mapping[str, Value]):
    """What shards hold for each question. One shard at a time is in memory."""

    def __init__(
        self,
        paths: Sequence[Path],
        questions: Sequence[str],
        size: int,
        read: Callable[[Path], Iterable[Mapping[str, Any]]],
        made: Callable[[Sequence[Mapping[str, Any]]], Value],
    ) -> None:
        """Takes the shards in order, each of the next `size` questions; `made` turns a question's rows into a value."""
        self._paths, self._read, self._made = paths, read, made
        self._shard_of = {question: number // size for number, question in enumerate(questions)}
        self._number, self._rows = -1, {}

    def __getitem__(self, question: str) -> Value:
        number = self._shard_of[question]
        if number != self._number:
            rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for row in self._read(self._paths[number]):
                rows[row["question"]].append(row)
            self._number, self._rows = number, rows
        if question not in self._rows:
            raise TrainerError(f"{self._paths[number]} has nothing of question {question}; {AGAIN}")
        return self._made(self._rows[question])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)


def digest(questions: Sequence[Question]) -> str:
    """SHA-256 of what the questions say, without how answers are graded: a better grader needs no new answers."""
    asked = [{key: value for key, value in asdict(q).items() if key != "stated_family"} for q in questions]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


def identity_of(pair: Pair) -> dict[str, str]:
    """The hash of the weights of a user's own pair, for a stage's settings: other weights may have the same name."""
    return {"weights": pair.identity} if pair.identity else {}


def differing(stated: Mapping[str, Any], own: Mapping[str, str]) -> str:
    """Names the values in a stage's settings that differ from `own`, for a message; missing ones count as equal."""
    return ", ".join(f"{name} {stated[name]!r}" for name in own if stated.get(name, own[name]) != own[name])
