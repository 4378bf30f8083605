"""The reply to one request: whole, or in pieces while the scheduler writes the texts."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Hashable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.batch.text import Text
from engine.endpoint.bodies import ChatBody, Checked, CompletionBody, blamed
from engine.errors import EngineError, ServerError, log_fault
from engine.events import Role, SettledEvents, TokenEvent, llm_passes, llm_share, taken_back
from engine.events.cost import Costs, costs
from engine.guard.refusals import Refusal
from engine.tokenizer import backend, token_text

if TYPE_CHECKING:  # they import torch, for which the page does not wait when it starts
    from engine.pair import Pair
    from engine.scheduler import Scheduler

QUIET_SECONDS = 10.0
"""After so long without an event a stream sends its status or a comment. Proxies close what is silent for a minute."""

_KINDS = {True: ("chatcmpl", "chat.completion", "chat.completion.chunk"), False: ("cmpl",) + 2 * ("text_completion",)}
_REASONS = {"eos": "stop", "stop": "stop", "length": "length"}
_LEAST = -9999.0  # stands for the logarithm of a probability too small for a number
_AWAY_SECONDS = 30  # until a server that ends may be back

logger = logging.getLogger(__name__)

Piece = dict[str, Any] | str
"""A piece of a reply, or words for a comment after `QUIET_SECONDS` without one."""


class Choice:
    """One choice of a reply as its text grows. Tokens that the LLM may still take back are held back.

    Attributes:
        text: The scheduler's.
        settled: Collects its events.
        begun, over: Whether a first piece was made, and the last.
    """

    def __init__(self, index: int, text: Text, body: ChatBody | CompletionBody, pair: Pair) -> None:
        self.text, self.settled = text, SettledEvents()
        self.begun = self.over = False
        self._index, self._body, self._pair = index, body, pair

    def piece(self, events: Sequence[TokenEvent], key: str = "delta", **first: Any) -> dict[str, Any]:
        """The next tokens in the form of a reply.

        Args:
            events: Settled events of the text.
            key: "delta" for a part of a chat, "message" for a whole one. Completions have neither.
            first: Fields of the message beside its content.
        """
        text, last = "".join(event.text for event in events), events[-1].finish_reason if events else None
        piece = {
            "index": self._index,
            **({key: {**first, "content": text}} if isinstance(self._body, ChatBody) else {"text": text}),
            "logprobs": self._logprobs(events),
            "finish_reason": _REASONS.get(last or ""),
            "citer": {"tokens": [_author(event) for event in events]},
        }
        self.begun, self.over = True, last is not None
        return piece

    def _logprobs(self, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        """Each token's probability and its author's candidates, where a chat asks for them."""
        if not isinstance(self._body, ChatBody) or not self._body.logprobs:
            return None
        content = []
        for event in events:
            own = event.slm_alternatives if event.role is Role.SLM else event.llm_alternatives
            top = [_token(each.text, each.probability) for each in own[: self._body.top_logprobs]]
            # `event.text` may differ from the token's own where a character needs several tokens.
            text = token_text(backend(self._pair.tokenizer), event.id)
            content.append({**_token(text, event.probability), "top_logprobs": top})
        return {"content": content, "refusal": None}


class Reply:
    """The reply to one request. It holds a place among programs until `close`."""

    active = True

    def __init__(self, asked: Checked, pair: Pair) -> None:
        self.cancel = threading.Event()
        self._asked, self._pair = asked, pair
        prefix, self._whole, self._part = _KINDS[asked.body.chat]
        self._head = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time())}
        self._usage_wanted = (asked.body.stream_options or {}).get("include_usage", False)
        self._choices: list[Choice] = []
        self._news, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def submit(self, scheduler: Scheduler, owner: Hashable) -> None:
        """Asks the scheduler for the texts, which encodes the prompts. Raises Refusal where they cannot be served."""
        self._scheduler = scheduler
        requests = self._asked.requests
        try:
            with blamed(self._asked.body):
                interactive = len(requests) == 1
                texts = scheduler.submit_all(requests, owner, interactive=interactive, listener=self._wake)
        except Refusal:
            raise
        except EngineError as error:
            raise Refusal(503, str(error), after=_AWAY_SECONDS) from None
        self._choices = [Choice(index, text, self._asked.body, self._pair) for index, text in enumerate(texts)]

    def close(self) -> None:
        """Frees the place. Texts that are being written end within a step."""
        self.cancel.set()
        for choice in self._choices:
            choice.text.cancel()

    async def whole(self) -> dict[str, Any]:
        """The whole reply, once all texts have ended; raises Refusal where one fails."""
        async for event in self._events():
            if event is not None:
                self._choices[event.row].settled.add(event)
        told = [each.piece(each.settled.events, "message", role="assistant", refusal=None) for each in self._choices]
        reply = {**self._head, "object": self._whole, "model": self._asked.body.model, "choices": told}
        return {**reply, "usage": self._usage(), "citer": self._about()}

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Pieces of the reply, each as soon as it cannot be taken back any more. Raises Refusal where a text fails."""
        async for event in self._events():
            if event is None:
                yield f"waiting {self._scheduler.slow}".rstrip()
            elif settled := self._choices[event.row].settled.add(event):
                yield self._told(self._choices[event.row], settled)
        for choice in self._choices:  # where the LLM's server is gone, the last drafts stay unread
            if rest := choice.settled.rest():
                yield self._told(choice, rest)
        if self._usage_wanted:
            yield self._chunk([], usage=self._usage())

    def _told(self, choice: Choice, events: Sequence[TokenEvent]) -> dict[str, Any]:
        piece = choice.piece(events, **({} if choice.begun else {"role": "assistant"}))
        about = {"citer": self._about()} if all(each.over for each in self._choices) else {}
        return self._chunk([piece], **about)

    def _chunk(self, choices: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
        if self._usage_wanted:  # clients expect the field in every part, and the numbers in the last
            about = {"usage": None, **about}
        return {**self._head, "object": self._part, "model": self._asked.body.model, "choices": choices, **about}

    def _wake(self, _: object) -> None:
        """Called in the scheduler's thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def _events(self) -> AsyncGenerator[TokenEvent | None, None]:
        """Events of all texts, and None after `QUIET_SECONDS` without one. In the end raises why a text failed."""
        left = len(self._choices)
        while True:
            self._news.clear()
            fault, news = self._fault(), self._choices[0].text.news  # the fault first: a text may fail meanwhile
            while not news.empty():
                if (event := news.get()) is None:
                    left -= 1
                else:
                    yield event
            if fault is None and not left:
                fault = self._fault()
            if fault is not None:
                raise fault
            if not left:
                return
            try:
                await asyncio.wait_for(self._news.wait(), QUIET_SECONDS)
            except TimeoutError:
                yield None

    def _fault(self) -> Refusal | None:
        """Why a text has failed or was given up; None if none has."""
        for choice in self._choices:
            error = choice.text.error
            if isinstance(error, ServerError):
                return Refusal(503, str(error), after=_AWAY_SECONDS)
            if isinstance(error, EngineError):
                return Refusal(500, str(error))
            if error is not None:
                log_fault(logger, "a text of the endpoint failed", error)
                return Refusal(500, "The models stopped with an internal error; the server's log says where.")
            if choice.text.state == "stopped":
                said = "The server is shutting down: the text was not finished."
                return Refusal(503, said, after=_AWAY_SECONDS)
        return None

    def _usage(self) -> dict[str, int]:
        read = sum(choice.text.prompt_tokens for choice in self._choices[:: self._asked.body.n])
        written = sum(len(choice.settled.events) for choice in self._choices)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _about(self) -> dict[str, Any]:
        """The setting, and share, passes and cost of all texts of the reply."""
        pair, first = self._pair, self._asked.requests[0]
        events = [event for choice in self._choices for event in choice.settled.events]
        total = Costs()
        for choice in self._choices:
            prompt = choice.text.prompt_tokens
            total += costs(choice.settled.events, prompt, pair.slm_cost, pair.llm_cost, pair.prices)
        return {
            "pair": pair.preset,
            "slm": pair.slm_name,
            "llm": pair.llm_name,
            "router": pair.router.name if pair.router and first.setting.policy == "router" else None,
            **asdict(first.setting),
            "seed": first.seed,
            "llm_share": llm_share(events),
            "taken_back": taken_back(events),
            "llm_passes": llm_passes(events),
            "cost": total.told(),
        }


async def server_sent(first: Piece, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[str, None]:
    """Pieces as server-sent events, with `first` before the others. A failure is the last event."""
    try:
        yield _event(first)
        async for piece in pieces:
            yield _event(piece)
        yield "data: [DONE]\n\n"
    except Refusal as refusal:
        yield _event(refusal.body)


def _event(piece: Piece) -> str:
    if isinstance(piece, str):
        return f": {piece}\n\n"  # a comment
    return f"data: {json.dumps(piece, ensure_ascii=False, allow_nan=False)}\n\n"


def _author(event: TokenEvent) -> dict[str, Any]:
    """The author of a token and the reason. `ratio` and `taken_back` are those of `TokenEvent`."""
    told = {"id": event.id, "text": event.text, "by": event.role.value, "score": event.score, "ratio": event.ratio}
    if event.taken_back:
        told["taken_back"] = [_author(draft) for draft in event.taken_back]
    return told


def _token(text: str, probability: float | None) -> dict[str, Any]:
    """A token with its log-probability. A token that is a part of a character has no bytes of its own."""
    parts = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
    logprob = max(_LEAST, math.log(probability)) if probability else _LEAST
    return {"token": text, "logprob": logprob, "bytes": parts}
