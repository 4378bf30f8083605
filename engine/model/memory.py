"""How much memory there is, what a server of texts takes of it at most, and how many texts at once that allows."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.errors import WeightsError

if TYPE_CHECKING:
    from engine.pair import Pair

logger = logging.getLogger(__name__)

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

LIBRARIES = 500_000_000
"""Bytes of the process without models: torch, transformers, gradio and the page (485 MB with preset `tiny`)."""

TEXTS = 500_000_000
"""Bytes of all texts that windows keep, as `app.running.sessions` bounds them."""

WORK = 400_000_000
"""Bytes of activations while a prompt is read, and of requests while they are answered."""


def rows_that_fit(pair: Pair, rows: int) -> int:
    """How many of `rows` texts of the longest length fit into memory at once. Logs what the process takes at most.

    The limit is `pair.memory`, else a GPU's memory, else that of `memory_bytes`. A WeightsError if none fits.
    """
    costs = [pair.slm_cost, pair.llm_cost] if pair.llm.local else [pair.slm_cost]
    weights = sum(cost.trunk_bytes + cost.head_bytes + pair.slm.vocabulary * cost.embedding_bytes for cost in costs)
    weights += sum(getattr(model, "extra_bytes", 0) for model in (pair.slm, pair.llm))
    row = sum(cost.kv_bytes for cost in costs) * pair.context
    device, others = pair.slm.device, LIBRARIES + TEXTS + WORK
    gpu = torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None
    limit = memory_bytes(pair.memory or gpu)
    fitting = min(rows, (limit - weights - others) // row) if limit else rows
    caches = max(1, fitting) * row
    plan = (
        f"at most {(weights + caches + others) / 1e9:.1f} GB (weights {weights / 1e9:.1f}, KV caches of "
        f"{max(1, fitting)} texts {caches / 1e9:.1f}, kept texts {TEXTS / 1e9:.1f}, "
        f"libraries and work {(LIBRARIES + WORK) / 1e9:.1f}) of {limit / 1e9:.1f} GB"
    )
    if fitting < 1:
        raise WeightsError(
            f"not enough memory: with one text at a time {pair.slm_name} and {pair.llm_name} take {plan}. "
            "Raise CITER_MEMORY if there is more, set CITER_CPU_WEIGHTS=nf4 if the processor has AVX512-BF16, lower "
            "CITER_CONTEXT, or choose smaller models (CITER_PRESET=tiny)."
        )
    logger.warning("memory: %s", plan)
    return fitting


def memory_bytes(gigabytes: float | None = None) -> int:
    """`gigabytes` in bytes; else the machine's memory or a container's limit, the lesser; 0 if neither is known."""
    if gigabytes is not None:
        return round(gigabytes * 1e9)
    known: list[int] = []
    with suppress(AttributeError, ValueError, OSError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ValueError, OSError):  # "max" is no limit
        known.append(int(_CGROUP_LIMIT.read_text(encoding="utf-8")))
    return min(known, default=0)
