"""Stages in shards of some questions each, so that what is interrupted or deleted is made again as it was.

`<stage>.json` says what the shards of a folder were made of. Who makes which is settled by `trainer.workers`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict  # typing's own is not for pydantic before Python 3.12

from engine.errors import shown
from trainer import TrainerError
from trainer.json_files import AGAIN, read_json, write_json
from trainer.questions.question import Question
from trainer.tables import PARQUET, ByQuestion, Value
from trainer.workers import alone_at, make_all

if TYPE_CHECKING:
    from engine.pair import Pair

JOINT = "; "
"""Between the commands, revisions and machines of several stages, or of several runs that made a stage."""

EARLIER = (".jsonl", ".jsonl.gz")
"""Suffixes of shards that earlier versions wrote."""


class MadeOf(TypedDict):
    """What every `<stage>.json` says: whose shards these are. A stage's own class says what it needs besides."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)  # pyright: ignore[reportGeneralTypeIssues]

    questions: Annotated[list[str], Field(min_length=1)]
    data: NotRequired[str]
    shard_size: NotRequired[Annotated[int, Field(ge=1)]]


@dataclass(frozen=True)
class Shards:
    """A folder of shards of one stage.

    Attributes:
        stage: What the shards are, e.g. "labels"; in file names and messages.
        size: Questions per shard; a folder that was begun with another size goes on with that.
        suffix: Of a shard's name; "" where a shard is a folder.
        made_of: What `<stage>.json` must say for its readers.
    """

    folder: Path
    stage: str
    size: int
    suffix: str = PARQUET
    made_of: type = MadeOf

    @property
    def _settings_path(self) -> Path:
        return self.folder / f"{self.stage}.json"

    def path(self, number: int) -> Path:
        """A shard's file or folder; one of an earlier version where that is what is there."""
        own = self.folder / f"{self.stage}-{number:05d}{self.suffix}"
        others = (self.folder / f"{self.stage}-{number:05d}{suffix}" for suffix in EARLIER)
        return own if own.exists() else next((path for path in others if path.exists()), own)

    def run(
        self,
        settings: dict[str, Any],
        questions: Sequence[Question],
        make: Callable[[Sequence[Question], Path], None],
        report: Callable[[str], None] = print,
        notes: dict[str, Any] | None = None,
    ) -> bool:
        """Makes what is missing, together with other processes that run the same; returns when all shards are there.

        Where it fails before there is a shard, it leaves nothing behind.

        Args:
            settings: What the shards depend on besides the questions; a folder made with others is refused.
            make: Writes one shard of some questions to a path.
            notes: Kept beside the settings; may differ when the work is taken up again. Texts among them, as the
                machine, are then joined to those from before, for some of the shards are made by either.

        Raises:
            TrainerError: The folder holds shards of other questions or settings.
        """
        made_of = {**settings, "data": digest(questions), "questions": [q.id for q in questions]}
        notes = notes or {}
        new, begun = not self.folder.exists(), self._settings_path.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainerError(
                f"{self.folder} cannot be made ({error.strerror or error}): choose another folder"
            ) from None
        joined = not notes
        try:
            size = self._claim(made_of, {**notes, "shard_size": self.size})

            def make_shard(number: int, path: Path) -> None:
                nonlocal joined
                make(questions[number * size : (number + 1) * size], path)
                if not joined:
                    self._join_notes(notes)
                    joined = True

            make_all([self.path(n) for n in range(-(-len(questions) // size))], make_shard, self.stage, report)
        except BaseException:
            if not begun and not any(self.folder.glob(f"{self.stage}-{'[0-9]' * 5}*")):
                self._settings_path.unlink(missing_ok=True)
                if new and not any(self.folder.iterdir()):
                    self.folder.rmdir()
            raise
        return True

    def load(self) -> tuple[list[Path], dict[str, Any]]:
        """Paths of all shards in order, and the settings they were made with.

        A TrainerError if some are missing, or `<stage>.json` is not as it was written.
        """
        paths, settings, _ = self._load()
        return paths, settings

    def by_question(
        self, read: Callable[[Path], Iterable[Mapping[str, Any]]], made: Callable[[Sequence[Mapping[str, Any]]], Value]
    ) -> tuple[ByQuestion[Value], dict[str, Any]]:
        """What the shards hold for each question, read when it is asked for, and the settings; raises as `load`.

        Args:
            read: The rows of a shard.
            made: What the rows of one question become.
        """
        paths, settings, size = self._load()
        return ByQuestion(paths, settings["questions"], size, read, made), settings

    def _load(self) -> tuple[list[Path], dict[str, Any], int]:
        if not self._settings_path.is_file():
            raise TrainerError(
                f"{self.folder} holds no {self.stage} ({self._settings_path} is missing): make them first"
            )
        settings = read_json(self._settings_path, self.made_of, f"it is damaged: make the {self.stage} again")
        size = settings.pop("shard_size", self.size)  # says nothing of what the shards hold
        count = -(-len(settings["questions"]) // size)
        paths = [self.path(n) for n in range(count)]
        if missing := sum(not path.exists() for path in paths):
            raise TrainerError(
                f"{self.folder}: {missing} of {count} shards are missing; run the same command again to go on"
            )
        if self.path(count).exists():
            raise TrainerError(
                f"{self.folder} has more shards than {self._settings_path.name} speaks of: they are of another run, or "
                f"without its shard_size; make the {self.stage} again in another folder"
            )
        return paths, settings, size

    def _claim(self, settings: dict[str, Any], notes: dict[str, Any]) -> int:
        """Writes what the shards are of, or checks that it is the same; returns the questions per shard."""
        settings = json.loads(json.dumps(settings))  # as it will be read: tuples are lists there
        with alone_at(self._settings_path):
            if not self._settings_path.exists():
                if left := next(
                    (path for n in range(len(settings["questions"])) if (path := self.path(n)).exists()), None
                ):
                    raise TrainerError(
                        f"{left} is there, but not {self._settings_path.name}, which says what made it: choose another "
                        f"folder, or delete the shards of {self.stage} first"
                    )
                write_json(self._settings_path, {**notes, **settings})
                return self.size
        before = read_json(self._settings_path, MadeOf, f"it is damaged: delete {self.folder}, or choose another")
        size = before.get("shard_size", self.size)
        before = {key: value for key, value in before.items() if key not in notes}
        differing = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
        if differing:
            raise TrainerError(
                f"{self.folder} holds {self.stage} made with other settings ({shown(', '.join(differing))}): "
                "choose another folder"
            )
        return size

    def _join_notes(self, notes: Mapping[str, Any]) -> None:
        """Joins what the notes of a run say to what the runs before it said; other values stay the first run's."""
        with alone_at(self._settings_path):
            before = read_json(self._settings_path, MadeOf, AGAIN)
            texts = {name: text for name, text in notes.items() if isinstance(text, str) and name in before}
            joined = {name: joined_notes([before[name], text]) for name, text in texts.items()}
            if any(before[name] != text for name, text in joined.items()):
                write_json(self._settings_path, {**before, **joined})


def joined_notes(notes: Iterable[str]) -> str:
    """Commands, revisions or machines, of which each may be of several runs already, as one text that has each once."""
    return JOINT.join(dict.fromkeys(part for note in notes for part in note.split(JOINT)))


def digest(questions: Sequence[Question]) -> str:
    """SHA-256 of all that the questions say; how answers are graded is not part of it, so that it may get better."""
    asked = [{key: value for key, value in asdict(q).items() if key != "stated_family"} for q in questions]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


def identity_of(pair: Pair) -> dict[str, str]:
    """Which weights, among a stage's settings: of a pair of the user's own, which may have others under its name."""
    return {"weights": pair.identity} if pair.identity else {}


def differing(stated: Mapping[str, Any], own: Mapping[str, str]) -> str:
    """In words: what a stage's settings say otherwise than it is here; what they do not say is believed."""
    return ", ".join(f"{name} {stated[name]!r}" for name in own if stated.get(name, own[name]) != own[name])
