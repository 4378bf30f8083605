"""What passes take on this machine, kept from one start to the next: measuring takes longer than reading weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.models.files import read_json, write_json

FILE = "passes.json"
"""In the cache's folder: times by model and machine."""

LENGTHS = (1, 2, 4, 8, 16, 32)  # of the passes that are timed
HEADS = LENGTHS[:4]  # positions to which `lm_head` is applied at once, for its time
_MOST = 100  # models and machines that are remembered


@dataclass(frozen=True)
class PassTimes:
    """Seconds of passes over `LENGTHS` tokens with `lm_head` at one position, and of `lm_head` alone at `HEADS`."""

    passes: Sequence[float]
    lm_head: Sequence[float]


def recall(path: Path, key: str) -> PassTimes | None:
    """What was kept for a model on a machine; None where nothing was, or what is there makes no sense."""
    found = read_json(path).get(key)
    if not isinstance(found, dict):
        return None
    passes, heads = (_seconds(found.get(name), len(of)) for name, of in (("passes", LENGTHS), ("lm_head", HEADS)))
    return PassTimes(passes, heads) if passes and heads and passes[0] > 0 and passes == sorted(passes) else None


def keep(path: Path, key: str, times: PassTimes) -> None:
    """Keeps them for the next start; where the cache cannot be written, that one measures again."""
    others = [(name, value) for name, value in read_json(path).items() if name != key]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**dict(others[-_MOST + 1 :]), key: asdict(times)}, indent=1)


def _seconds(values: Any, length: int) -> list[float] | None:
    """Times, as many as they should be, none of them negative."""
    if not isinstance(values, list) or len(values) != length:
        return None
    fine = all(type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in values)
    return values if fine else None
