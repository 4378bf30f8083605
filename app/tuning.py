"""A visitor's own prompts at many thresholds: the job that writes them. What is sent is `app.tuning_message`.

The prompts go through the models in small groups, each prompt at all thresholds at once, where texts that are the same
so far share their work. Both ends are the models alone, as in a router's measured curve: with the router switched on,
its own cost would be theirs too. Knows no gradio.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import engine
from app.expected import is_right
from app.jobs import Job, State
from app.prompt_file import PromptRow
from app.tuning_curve import (
    QUALITIES,
    Measured,
    PromptResult,
    Quality,
    agreement,
    build_curve,
    even_thresholds,
    thresholds_of_curve,
    thresholds_of_scores,
)
from engine import InvalidRequest, Request, Role, TokenEvent
from engine.cost import cost_alone
from engine.operating_points import LLM_ONLY, Curve
from engine.request import whole

MAX_THRESHOLDS = 25
_ROWS = 48  # of a batch: small groups stop quickly and need small caches
_SLOTS = 24_576  # tokens of a batch's caches, prompts included; room for the default thresholds at a full context
_PROBED = 4  # prompts whose scores choose the thresholds where the router was not measured


class Tuning(Job):
    """All prompts at all thresholds.

    Attributes:
        rows: The prompts.
        policy: One that scores.
        request: What every prompt is asked with; its own prompt and threshold do not count.
        thresholds: Between both ends, once they are chosen.
        results: Prompts that are done at all thresholds; only ever appended to.
        began: When the first group began, in seconds of `time.monotonic`; None before.
        token: How many tokens the group that is on has written at most.
    """

    def __init__(
        self, rows: Sequence[PromptRow], policy: str, count: int, max_new_tokens: int, seed: int, after: Job | None
    ) -> None:
        """Says what to do; nothing is run before `start`.

        Args:
            rows: The prompts.
            policy: "router", "confidence" or "random".
            count: How many thresholds between both ends, 1 to `MAX_THRESHOLDS`.
            max_new_tokens: Of each text.
            seed: For the policy "random"; texts are greedy.
            after: The one before this one.

        Raises:
            InvalidRequest: A value is out of range.
        """
        super().__init__(after)
        whole("thresholds", count, 1, MAX_THRESHOLDS, "between SLM-only and LLM-only, which are always there")
        self.rows, self.policy, self._count = tuple(rows), policy, count
        self.request = Request(rows[0].prompt, policy=policy, max_new_tokens=max_new_tokens, seed=seed)
        self.thresholds: tuple[float, ...] = ()
        self.results: list[PromptResult] = []
        self.began: float | None = None
        self.token = 0
        self._curves: tuple[int, dict[Quality, Curve | None]] = (-1, {})

    def curves(self) -> dict[Quality, Curve | None]:
        """The curves of the results so far, by quality; made anew only where there are more."""
        results = list(self.results)
        if self._curves[0] != len(results):
            self._curves = len(results), {kind: build_curve(results, self.thresholds, kind) for kind in QUALITIES}
        return self._curves[1]

    @property
    def shipped(self) -> Curve | None:
        """The curve that was measured of the router, where the router is what scores."""
        points = self.pair.operating_points if self.pair is not None and self.policy == "router" else None
        return next((curve for curve in points.curves if curve.points), None) if points else None

    @property
    def _end(self) -> State:
        return "done" if len(self.results) == len(self.rows) else super()._end

    def _write(self) -> None:
        lengths = [self._check(row) for row in self.rows]
        self.state = "running"
        self.thresholds = self._choose()
        self.began = time.monotonic()
        for group in self._groups(lengths):
            if self.host is not None:
                self.host.give_way(self, self.cancel)  # so that other visitors need not wait for all prompts
            if self.cancel.is_set():
                return
            self._measure(group)

    def _check(self, row: PromptRow) -> int:
        try:
            return self.pair.check(replace(self.request, prompt=row.prompt))
        except InvalidRequest as error:
            raise InvalidRequest(f"Your prompts, {row.place}: {error}") from None

    def _choose(self) -> tuple[float, ...]:
        if self.policy == "random":
            return even_thresholds(self._count)
        if self.shipped is not None:
            return thresholds_of_curve(self.shipped, self._count)
        asked = [replace(self.request, prompt=row.prompt, threshold=0.0) for row in self.rows[:_PROBED]]
        _, events = self._start(asked)
        return thresholds_of_scores([event.score for event in events if event.score is not None], self._count)

    def _groups(self, lengths: Sequence[int]) -> Iterator[range]:
        """Numbers of prompts that fit into one batch; a prompt is never split."""
        points, start = len(self.thresholds) + 2, 0
        while start < len(self.rows):
            end, longest = start, 0
            while end < len(self.rows):
                longest = max(longest, min(lengths[end] + self.request.max_new_tokens, self.pair.context))
                rows = (end + 1 - start) * points
                if end > start and (rows > _ROWS or rows * longest > _SLOTS):
                    break
                end += 1
            yield range(start, end)
            start = end

    def _measure(self, group: range) -> None:
        """Writes all texts of a group, and keeps every prompt as soon as its last text ends."""
        asked = [request for number in group for request in self._requests(self.rows[number].prompt)]
        points = len(self.thresholds) + 2
        left = dict.fromkeys(group, points)
        decoding, events = self._start(asked)
        for event in events:
            self.token = max(self.token, event.index + 1)
            self.ring()
            if event.finish_reason is None:
                continue
            number = group[event.row // points]
            left[number] -= 1
            if left[number] == 0:
                first = (number - group.start) * points
                self._keep(number, decoding.rows[first : first + points])
        self.token = 0

    def _requests(self, prompt: str) -> list[Request]:
        asked = replace(self.request, prompt=prompt)
        return [
            replace(asked, policy="slm", threshold=0.0),
            *(replace(asked, threshold=threshold) for threshold in self.thresholds),
            replace(asked, policy="llm", threshold=LLM_ONLY),
        ]

    def _start(self, asked: Sequence[Request]) -> tuple[Any, Iterator[TokenEvent]]:
        decoding = self.pair.start(asked)
        return decoding, engine.decode(decoding, self.cancel)

    def _keep(self, number: int, rows: Sequence[Any]) -> None:
        reference = [event.id for event in rows[-1].events]
        expected = self.rows[number].expected
        points = [self._measured(row.events, row.prompt_tokens, reference, expected) for row in rows]
        self.results.append(PromptResult(number, tuple(points)))
        self.ring()

    def _measured(
        self, events: Sequence[TokenEvent], prompt_tokens: int, reference: Sequence[int], expected: str | None
    ) -> Measured:
        text = "".join(event.text for event in events)
        cost = cost_alone(events, prompt_tokens, self.pair.slm_cost, self.pair.llm_cost)
        return Measured(
            text=text,
            right=None if expected is None else is_right(text, expected),
            agreement=agreement([event.id for event in events], reference),
            tokens=len(events),
            llm_tokens=sum(event.role is Role.LLM for event in events),
            bytes=cost.bytes,
            flops=cost.flops,
            seconds=cost.seconds,
        )
