"""How much a request may bring, by where it goes, and how much all requests may bring at a time.

Gradio parses a body in one go, in the one thread that answers everybody: what is large is let in only where the page
needs it, and never much of it at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Send

from app.share.open_trace import MAX_BYTES
from app.tune.prompts import MAX_BYTES as MAX_PROMPTS
from engine.endpoint.bodies import BODY_SECONDS, MAX_OUTSIDE, MOST_BYTES, Outside
from engine.guard.limits import LATER
from engine.guard.refusals import PREFIX, Words, refused

MAX_BODY = 8 * MAX_BYTES // 5
"""Bytes of a request that may bring a trace: JSON spells some of its characters as two, of which it has by far the
most."""

MAX_CALL = 8 * MAX_PROMPTS // 5
"""Of one that may bring a file of prompts, or a text to write."""

MAX_OTHER = 65_536
"""Of any other; and no request is refused for what others bring before it has brought more than this."""

MAX_TOGETHER = 96_000_000
"""Of all requests that are being answered; one client address, where it is known, may bring half of it."""

_CALLED = "/gradio_api/"
_TRACES = ("/gradio_api/run/", "/gradio_api/api/")
_CALLS = ("/gradio_api/queue/join", "/gradio_api/call/", "/gradio_api/component_server")


def most_bytes(path: str) -> int:
    """How many bytes a request to a path may bring."""
    if path.startswith(PREFIX):
        return MOST_BYTES
    return MAX_BODY if path.startswith(_TRACES) else MAX_CALL if path.startswith(_CALLS) else MAX_OTHER


class Bodies:
    """The bytes that requests have brought that are being answered now."""

    def __init__(self) -> None:
        self._held: Counter[str | None] = Counter()  # by client address; None where it is not known

    def take(self, size: int, address: str | None) -> bool:
        """Counts so many more bytes, if there is room for them."""
        room = self._held.total() + size <= MAX_TOGETHER
        room &= address is None or self._held[address] + size <= MAX_TOGETHER // 2
        if room:
            self._held[address] += size
        return room

    def give_back(self, size: int, address: str | None) -> None:
        """Counts so many less."""
        self._held[address] -= size
        if not self._held[address]:
            del self._held[address]


class BodyRefused(Exception):
    """A request brought more than there is room for, or took too long."""


class Passing:
    """One request on its way through: its body is counted, and no answer is begun that is not wanted any more.

    Attributes:
        refused: What to answer instead, once the body was refused.
        started: Whether an answer was begun.
    """

    def __init__(self, receive: Receive, send: Send, path: str, bodies: Bodies, address: str | None) -> None:
        self._receive, self._send, self._most, self._said = receive, send, most_bytes(path), words_for(path)
        self._bodies, self._address = bodies, address
        self._bytes = self._counted = 0
        self._outside = Outside()
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS
        self._whole = False
        self.refused: Response | None = None
        self.started = False

    async def receive(self) -> Message:
        """The next message of the client; raises BodyRefused where it is not taken."""
        if self._whole:  # from here on it is only asked whether the client is still there
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self._refuse(self._said(408, f"The request took more than {BODY_SECONDS:.0f} seconds to come.", close=True))
        self._whole = not message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            self._refuse(too_large(self._most, self._said))
        self._outside.take(message.get("body", b""))
        if self._outside.foreign:
            self._refuse(self._said(400, "The request must be in UTF-8.", close=True))
        if self._outside.count > MAX_OUTSIDE:
            self._refuse(
                self._said(413, "The request has too many values: this page sends few, and long texts.", close=True)
            )
        more = self._bytes - self._counted
        if self._bytes > MAX_OTHER and more:
            if not self._bodies.take(more, self._address):
                self._refuse(self._said(503, f"Others are sending too much to take this as well. {LATER}", close=True))
            self._counted += more
        return message

    async def send(self, message: Message) -> None:
        """Passes on a part of the answer."""
        if self.refused is not None and not self.started:
            return  # what became of the error on its way: the visitor is told the reason instead
        self.started = True
        await self._send(message)

    def close(self) -> None:
        """Gives back the room that its body took."""
        if self._counted:
            self._bodies.give_back(self._counted, self._address)
            self._counted = 0

    def _refuse(self, answer: Response) -> None:
        self.refused = answer
        raise BodyRefused


def too_large(most: int, words: Words) -> Response:
    """The answer to a request that brings more than `most` bytes."""
    return words(413, f"The request is too large: at most {most:,} bytes are taken.", close=True)


def words_for(path: str) -> Words:
    """How a refusal is said to who asks for a path: programs, and gradio's page, each expect a shape of their own."""
    return refused if path.startswith(PREFIX) else detailed if path.startswith(_CALLED) else said


def said(status: int, text: str, close: bool = False) -> Response:
    """An answer in words; with `close`, nothing more of a body is read."""
    return PlainTextResponse(text + "\n", status, _closing(close))


def detailed(status: int, text: str, close: bool = False) -> Response:
    """`said` as gradio's page reads it, which would tell a visitor that the words are no JSON."""
    return JSONResponse({"detail": text}, status, _closing(close))


def _closing(close: bool) -> dict[str, str] | None:
    return {"Connection": "close"} if close else None
