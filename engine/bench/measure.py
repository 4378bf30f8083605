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

from engine.bench.writers import BASELINE, WAYS, Subject, Way, Writer, reason_to_skip
from engine.errors import EngineError
from engine.provenance import ROOT, command, machine, pair_title, revision, versions
from engine.request import Request
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


def run(subject: Subject, plan: Plan, report: Callable[[str], None]) -> Json:
    """Measures all ways to write.

    Returns:
        The summary: what was measured where, `plan`, `rows`, and `skipped` with reasons. Tokens per second are new
        tokens over the time of the whole run, prompt included. A figure has its median, least and greatest value, and
        those of the `rounds`. A ratio is taken within a round.

    Raises:
        EngineError: A text is longer than the models take.
    """
    pair = subject.pair
    if pair.context < plan.longest:
        raise EngineError(
            f"The longest text has {plan.longest:,} tokens, and the pair takes {pair.context:,}: "
            "lower --tokens, or choose models that take more."
        )
    skipped = {way.title: reason for way in WAYS if (reason := reason_to_skip(way, subject))}
    writers = {way: way.writer(subject) for way in WAYS if way.title not in skipped}
    timings: dict[Way, Timings] = {way: defaultdict(list) for way in writers}
    for way, write in writers.items():
        report(f"warming up: {way.name}")
        write(_prompts(subject, way, plan.prompt), min(WARM, plan.tokens))
    for number in range(plan.rounds):
        for way, write in writers.items():
            report(f"round {number + 1} of {plan.rounds}: {way.name}")
            _measure(subject, way, write, plan, timings[way])
    baseline = next(timings[way][0] for way in writers if way.name == BASELINE)
    return {
        "preset": pair.preset,
        "pair": pair_title(pair.slm_name, pair.llm_name, pair.quantisation),
        "command": command("engine.bench"),
        "revision": revision(),
        "machine": {**machine(), "versions": versions(COMPARED_PACKAGES)},
        "plan": asdict(plan),
        "rows": [_row(way, each, plan.tokens, baseline) for way, each in timings.items()],
        "skipped": skipped,
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


def _measure(subject: Subject, way: Way, write: Writer, plan: Plan, into: Timings) -> None:

    def timed(prompts: Sequence[Sequence[int]], tokens: int) -> float:
        texts: list[list[int]] = []
        seconds = seconds_of(lambda: texts.extend(write(prompts, tokens)), subject.device)
        assert [len(text) for text in texts] == [tokens] * len(prompts), way.name
        return seconds

    for length in plan.first if way.first_token else ():
        prompt = prompt_of(subject.pair.tokenizer, length)
        into[length].append(timed([prompt], 1))
    into[0].append(timed(_prompts(subject, way, plan.prompt), plan.tokens))


def _prompts(subject: Subject, way: Way, length: int) -> list[list[int]]:
    return [prompt_of(subject.pair.tokenizer, length, number) for number in range(way.batch)]


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
