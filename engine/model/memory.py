"""How much memory there is, what a server of texts takes of it at most, and how many texts at once that allows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from engine.errors import WeightsError

if TYPE_CHECKING:
    from engine.pair import Pair

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

LIBRARIES = 500_000_000
"""Bytes of the process without models: torch, transformers, gradio and the page (485 MB with preset `tiny`)."""

TEXTS = 500_000_000
"""Bytes of all texts that windows keep, as `app.running.sessions` bounds them."""

WORK = 400_000_000
"""Bytes of activations while a prompt is read, and of requests while they are answered."""


class MemoryPlan(NamedTuple):
    """Bytes that a process may take (`limit`, 0 if not known) and takes at most.

    That is both models' weights, and the KV caches of `rows` texts of the longest length, of `row` bytes each.
    """

    limit: int
    weights: int
    row: int
    rows: int

    @property
    def most(self) -> int:
        return self.weights + self.rows * self.row + LIBRARIES + TEXTS + WORK

    def __str__(self) -> str:
        sizes = self.most, self.weights, self.rows * self.row, TEXTS, LIBRARIES + WORK, self.limit
        most, weights, caches, texts, others, limit = (f"{size / 1e9:.1f}" for size in sizes)
        return (
            f"at most {most} GB (weights {weights}, KV caches of {self.rows} texts {caches}, kept texts {texts}, "
            f"libraries and work {others}){f' of {limit} GB' if self.limit else ''}"
        )


def plan_memory(pair: Pair, rows: int, limit: float | None = None) -> MemoryPlan:
    """The most that a loaded pair takes with as many of `rows` texts at once as fit; a WeightsError if not one does.

    `limit` is in gigabytes. None is a GPU's memory, the container's limit, or all that the machine has.
    """
    costs = [pair.slm_cost, pair.llm_cost] if pair.llm.local else [pair.slm_cost]
    weights = sum(cost.trunk_bytes + cost.head_bytes + pair.slm.vocabulary * cost.embedding_bytes for cost in costs)
    row = sum(cost.kv_bytes for cost in costs) * pair.context
    if limit is None and pair.slm.device.type == "cuda":
        most = torch.cuda.get_device_properties(pair.slm.device).total_memory
    else:
        most = allowed_bytes(limit)
    plan = MemoryPlan(most, weights, row, 1)
    if most and plan.most > most:
        raise WeightsError(
            f"not enough memory: with one text at a time {pair.slm_name} and {pair.llm_name} take {plan}. Raise "
            "CITER_MEMORY if the machine has more, lower CITER_CONTEXT, or choose smaller models (CITER_PRESET=tiny)."
        )
    fitting = 1 + (most - plan.most) // row if most and row else rows
    return MemoryPlan(most, weights, row, min(rows, fitting))


def allowed_bytes(limit: float | None) -> int:
    """Bytes of so many gigabytes; without a limit those of `memory_bytes`."""
    return memory_bytes() if limit is None else round(limit * 1e9)


def memory_bytes() -> int:
    """Bytes in all, or a container's limit where that is less; 0 where neither can be asked."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = 0
    return min(filter(None, (physical, _container_bytes())), default=0)


def _container_bytes() -> int | None:
    try:
        text = _CGROUP_LIMIT.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() else None
