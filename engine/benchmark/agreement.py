"""Whether two computations choose the same tokens: the engine and `generate`, `lm_head` in bf16 and in 4 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel

from engine.benchmark.measure import seconds_of
from engine.events import Role
from engine.model.language_model import LanguageModel
from engine.pair import Pair, load
from engine.request import Request
from engine.settings import load_settings
from engine.tokenizer import render
from engine.weights.progress import print_progress

TIE = 2.0
"""Units of rounding within which two logits count as equal: each of them may be rounded by up to one."""


def compare(
    model: PreTrainedModel, prompt: Sequence[int], ours: Sequence[int], theirs: Sequence[int]
) -> dict[str, Any]:
    """Compares two greedy texts of one model after the same prompt, the engine's and that of `generate`.

    Returns:
        `tokens` compared, `same`; and where they part: `position`, both `ids`, the difference of their `logits`, that
        difference in `units` of the model's rounding at that size, and whether it is a `tie`.
    """
    result: dict[str, Any] = {"tokens": len(ours), "same": list(ours) == list(theirs)}
    if result["same"]:
        return result
    position = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    text = torch.tensor([[*prompt, *ours[:position]]], device=model.device)
    with torch.inference_mode():
        logits = model(text, logits_to_keep=1).logits[0, -1]  # pyright: ignore[reportCallIssue]
    ids = [ours[position], theirs[position]]
    values = [float(logits[i]) for i in ids]
    unit = rounding(max(map(abs, values)), logits.dtype)
    gap = abs(values[0] - values[1])
    return {**result, "position": position, "ids": ids, "logits": values, "units": gap / unit, "tie": gap <= TIE * unit}


def rounding(value: float, dtype: torch.dtype) -> float:
    """The distance between two neighbouring numbers of a floating-point type at the size of `value`."""
    if value == 0:
        return float(torch.finfo(dtype).smallest_normal)
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(abs(value)))


def lm_head(preset: str, prompts: Sequence[str], tokens: int, repeats: int = 30) -> dict[str, Any]:
    """What 4 bits on `lm_head` gain and cost, for both models of a pair that is quantised here ("cpu").

    On greedy texts (one per prompt, of at most `tokens` tokens) written with `lm_head` in bf16: how often does the
    4-bit one choose the same token in the same state, and how long does each take for one token?

    Returns:
        Per model: positions, agreement in [0, 1], texts without a difference, and milliseconds of a one-token trunk
        pass and of either `lm_head`, as medians of alternating timings.
    """
    settings = {name: load_settings(preset=preset, lm_head_4bit=name == "nf4") for name in ("bf16", "nf4")}
    pairs = {name: load(None, setting, print_progress) for name, setting in settings.items()}
    return {role.value: _compare_heads(pairs, role, prompts, tokens, repeats) for role in (Role.SLM, Role.LLM)}


def _compare_heads(
    pairs: dict[str, Pair], role: Role, prompts: Sequence[str], tokens: int, repeats: int
) -> dict[str, Any]:
    models = {name: pair.models[role is Role.LLM] for name, pair in pairs.items()}
    dense = models["bf16"]
    choices = []
    for prompt in prompts:
        request = Request(prompt, policy=role.value, max_new_tokens=tokens)
        written = [event.id for event in pairs["bf16"].generate(request).events]
        ids = render(pairs["bf16"].tokenizer, request)
        fed = ids + written[:-1]
        hidden = dense.feed(dense.new_cache(1, len(fed)), [0], [fed])[0][len(ids) - 1 :]
        choices.append([model.logits(hidden).argmax(-1).tolist() for model in models.values()])
    same = [[a == b for a, b in zip(*text, strict=True)] for text in choices]
    positions = sum(map(len, same))
    return {
        "model": dense.name,
        "positions": positions,
        "agreement": sum(map(sum, same)) / positions,
        "texts_without_a_difference": sum(map(all, same)),
        "texts": len(prompts),
        "milliseconds": _time_heads(models, repeats),
        "head_bytes": {name: model.cost.head_bytes for name, model in models.items()},
    }


def _time_heads(models: dict[str, LanguageModel], repeats: int) -> dict[str, float]:
    """Milliseconds for one token: of the trunk, and of each model's `lm_head`."""
    dense = models["bf16"]
    cache = dense.new_cache(1, 100 + repeats)
    hidden = dense.feed(cache, [0], [[1] * 99])[0][-1:]
    calls: dict[str, Callable[[], object]] = {"trunk": lambda: dense.feed(cache, [0], [[1]])}
    calls |= {name: lambda model=model: model.logits(hidden).argmax() for name, model in models.items()}
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call, dense.device))
    return {name: round(1e3 * median(values[3:]), 2) for name, values in seconds.items()}
