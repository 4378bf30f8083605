"""How the benchmark measures: time, the memory's bandwidth, and what the rows of the table do not show.

A figure is the median over the rounds, with the least and the greatest. A ratio is taken within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from engine.benchmark.rows import MAIN_SHARE
from engine.benchmark.subject import Subject, prompt_of
from engine.benchmark.writers import ForcedShare, begin, router_of
from engine.model.any_model import synchronise
from engine.model.language_model import LanguageModel
from engine.policy import ConfidencePolicy, Policy, RouterPolicy
from engine.provenance import command, machine, pair_title, revision, versions

COMPARED_PACKAGES = ("torch", "transformers", "bitsandbytes", "llama-cpp-python")
STEPS = 40
BUFFER = 1 << 30
"""Bytes read for the bandwidth: as much as the models have, so that no cache holds more of it than of them."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        prompt: Tokens of a prompt.
        tokens: Tokens written.
        first: Lengths of prompts whose time to the first token is measured, in tokens.
        context: Tokens of context at which a token's time is compared with that at `prompt`.
    """

    prompt: int = 100
    tokens: int = 200
    rounds: int = 3
    first: tuple[int, ...] = (50, 500, 2000)
    context: int = 2000

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.prompt + self.tokens, self.context + self.steps + 1, *(length + 1 for length in self.first))

    @property
    def steps(self) -> int:
        """Steps whose time is compared where the prompt may take far longer than they do."""
        return min(self.tokens, STEPS)


def about(subject: Subject) -> dict[str, Any]:
    """The head of a summary: what was measured, by which command and revision, on which machine."""
    pair = subject.pair
    return {
        "preset": subject.name,
        "pair": pair_title(pair.slm_name, pair.llm_name, pair.quantisation),
        "command": command("engine.benchmark"),
        "revision": revision(),
        "machine": {**machine(), "versions": versions(COMPARED_PACKAGES)},
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of some figures, and the figures by round."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """The spread of one figure's ratio to another, round by round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, a GPU's work included."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


class Bandwidth:
    """How fast torch's threads read a large buffer, in bytes per second.

    Three kernels that read every byte once and write next to nothing are tried, since none of them is known to be the
    fastest everywhere; the fastest is what this memory can at least do.
    """

    def __init__(self, device: torch.device) -> None:
        """Allocates the buffer on a device and chooses the kernel."""
        flat = torch.ones(BUFFER // 4, device=device)
        matrix, vector = flat.view(-1, 4096), torch.ones(4096, device=device)
        kernels = [flat.sum, lambda: torch.dot(flat, flat), lambda: torch.mv(matrix, vector)]
        self._size, self._device = BUFFER, device
        for kernel in kernels:
            self._read(kernel)  # first touch
        self._kernel = max(kernels, key=self._read)
        self.rounds: list[float] = []

    def measure(self, repeats: int = 5) -> None:
        """Adds one figure: the median of some readings."""
        self.rounds.append(median(self._read(self._kernel) for _ in range(repeats)))

    def _read(self, kernel: Callable[[], object]) -> float:
        return self._size / seconds_of(kernel, self._device)


# What the rows do not show: the engine's own work around the models, sweeps, and long contexts.

THRESHOLDS = [step / 20 for step in range(21)]
MIDDLE = 0.5


@dataclass(frozen=True)
class Extra:
    """A measurement that is no row of the table.

    Attributes:
        name: For `--only` and the JSON.
        measure: One round's figures by name.
        conditions: What else the JSON says of it.
    """

    name: str
    measure: Callable[[Subject, Plan], dict[str, float]]
    conditions: Callable[[Subject, Plan], dict[str, Any]] = lambda *_: {}

    def summary(self, subject: Subject, plan: Plan, rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Its conditions, and each figure's spread over the rounds."""
        figures = {name: spread([figures[name] for figures in rounds]) for name in rounds[0]}
        return {**self.conditions(subject, plan), **figures}


def _overhead(subject: Subject, plan: Plan) -> dict[str, float]:
    """Router, policy, sampling, events and all bookkeeping, as a share of a step in which the SLM writes.

    It is what is left of a step without the SLM's passes and its `lm_head`, so nothing of it can be forgotten.
    """
    prompt = prompt_of(subject.pair.tokenizer, plan.prompt)
    decoding = begin(subject.pair, [prompt], ForcedShare(router_of(subject.pair), plan.steps), [0.0], plan.steps)
    whole, rest, slm = [], [], [0.0]
    with _timed(subject.pair.slm, slm):
        decoding.step()  # the prompt
        while decoding.active:
            started, slm[0] = time.perf_counter(), 0.0
            decoding.step()
            whole.append(time.perf_counter() - started)
            rest.append(whole[-1] - slm[0])
    return {"share_of_slm_step": sum(rest) / sum(whole), "slm_step_seconds": median(whole)} if whole else {}


def _timed(model: LanguageModel, seconds: list[float]) -> AbstractContextManager[object]:
    """Adds to `seconds` what a model's calls take, which return only when a GPU is done."""

    def waiting(call: Callable[..., Any]) -> Callable[..., Any]:
        def waited(*args: Any) -> Any:
            started = time.perf_counter()
            result = call(*args)
            synchronise(model.device)
            seconds[0] += time.perf_counter() - started
            return result

        return waited

    return patch.multiple(model, feed=waiting(model.feed), logits=waiting(model.logits))


def _sweep(subject: Subject, plan: Plan) -> dict[str, float]:
    """One prompt at 21 thresholds, against one run at the middle one."""

    def seconds(thresholds: list[float]) -> float:
        prompts = [prompt_of(subject.pair.tokenizer, plan.prompt)] * len(thresholds)
        decoding = begin(subject.pair, prompts, _sweep_policy(subject), thresholds, plan.tokens)
        return seconds_of(decoding.finish, subject.device)

    middle, sweep = seconds([MIDDLE]), seconds(THRESHOLDS)
    return {"sweep_seconds": sweep, "middle_seconds": middle, "ratio": sweep / middle}


def _sweep_policy(subject: Subject) -> Policy:
    router = subject.pair.router
    return RouterPolicy(router) if router is not None else ConfidencePolicy()


def _sweep_conditions(subject: Subject, _: Plan) -> dict[str, Any]:
    policy = type(_sweep_policy(subject)).__name__.removesuffix("Policy").lower()
    return {"thresholds": len(THRESHOLDS), "policy": policy}


def _context(subject: Subject, plan: Plan) -> dict[str, float]:
    """A token's time at a long context against that at the usual prompt, routed at 30 %, prompt not counted.

    Both texts are written in turns, a step of the one and a step of the other, with the same roles.
    """
    policy = ForcedShare(router_of(subject.pair), plan.steps + 1)
    prompts = [prompt_of(subject.pair.tokenizer, length) for length in (plan.prompt, plan.context)]
    texts = [begin(subject.pair, [prompt], policy, [MAIN_SHARE], plan.steps + 1) for prompt in prompts]
    for text in texts:
        text.step()  # both models read the prompt
    spent = [0.0, 0.0]
    while texts[0].active:
        for number, text in enumerate(texts):
            spent[number] += seconds_of(text.step, subject.device)
    short, long = (total / plan.steps for total in spent)
    return {"short_seconds": short, "long_seconds": long, "ratio": long / short}


EXTRAS = (
    Extra("overhead", _overhead),
    Extra("sweep", _sweep, _sweep_conditions),
    Extra("context", _context, lambda _, plan: {"lengths": [plan.prompt, plan.context]}),
)
