"""What is in memory: of a model, part by part, and of this process."""

from __future__ import annotations

import ctypes
import errno
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a server asks for its memory before torch is there
    from engine.model.language_model import LanguageModel

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Held:
    """Something that a model has in memory.

    Attributes:
        what, why: In words.
        mapped: Whether it lies in a mapped file, of which memory has only what was read.
    """

    what: str
    bytes: int
    why: str
    mapped: bool = False


def held_by(model: LanguageModel) -> list[Held]:
    """What a model on this processor holds, as long as it is loaded; the KV caches are those of texts."""
    weights = model.cost.trunk_bytes + model.cost.head_bytes
    parts = [Held("weights", weights, "every pass reads all of them")]
    if model.copy_bytes:
        parts.append(Held("copy of the weights", model.copy_bytes, "passes over many tokens read it instead"))
    embedding = model.weights.get_input_embeddings().weight
    if embedding.data_ptr() != model.weights.get_output_embeddings().weight.data_ptr():
        parts.append(Held("embedding", embedding.nbytes, "a row for each token read", mapped=True))
    return parts


def process_memory(name: str) -> int:
    """Bytes of this process that Linux counts under a name, e.g. VmRSS (see proc(5)); an OSError elsewhere."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    line = next((line for line in lines if line.startswith(f"{name}:")), None)
    if line is None:  # a sandbox's file may say less than Linux's own
        raise OSError(errno.ENODATA, f"it says no {name}", str(_STATUS))
    return int(line.split()[1]) * 1024


def give_back() -> None:
    """Gives what was freed back to the system, where glibc would keep it."""
    if sys.platform != "linux":  # Windows has no library of this name, which is a TypeError there
        return
    with suppress(OSError, AttributeError):  # other C libraries do it by themselves
        ctypes.CDLL(None).malloc_trim(0)
