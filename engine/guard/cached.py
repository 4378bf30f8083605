"""Keeps compressed answers that are the same for everybody: the page's HTML, its scripts and its styles."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Scope, Send

FOR_GOOD = "public, max-age=31536000, immutable"
"""The `Cache-Control` of a file whose address changes with its content (RFC 8246)."""

MAX_BYTES, MAX_ANSWER = 64_000_000, 8_000_000
"""The most bytes of all kept answers, and of one."""

_WHOLE = ("/", "/config", "/gradio_api/info")  # gradio makes these anew for each request: some 16 ms
_STATIC = re.compile(
    r"/(?:assets|static|svelte|gradio_api/citer/page)/.+|/theme\.css|/favicon\.ico|/gradio_api/file=.+\.js"
)
_BUILT = re.compile(r"/assets/[\w.-]+-[\w-]{8,}\.\w+")  # files of gradio's build have a hash in their names
_CONDITIONS = ("range", "if-none-match", "if-modified-since", "if-match", "if-range")
_DIFFERS = ("host", "x-forwarded-host", "x-forwarded-proto")  # the page's HTML has its own address in it

Key = tuple[str, ...]


def key_of(scope: Scope) -> Key | None:
    """The key of the answer that a request asks for. None for an answer that is not kept."""
    path, headers = scope["path"], Headers(scope=scope)
    whole = path in _WHOLE and b"deep_link" not in scope["query_string"]
    if scope["method"] != "GET" or not (whole or _STATIC.fullmatch(path)) or any(map(headers.get, _CONDITIONS)):
        return None
    accepted = headers.get("accept-encoding", "")
    encoding = next((each for each in ("br", "gzip") if each in accepted), "identity")
    return (path, encoding, *(headers.get(name, "") for name in _DIFFERS if whole))


class Cached:
    """The answers that are kept; the least recently used go first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, Response] = OrderedDict()
        self._bytes = 0

    def cost(self, key: Key | None) -> float:
        """What a request costs its client, where an ordinary one costs 1."""
        if key is not None and key[0] in _WHOLE:
            return 2.0 if key in self._answers else 4.0  # a page has 300 kB: to send it takes its time as well
        return 0.1 if key in self._answers else 1.0

    def get(self, key: Key | None) -> Response | None:
        if key is None or key not in self._answers:
            return None
        self._answers.move_to_end(key)
        return self._answers[key]

    def keeping(self, key: Key | None, scope: Scope, send: Send) -> Send:
        """A `send` that also keeps the answer if it comes whole. Changes the request to the key's encoding."""
        if key is None:
            return send
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        scope["headers"] = [*headers, (b"accept-encoding", key[1].encode())]
        start: dict[str, Any] = {}
        body = bytearray()

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 200 and _BUILT.fullmatch(key[0]):
                    MutableHeaders(scope=message)["Cache-Control"] = FOR_GOOD
                start.update(message, headers=[*message["headers"]])
            elif len(body) <= MAX_ANSWER:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    self._keep(key, start, bytes(body))
            await send(message)

        return sent

    def _keep(self, key: Key, start: dict[str, Any], body: bytes) -> None:
        headers = Headers(raw=start["headers"])
        broke_off = headers.get("content-length", str(len(body))) != str(len(body))
        if start["status"] != 200 or len(body) > MAX_ANSWER or "set-cookie" in headers or broke_off:
            return
        answer = Response(body)
        answer.raw_headers = [each for each in start["headers"] if each[0] != b"content-length"]
        answer.raw_headers.append((b"content-length", str(len(body)).encode()))
        self._bytes += len(body)
        if (before := self._answers.pop(key, None)) is not None:
            self._bytes -= len(before.body)
        self._answers[key] = answer
        while self._bytes > MAX_BYTES:
            self._bytes -= len(self._answers.popitem(last=False)[1].body)
