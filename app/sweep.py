"""A sweep: one prompt at many settings of threshold and acceptance, for the map beside the text.

The engine lets rows whose texts are the same so far share their passes. `assets/page/sweep/sweep.js` draws the map.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import engine
from app.components import to_json
from app.figures import cost_parts, counted, tokens_of_all
from app.running.job import Job, request_weight
from app.running.run import Run
from app.scale import STEPS, scale_of
from app.stream.updates import waiting_for
from engine import Request, TokenEvent, build_request
from engine.errors import shown
from engine.events import extend
from engine.setting import LLM_ONLY

THRESHOLDS = 7
ACCEPTANCES = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Acceptances of the map: with 6 thresholds each, and LLM-only once, as it is one text at any acceptance, 31 rows."""


class SweptPoint(NamedTuple):
    """A setting of both dials."""

    threshold: float
    acceptance: float


class Sweep(Job):
    """One prompt at many settings.

    Attributes:
        points: A setting per row, the last LLM-only; empty until it has begun.
        events: Per row, its text.
        figures: Per row, once its text is complete: what it costs (see `cost_parts`), and a number that is the same for
            texts of the same tokens, and whether the text is right (None where no answer is known).
    """

    def __init__(self, request: Request, after: Job | None = None) -> None:
        super().__init__(request, after)
        self.points: list[SweptPoint] = []
        self.events: list[list[TokenEvent]] = []
        self.figures: list[list[Any] | None] = []
        self.prompt_tokens = 0
        self.began: float | None = None  # when its first token came, in seconds of `time.monotonic`
        self._numbers: dict[tuple[int, ...], int] = {}  # of texts, by their tokens

    def _write(self) -> None:
        if (policy := self.request.setting.policy) in ("slm", "llm"):
            raise engine.InvalidRequest(
                f"policy = {policy!r} has no threshold to sweep over: choose one that scores tokens"
            )
        self.prompt_tokens = self.pair.check(self.request)
        points = map_points(policy, self.pair)
        self.events, self.figures = [[] for _ in points], [None] * len(points)
        self.points = points
        for event in self._follow(self._submit([self.at(row) for row in range(len(points))])):
            self._take(event)

    @property
    def weight(self) -> int:
        """See `Job.weight`."""
        return sum(map(len, [*self.events])) + request_weight(self.request)

    def at(self, row: int) -> Request:
        return build_request(self.request, threshold=self.points[row].threshold, acceptance=self.points[row].acceptance)

    def run(self, row: int, after: Job | None) -> Run | None:
        """A row's text as a run that has ended, None until it is complete; `after` is the newest run of the window."""
        if self.figures[row] is None:
            return None
        run = Run(self.at(row), after, kept=())
        run.events, run.prompt_tokens, run.answer = [*self.events[row]], self.prompt_tokens, self.answer
        run.pair, run.host, run.state = self.pair, self.host, "done"
        run.finished.set()
        return run

    def message(self, have: int, over: bool) -> tuple[str, int]:
        """The map as it is: `Job.heading` with `points` and `figures`, as `Sweep` has them, and the `prompt`."""
        state, points = self.state, self.points  # before the figures: a sweep that is done by now has all of them
        note = waiting_for(self) or (self.progress if state == "running" and not over else "")
        heading, prompt = self.heading(0, len(points), state, note), shown(self.request.prompt)
        return to_json({**heading, "points": points, "figures": self.figures, "prompt": prompt}), len(points)

    @property
    def progress(self) -> str:
        lengths, ended = [len(events) for events in [*self.events]], [row is not None for row in [*self.figures]]
        known = [length for length, over in zip(lengths, ended, strict=False) if over]
        usual = sum(known) / len(known) if known else self.request.max_new_tokens
        expected = sum(n if over else max(n, usual) for n, over in zip(lengths, ended, strict=False))
        seconds = time.monotonic() - self.began if self.began is not None else 0.0
        tokens = tokens_of_all(sum(lengths), expected, bool(known), seconds)
        return f"{len(known)} of {counted(len(self.points), 'text')} · {tokens}"

    def _take(self, event: TokenEvent) -> None:
        if self.began is None:
            self.began = time.monotonic()
        events = self.events[event.row]
        extend(events, replace(event, row=0))
        if event.finish_reason:
            number = self._numbers.setdefault(tuple(each.id for each in events), len(self._numbers))
            costs = cost_parts(events, self.prompt_tokens, self.pair.slm_cost, self.pair.llm_cost)
            self.figures[event.row] = [costs, number, self.is_right(events)]
        self.notify()


def map_points(policy: str, pair: Any) -> list[SweptPoint]:
    """The settings that are swept, in the order of the dials' travel; the last is LLM-only."""
    scale = scale_of(pair.operating_points, policy)
    thresholds = [scale[n * STEPS // (THRESHOLDS - 1)] for n in range(THRESHOLDS - 1)]
    points = [SweptPoint(threshold, acceptance) for acceptance in ACCEPTANCES for threshold in thresholds]
    return [*points, SweptPoint(LLM_ONLY, 1.0)]
