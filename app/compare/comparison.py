"""A comparison: the SLM alone, both together, and the LLM alone on one prompt, written at once.

Rows of a batch share the clock, so the seconds here are modelled: what each text would take alone, from the measured
passes of each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from app.components import to_json
from app.figures import FREE, cost_parts, counted
from app.running.job import Job, State, request_weight
from engine import Request, Role, TokenEvent, build_request
from engine.events.cost import modelled_seconds
from engine.events.settled import SettledEvents
from engine.grading import is_right

KEYS = ("slm", "middle", "llm")
_EXACT_DIFF_TOKENS = 1000  # longer texts are compared without their most frequent tokens as anchors: linear, not square


@dataclass
class Column:
    """One of the texts: its request, and what came of it.

    Attributes:
        events: Those that the LLM can no longer take back; only ever appended to.
        seconds: Per event, what this text alone would have taken up to it.
    """

    key: str
    request: Request
    prompt_tokens: int = 0
    events: list[TokenEvent] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """How a text differs from another: indices of its own tokens, in order, and how many of the other's it lacks."""

    own: tuple[int, ...] = ()
    lacks: int = 0


class Comparison(Job):
    """Three texts for one prompt, written as one batch.

    Args:
        request: Of the text that both write together.
        answer: The right answer, where it is known.

    Attributes:
        texts: By key, in the order of the page.
        log: (key, index) of every token, in the order of writing; only ever appended to.
        differences: By key, each text's difference from LLM-only; empty until writing is over.
    """

    def __init__(self, request: Request, answer: str = "", after: Job | None = None) -> None:
        super().__init__(request, after)
        self.answer = answer
        alone = {key: build_request(request, policy=key, acceptance=0.0) for key in ("slm", "llm")}
        self.texts = {key: Column(key, alone.get(key, request)) for key in KEYS}
        self.log: list[tuple[str, int]] = []
        self.differences: dict[str, Difference] = {}

    @property
    def weight(self) -> int:
        """See `Job.weight`; a token without candidates takes a quarter."""
        return sum(len(text.events) for text in [*self.texts.values()]) // 4 + request_weight(self.request)

    @property
    def _end(self) -> State:
        texts = self.texts.values()
        ended = all(text.events and text.events[-1].finish_reason not in (None, "cancelled") for text in texts)
        return "done" if ended else super()._end

    def _write(self) -> None:
        self.texts["middle"].request = self.request
        texts = [*self.texts.values()]
        asked = self._submit([text.request for text in texts], interactive=True)
        for text, written in zip(texts, asked, strict=True):
            text.prompt_tokens = written.prompt_tokens
        streams = [SettledEvents() for _ in texts]
        for event in self._follow(asked):
            for settled in streams[event.row].add(event):
                self.add(texts[event.row], settled)
        for text, stream in zip(texts, streams, strict=True):
            for draft in stream.rest():  # stopped before the LLM had read it
                self.add(text, draft)
        self.compare()

    def add(self, text: Column, event: TokenEvent) -> None:
        """Takes a token that stays."""
        before = text.seconds[-1] if text.seconds else 0.0
        slm = FREE if text.key == "llm" else self.pair.slm_cost  # a recorded text has scores, which it does not need
        text.seconds.append(before + modelled_seconds([event], slm, self.pair.llm_cost))
        text.events.append(event)
        self.log.append((text.key, event.index))
        self.notify()

    def compare(self) -> None:
        target = [event.id for event in self.texts["llm"].events]
        self.differences = {
            key: difference([event.id for event in text.events], target)
            for key, text in self.texts.items()
            if text.events
        }


def difference(ids: Sequence[int], others: Sequence[int]) -> Difference:
    """What a text has that another has not, token by token, by the longest blocks they share; both as token ids."""
    start = 0  # what both begin with is most of a routed text, and cheap to find
    while start < min(len(ids), len(others)) and ids[start] == others[start]:
        start += 1
    rest, other_rest = ids[start:], others[start:]
    frequent = max(len(rest), len(other_rest)) > _EXACT_DIFF_TOKENS
    blocks = SequenceMatcher(None, rest, other_rest, autojunk=frequent).get_matching_blocks()
    shared = {start + block.a + n for block in blocks for n in range(block.size)}
    own = tuple(index for index in range(start, len(ids)) if index not in shared)
    return Difference(own, len(others) - (len(ids) - len(own)))


def comparison_message(job: Comparison, start: int, end: int | None = None, note: str = "") -> str:
    """The comparison's tokens from `start` on, as JSON.

    Args:
        start, end: How many the browser was sent already, over all columns, and where to stop; None sends all.
        note: What it waits for, for people.

    Returns:
        `Job.heading` with `finish` by key, `tokens` as [key, text, author, seconds], and once writing is over by key:
        `costs` (see `cost_parts`), and `verdicts` in words.
    """
    over = job.finished.is_set()  # before the events: a comparison that is done by now has all of them
    state = job.told_state(end is None)
    log = job.log[start:end]
    texts = job.texts.values()
    message: dict[str, Any] = {
        **job.heading(start, len(log), state, note),
        "finish": {text.key: text.events[-1].finish_reason if text.events else None for text in texts},
        "tokens": [_token(job.texts[key], index) for key, index in log],
    }
    if over and job.differences:
        message["costs"] = _costs(job)
        message["verdicts"] = {key: _verdict(job, job.texts[key]) for key in job.differences}
    return to_json(message)


def _costs(job: Comparison) -> dict[str, list[list[float] | None]]:
    pair, texts = job.pair, {key: job.texts[key] for key in job.differences}
    return {
        key: cost_parts(text.events, text.prompt_tokens, pair.slm_cost, pair.llm_cost) for key, text in texts.items()
    }


def _verdict(job: Comparison, text: Column) -> str:
    """Who is right where that is known, else how much of the LLM's text it is."""
    if job.answer:
        return "✓ right" if is_right("".join(event.text for event in text.events), job.answer) else "✗ wrong"
    if text.key == "llm":
        return ""
    found, tokens = job.differences[text.key], len(text.events)
    if not found.own and not found.lacks:
        return "the large model’s text, token for token"
    return f"shares {tokens - len(found.own)} of its {counted(tokens, 'token')} with the large model’s text"


def _token(text: Column, index: int) -> list[Any]:
    event = text.events[index]
    return [text.key, event.text, 0 if event.role is Role.SLM else 1, round(text.seconds[index], 6)]
