"""The body of a request: bounded in bytes, values and time before it is parsed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request

from engine.endpoint.refusals import Refusal

MOST_BYTES = 2_000_000
"""Of a body: a prompt of a million characters, most of which JSON spells as one byte."""

MAX_OUTSIDE = 400_000
"""Bytes of a body outside its strings: the page sends a few hundred, a batch of prompts as ids some ten thousand.
Parsed, each takes twenty times as much memory."""

BODY_SECONDS = 60.0
"""How long a body may take to come: one that stops in the middle holds what it brought, and others have less."""


async def read_body(request: Request) -> dict[str, Any]:
    """A request's body, as the JSON object that it must be; raises Refusal."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The body must be JSON: send the header Content-Type: application/json.")
    length = request.headers.get("content-length", "0")
    parts, size, outside = bytearray(), 0, Outside()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            if length.isdecimal() and int(length[:15]) > MOST_BYTES:
                raise _too_large()
            async for part in request.stream():
                size += len(part)
                outside.take(part)
                if size > MOST_BYTES:
                    raise _too_large()
                if outside.count > MAX_OUTSIDE:
                    raise Refusal(413, "The request has too many values outside of texts.")
                parts += part
    except TimeoutError:
        raise Refusal(408, f"The request took more than {BODY_SECONDS:.0f} seconds to come.") from None
    try:
        body = json.loads(bytes(parts))
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no JSON.") from None
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object of names and values.")
    return body


def _too_large() -> Refusal:
    return Refusal(413, f"The request is too large: at most {MOST_BYTES:,} bytes are taken.")


class Outside:
    """Counts the bytes of JSON outside strings, as it comes, without parsing it.

    Attributes:
        count: So far; the ends of strings count.
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_string, self._rest = False, b""

    def take(self, part: bytes) -> None:
        """Counts a part."""
        part = (self._rest + part).replace(b"\\\\", b"")
        self._rest = b"\\" if part.endswith(b"\\") else b""  # what it escapes is to come
        pieces = part.removesuffix(self._rest).replace(b'\\"', b"").split(b'"')
        self.count += len(pieces) - 1 + sum(map(len, pieces[self._in_string :: 2]))
        self._in_string ^= len(pieces) % 2 == 0
