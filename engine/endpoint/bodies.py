"""The body of a request: bounded in bytes, values and time before it is parsed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request

from engine.endpoint.refusals import Refusal

MOST_BYTES = 2_000_000
"""Of a body: a prompt of a million characters, most of which JSON spells as one byte."""

MOST_DISCARDED = 16_000_000
"""Of a body that is too large, what is read for the sake of an answer."""

MAX_OUTSIDE = 400_000
"""Bytes of a body outside its strings: the page sends a few hundred, a batch of prompts as ids some ten thousand.
Parsed, each takes twenty times as much memory."""

BODY_SECONDS = 60.0
"""How long a body may take to come: one that stops in the middle holds what it brought, and others have less."""


async def read_body(request: Request) -> dict[str, Any]:
    """A request's body, as the JSON object that it must be; raises Refusal."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The body must be JSON: send the header Content-Type: application/json.")
    declared = request.headers.get("content-length", "0")[:15]
    if declared.isdecimal() and int(declared) > MOST_DISCARDED:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            whole = await _whole(request)
    except TimeoutError:
        raise Refusal(408, f"The request took more than {BODY_SECONDS:.0f} seconds to come.") from None
    try:
        body = json.loads(whole)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no JSON.") from None
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object of names and values.")
    return body


async def _whole(request: Request) -> bytes:
    """All of it. Of one that is too large the rest is discarded as it comes: a client that is still sending hears
    nothing before its connection is cut.
    """
    parts, size, outside, refused = bytearray(), 0, Outside(), None
    async for part in request.stream():
        size += len(part)
        if size > MOST_DISCARDED:
            break
        if refused is None:
            outside.take(part)
            parts += part
        if size > MOST_BYTES:
            refused = _too_large()
        elif outside.foreign:
            refused = Refusal(400, "The body must be JSON in UTF-8.")
        elif outside.count > MAX_OUTSIDE:
            refused = Refusal(413, "The request has too many values outside of texts.")
        if refused is not None:
            parts.clear()
    if refused is not None:
        raise refused
    return bytes(parts)


def _too_large() -> Refusal:
    return Refusal(413, f"The request is too large: at most {MOST_BYTES:,} bytes are taken.")


class Outside:
    """Counts the bytes of JSON outside strings, as it comes, without parsing it.

    Attributes:
        count: So far; the ends of strings count.
        foreign: Whether it is in UTF-16 or UTF-32, of which it cannot be told what is outside. `json` reads these, too.
    """

    def __init__(self) -> None:
        self.count, self.foreign = 0, False
        self._in_string, self._rest = False, b""

    def take(self, part: bytes) -> None:
        """Counts a part."""
        self.foreign |= b"\0" in part  # which JSON in UTF-8 never has
        part = (self._rest + part).replace(b"\\\\", b"")
        self._rest = b"\\" if part.endswith(b"\\") else b""  # what it escapes is to come
        pieces = part.removesuffix(self._rest).replace(b'\\"', b"").split(b'"')
        self.count += len(pieces) - 1 + sum(map(len, pieces[self._in_string :: 2]))
        self._in_string ^= len(pieces) % 2 == 0
