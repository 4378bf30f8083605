"""Stores how long passes take on this machine, since measuring takes longer than loading the weights."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.models.files import read_json, write_json

FILE = "passes.json"
"""The file in the cache's folder that has the times by model and machine."""

LENGTHS = (1, 2, 4, 8, 16, 32)  # of the passes that are timed
HEADS = LENGTHS[:4]  # positions to which `lm_head` is applied at once, for its time


@dataclass(frozen=True)
class PassTimes:
    """Seconds of passes over `LENGTHS` tokens with `lm_head` at one position, and of `lm_head` alone at `HEADS`."""

    passes: list[float]
    lm_head: list[float]


def recall(path: Path, key: str) -> PassTimes | None:
    """The stored times of a model on a machine; None where there are none."""
    times = read_json(path).get(key, {})
    passes, heads = times.get("passes", []), times.get("lm_head", [])
    return PassTimes(passes, heads) if (len(passes), len(heads)) == (len(LENGTHS), len(HEADS)) else None


def keep(path: Path, key: str, times: PassTimes) -> None:
    """Stores times. Where the cache cannot be written, the next start measures again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**read_json(path), key: asdict(times)}, indent=1)
