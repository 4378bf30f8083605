"""A request's texts while the scheduler writes them, and the reply: at once, or piece by piece as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.endpoint.bodies import Asked
from engine.endpoint.choices import ChoiceText
from engine.errors import EngineError, ServerError, log_fault
from engine.events import TokenEvent, llm_passes, llm_share, taken_back
from engine.events.cost import Costs, costs
from engine.guard.refusals import Refusal, blamed

if TYPE_CHECKING:  # with them comes torch, for which a page that is starting does not wait
    from engine.pair import Pair
    from engine.scheduler import Scheduler

_KINDS = {True: ("chatcmpl", "chat.completion", "chat.completion.chunk"), False: ("cmpl",) + 2 * ("text_completion",)}

FIRST_SECONDS = 10.0
"""How long a stream's status waits for its first part."""

QUIET_SECONDS = 15.0
"""After so long without a part a stream says that it is there, for proxies give up on what is silent for a minute."""

_AWAY_SECONDS = 30  # in which a server that ends may be there again

logger = logging.getLogger(__name__)


class Reply:
    """What one request gets."""

    def __init__(self, asked: Asked, pair: Pair) -> None:
        self._asked, self._pair = asked, pair
        self._prefix, self._whole, self._part = _KINDS[asked.chat]
        self._head = {"id": f"{self._prefix}-{secrets.token_hex(12)}", "created": int(time.time())}
        options = asked.body.stream_options
        self._usage_wanted = options is not None and options.include_usage
        self._choices: list[ChoiceText] = []
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def submit(self, scheduler: Scheduler, owner: Hashable) -> None:
        """Asks for the texts; encoding the prompts takes a while. Raises Refusal where they cannot be served."""
        requests, prompts = zip(*self._asked.texts, strict=True)
        try:
            with blamed("messages" if self._asked.chat else "prompt"):
                texts = scheduler.submit_all(
                    requests,
                    owner,
                    prompts=prompts,
                    interactive=len(requests) == 1,
                    listener=self._wake,
                )
        except Refusal:
            raise
        except EngineError as error:
            raise Refusal(503, str(error), after=_AWAY_SECONDS) from None
        self._choices = [ChoiceText(n, text, self._asked, self._pair) for n, text in enumerate(texts)]

    def _wake(self, _: object) -> None:
        """From the scheduler's thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    def cancel(self) -> None:
        """Ends what is being written within a step."""
        for choice in self._choices:
            choice.text.cancel()

    async def whole(self) -> dict[str, Any]:
        """The whole reply, once all texts have ended."""
        async for event in self._events():
            self._choices[event.row].settled.add(event)
        told = [each.piece(each.settled.events, "message", role="assistant", refusal=None) for each in self._choices]
        reply = {**self._head, "object": self._whole, "model": self._asked.body.model, "choices": told}
        return {**reply, "usage": self._usage(), "citer": self._about()}

    async def pieces(self) -> AsyncIterator[dict[str, Any]]:
        """Parts of the reply, each as soon as it can no longer be taken back; in the end also drafts left unread."""
        left, begun = set(range(len(self._choices))), set[int]()
        async for event in self._events():
            if settled := self._choices[event.row].settled.add(event):
                yield self._told(event.row, settled, left, begun)
        for row, choice in enumerate(self._choices):  # where the LLM's server is gone, nobody reads the last drafts
            if rest := choice.settled.rest():
                yield self._told(row, rest, left, begun)
        if self._usage_wanted:
            yield self._chunk([], usage=self._usage())

    def _told(self, row: int, events: Sequence[TokenEvent], left: set[int], begun: set[int]) -> dict[str, Any]:
        """The part with a choice's next tokens; `left` are the choices that have not ended, `begun` those told of."""
        first = {} if row in begun else {"role": "assistant"}
        begun.add(row)
        if events[-1].finish_reason:
            left.discard(row)
        about = {} if left else {"citer": self._about()}
        return self._chunk([self._choices[row].piece(events, **first)], **about)

    def _chunk(self, choices: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
        if self._usage_wanted:  # clients expect the field in every part, and the numbers in the last
            about = {"usage": None, **about}
        return {**self._head, "object": self._part, "model": self._asked.body.model, "choices": choices, **about}

    async def _events(self) -> AsyncIterator[Any]:
        """The events of all texts as they come; raises Refusal where one fails or is given up, after what it has."""
        left = len(self._choices)
        while True:
            self._news.clear()
            fault = self._fault()  # before what is there
            news = self._choices[0].text.news
            while not news.empty():
                if (event := news.get()) is None:
                    left -= 1
                else:
                    yield event
            if fault is not None:
                raise fault
            if not left:
                if (fault := self._fault()) is not None:
                    raise fault
                return
            await self._news.wait()

    def _fault(self) -> Refusal | None:
        """Why one of the texts has failed or was given up, if one has."""
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
        """The setting, and what all texts of the reply came to."""
        pair, setting = self._pair, self._asked.setting
        events = [event for choice in self._choices for event in choice.settled.events]
        total = sum(self._costs(), Costs.nothing())
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

    def _costs(self) -> Iterator[Costs]:
        pair = self._pair
        for choice in self._choices:
            prompt = choice.text.prompt_tokens
            yield costs(choice.settled.events, prompt, pair.slm_cost, pair.llm_cost, pair.prices)


async def begin(pieces: AsyncIterator[dict[str, Any]]) -> asyncio.Future[dict[str, Any]]:
    """The first part, or what will be it if it takes long; what fails until then is raised, for a status of its own."""
    first = asyncio.ensure_future(anext(pieces))
    try:
        await asyncio.wait([first], timeout=FIRST_SECONDS)
    except asyncio.CancelledError:
        first.cancel()
        raise
    if first.done():
        first.result()
    return first


async def event_stream(
    pieces: AsyncIterator[dict[str, Any]], first: asyncio.Future[dict[str, Any]]
) -> AsyncGenerator[str, None]:
    """Parts of a reply as server-sent events, and what goes wrong on the way; a comment where none comes for long."""
    coming = first
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=QUIET_SECONDS)
            if not done:
                yield ": waiting\n\n"
                continue
            yield _sent(coming.result())
            coming = asyncio.ensure_future(anext(pieces))
    except StopAsyncIteration:
        yield "data: [DONE]\n\n"
    except Refusal as refusal:
        yield _sent(refusal.body)
    finally:
        coming.cancel()


def _sent(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n"
