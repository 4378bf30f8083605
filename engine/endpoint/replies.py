"""A request's texts while the scheduler writes them, and the reply: at once, or piece by piece as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Hashable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.endpoint.bodies import Asked
from engine.endpoint.choices import Choice
from engine.errors import EngineError, ServerError, log_fault
from engine.events import TokenEvent, llm_passes, llm_share, taken_back
from engine.events.cost import Costs, costs
from engine.guard.limits import Entrance
from engine.guard.refusals import Refusal, blamed

if TYPE_CHECKING:  # with them comes torch, for which a page that is starting does not wait
    from engine.pair import Pair
    from engine.scheduler import Scheduler

QUIET_SECONDS = 10.0
"""After so long without an event a stream says that it is there: its status waits for that, and proxies give up on what
is silent for a minute."""

_KINDS = {True: ("chatcmpl", "chat.completion", "chat.completion.chunk"), False: ("cmpl",) + 2 * ("text_completion",)}
_AWAY_SECONDS = 30  # in which a server that ends may be there again

logger = logging.getLogger(__name__)

Piece = dict[str, Any] | str
"""A part of a reply; words where none came for `QUIET_SECONDS`."""


class Reply:
    """What one request gets, and the place that it has among the jobs of programs until `close`."""

    entrance: Entrance = "api"
    active = True

    def __init__(self, asked: Asked, pair: Pair) -> None:
        self.cancel = threading.Event()
        self._asked, self._pair = asked, pair
        prefix, self._whole, self._part = _KINDS[asked.body.chat]
        self._head = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time())}
        options = asked.body.stream_options
        self._usage_wanted = options is not None and options.include_usage
        self._choices: list[Choice] = []
        self._news, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def submit(self, scheduler: Scheduler, owner: Hashable) -> None:
        """Asks for the texts; encoding the prompts takes a while. Raises Refusal where they cannot be served."""
        self._scheduler = scheduler
        requests, prompts = zip(*self._asked.texts, strict=True)
        interactive = len(requests) == 1
        try:
            with blamed("messages" if self._asked.body.chat else "prompt"):
                self._batch = scheduler.submit_all(
                    requests, owner, prompts=prompts, interactive=interactive, listener=self._wake
                )
        except Refusal:
            raise
        except EngineError as error:
            raise Refusal(503, str(error), after=_AWAY_SECONDS) from None
        handles = enumerate(self._batch.handles)
        self._choices = [Choice(index, handle, self._asked.body, self._pair) for index, handle in handles]

    def close(self) -> None:
        """Frees the place, and ends within a step what is being written."""
        self.cancel.set()
        if self._choices:
            self._batch.cancel()

    async def whole(self) -> dict[str, Any]:
        """The whole reply, once all texts have ended; raises Refusal where one fails."""
        async for event in self._events():
            if event is not None:
                self._choices[event.row].text.add(event)
        told = [each.piece(each.text.events, "message", role="assistant", refusal=None) for each in self._choices]
        reply = {**self._head, "object": self._whole, "model": self._asked.body.model, "choices": told}
        return {**reply, "usage": self._usage(), "citer": self._about()}

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Parts of the reply, each as soon as it can no longer be taken back; raises Refusal where a text fails."""
        async for event in self._events():
            if event is None:
                yield f"waiting {self._scheduler.slow}".rstrip()
            elif settled := self._choices[event.row].text.add(event):
                yield self._told(self._choices[event.row], settled)
        for choice in self._choices:  # where the LLM's server is gone, nobody reads the last drafts
            if rest := choice.text.rest():
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
        """From the scheduler's thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def _events(self) -> AsyncGenerator[TokenEvent | None, None]:
        """The events of all texts as they come, None where none comes for long; in the end raises why one failed."""
        stream, count = self._batch.stream, 0
        while True:
            self._news.clear()
            ended, fault = all(choice.handle.ended for choice in self._choices), self._fault()  # before what is there
            for event in stream[count:]:
                count += 1
                yield event
            if fault is not None:
                raise fault
            if count < len(stream):
                continue
            if ended:
                return
            try:
                await asyncio.wait_for(self._news.wait(), QUIET_SECONDS)
            except TimeoutError:
                yield None

    def _fault(self) -> Refusal | None:
        """Why one of the texts has failed or was given up, if one has."""
        for choice in self._choices:
            error = choice.handle.error
            if isinstance(error, ServerError):
                return Refusal(503, str(error), after=_AWAY_SECONDS)
            if isinstance(error, EngineError):
                return Refusal(500, str(error))
            if error is not None:
                log_fault(logger, "a text of the endpoint failed", error)
                return Refusal(500, "The models stopped with an internal error; the server's log says where.")
            if choice.handle.state == "stopped":
                said = "The server is shutting down: the text was not finished."
                return Refusal(503, said, after=_AWAY_SECONDS)
        return None

    def _usage(self) -> dict[str, int]:
        read = sum(len(choice.handle.order.prompt) for choice in self._choices[:: self._asked.body.n])
        written = sum(len(choice.text.events) for choice in self._choices)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _about(self) -> dict[str, Any]:
        """The setting, and what all texts of the reply came to."""
        pair, setting = self._pair, self._asked.setting
        events = [event for choice in self._choices for event in choice.text.events]
        total = Costs.nothing()
        for choice in self._choices:
            prompt = len(choice.handle.order.prompt)
            total += costs(choice.text.events, prompt, pair.slm_cost, pair.llm_cost, pair.prices)
        return {
            "pair": pair.preset,
            "slm": pair.slm_name,
            "llm": pair.llm_name,
            "router": pair.router.name if pair.router and setting.policy == "router" else None,
            **asdict(setting),
            "seed": self._asked.texts[0][0].seed,
            "llm_share": llm_share(events),
            "taken_back": taken_back(events),
            "llm_passes": llm_passes(events),
            "cost": total.told(),
        }


async def server_sent(first: Piece, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[str, None]:
    """Parts of a reply as server-sent events, the first one given; what fails on the way is the last."""
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
