"""The guard in front of the page and of `/v1`. It checks the server's name, the sender's rate, and the body's size.

It reads the whole body before anything else runs, so a request that stops half-way holds no place.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import log_fault
from engine.guard.cached import Cached, key_of
from engine.guard.callers import Callers, on_space
from engine.guard.refusals import LATER, Rate, Refusal

MOST_BYTES = 2_000_000
"""The most bytes of a body for `/v1`: room for a prompt of a million characters."""

MAX_OUTSIDE = 400_000
"""The most bytes of a body outside its strings. Parsed, each takes twenty times its size; honest bodies have few."""

MAX_TOGETHER = 96_000_000
"""The most bytes of all bodies that are being read or answered. One address may bring half of them."""

LITTLE = 65_536
"""A body of so many bytes is always taken, whatever others send."""

PER_REQUEST = 25_000
"""Bytes of a body that count as one more request: an address may send 20 MB at once, and 1 MB each second."""

BODY_SECONDS = 10.0
"""The longest time in which a body may arrive."""

MOST_DISCARDED = 64_000_000
"""So many bytes of a refused body are read and discarded: a client that is still sending does not read the refusal."""

MAX_QUERY = 16_000
"""The most bytes of a URL's query: the longest link that browsers and proxies take."""

REFUSED = "citer.refused"
"""The key of a mark in a scope: a handler inside gradio has refused the request, which gradio answers with 500."""

_FRAMES = "https://huggingface.co https://*.hf.space"

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: The application behind it.
        callers: Tells who asks.
        most_bytes: Returns the most bytes of a body for a path; None for a path that is not served.
        policy: The `Content-Security-Policy`, but for who may show a page in a frame.
    """

    def __init__(
        self,
        app: ASGIApp,
        callers: Callers,
        most_bytes: Callable[[str], int | None] = lambda path: MOST_BYTES,
        policy: str = "default-src 'none'",
    ) -> None:
        self.app, self.callers, self.rate = app, callers, Rate()
        self._most_bytes, self._cached = most_bytes, Cached()
        self._held: dict[int, tuple[str | None, int]] = {}  # address and bytes of each body, by its scope's id
        frames = f"frame-ancestors 'self'{' ' + _FRAMES if on_space() else ''}"
        self._headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": f"{policy}; {frames}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False
        address = self.callers.address(scope)
        scope["client"] = address and (address, 0)  # for whatever answers

        async def answering(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if message["status"] == 500 and scope.get(REFUSED):
                    message["status"] = 422
                for name, value in self._headers.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        try:
            await self._respond(scope, address, receive, answering)
        except ClientDisconnect:
            return
        except Exception as error:
            if not isinstance(error, Refusal):
                log_fault(logger, f"{scope['method']} request failed", error)
                error = Refusal(500, "The server failed at this; its log says where.")
            if not started:
                await error.response()(scope, receive, answering)
        finally:
            self._held.pop(id(scope), None)

    async def _respond(self, scope: Scope, address: str | None, receive: Receive, send: Send) -> None:
        """Has the application answer, or raises Refusal."""
        scope["headers"] = self.callers.believed(scope["headers"])
        key = key_of(scope)
        self._admit(scope, address, self._cached.cost(key))
        if key is not None:
            await self._cached.respond(key, self.app, scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(scope, address, receive)
        except TimeoutError:
            raise Refusal(408, f"The request took more than {BODY_SECONDS:.0f} seconds to come.", close=True) from None
        self._pay(address, len(body) / PER_REQUEST)
        if len(body) > MAX_OUTSIDE:
            _check_values(body)
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        del body  # so that it is freed once the application drops it

        async def again() -> Message:
            return first.pop() if first else await receive()

        await self.app(scope, again, send)

    def _admit(self, scope: Scope, address: str | None, cost: float) -> None:
        """Raises Refusal for a foreign name, a closed path, a long query, or too many requests."""
        self.callers.check(Headers(scope=scope))
        self._pay(address, cost)
        if self._most_bytes(scope["path"]) is None:
            raise Refusal(404, "There is nothing here: this page takes no uploads and has no such route.")
        if len(scope["query_string"]) > MAX_QUERY:
            raise Refusal(414, f"The address is too long: at most {MAX_QUERY:,} bytes may follow its question mark.")

    def _pay(self, address: str | None, cost: float) -> None:
        """Takes a number of requests from a client's rate; raises Refusal where there are not so many."""
        if wait := self.rate.take(address, cost):
            whose = "all clients without a known address" if address is None else "your network address"
            raise Refusal(429, f"Too many requests of {whose}: ask again in {math.ceil(wait)} s.", after=wait)

    async def _read(self, scope: Scope, address: str | None, receive: Receive) -> bytes:
        """Reads a body. Raises Refusal for one that is too large, after its rest was read and discarded."""
        most = self._most_bytes(scope["path"]) or 0
        body, size, more, refusal = bytearray(), 0, True, None
        while more and size <= MOST_DISCARDED:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more, part = message.get("more_body", False), message.get("body", b"")
            size += len(part)
            if refusal is None:
                body += part
                self._held[id(scope)] = address, size
                if size > most:
                    said = f"The request is too large: at most {most:,} bytes are taken."
                    refusal = Refusal(413, said, close=True)
                elif size > LITTLE and not self._room(address):
                    refusal = Refusal(503, f"Others are sending too much to take this as well. {LATER}", close=True)
            if refusal is not None:
                self._held.pop(id(scope), None)
                body.clear()
        if refusal is not None:
            raise refusal
        return bytes(body)

    def _room(self, address: str | None) -> bool:
        mine = sum(size for other, size in self._held.values() if other == address and other is not None)
        return sum(size for _, size in self._held.values()) <= MAX_TOGETHER and mine <= MAX_TOGETHER // 2


def _check_values(body: bytes) -> None:
    """Raises Refusal for JSON with much outside of its strings, without parsing it."""
    if b"\0" in body:  # JSON in UTF-8 never has it; in UTF-16 and UTF-32 nothing can be counted
        raise Refusal(400, "The body must be in UTF-8.", close=True)
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > MAX_OUTSIDE or sum(map(len, plain.split(b'"')[::2])) > MAX_OUTSIDE:
        said = "The request has too many values outside of texts: few and long ones are taken."
        raise Refusal(413, said, close=True)
