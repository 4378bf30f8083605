"""What 4 bits on `lm_head` gain and cost: `python -m engine.benchmark lm-head`.

On the greedy texts of the pair with `lm_head` in bf16, how often does the 4-bit one choose the same token in the same
state, and how long does each take for one token?
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from engine.events import Role
from engine.models import LanguageModel
from engine.pair import Pair, load
from engine.progress import print_progress
from engine.prompt import render
from engine.request import Request
from engine.settings import load_settings


def lm_head(preset: str, prompts: Sequence[str], tokens: int, repeats: int = 30) -> dict[str, Any]:
    """Compares `lm_head` in bf16 and in 4 bits, for both models of a pair.

    Args:
        preset: Of a pair that is quantised here ("cpu").
        prompts: Greedy texts are written for each.
        tokens: At most, per text.
        repeats: Alternating timings of each head.

    Returns:
        Per model: positions, agreement in [0, 1], texts without a difference, and milliseconds of a one-token trunk
        pass and of either `lm_head`, as medians.
    """
    settings = {name: load_settings(preset=preset, lm_head_4bit=name == "nf4") for name in ("bf16", "nf4")}
    pairs = {name: load(None, setting, print_progress) for name, setting in settings.items()}
    return {
        role.value: _compare(pairs["bf16"], pairs["nf4"], role, prompts, tokens, repeats)
        for role in (Role.SLM, Role.LLM)
    }


def _compare(
    dense: Pair, quantised: Pair, role: Role, prompts: Sequence[str], tokens: int, repeats: int
) -> dict[str, Any]:
    models: dict[str, LanguageModel] = {
        name: pair.slm if role is Role.SLM else pair.llm for name, pair in (("bf16", dense), ("nf4", quantised))
    }
    same = []
    for prompt in prompts:
        request = Request(prompt, policy=role.value, max_new_tokens=tokens)
        written = [event.id for event in dense.generate(request).events]
        ids = render(dense.tokenizer, request)
        model = models["bf16"]
        fed = ids + written[:-1]
        hidden = model.feed(model.new_cache(1, len(fed)), [0], [fed])[0][len(ids) - 1 :]
        same.append([m.logits(hidden).argmax(-1).tolist() for m in models.values()])
    counts = [sum(a == b for a, b in zip(*pair, strict=True)) for pair in same]
    positions = sum(len(pair[0]) for pair in same)
    cache = models["bf16"].new_cache(1, 100 + repeats)
    hidden = models["bf16"].feed(cache, [0], [[1] * 99])[0][-1:]
    timed: dict[str, list[float]] = {"trunk": [], "bf16": [], "nf4": []}
    for _ in range(repeats):
        timed["trunk"].append(_milliseconds(lambda: models["bf16"].feed(cache, [0], [[1]])))
        for name, model in models.items():
            timed[name].append(_milliseconds(lambda m=model: m.logits(hidden).argmax()))
    return {
        "model": models["bf16"].name,
        "positions": positions,
        "agreement": sum(counts) / positions,
        "texts_without_a_difference": sum(n == len(pair[0]) for n, pair in zip(counts, same, strict=True)),
        "texts": len(prompts),
        "milliseconds": {name: round(median(values[3:]), 2) for name, values in timed.items()},
        "head_bytes": {name: model.cost.head_bytes for name, model in models.items()},
    }


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3
