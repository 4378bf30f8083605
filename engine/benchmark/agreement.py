"""Whether the engine writes what `generate` writes with the same quantised weights, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

TIE = 2.0
"""Units of rounding within which two logits count as equal: each of them may be rounded by up to one."""


def compare(
    model: PreTrainedModel, prompt: Sequence[int], ours: Sequence[int], theirs: Sequence[int]
) -> dict[str, Any]:
    """Compares two greedy texts of one model.

    Args:
        model: As transformers runs it; judges where they part.
        prompt: Token ids before both.
        ours: The engine's text.
        theirs: That of `generate`.

    Returns:
        `tokens` compared, `same`; and where they part: `position`, both `ids`, the difference of their `logits`, that
        difference in `units` of the model's rounding at that size, and whether it is a `tie`.
    """
    found: dict[str, Any] = {"tokens": len(ours), "same": list(ours) == list(theirs)}
    if found["same"]:
        return found
    position = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    text = torch.tensor([[*prompt, *ours[:position]]], device=model.device)
    with torch.inference_mode():
        logits = model(text, logits_to_keep=1).logits[0, -1]  # pyright: ignore[reportCallIssue]
    ids = [ours[position], theirs[position]]
    values = [float(logits[i]) for i in ids]
    unit = rounding(max(map(abs, values)), logits.dtype)
    gap = abs(values[0] - values[1])
    return {**found, "position": position, "ids": ids, "logits": values, "units": gap / unit, "tie": gap <= TIE * unit}


def rounding(value: float, dtype: torch.dtype) -> float:
    """The distance between two neighbouring numbers of a floating-point type at the size of `value`."""
    if value == 0:
        return float(torch.finfo(dtype).smallest_normal)
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(abs(value)))
