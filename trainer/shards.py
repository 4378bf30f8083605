"""Long work in shards: a fixed run of questions each, so that what is interrupted or deleted is made again as it was.

Knows folders, questions and processes. Knows nothing of what a shard holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.data import Question
from trainer.errors import TrainerError


@dataclass(frozen=True)
class Shards:
    """A folder of shards of one stage.

    Attributes:
        folder: Holds `<stage>.json` and the shards.
        stage: What the shards are, e.g. "labels"; in file names and messages.
        size: Questions per shard; a folder that was begun with another size goes on with that.
        suffix: Of a shard's name; "" where a shard is a folder.
    """

    folder: Path
    stage: str
    size: int
    suffix: str = ""

    @property
    def settings_path(self) -> Path:
        """Where the stage's settings are kept."""
        return self.folder / f"{self.stage}.json"

    def path(self, number: int) -> Path:
        """A shard's file or folder."""
        return self.folder / f"{self.stage}-{number:05d}{self.suffix}"

    def run(
        self,
        settings: dict[str, Any],
        questions: Sequence[Question],
        make: Callable[[Sequence[Question], Path], None],
        report: Callable[[str], None] = print,
        notes: dict[str, Any] | None = None,
    ) -> bool:
        """Makes what is missing, one shard after the other; under `accelerate launch` each process makes its own.

        Args:
            settings: What the shards depend on besides the questions; a folder made with others is refused.
            questions: In order.
            make: Writes one shard of some questions to a path.
            report: Told of progress, with an estimate of the time left.
            notes: Kept beside the settings; may differ when the work is taken up again.

        Returns:
            Whether all shards are there now; other processes may still be making theirs.

        Raises:
            TrainerError: The folder holds shards of other questions or settings.
        """
        made_of = {"data": digest(questions), "questions": [q.id for q in questions]}
        size = self._claim({**settings, **made_of}, {**(notes or {}), "shard_size": self.size})
        shards = [questions[n : n + size] for n in range(0, len(questions), size)]
        missing = [n for n in range(len(shards)) if not self.path(n).exists()]
        if len(missing) < len(shards):
            report(f"{len(shards) - len(missing)} of {len(shards)} shards of {self.folder} are there already")
        rank, processes = process()
        mine = [n for n in missing if n % processes == rank]
        started = time.monotonic()
        for done, number in enumerate(mine, 1):
            # Written beside, then renamed: a shard that exists is complete.
            partial = self.folder / f"partial-{number:05d}{self.suffix}"
            shutil.rmtree(partial, ignore_errors=True)
            make(shards[number], partial)
            partial.rename(self.path(number))
            left = (time.monotonic() - started) / done * (len(mine) - done)
            report(f"{self.stage}: shard {number + 1}/{len(shards)} done, about {left / 60:.0f} min left")
        return all(self.path(n).exists() for n in range(len(shards)))

    def load(self) -> tuple[list[Path], dict[str, Any]]:
        """Paths of all shards in order, and the settings they were made with.

        Raises:
            TrainerError: Nothing there, or some shard is missing.
        """
        try:
            settings = json.loads(self.settings_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainerError(f"{self.folder} holds no {self.stage} ({error}): make them first") from error
        size = settings.pop("shard_size", self.size)  # says nothing of what the shards hold
        count = -(-len(settings["questions"]) // size)
        paths = [self.path(n) for n in range(count)]
        missing = sum(not path.exists() for path in paths)
        if missing:
            raise TrainerError(
                f"{self.folder}: {missing} of {count} shards are missing; run the same command again to go on"
            )
        return paths, settings

    def _claim(self, settings: dict[str, Any], notes: dict[str, Any]) -> int:
        """Writes what the shards are of, or checks that it is the same; returns the questions per shard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(settings))  # as it will be read: tuples are lists there
        if self.settings_path.exists():
            found = json.loads(self.settings_path.read_text(encoding="utf-8"))
            size = found.get("shard_size", self.size)
            found = {key: value for key, value in found.items() if key not in notes}
            differing = sorted(key for key in settings.keys() | found.keys() if settings.get(key) != found.get(key))
            if differing:
                raise TrainerError(
                    f"{self.folder} holds {self.stage} made with other settings ({', '.join(differing)}): "
                    "choose another folder"
                )
            return size
        partial = self.folder / f"partial-{os.getpid()}.json"
        partial.write_text(json.dumps({**notes, **settings}, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.rename(self.settings_path)
        return self.size


def read_lines(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The JSON objects of JSONL files, one per line; a line ends with a line feed and nothing else does."""
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes what `read_lines` reads."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def digest(questions: Sequence[Question]) -> str:
    """SHA-256 of all that the questions say; how answers are graded is not part of it, so that it may get better."""
    asked = [{key: value for key, value in asdict(q).items() if key != "stated_family"} for q in questions]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


def alone(command: str) -> None:
    """Refuses a command that does more than shards where several processes were launched.

    Raises:
        TrainerError: There are several.
    """
    if process()[1] > 1:
        raise TrainerError(
            f"`{command}` fits routers between its stages, which is one process's work: launch answer, label, rollout "
            f"and evaluate with accelerate, and start `{command}` alone; it goes on from their shards"
        )


def process() -> tuple[int, int]:
    """This process's number and how many there are, as `accelerate launch` (or torchrun) says in the environment."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
