"""Stores how long passes take on this machine, since measuring takes longer than loading the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.models.files import read_json, write_json

FILE = "passes.json"
"""The file in the cache's folder that has the times by model and machine."""

LENGTHS = (1, 2, 4, 8, 16, 32)  # of the passes that are timed
HEADS = LENGTHS[:4]  # positions to which `lm_head` is applied at once, for its time
_MOST = 100  # models and machines that are remembered


@dataclass(frozen=True)
class PassTimes:
    """Seconds of passes over `LENGTHS` tokens with `lm_head` at one position, and of `lm_head` alone at `HEADS`."""

    passes: Sequence[float]
    lm_head: Sequence[float]


def recall(path: Path, key: str) -> PassTimes | None:
    """The stored times of a model on a machine; None where there are none, or they make no sense."""
    found = read_json(path).get(key)
    if not isinstance(found, dict):
        return None
    passes, heads = (_seconds(found.get(name), len(of)) for name, of in (("passes", LENGTHS), ("lm_head", HEADS)))
    return PassTimes(passes, heads) if passes and heads and passes[0] > 0 and passes == sorted(passes) else None


def keep(path: Path, key: str, times: PassTimes) -> None:
    """Stores times. Where the cache cannot be written, the next start measures again."""
    others = [(name, value) for name, value in read_json(path).items() if name != key]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**dict(others[-_MOST + 1 :]), key: asdict(times)}, indent=1)


def _seconds(values: Any, length: int) -> list[float] | None:
    """The values, if they are so many times that are not negative."""
    if not isinstance(values, list) or len(values) != length:
        return None
    fine = all(type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in values)
    return values if fine else None
