"""What every request passes first, to the page and to `/v1` alike: whose page it takes this for, how often, how much.

The body is read here, whole and in time, before anything else runs: a request that stops half-way holds no place.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import log_fault
from engine.guard.addresses import client_address, on_space
from engine.guard.cached import Cached
from engine.guard.limits import LATER, LITTLE, Bodies, Rate
from engine.guard.names import Names
from engine.guard.refusals import Refusal

MOST_BYTES = 2_000_000
"""Of a body for `/v1`: a prompt of a million characters, most of which JSON spells as one byte."""

MAX_OUTSIDE = 400_000
"""Bytes of a body outside its strings. Parsed, each takes twenty times as much memory; honest bodies have few."""

BODY_SECONDS = 10.0
"""How long a body may take to come."""

MOST_DISCARDED = 64_000_000
"""Bytes of a body that is too large which are still read, so that its client hears why: one that is still sending when
its connection is closed hears nothing."""

MAX_QUERY = 16_000
"""Bytes of an address's query: the longest link that browsers and proxies take."""

REFUSED = "citer.refused"
"""Set in a scope by whoever refuses a request deep inside gradio, which would answer it with 500."""

_FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded")
_NEVER = (b"x-gradio-server",)  # gradio would take it for its own address
_FRAMES = "https://huggingface.co https://*.hf.space"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """What differs between servers.

    Attributes:
        most_bytes: How many bytes a request to a path may bring.
        answer: A refusal for a path, in the shape that its callers expect.
        closed: Beginnings of paths that are not served.
        policy: The `Content-Security-Policy`, but for who may show a page in a frame.
    """

    most_bytes: Callable[[str], int] = lambda path: MOST_BYTES
    answer: Callable[[str, Refusal], Response] = lambda path, refusal: refusal.response()
    closed: tuple[str, ...] = ()
    policy: str = "default-src 'none'"


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: What answers.
        names: By which it may be asked.
        proxies: See `client_address`.
        rules: Of this server.
    """

    def __init__(self, app: ASGIApp, names: Names, proxies: int | None, rules: Rules | None = None) -> None:
        self.app, self.rate = app, Rate()
        self._names, self._proxies, self._rules = names, proxies, rules or Rules()
        self._bodies, self._cached = Bodies(), Cached()
        frames = f"frame-ancestors 'self'{' ' + _FRAMES if on_space() else ''}"
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": f"{self._rules.policy}; {frames}",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or lets the application do so."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answering = _Answering(send, scope, self._headers)
        path, address = scope["path"], client_address(Request(scope).client, Headers(scope=scope), self._proxies)
        held = 0
        try:
            self._admit(scope, path, address)
            if page := self._cached.get(scope):
                await page(scope, receive, answering.send)
                return
            body = await self._body(scope, path, receive)
            if len(body) > LITTLE:
                if not self._bodies.take(len(body), address):
                    raise Refusal(503, f"Others are sending too much to take this as well. {LATER}")
                held = len(body)
            scope["headers"] = self._believed(scope["headers"])
            await self.app(scope, _again(body, receive), self._cached.keeping(scope, answering.send))
        except Refusal as refusal:
            if not answering.started:
                await self._rules.answer(path, refusal)(scope, receive, answering.send)
        except Exception as error:
            log_fault(logger, f"{scope['method']} request failed", error)
            if not answering.started:
                fault = Refusal(500, "The server failed at this; its log says where.")
                await self._rules.answer(path, fault)(scope, receive, answering.send)
        finally:
            if held:
                self._bodies.give_back(held, address)

    def _admit(self, scope: Scope, path: str, address: str | None) -> None:
        """Raises Refusal for what is not for this server, or asked too often."""
        reason = self._names.refusal(Headers(scope=scope))
        if reason is not None:
            raise Refusal(403, reason)
        if wait := self.rate.take(address, self._cached.cost(scope)):
            whose = "all clients without a known address" if address is None else "your network address"
            raise Refusal(429, f"Too many requests of {whose}: ask again in {math.ceil(wait)} s.", after=wait)
        if path.startswith(self._rules.closed):
            raise Refusal(404, "There is nothing here: this page takes no uploads and has no such route.")
        if len(scope["query_string"]) > MAX_QUERY:
            raise Refusal(414, f"The address is too long: at most {MAX_QUERY:,} bytes may follow its question mark.")

    def _believed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Headers without what only a proxy may say, where there is none."""
        proxied = self._proxies or (self._proxies is None and on_space())
        dropped = _NEVER if proxied else (*_NEVER, *_FORWARDED)
        kept = [(name, value) for name, value in headers if name not in dropped]
        foreign = [value for name, value in kept if name == b"x-forwarded-host"]
        if all(self._names.known(value.decode("latin-1")) for value in foreign):
            return kept
        return [(name, value) for name, value in kept if name != b"x-forwarded-host"]

    async def _body(self, scope: Scope, path: str, receive: Receive) -> bytes:
        headers, most = Headers(scope=scope), self._rules.most_bytes(path)
        declared = headers.get("content-length", "0")
        too_large = Refusal(413, f"The request is too large: at most {most:,} bytes are taken.", close=True)
        if not (declared.isascii() and declared.isdigit()) or len(declared) > 15:
            raise too_large
        if int(declared) > most and headers.get("expect", "").lower() == "100-continue":
            raise too_large  # it waits for this before it sends anything
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _whole(receive, most, too_large)
        except TimeoutError:
            raise Refusal(408, f"The request took more than {BODY_SECONDS:.0f} seconds to come.", close=True) from None


