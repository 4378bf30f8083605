"""Measures every way to write once a round, so that what slows the machine slows all ways alike."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from engine.bench.writers import BASELINE, Way, ways
from engine.errors import EngineError
from engine.events.progress import ProgressCallback, say
from engine.pair import Pair, load
from engine.provenance import ROOT, command, machine, pair_title, revision, versions
from engine.request import Request
from engine.settings import Settings
from engine.tokenizer import render

PROMPTS = ROOT / "assets" / "prompts.json"
COMPARED_PACKAGES = ("torch", "transformers", "bitsandbytes", "llama-cpp-python")
WARM = 8
"""Tokens of the runs before the first round: enough to pack weights and to compile what is compiled."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured: lengths are in tokens; `first` are prompts whose time to the first token is measured."""

    prompt: int = 100
    tokens: int = 200
    rounds: int = 3
    first: tuple[int, ...] = (50, 500, 2000)

    @property
    def longest(self) -> int:
        return max(self.prompt + self.tokens, *(length + 1 for length in self.first))


def run(settings: Settings, plan: Plan, progress: ProgressCallback) -> Json:
    """Loads a pair and measures all ways to write; an EngineError where a text is longer than the models take.

    Returns:
        The summary: what was measured where, `plan` and `rows`. Tokens per second are new tokens over the time of the
        whole run, prompt included. A figure has its median, least and greatest value, and those of the `rounds`. A
        ratio is taken within a round.
    """
    pair = load(None, settings, progress)
    if pair.context < plan.longest:
        raise EngineError(
            f"The longest text has {plan.longest:,} tokens, and the pair takes {pair.context:,}: "
            "lower --tokens, or choose models that take more."
        )
    pair.calibrate()  # stored times may be of another day
    # Seconds to the first token by the prompt's length, and under 0 those of whole runs.
    timings: dict[Way, dict[int, list[float]]] = {way: defaultdict(list) for way in ways(pair, settings)}
    for way in timings:
        say(progress, f"warming up: {way.name}")
        _seconds(way, pair, plan.prompt, min(WARM, plan.tokens))
    for number in range(plan.rounds):
        for way, seconds in timings.items():
            say(progress, f"round {number + 1} of {plan.rounds}: {way.name}")
            for length in plan.first:
                seconds[length].append(_seconds(way, pair, length, 1))
            seconds[0].append(_seconds(way, pair, plan.prompt, plan.tokens))
    baseline = next(seconds[0] for way, seconds in timings.items() if way.name == BASELINE)
    return {
        "preset": pair.preset,
        "pair": pair_title(pair.slm_name, pair.llm_name, pair.quantisation),
        "command": command("engine.bench"),
        "revision": revision(),
        "machine": {**machine(), "versions": versions(COMPARED_PACKAGES)},
        "plan": asdict(plan),
        "rows": [_row(way, each, plan.tokens, baseline) for way, each in timings.items()],
    }


def prompt_of(tokenizer: PreTrainedTokenizerBase, length: int) -> list[int]:
    """The last `length` token ids of a message of questions.

    They are real, because a speculative decoder's speed depends on how well the SLM guesses the LLM, and many, so that
    the answer is long.
    """
    questions, text, ids = "\n".join(json.loads(PROMPTS.read_text(encoding="utf-8"))), "", []
    while len(ids) < length:
        text += questions + "\n"
        ids = render(tokenizer, Request(text, raw=not tokenizer.chat_template))
    return ids[-length:]


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, a GPU's work included."""
    synchronize = torch.get_device_module(device).synchronize
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def _seconds(way: Way, pair: Pair, length: int, tokens: int) -> float:
    """Seconds of one run of a way, with a prompt of this length."""
    prompt, text = prompt_of(pair.tokenizer, length), list[int]()
    seconds = seconds_of(lambda: text.extend(way.write(prompt, tokens)), pair.slm.device)
    assert len(text) == tokens, way.name
    return seconds


def _row(way: Way, timings: dict[int, list[float]], tokens: int, baseline: Sequence[float]) -> Json:
    rates = [tokens / seconds for seconds in timings[0]]
    ratios = [rate * seconds / tokens for rate, seconds in zip(rates, baseline, strict=True)]
    return {
        "name": way.name,
        "title": way.title,
        "tokens_per_second": _spread(rates),
        "ratio": _spread(ratios),
        "first_token_seconds": {str(length): _spread(seconds) for length, seconds in timings.items() if length},
    }


def _spread(values: Sequence[float]) -> Json:
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}
