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
from app.figures import cost_parts, counted, visible
from app.running.job import Job, State, request_weight
from app.stream.token_stream import in_common
from app.stream.updates import waiting_for
from engine import Request, Role, TokenEvent, build_request
from engine.events import SettledEvents
from engine.events.cost import modelled_seconds

KEYS = ("slm", "middle", "llm")
_EXACT_DIFF_TOKENS = 1000  # longer texts are compared without their most frequent tokens as anchors: linear, not square


@dataclass
class Column:
    """One of the texts: its request, and what came of it.

    Attributes:
        events: Those that the LLM can no longer take back; only ever appended to.
        seconds: What this text alone would have taken so far.
    """

    request: Request
    prompt_tokens: int = 0
    events: list[TokenEvent] = field(default_factory=list)
    seconds: float = 0.0


class Comparison(Job):
    """Three texts for one prompt, written as one batch.

    Args:
        request: Of the text that both write together.

    Attributes:
        texts: By key, in the order of the page.
        tokens: Of all texts in the order of writing, as [key, text, author, seconds]; only ever appended to.
    """

    def __init__(self, request: Request, after: Job | None = None) -> None:
        super().__init__(request, after)
        alone = {key: build_request(request, policy=key, acceptance=0.0) for key in ("slm", "llm")}
        self.texts = {key: Column(alone.get(key, request)) for key in KEYS}
        self.tokens: list[list[Any]] = []

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
                self.add(KEYS[event.row], settled)
        for key, stream in zip(KEYS, streams, strict=True):
            for draft in stream.rest():  # stopped before the LLM had read it
                self.add(key, draft)

    def add(self, key: str, event: TokenEvent) -> None:
        """Takes a token that stays."""
        text, slm, llm = self.texts[key], self.pair.slm_cost, self.pair.llm_cost
        # A recorded text of the LLM has scores, for which the SLM was run; alone it needs none.
        alone = key == "llm"
        text.seconds += llm.seconds(event.llm_fed) if alone else modelled_seconds([event], slm, llm)
        text.events.append(event)
        self.tokens.append([key, event.text, int(event.role is Role.LLM), round(text.seconds, 6)])
        self.notify()

    def message(self, have: int, over: bool) -> tuple[str, int]:
        """See `Job.message`.

        Returns:
            `Job.heading` with `finish` by key, `tokens`, and once writing is over `verdicts` by key, in words. If all
            texts have ended, `costs` by key are beside the LLM's text (see `cost_parts`).
        """
        state = self.told_state(over)
        tokens, texts = self.tokens[have:], self.texts
        message: dict[str, Any] = {
            **self.heading(have, len(tokens), state, waiting_for(self)),
            "finish": {key: text.events[-1].finish_reason if text.events else None for key, text in texts.items()},
            "tokens": tokens,
        }
        if over and self.tokens:
            begun = [(key, text) for key, text in texts.items() if text.events]
            message["verdicts"] = {key: self._verdict(key) for key, _ in begun}
            if state == "done":
                whole = self.pair.slm_cost, self.pair.llm_cost, len(texts["llm"].events)
                message["costs"] = {key: cost_parts(text.events, text.prompt_tokens, *whole) for key, text in begun}
        return to_json(message), have + len(tokens)

    def _verdict(self, key: str) -> str:
        """Whether a text is right, if the right answer is known; else how much of the LLM's text it shares."""
        events, llm = self.texts[key].events, self.texts["llm"].events
        if self.answer:
            return "✓ right" if self.is_right(events) else "✗ wrong"
        if key == "llm":
            return ""
        if [event.id for event in events] == [event.id for event in llm]:
            return "the same text as the large model’s"
        own, others = ([event.id for event in visible(text)] for text in (events, llm))
        shared = shared_tokens(own, others)
        return f"shares {shared} of its {counted(len(own), 'token')} with the large model’s text"


def shared_tokens(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens of a text stand in the longest blocks that it shares with another; both as token ids."""
    start = in_common(ids, others)  # most of a routed text, and cheap to find
    rest, other_rest = ids[start:], others[start:]
    frequent = max(len(rest), len(other_rest)) > _EXACT_DIFF_TOKENS
    blocks = SequenceMatcher(None, rest, other_rest, autojunk=frequent).get_matching_blocks()
    return start + sum(block.size for block in blocks)
