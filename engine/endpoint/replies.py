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
from engine.endpoint.bodies import ChatBody, Checked, blamed
from engine.errors import EngineError, log_fault
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


class Reply:
    """The reply to one request. It holds one of the programs' `Places` until `close`.

    Tokens that the LLM may still take back are held back.
    """

    active = True

    def __init__(self, asked: Checked, pair: Pair) -> None:
        self.cancel = threading.Event()
        self._body, self._requests, self._pair = asked.body, asked.requests, pair
        prefix, self._whole, self._part = _KINDS[asked.body.chat]
        self._head = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time())}
        self._texts: Sequence[Text] = ()
        self._settled = [SettledEvents() for _ in asked.requests]
        self._news, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def submit(self, scheduler: Scheduler, owner: Hashable) -> None:
        """Asks the scheduler for the texts, which encodes the prompts. Raises Refusal where they cannot be served."""
        self._scheduler, asked = scheduler, self._requests
        try:
            with blamed(self._body):
                self._texts = scheduler.submit_all(asked, owner, interactive=len(asked) == 1, listener=self._wake)
        except EngineError as error:
            raise _refusal(error) from None

    def close(self) -> None:
        """Frees the place. Texts that are being written end within a step."""
        self.cancel.set()
        for text in self._texts:
            text.cancel()

    async def whole(self) -> dict[str, Any]:
        """The whole reply, once all texts have ended; raises Refusal where one fails."""
        async for event in self._events():
            if event is not None:
                self._settled[event.row].add(event)
        told = [
            self._choice(row, settled.events, "message", role="assistant", refusal=None)
            for row, settled in enumerate(self._settled)
        ]
        reply = {**self._head, "object": self._whole, "model": self._body.model, "choices": told}
        return {**reply, "usage": self._usage(), "citer": self._about()}

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Pieces of the reply, each as soon as it cannot be taken back any more. Raises Refusal where a text fails."""
        unfinished = len(self._texts)
        async for event in self._events():
            if event is None:
                yield f"waiting {self._scheduler.slow}".rstrip()
            elif events := self._settled[event.row].add(event):
                role = {"role": "assistant"} if events[0] is self._settled[event.row].events[0] else {}
                unfinished -= events[-1].finish_reason is not None
                about = {} if unfinished else {"citer": self._about()}
                yield self._chunk([self._choice(event.row, events, "delta", **role)], **about)
        if (self._body.stream_options or {}).get("include_usage"):
            yield self._chunk([], usage=self._usage())

    def _chunk(self, choices: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
        return {**self._head, "object": self._part, "model": self._body.model, "choices": choices, **about}

    def _choice(self, row: int, events: Sequence[TokenEvent], key: str, **first: Any) -> dict[str, Any]:
        """Settled tokens in the form of a reply; `first` are fields of a chat's message beside its content."""
        text = "".join(event.text for event in events)
        return {
            "index": row,
            **({key: {**first, "content": text}} if self._body.chat else {"text": text}),
            "logprobs": self._logprobs(events),
            "finish_reason": _REASONS.get((events[-1].finish_reason if events else None) or ""),
            "citer": {"tokens": [_author(event) for event in events]},
        }

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

    def _wake(self, _: object) -> None:
        """Called in the scheduler's thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def _events(self) -> AsyncGenerator[TokenEvent | None, None]:
        """Events of all texts; None after `QUIET_SECONDS` without one. A Refusal if a text failed or was stopped."""
        left, news = len(self._texts), self._texts[0].news
        while left:
            self._news.clear()
            while not news.empty():
                if (event := news.get()) is not None:
                    yield event
                    continue
                left -= 1
                for text in self._texts:
                    if text.error is not None:
                        raise _refusal(text.error)
                    if text.state == "stopped":
                        said = "The server is shutting down: the text was not finished."
                        raise Refusal(503, said, after=_AWAY_SECONDS)
            if left:
                try:
                    await asyncio.wait_for(self._news.wait(), QUIET_SECONDS)
                except TimeoutError:
                    yield None

    def _usage(self) -> dict[str, int]:
        read = sum(text.prompt_tokens for text in self._texts[:: self._body.n])
        written = sum(len(settled.events) for settled in self._settled)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _about(self) -> dict[str, Any]:
        """The setting, and share, passes and cost of all texts of the reply."""
        pair, first = self._pair, self._requests[0]
        events = [event for settled in self._settled for event in settled.events]
        total = Costs()
        for text, settled in zip(self._texts, self._settled, strict=True):
            total += costs(settled.events, text.prompt_tokens, pair.slm_cost, pair.llm_cost, pair.prices)
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
            "cost": total.as_dict(),
        }


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, EngineError):
        return Refusal(503, str(error), after=_AWAY_SECONDS)
    log_fault(logger, "a text of the endpoint failed", error)
    return Refusal(500, "The models stopped with an internal error; the server's log says where.")


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
