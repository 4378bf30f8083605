"""Long work in shards of some questions each, so that what is interrupted or deleted is made again as it was."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from filelock import FileLock, Timeout
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict  # typing's own is not for pydantic before Python 3.12

from engine.errors import shown
from engine.files import read_bytes, remove, sha256_of, write_text
from trainer import TrainerError
from trainer.json_files import AGAIN, GZIP, read_json, write_json
from trainer.questions.question import Question

if TYPE_CHECKING:
    from engine.pair import Pair

JOINT = "; "
"""Between the commands, revisions and machines of several stages, or of several runs that made a stage."""


class MadeOf(TypedDict):
    """What every `<stage>.json` says: whose shards these are. A stage's own class says what it needs besides."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)  # pyright: ignore[reportGeneralTypeIssues]

    questions: Annotated[list[str], Field(min_length=1)]
    data: NotRequired[str]
    shard_size: NotRequired[Annotated[int, Field(ge=1)]]


@dataclass(frozen=True)
class Shards:
    """A folder of shards of one stage, and `<stage>.json` that says what they were made of.

    Beside each shard is its SHA-256, so that a damaged one is not taken for the one that was made.

    Attributes:
        stage: What the shards are, e.g. "labels"; in file names and messages.
        size: Questions per shard; a folder that was begun with another size goes on with that.
        suffix: Of a shard's name; "" where a shard is a folder.
        made_of: What `<stage>.json` must say for its readers.
    """

    folder: Path
    stage: str
    size: int
    suffix: str = ""
    made_of: type = MadeOf

    @property
    def _settings_path(self) -> Path:
        return self.folder / f"{self.stage}.json"

    def path(self, number: int) -> Path:
        """A shard's file or folder; a compressed file where that is what is there."""
        plain = self.folder / f"{self.stage}-{number:05d}{self.suffix}"
        compressed = plain.with_name(plain.name + GZIP)
        return compressed if compressed.exists() else plain

    def run(
        self,
        settings: dict[str, Any],
        questions: Sequence[Question],
        make: Callable[[Sequence[Question], Path], None],
        report: Callable[[str], None] = print,
        notes: dict[str, Any] | None = None,
    ) -> bool:
        """Makes what is missing, one shard after the other; under `accelerate launch` each process makes its own.

        Where it fails before there is a shard, it leaves nothing behind.

        Args:
            settings: What the shards depend on besides the questions; a folder made with others is refused.
            make: Writes one shard of some questions to a path.
            notes: Kept beside the settings; may differ when the work is taken up again. Texts among them, as the
                machine, are then joined to those from before, for some of the shards are made by either.

        Returns:
            Whether all shards are there now; other processes may still be making theirs.

        Raises:
            TrainerError: The folder holds shards of other questions or settings, or another run is at work there.
        """
        made_of = {"data": digest(questions), "questions": [q.id for q in questions]}
        asked = {**settings, **made_of}, {**(notes or {}), "shard_size": self.size}
        with self._alone():
            begun = self._settings_path.exists()
            try:
                size = self._claim(*asked)
                shards = [questions[n : n + size] for n in range(0, len(questions), size)]
                self._make_missing(shards, make, report, notes or {})
            except BaseException:
                if not begun and process()[1] == 1 and not any(self.folder.glob(f"{self.stage}-?????{self.suffix}")):
                    self._settings_path.unlink(missing_ok=True)
                raise
        return all(self.path(n).exists() for n in range(len(shards)))

    def _make_missing(
        self,
        shards: Sequence[Sequence[Question]],
        make: Callable[[Sequence[Question], Path], None],
        report: Callable[[str], None],
        notes: Mapping[str, Any],
    ) -> None:
        missing = [n for n in range(len(shards)) if not self.path(n).exists()]
        if len(missing) < len(shards):
            report(f"{len(shards) - len(missing)} of {len(shards)} shards of {self.folder} are there already")
        rank, processes = process()
        mine = [n for n in missing if n % processes == rank]
        started = time.monotonic()
        for done, number in enumerate(mine, 1):
            # Written beside, then renamed: a shard that exists is complete. Stages of one folder may run side by side.
            partial = self.folder / f"partial-{self.stage}-{number:05d}{self.suffix}"
            remove(partial)
            try:
                make(shards[number], partial)
                if done == 1:
                    self._join_notes(notes)
                note_sha256(partial, self.path(number))
                partial.rename(self.path(number))
            finally:
                remove(partial)
            left = (time.monotonic() - started) / done * (len(mine) - done)
            report(f"{self.stage}: shard {number + 1}/{len(shards)} done, about {left / 60:.0f} min left")

    def _join_notes(self, notes: Mapping[str, Any]) -> None:
        """Joins what the notes of a run say to what the runs before it said; other values stay the first run's."""
        before = read_json(self._settings_path, MadeOf, AGAIN)
        texts = {name: text for name, text in notes.items() if isinstance(text, str) and name in before}
        joined = {name: joined_notes([before[name], text]) for name, text in texts.items()}
        if any(before[name] != text for name, text in joined.items()):
            write_json(self._settings_path, {**before, **joined})

    def load(self) -> tuple[list[Path], dict[str, Any]]:
        """Paths of all shards in order, and the settings they were made with.

        A TrainerError if some are missing, or anything is not as it was written.
        """
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
        for path in paths:
            check_unchanged(path)
        return paths, settings

    def _claim(self, settings: dict[str, Any], notes: dict[str, Any]) -> int:
        """Writes what the shards are of, or checks that it is the same; returns the questions per shard."""
        settings = json.loads(json.dumps(settings))  # as it will be read: tuples are lists there
        if self._settings_path.exists():
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
        if left := next((path for n in range(len(settings["questions"])) if (path := self.path(n)).exists()), None):
            raise TrainerError(
                f"{left} is there, but not {self._settings_path.name}, which says what made it: choose another folder, "
                f"or delete the shards of {self.stage} first"
            )
        write_json(self._settings_path, {**notes, **settings})
        return self.size

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps a second run out of the folder: it would write the same partial shard. A folder made in vain goes."""
        new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainerError(
                f"{self.folder} cannot be made ({error.strerror or error}): choose another folder"
            ) from None
        path = self.folder / f"{self.stage}.{process()[0]}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise TrainerError(
                f"another run is making {self.stage} in {self.folder}: wait for it, or choose another folder"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.release()
            if new:
                with suppress(OSError):  # it holds what was made
                    self.folder.rmdir()


def joined_notes(notes: Iterable[str]) -> str:
    """Commands, revisions or machines, of which each may be of several runs already, as one text that has each once."""
    return JOINT.join(dict.fromkeys(part for note in notes for part in note.split(JOINT)))


def note_sha256(made: Path, shard: Path) -> None:
    """Notes beside a shard what was made, for `check_unchanged`."""
    write_text(_note_of(shard), sha256_of_all(made) + "\n")


def check_unchanged(shard: Path) -> None:
    """Refuses, by a TrainerError, a shard that is not what its SHA-256 says; those of earlier versions have none."""
    note = _note_of(shard)
    if not note.exists():
        return
    try:
        stated, found = read_bytes(note).strip(), sha256_of_all(shard).encode()
    except OSError as error:
        raise TrainerError(f"{shard} cannot be read ({error.strerror or error}); {AGAIN}") from None
    if stated != found:
        raise TrainerError(f"{shard} has changed since it was written; {AGAIN}")


def sha256_of_all(path: Path) -> str:
    """The SHA-256 of a file, or of all files of a folder with their names; not of what `datasets` caches there."""
    if not path.is_dir():
        return sha256_of(path)
    parts = [f"{each.relative_to(path)} {sha256_of(each)}" for each in sorted(path.rglob("*")) if _counts(each)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _counts(path: Path) -> bool:
    return path.is_file() and not path.name.startswith("cache-")


def _note_of(shard: Path) -> Path:
    return shard.with_name(shard.name + ".sha256")


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


def require_one_process(command: str) -> None:
    """Refuses, by a TrainerError, a command that does more than shards where several processes were launched."""
    if process()[1] > 1:
        raise TrainerError(
            f"`{command}` fits routers between its stages, which is one process's work: launch answer, label, rollout "
            f"and evaluate with accelerate, and start `{command}` alone; it goes on from their shards"
        )


def process() -> tuple[int, int]:
    """This process's number and how many there are, as `accelerate launch` (or torchrun) says in the environment."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
