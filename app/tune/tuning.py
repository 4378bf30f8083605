"""A visitor's own prompts at many thresholds: the job that writes them, and what the browser is sent of it.

The prompts are written in small groups, each prompt at all thresholds at once, where texts that are the same so far
share their work. Both ends are written without the router, so its cost is not counted there. At the first end the SLM
writes alone, or above acceptance 0 with the LLM reading its drafts; at the last end the LLM writes alone.
`assets/page/tune/tune.js` draws the curve.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.components import to_json
from app.controls import POLICY_LABELS
from app.figures import counted, pair_name, significant, tokens_of_all
from app.running.job import TOKEN_BYTES, Job, State, text_bytes
from app.scale import STEPS, scale_of
from app.stream.updates import waiting_for
from app.tune.curve import PromptResult, TextResult, curve
from app.tune.prompts import PromptRow
from engine import InvalidRequest, Request, TokenEvent, build_request
from engine.errors import check_whole, shown
from engine.events import llm_tokens
from engine.events.cost import costs
from engine.grading import agreement, is_right
from engine.operating_points import Quality
from engine.setting import LLM_ONLY

MAX_THRESHOLDS = 25
_TEXTS = 48  # of a group
_DENSER = 1.5
_LEAST_BYTES = 400  # that a text takes beside its characters, in memory
_SHOWN = 160  # characters of a prompt in the browser's list


class Tuning(Job):
    """All prompts at all thresholds.

    Args:
        rows: The prompts.
        request: The settings of all texts, acceptance included; its prompt and threshold are replaced. Its policy is
            one that scores: "router", "confidence" or "random".
        count: How many thresholds between both ends, 1 to `MAX_THRESHOLDS`.

    Attributes:
        thresholds: Between both ends, once they are chosen.
        results: Prompts that are done at all thresholds; only ever appended to.
        began: When the first group began, in seconds of `time.monotonic`; None before.
        tokens: How many were written of all its texts, those taken back included.

    Raises:
        InvalidRequest: A value is out of range.
    """

    message_seconds = 0.5

    def __init__(self, rows: Sequence[PromptRow], request: Request, count: int, after: Job | None) -> None:
        super().__init__(request, after)
        check_whole("thresholds", count, 1, MAX_THRESHOLDS, "between SLM-only and LLM-only, which are always there")
        self.rows, self._count = tuple(rows), count
        self.thresholds: tuple[float, ...] = ()
        self.results: list[PromptResult] = []
        self.began: float | None = None
        self.tokens = 0

    @property
    def weight(self) -> int:
        """See `Job.weight`."""
        asked = [text_bytes(row.prompt, row.expected) for row in self.rows]
        written = [text_bytes(point.text) for result in [*self.results] for point in result.points]
        return (sum(asked) + sum(written) + _LEAST_BYTES * (len(asked) + len(written))) // TOKEN_BYTES

    @property
    def _end(self) -> State:
        return "done" if len(self.results) == len(self.rows) else super()._end

    @property
    def policy(self) -> str:
        return self.request.setting.policy

    def _write(self) -> None:
        for row in self.rows:
            self._check(row)
        self.thresholds = self._choose()
        self.began = time.monotonic()
        size = max(1, _TEXTS // (len(self.thresholds) + 2))  # a prompt is never split
        for start in range(0, len(self.rows), size):
            if self.cancel.is_set():
                return
            self._measure(range(start, min(start + size, len(self.rows))))

    def _check(self, row: PromptRow) -> None:
        try:
            self.pair.check(replace(self.request, prompt=row.prompt))
        except InvalidRequest as error:
            raise InvalidRequest(f"Your prompts, {row.place}: {error}") from None

    def _choose(self) -> tuple[float, ...]:
        """Thresholds that are spread over the slider, denser where the LLM writes little: there the curve is steep."""
        scale = scale_of(self.pair.operating_points, self.policy)
        places = {round(STEPS * (n / (self._count + 1)) ** _DENSER) for n in range(1, self._count + 1)}
        return tuple(scale[place] for place in sorted(places & set(range(1, STEPS))))

    def _measure(self, group: range) -> None:
        """Writes all texts of a group, and keeps every prompt as soon as its last text ends."""
        asked = [request for number in group for request in self._requests(self.rows[number].prompt)]
        points = len(self.thresholds) + 2
        left = dict.fromkeys(group, points)  # texts that have not ended
        texts = self._submit(asked)
        for event in self._follow(texts):
            self.tokens += 1
            self.notify()
            if event.finish_reason is None:
                continue
            number = group[event.row // points]
            left[number] -= 1
            if left[number] == 0:
                first = (number - group.start) * points
                self._keep(number, texts[first : first + points])

    def _requests(self, prompt: str) -> list[Request]:
        asked = replace(self.request, prompt=prompt)
        if self.policy == "random":  # it draws by seed and position, so each prompt gets its own seed
            asked = build_request(asked, seed=self.request.seed ^ zlib.crc32(prompt.encode()))
        return [
            build_request(asked, policy="slm", threshold=0.0),  # above acceptance 0 the LLM reads what it drafts
            *(build_request(asked, threshold=threshold) for threshold in self.thresholds),
            build_request(asked, policy="llm", threshold=LLM_ONLY, acceptance=0.0),
        ]

    def _keep(self, number: int, texts: Sequence[Any]) -> None:
        reference = [event.id for event in texts[-1].events]
        expected = self.rows[number].expected
        points = [self._measured(text.events, text.prompt_tokens, reference, expected) for text in texts]
        self.results.append(PromptResult(number, tuple(points)))
        self.notify()

    def _measured(
        self, events: Sequence[TokenEvent], prompt_tokens: int, reference: Sequence[int], expected: str | None
    ) -> TextResult:
        text = "".join(event.text for event in events)
        return TextResult(
            text=text,
            right=None if expected is None else is_right(text, expected),
            agreement=agreement([event.id for event in events], reference),
            tokens=len(events),
            cut=events[-1].finish_reason == "length",
            llm_tokens=llm_tokens(events),
            bytes=costs(events, prompt_tokens, self.pair.slm_cost, self.pair.llm_cost).run.bytes,
        )

    def message(self, have: int, over: bool) -> tuple[str, int]:
        """Everything but the prompts that the browser already has.

        Curves travel whole, being a dozen points; prompts only once; texts when they are asked for.

        Returns:
            `Job.heading` with `done`, `total`; `cut_off`: the number of texts that were cut off at their limit, and of
            all; `about` (what was asked of what); `curve`, or None while nothing is done; and
            `prompts`: [number, place, prompt, expected answer, right per point, agreement per point].
        """
        state = self.state  # before the results: a tuning that is done by now has all of them
        results = list(self.results)
        pair, asked = self.pair, self.request
        message = {
            **self.heading(have, len(results) - have, state, self.progress),
            "done": len(results),
            "total": len(self.rows),
            "about": {
                "policy": self.policy,
                "scored_by": POLICY_LABELS[self.policy],
                "pair": f"{pair_name(pair.slm_name, pair.llm_name)} · {pair.quantisation}" if pair else "",
                "device": pair.device if pair else "",
                "router": pair.router.name if pair and pair.router and self.policy == "router" else None,
                "acceptance": asked.setting.acceptance,
                "max_draft": asked.setting.max_draft,
                "max_new_tokens": asked.max_new_tokens,
            },
            "cut_off": _cut_off(results),
            "curve": self._curve(results),
            "prompts": [_prompt(self, result) for result in results[have:]],
        }
        return to_json(message), len(results)

    def _curve(self, results: Sequence[PromptResult]) -> dict[str, Any] | None:
        """The curve's kind of quality, its number of prompts, and its points (`CurvePoint`); None without points."""
        answered = any(result.points[0].right is not None for result in results)
        kind: Quality = "right" if answered else "same"
        questions, points = curve(results, [0.0, *self.thresholds, LLM_ONLY], kind)
        rounded = [[significant(value, 9) for value in point] for point in points]
        return {"kind": kind, "questions": questions, "points": rounded} if points else None

    def text_message(self, row: int, point: int) -> str | None:
        """The text of a prompt at a point, with the whole prompt and answer, as JSON; None if there is no such text."""
        result = next((result for result in list(self.results) if result.row == row), None)
        if result is None or not 0 <= point < len(result.points):
            return None
        asked = self.rows[row]
        return to_json({"prompt": asked.prompt, "expected": asked.expected, "text": result.points[point].text})

    @property
    def progress(self) -> str:
        """How far it is: "3 of 20 prompts · 910 of about 8,000 tokens, about 4 min left", or what it waits for."""
        done, total = len(self.results), len(self.rows)
        of = f"{done} of {counted(total, 'prompt')}"
        if self.state not in ("waiting", "running"):
            return of
        if self.cancel.is_set():
            return f"{of} · stopping …"
        if waiting := waiting_for(self, "Reading the prompts …"):
            return waiting if self.state == "waiting" else f"{of} · {waiting}"
        if self.began is None or not self.tokens:
            return of
        ended = [point.tokens for result in [*self.results] for point in result.points]
        texts = total * (len(self.thresholds) + 2)
        usual = sum(ended) / len(ended) if ended else self.request.max_new_tokens
        return f"{of} · {tokens_of_all(self.tokens, usual * texts, bool(ended), time.monotonic() - self.began)}"


def _cut_off(results: Sequence[PromptResult]) -> list[int]:
    texts = [point for result in results for point in result.points]
    return [sum(text.cut for text in texts), len(texts)]


def _prompt(tuning: Tuning, result: PromptResult) -> list[Any]:
    row = tuning.rows[result.row]
    right = [one.right for one in result.points] if row.expected is not None else None
    prompt, expected = (None if text is None else shown(text, limit=_SHOWN) for text in (row.prompt, row.expected))
    return [result.row, row.place, prompt, expected, right, [round(one.agreement, 3) for one in result.points]]