async def _whole(receive: Receive, most: int, too_large: Refusal) -> bytes:
    """A body; raises Refusal at its end, for what is left of one that is refused is read and discarded."""
    parts, size, outside, refusal, more = bytearray(), 0, Outside(), None, True
    while more and size <= MOST_DISCARDED:
        message = await receive()
        more = message.get("more_body", False)
        part = message.get("body", b"")
        size += len(part)
        if refusal is None:
            outside.take(part)
            parts += part
            refusal = too_large if size > most else outside.refusal
        if refusal is not None:
            parts.clear()
    if refusal is not None:
        raise refusal
    return bytes(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already; what comes after it is only that the client has gone."""
    given = False

    async def received() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return received


class _Answering:
    """The answer to one request on its way out."""

    def __init__(self, send: Send, scope: Scope, headers: dict[str, str]) -> None:
        self._send, self._scope, self._headers = send, scope, headers
        self.started = False

    async def send(self, message: Message) -> None:
        """Passes a part on, with this server's headers."""
        if message["type"] == "http.response.start":
            self.started = True
            if message["status"] == 500 and self._scope.get(REFUSED):
                message["status"] = 422
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


class Outside:
    """Counts the bytes of JSON outside its strings as it comes, without parsing it."""

    def __init__(self) -> None:
        self._count, self._foreign = 0, False
        self._in_string, self._rest = False, b""

    @property
    def refusal(self) -> Refusal | None:
        """What is wrong with what has come, if anything is."""
        if self._foreign:
            return Refusal(400, "The body must be in UTF-8.", close=True)
        if self._count > MAX_OUTSIDE:
            said = "The request has too many values outside of texts: few and long ones are taken."
            return Refusal(413, said, close=True)
        return None

    def take(self, part: bytes) -> None:
        """Counts a part."""
        self._foreign |= b"\0" in part  # JSON in UTF-8 never has it; in UTF-16 and UTF-32 nothing can be counted
        part = (self._rest + part).replace(b"\\\\", b"")
        self._rest = b"\\" if part.endswith(b"\\") else b""  # what it escapes is to come
        pieces = part.removesuffix(self._rest).replace(b'\\"', b"").split(b'"')
        self._count += len(pieces) - 1 + sum(map(len, pieces[self._in_string :: 2]))
        self._in_string ^= len(pieces) % 2 == 0
