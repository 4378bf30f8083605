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


Timings = dict[int, list[float]]
"""One way's seconds: to the first token by the prompt's length, and under 0 those of whole runs."""


def run(settings: Settings, plan: Plan, progress: ProgressCallback) -> Json:
    """Loads a pair and measures all ways to write.

    Returns:
        The summary: what was measured where, `plan` and `rows`. Tokens per second are new tokens over the time of the
        whole run, prompt included. A figure has its median, least and greatest value, and those of the `rounds`. A
        ratio is taken within a round.

    Raises:
        EngineError: A text is longer than the models take.
    """
    pair = load(None, settings, progress)
    if pair.context < plan.longest:
        raise EngineError(
            f"The longest text has {plan.longest:,} tokens, and the pair takes {pair.context:,}: "
            "lower --tokens, or choose models that take more."
        )
    pair.calibrate()  # stored times may be of another day
    timings: dict[Way, Timings] = {way: defaultdict(list) for way in ways(pair, settings)}
    for way in timings:
        say(progress, f"warming up: {way.name}")
        _seconds(way, pair, plan.prompt, min(WARM, plan.tokens))
    for number in range(plan.rounds):
        for way, seconds in timings.items():
            say(progress, f"round {number + 1} of {plan.rounds}: {way.name}")
            for length in plan.first if way.batch == 1 else ():
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


def prompt_of(tokenizer: PreTrainedTokenizerBase, length: int, number: int = 0) -> list[int]:
    """The last `length` token ids of a message of questions, which `number` puts in another order.

    They are real, because a speculative decoder's speed depends on how well the SLM guesses the LLM, and many, so that
    the answer is long.
    """
    questions: list[str] = json.loads(PROMPTS.read_text(encoding="utf-8"))
    first = number % len(questions)
    questions = questions[first:] + questions[:first]
    text, ids = "", []
    while len(ids) < length:
        text += "\n".join(questions) + "\n"
        ids = render(tokenizer, Request(text, raw=not tokenizer.chat_template))
    return ids[-length:]


def synchronise(device: torch.device) -> None:
    """Waits for a GPU; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, a GPU's work included."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def _seconds(way: Way, pair: Pair, length: int, tokens: int) -> float:
    """Seconds of one run of a way, with prompts of one length."""
    prompts = [prompt_of(pair.tokenizer, length, number) for number in range(way.batch)]
    texts: list[list[int]] = []
    seconds = seconds_of(lambda: texts.extend(way.write(prompts, tokens)), pair.slm.device)
    assert [len(text) for text in texts] == [tokens] * len(prompts), way.name
    return seconds


def _row(way: Way, timings: Timings, tokens: int, baseline: Sequence[float]) -> Json:
    rates = [tokens * way.batch / seconds for seconds in timings[0]]
    ratios = [rate * seconds / tokens for rate, seconds in zip(rates, baseline, strict=True)]
    return {
        "name": way.name,
        "title": way.title,
        "batch": way.batch,
        "tokens_per_second": _spread(rates),
        "ratio": _spread(ratios),
        "first_token_seconds": {str(length): _spread(seconds) for length, seconds in timings.items() if length},
    }


def _spread(values: Sequence[float]) -> Json:
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}
