"""Rounds: every row once, then every row again, so that what slows the machine slows all of them.

A figure is the median over the rounds with the least and the greatest; a ratio is taken within a round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from engine.benchmark.forced import router_of
from engine.benchmark.machine import Bandwidth, seconds_of
from engine.benchmark.memory import Peak
from engine.benchmark.prompts import prompt_of
from engine.benchmark.rows import Row, bytes_to_move, cache_bytes
from engine.benchmark.subject import Subject
from engine.benchmark.writers import Writer

WARM = 8
"""Tokens of the runs before the first round: enough to pack weights and to compile what is compiled."""

STEPS = 40


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        prompt: Tokens of a prompt.
        tokens: Tokens written.
        rounds: How often.
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


class Extra(ABC):
    """A measurement of another kind, made once a round.

    Attributes:
        name: For `--only` and the JSON.
    """

    name: str

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject, self._plan = subject, plan

    @abstractmethod
    def run(self) -> None:
        """Measures once."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What the rounds gave, for the JSON."""

    def _prompt(self, length: int) -> list[int]:
        return prompt_of(self._subject.pair.tokenizer, length)


@dataclass
class Measured:
    """What the rounds gave for one row.

    Attributes:
        seconds: Of each run.
        begun: Seconds of a run of the same prompts that stops after the first token.
        first: Seconds to the first token, by the prompt's length.
        peak: Bytes that each run took above weights and caches.
        first_peak: The same for the first token after the last of the plan's lengths.
        texts: The last run's.
    """

    seconds: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    first: dict[int, list[float]] = field(default_factory=dict)
    peak: list[int] = field(default_factory=list)
    first_peak: list[int] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of some figures, and the figures by round."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """The spread of one figure's ratio to another, round by round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def measure_rows(
    subject: Subject,
    rows: Sequence[Row],
    plan: Plan,
    bandwidth: Bandwidth,
    extras: Sequence[Extra],
    tell: Callable[[str], None],
) -> dict[str, Measured]:
    """Runs every row `plan.rounds` times.

    Args:
        subject: The pair.
        rows: Those to measure, in this order.
        plan: How much.
        bandwidth: Measured once a round.
        extras: Other measurements, made once a round each.
        tell: Told of progress.

    Returns:
        Per row's name what was measured.
    """
    writers = {row.name: row.writer(subject) for row in rows}
    found = {row.name: Measured() for row in rows}
    for row in rows:
        tell(f"warming up: {row.name}")
        writers[row.name](_prompts(subject, row, plan.prompt), min(WARM, plan.tokens))
    for number in range(plan.rounds):
        bandwidth.measure()
        for row in rows:
            tell(f"round {number + 1} of {plan.rounds}: {row.name}")
            _run(subject, row, writers[row.name], plan, found[row.name])
        for each in extras:
            tell(f"round {number + 1} of {plan.rounds}: {each.name}")
            each.run()
    return found


def _run(subject: Subject, row: Row, write: Writer, plan: Plan, into: Measured) -> None:
    prompts = _prompts(subject, row, plan.prompt)
    peak = Peak(subject.device)

    def timed(each: Sequence[Sequence[int]], tokens: int, peaks: list[int]) -> float:
        def whole() -> None:
            into.texts = write(each, tokens)

        peak.start()
        seconds = seconds_of(whole, subject.device)
        taken = peak.stop()
        if taken is not None and row.allocates_in_run:
            caches = cache_bytes(subject.pair.slm_cost, subject.pair.llm_cost, row, len(each[0]) + tokens)
            peaks.append(max(0, taken - caches))
        assert [len(text) for text in into.texts] == [tokens] * row.batch, row.name
        return seconds

    for length in plan.first if row.first_token else ():
        one = [prompt_of(subject.pair.tokenizer, length)]
        into.first.setdefault(length, []).append(timed(one, 1, into.first_peak if length == plan.first[-1] else []))
    into.begun.append(timed(prompts, 1, []))
    into.seconds.append(timed(prompts, plan.tokens, into.peak))


def _prompts(subject: Subject, row: Row, length: int) -> list[list[int]]:
    return [prompt_of(subject.pair.tokenizer, length, number) for number in range(row.batch)]


def summarise(
    subject: Subject, row: Row, measured: Measured, plan: Plan, bandwidth: Bandwidth, baseline: Measured | None
) -> dict[str, Any]:
    """A row of the JSON: figures with their spread, and what follows from them."""
    written = plan.tokens * row.batch
    rates = [written / seconds for seconds in measured.seconds]
    after = [(written - row.batch) / (s - b) for s, b in zip(measured.seconds, measured.begun, strict=True) if s > b]
    bound = None
    if row.bounded:
        router = router_of(subject.pair) if row.uses_router else None
        roles = [row.roles(plan.tokens, seed) for seed in range(row.batch)]
        moved = bytes_to_move(subject.pair.slm_cost, subject.pair.llm_cost, plan.prompt, roles, router)
        bound = [written * per_second / moved for per_second in bandwidth.rounds]
    return {
        "name": row.name,
        "title": row.title,
        "batch": row.batch,
        "llm_share": sum(role.value == "llm" for role in row.roles(plan.tokens)) / plan.tokens,
        "tokens_per_second": spread(rates),
        "tokens_per_second_after_first": spread(after) if after else None,
        "ratio": ratios(rates, [plan.tokens / s for s in baseline.seconds]) if baseline else None,
        "bound_tokens_per_second": median(bound) if bound else None,
        "share_of_bound": ratios(rates, bound) if bound else None,
        "peak_bytes": max(measured.peak) if measured.peak else None,
        "first_token_peak_bytes": max(measured.first_peak) if measured.first_peak else None,
        "first_token_seconds": {str(length): spread(seconds) for length, seconds in measured.first.items()},
    }
