"""What the table's rows do not show: the engine's own work around the models, sweeps, and long contexts."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from engine.benchmark.forced import ForcedShare, router_of
from engine.benchmark.machine import seconds_of, synchronise
from engine.benchmark.measure import Extra, Plan, ratios, spread
from engine.benchmark.rows import MAIN_SHARE
from engine.benchmark.subject import Subject
from engine.benchmark.writers import begin
from engine.models import LanguageModel
from engine.policy import ConfidencePolicy, Policy, RouterPolicy

SWEEP = [step / 20 for step in range(21)]
MIDDLE = 0.5


class Overhead(Extra):
    """Router, policy, sampling, events and all bookkeeping, as a share of a step in which the SLM writes.

    It is what is left of a step without the SLM's passes and its `lm_head`, so nothing of it can be forgotten.
    """

    name = "overhead"

    def __init__(self, subject: Subject, plan: Plan) -> None:
        super().__init__(subject, plan)
        self._shares: list[float] = []
        self._steps: list[float] = []

    def run(self) -> None:
        """See `Extra`."""
        pair = self._subject.pair
        tokens = self._plan.steps
        decoding = begin(pair, [self._prompt(self._plan.prompt)], ForcedShare(router_of(pair), tokens), [0.0], tokens)
        whole, rest = [], []
        with _waiting(pair.slm):
            decoding.step()  # the prompt
            while decoding.active:
                started = time.perf_counter()
                (event,) = decoding.step()
                whole.append(time.perf_counter() - started)
                rest.append(whole[-1] - event.slm_seconds)
        if whole:
            self._shares.append(sum(rest) / sum(whole))
            self._steps.append(median(whole))

    def summary(self) -> dict[str, Any]:
        """See `Extra`."""
        return {"share_of_slm_step": spread(self._shares), "slm_step_seconds": spread(self._steps)}


class Sweep(Extra):
    """One prompt at 21 thresholds, against one run at the middle one."""

    name = "sweep"

    def __init__(self, subject: Subject, plan: Plan) -> None:
        super().__init__(subject, plan)
        self._sweep: list[float] = []
        self._middle: list[float] = []

    def run(self) -> None:
        """See `Extra`."""
        self._middle.append(self._seconds([MIDDLE]))
        self._sweep.append(self._seconds(SWEEP))

    def _seconds(self, thresholds: list[float]) -> float:
        pair = self._subject.pair
        prompts = [self._prompt(self._plan.prompt)] * len(thresholds)
        decoding = begin(pair, prompts, self._policy(), thresholds, self._plan.tokens)

        def write() -> None:
            while decoding.active:
                decoding.step()

        return seconds_of(write, self._subject.device)

    def _policy(self) -> Policy:
        router = self._subject.pair.router
        return RouterPolicy(router) if router is not None else ConfidencePolicy()

    def summary(self) -> dict[str, Any]:
        """See `Extra`."""
        return {
            "thresholds": len(SWEEP),
            "policy": type(self._policy()).__name__.removesuffix("Policy").lower(),
            "sweep_seconds": spread(self._sweep),
            "middle_seconds": spread(self._middle),
            "ratio": ratios(self._sweep, self._middle),
        }


class Context(Extra):
    """A token's time at a long context against that at the usual prompt, routed at 30 %, prompt not counted.

    Both texts are written in turns, a step of the one and a step of the other, with the same roles.
    """

    name = "context"

    def __init__(self, subject: Subject, plan: Plan) -> None:
        super().__init__(subject, plan)
        self._lengths = (plan.prompt, plan.context)
        self._short: list[float] = []
        self._long: list[float] = []

    def run(self) -> None:
        """See `Extra`."""
        pair = self._subject.pair
        tokens = self._plan.steps + 1
        policy = ForcedShare(router_of(pair), tokens)
        texts = [begin(pair, [self._prompt(length)], policy, [MAIN_SHARE], tokens) for length in self._lengths]
        for text in texts:
            text.step()  # both models read the prompt
        spent = [0.0, 0.0]
        while texts[0].active:
            for number, text in enumerate(texts):
                spent[number] += seconds_of(text.step, self._subject.device)
        for seconds, total in zip((self._short, self._long), spent, strict=True):
            seconds.append(total / (tokens - 1))

    def summary(self) -> dict[str, Any]:
        """See `Extra`."""
        return {
            "lengths": list(self._lengths),
            "short_seconds": spread(self._short),
            "long_seconds": spread(self._long),
            "ratio": ratios(self._long, self._short),
        }


EXTRAS: tuple[type[Extra], ...] = (Overhead, Sweep, Context)


class _waiting:
    """Has a model's calls return only when a GPU is done, so that its time is not taken for somebody else's."""

    def __init__(self, model: LanguageModel) -> None:
        self._model: Any = model

    def __enter__(self) -> None:
        if self._model.device.type == "cuda":
            for name in ("feed", "logits"):
                setattr(self._model, name, self._wait(getattr(self._model, name)))

    def _wait(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def waited(*args: Any) -> Any:
            result = call(*args)
            synchronise(self._model.device)
            return result

        return waited

    def __exit__(self, *_: object) -> None:
        for name in ("feed", "logits"):
            self._model.__dict__.pop(name, None)
